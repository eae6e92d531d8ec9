//! Ports, bursts and workers on DPDK's virtual devices: no root, no hugepages. DPDK starts once in a process, so all of
//! it is one test, step by step.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

mod common;

use common::*;
use forwarder::dpdk::{
    Burst, DpdkError, Eal, EalOptions, Exits, Flushed, Part, Port, PortOptions, Rewritten, Rss, RxQueues,
    Spread, TURN,
};
use forwarder::forward::BURST;
use forwarder::frame::Frame;
use forwarder::publish::Publisher;
use forwarder::stats::{LatencySet, TunnelStats, WorkerCounters, WorkerLoad, latency_exchange};
use forwarder::table::{Encap, Generation, InterfaceId, Mac, PortId, RouteTarget, Spec, Tables, TunnelId};
use forwarder::tap::tap;
use forwarder::verdict::DropReason;
use forwarder::worker::{Idle, Stopped, Worker, WorkerSetup};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PACKETS: u64 = 500;

#[test]
fn devices_bursts_and_workers() {
    let folder = tempfile::tempdir().unwrap();
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap().iter().map(|core| core.id).collect();
    let (first, last) = (cores[0], *cores.last().unwrap());
    let options =
        EalOptions { control_core: first, worker_cores: vec![first, last], ..EalOptions::default() };
    // Every step below makes pools of its own, and pools stay: memory for all of them.
    let expected = ["a", "b", "c", "d"].map(|name| PortOptions { mtu: 9_000, ..port(name, "net_ring") });
    let eal = Eal::start(&options, &expected).unwrap();
    assert_eq!(Eal::start(&options, &[]).unwrap_err(), DpdkError::AlreadyStarted);
    assert!(eal.tsc_hz() > 1_000_000);

    refusals_name_the_port_and_the_device(&eal, folder.path());
    bursts_give_every_buffer_back(&eal);
    a_full_device_refuses_and_nothing_is_lost(&eal);
    a_frame_of_9000_bytes_is_one_buffer(&eal, folder.path());
    the_worker_forwards_from_file_to_file(&eal, first, folder.path());
    fragments_leave_before_the_next_packet(&eal, first, folder.path());
    fragments_become_whole_or_are_given_up(&eal, first, folder.path());
    two_workers_share_a_port(&eal, [first, last]);
    bursts_of_a_lane_leave_in_the_order_of_their_receipt(&eal);
    two_workers_share_one_tunnel_and_keep_its_order(&eal, [first, last], folder.path());
    what_one_worker_has_to_see_is_left_to_it(&eal, [first, last], folder.path());
    assert_eq!(eal.buffers_in_use(), 0);
}

fn refusals_name_the_port_and_the_device(eal: &Eal, folder: &Path) {
    let missing = format!("net_pcap7,rx_pcap={}", folder.join("missing.pcap").display());
    let empty = folder.join("refusals.pcap");
    write_pcap(&empty, &[]);
    let one_queue = format!("net_pcap8,rx_pcap={0},tx_pcap={0}.out", empty.display());
    let cases = [
        (port("lan", &missing), 1, "cannot be opened"),
        (port("lan", "net_nonsense0"), 1, "cannot be opened"),
        (port("lan", "net_null0,nonsense=1"), 1, "cannot be opened"),
        (port("lan", "net_tap0,iface=a-name-that-is-much-too-long"), 1, "/dev/net/tun"),
        (port("lan", "0000:ff:1f.7"), 1, "vfio-pci"),
        (port("lan", &one_queue), 2, "1 transmit queues, and 2 workers"),
        (PortOptions { rx_queues: RxQueues::Exactly(2), ..port("lan", &one_queue) }, 1, "rx_queues = 2"),
        (
            PortOptions { rss: Rss::Inner, rx_queues: RxQueues::Exactly(2), ..port("lan", "net_ring_r") },
            1,
            "inner",
        ),
        (PortOptions { mtu: 20, ..port("lan", "net_ring_r") }, 1, "mtu = 20"),
    ];
    for (options, workers, part) in cases {
        let error = Port::open_all(eal, workers, std::slice::from_ref(&options)).unwrap_err().to_string();
        println!("{error}");
        assert!(error.contains(part), "{error}");
        assert!(error.contains("port lan") && error.contains(&options.device), "{error}");
    }
}

fn bursts_give_every_buffer_back(eal: &Eal) {
    let before = eal.buffers_in_use();
    let mut ports = Port::open_all(eal, 1, &[port("ring", "net_ring0")]).unwrap();
    assert_eq!(ports[0].description(), "net_ring (net_ring0)");
    assert!(ports[0].link().up);
    let mut queues = ports[0].take_queues(0).unwrap();
    assert!(ports[0].take_queues(0).is_none());
    let rx = &mut queues.rx[0];

    // What was sent comes back, and is gone from the burst once it was settled.
    let bytes: Vec<u8> = (0..200).map(|byte| byte as u8).collect();
    assert!(queues.tx.originate(&bytes, 7));
    let none = |tag| panic!("{tag} is refused");
    assert_eq!(queues.tx.flush(none), Flushed { taken: 1, refused: 0 });
    let mut burst = Burst::new(eal);
    burst.receive(rx);
    let rewritten = burst.rewrite(|frames| {
        assert_eq!(frames[0].bytes(), bytes);
        frames[0].pop_front(14).unwrap();
        frames[0].push_front(28).unwrap()[..28].fill(0x5a);
    });
    assert_eq!(rewritten, Rewritten::default());
    assert_eq!(burst.settle(|_| Some(PortId(0)), std::slice::from_mut(&mut queues.tx), |_, _| {}), 0);
    assert!(burst.is_empty());
    assert_eq!(queues.tx.flush(|_| {}).taken, 1);
    burst.receive(rx);
    let expected = [&[0x5a; 28], &bytes[14..]].concat();
    burst.rewrite(|frames| assert_eq!(frames[0].bytes(), expected));

    // What a frame became is not believed where that is not within the packet's buffer.
    let elsewhere = Vec::leak(vec![0; 1 << 17]);
    let rewritten = burst.rewrite(|frames| frames[0] = Frame::new(elsewhere, 60_000, 60_000));
    assert_eq!(rewritten, Rewritten { chained: 0, outside: 1 });
    burst.rewrite(|frames| assert_eq!(frames[0].bytes(), expected));
    assert_eq!(burst.settle(|_| Some(PortId(9)), std::slice::from_mut(&mut queues.tx), |_, _| {}), 1);
    assert_eq!(queues.tx.len(), 0);
    assert!(!queues.tx.originate(&vec![0; 60_000], 0));

    // A burst and a transmit buffer that are dropped full give back what they held.
    for _ in 0..5 {
        assert!(queues.tx.originate(&bytes, 0));
    }
    queues.tx.flush(|_| {});
    burst.receive(rx);
    assert_eq!(burst.len(), 5);
    assert!(queues.tx.originate(&bytes, 0));
    assert_eq!(eal.buffers_in_use(), before + 6);
    drop(burst);
    assert_eq!(eal.buffers_in_use(), before + 1);
    drop((queues, ports));
    assert_eq!(eal.buffers_in_use(), before);
}

fn a_full_device_refuses_and_nothing_is_lost(eal: &Eal) {
    let before = eal.buffers_in_use();
    let mut ports = Port::open_all(eal, 1, &[port("ring", "net_ring1")]).unwrap();
    let mut queues = ports[0].take_queues(0).unwrap();
    let mut total = Flushed::default();
    let mut refused = Vec::new();
    while total.refused == 0 {
        assert!(total.taken < 100_000);
        let mut tags = 0..;
        while queues.tx.originate(&[0; 64], tags.next().unwrap()) {}
        assert_eq!(queues.tx.len(), BURST);
        let flushed = queues.tx.flush(|tag| refused.push(tag));
        total = Flushed { taken: total.taken + flushed.taken, refused: total.refused + flushed.refused };
    }
    let last = BURST as u64 - total.refused..BURST as u64;
    assert_eq!(refused.iter().map(|tag| u64::from(*tag)).collect::<Vec<_>>(), last.collect::<Vec<_>>());
    assert_eq!(eal.buffers_in_use() as u64, before as u64 + total.taken);
    let mut burst = Burst::new(eal);
    let mut received = 0;
    while received < total.taken {
        burst.receive(&mut queues.rx[0]);
        assert!(!burst.is_empty());
        received += burst.len() as u64;
    }
    drop(burst);
    assert_eq!(eal.buffers_in_use(), before);
}

fn a_frame_of_9000_bytes_is_one_buffer(eal: &Eal, folder: &Path) {
    let (input, output) = (folder.join("jumbo-in"), folder.join("jumbo-out"));
    let jumbo = |len: usize| (0..len).map(|byte| byte as u8).collect::<Vec<u8>>();
    // Ethernet and two tags around 9,000 bytes of IP; and what no buffer holds.
    write_pcap(&input, &[jumbo(9_022), jumbo(9_300)]);
    let device = format!("net_pcap2,rx_pcap={},tx_pcap={}", input.display(), output.display());
    let options = PortOptions { mtu: 9_000, ..port("lan", &device) };
    let mut ports = Port::open_all(eal, 1, &[options]).unwrap();
    let mut queues = ports[0].take_queues(0).unwrap();
    let mut burst = Burst::new(eal);
    burst.receive(&mut queues.rx[0]);
    let rewritten = burst.rewrite(|frames| {
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].bytes(), jumbo(9_022));
        assert_eq!(frames[0].headroom(), forwarder::frame::HEADROOM);
        frames[0].push_front(100).unwrap()[..100].fill(0x5a);
    });
    assert_eq!(rewritten, Rewritten { chained: 1, outside: 0 });
    burst.settle(|_| Some(PortId(0)), std::slice::from_mut(&mut queues.tx), |_, _| {});
    assert_eq!(queues.tx.flush(|_| {}).taken, 1);
    drop((burst, queues, ports));
    assert_eq!(read_pcap(&output), [[vec![0x5a; 100], jumbo(9_022)].concat()]);
}

fn the_worker_forwards_from_file_to_file(eal: &Eal, core: usize, folder: &Path) {
    let before = eal.buffers_in_use();
    let [lan_in, lan_out, wan_in, wan_out] =
        ["lan-in", "lan-out", "wan-in", "wan-out"].map(|name| folder.join(name));
    let spec = gre_gateway();
    write_pcap(&lan_in, &mixed_packets());
    write_pcap(&wan_in, &[]);
    let device = |number: u8, rx: &Path, tx: &Path| {
        format!("net_pcap{number},rx_pcap={},tx_pcap={}", rx.display(), tx.display())
    };
    let options = |name, device, mac| PortOptions { mac: Some(mac), ..port(name, device) };
    let (lan, wan) = (device(0, &lan_in, &lan_out), device(1, &wan_in, &wan_out));
    let mut ports =
        Port::open_all(eal, 1, &[options("lan", &lan, LAN_MAC), options("wan", &wan, WAN_MAC)]).unwrap();
    assert_eq!((ports[0].mac(), ports[1].mac()), (LAN_MAC, WAN_MAC));

    let mut bench = Bench::new(&spec, 1);
    let worker = bench.spawn(eal, 0, core, &mut ports, Idle::Sleep);
    let counters = bench.counters[0].clone();
    let all = mixed_packets().len() as u64;
    wait_until("all packets are received", || counters.received.read() == all);
    assert!(worker.is_ready());

    // A new generation is taken while no packets come.
    bench.publisher.publish(generation(2, &spec, 1)).unwrap();
    wait_until("the new generation is acknowledged", || bench.publisher.settled());
    wait_until("the new generation is reported", || bench.loads[0].generation.read() == 2);

    bench.stop.store(true, Ordering::SeqCst);
    let mut stopped = worker.join().unwrap();
    assert_law(&counters);
    let reasons = [
        (DropReason::MultiSegment, 1),
        (DropReason::Ipv4Checksum, 1),
        (DropReason::NoRoute, 1),
        (DropReason::NoKernel, 1),
        (DropReason::EthernetAddress, 1),
    ];
    for (reason, count) in reasons {
        assert_eq!(counters.dropped.of(reason).read(), count, "{}", reason.name());
    }
    // The one without route is answered by an ICMP error.
    assert_eq!((counters.transmitted.read(), counters.originated.read()), (PACKETS + 1, 1));
    assert_eq!(bench.stats[0].slot(0).unwrap().tx_packets.read(), PACKETS);
    let latency = stopped.latency.set();
    assert_eq!(latency.worker.len(), PACKETS);
    assert_eq!(latency.tunnels[0].as_ref().unwrap().encap.len(), PACKETS);
    assert_eq!(latency.transit.len(), 0);
    let load = &bench.loads[0];
    assert_eq!(load.packets.read(), all);
    assert!(load.bursts.read() * BURST as u64 >= all && load.polls.read() > load.bursts.read());
    assert!(load.busy_cycles.read() > 0 && load.total_cycles.read() >= load.busy_cycles.read());
    assert_eq!(ports[1].stats().tx_packets, PACKETS);

    drop((stopped, ports));
    assert_eq!(eal.buffers_in_use(), before);
    let [error] = &read_pcap(&lan_out)[..] else { panic!("one ICMP error expected") };
    assert_eq!((error[14 + 9], &error[14 + 20..14 + 22]), (1, [3, 0].as_slice()));
    let sent = read_pcap(&wan_out);
    assert_eq!(sent.len() as u64, PACKETS);
    for (number, frame) in sent.iter().enumerate() {
        // Ethernet, IPv4 with protocol GRE, GRE, then the packet itself with its TTL lowered.
        assert_eq!(frame[..6], PEER_MAC.0);
        assert_eq!(frame[14 + 9], 47);
        let inner = &frame[14 + 20 + 4..];
        assert_eq!(inner[8], 63);
        assert_eq!(inner[28..30], (number as u16).to_be_bytes());
    }
}

/// GRE's sequence numbers tell the order in which packets were given to the device.
fn fragments_leave_before_the_next_packet(eal: &Eal, core: usize, folder: &Path) {
    let [lan_in, lan_out, wan_in, wan_out] =
        ["cut-lan-in", "cut-lan-out", "cut-wan-in", "cut-wan-out"].map(|name| folder.join(name));
    let mut spec = gre_gateway();
    spec.tunnels[0].sequence = true;
    let mut whole = udp(address("10.0.0.2"), address("10.7.1.2"), (1, 2), 0, 64, &[0; 1_472]);
    // It may be fragmented.
    whole[6] &= !0x40;
    whole[10..12].fill(0);
    let sum = checksum(&[&whole[..20]]);
    whole[10..12].copy_from_slice(&sum.to_be_bytes());
    let small = plain("10.7.1.2", 0);
    // More pieces than a burst has room for, and packets between them that are in one.
    let packets: Vec<_> = [whole.clone(), whole, small].map(|packet| ethernet(LAN_MAC, &packet)).into();
    let packets: Vec<_> = packets.iter().cycle().take(300).cloned().collect();
    write_pcap(&lan_in, &packets);
    write_pcap(&wan_in, &[]);
    let options = |name, number: u8, rx: &Path, tx: &Path, mac| {
        let device = format!("net_pcap{number},rx_pcap={},tx_pcap={}", rx.display(), tx.display());
        PortOptions { mac: Some(mac), ..port(name, &device) }
    };
    let lan = options("lan", 2, &lan_in, &lan_out, LAN_MAC);
    let wan = options("wan", 3, &wan_in, &wan_out, WAN_MAC);
    let mut ports = Port::open_all(eal, 1, &[lan, wan]).unwrap();

    let mut bench = Bench::new(&spec, 1);
    let worker = bench.spawn(eal, 0, core, &mut ports, Idle::Sleep);
    let counters = bench.counters[0].clone();
    wait_until("all packets are received", || counters.received.read() == 300);
    bench.stop.store(true, Ordering::SeqCst);
    let stopped = worker.join().unwrap();
    assert_law(&counters);
    assert_eq!((counters.transmitted.read(), counters.originated.read()), (500, 200));
    drop((stopped, ports));
    let sequence = |frame: &Vec<u8>| u32::from_be_bytes(frame[14 + 20 + 4..][..4].try_into().unwrap());
    assert_eq!(read_pcap(&wan_out).iter().map(sequence).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
}

/// One packet in two fragments, and the first fragment of another: given up when its time is over, though nothing more
/// comes, or when the worker stops.
fn fragments_become_whole_or_are_given_up(eal: &Eal, core: usize, folder: &Path) {
    let before = eal.buffers_in_use();
    let mut spec = gre_gateway();
    spec.tunnels[0].reassembly = true;
    let inner = udp(address("10.7.1.2"), address("10.0.0.2"), (1, 2), 0, 64, &[7; 1_400]);
    let outer =
        ip(address("198.51.100.7"), address("203.0.113.1"), 47, 0, 64, &[&[0, 0, 8, 0], &inner[..]].concat());
    let fragment = |identification: u8, field: u16, data: &[u8]| {
        let mut packet = [&outer[..20], data].concat();
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[5] = identification;
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet[10..12].fill(0);
        let sum = checksum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        ethernet(WAN_MAC, &packet)
    };
    let (first, last) = outer[20..].split_at(800);
    let packets = [fragment(1, 100, last), fragment(2, 0x2000, first), fragment(1, 0x2000, first)];
    for (number, waits) in [(4, true), (6, false)] {
        let [lan_in, lan_out, wan_in, wan_out] = ["lan-in", "lan-out", "wan-in", "wan-out"]
            .map(|name| folder.join(format!("fragments-{number}-{name}")));
        write_pcap(&lan_in, &[]);
        write_pcap(&wan_in, &packets);
        let options = |name, number: u8, rx: &Path, tx: &Path, mac| {
            let device = format!("net_pcap{number},rx_pcap={},tx_pcap={}", rx.display(), tx.display());
            PortOptions { mac: Some(mac), ..port(name, &device) }
        };
        let lan = options("lan", number, &lan_in, &lan_out, LAN_MAC);
        let wan = options("wan", number + 1, &wan_in, &wan_out, WAN_MAC);
        let mut ports = Port::open_all(eal, 1, &[lan, wan]).unwrap();
        let mut bench = Bench::new(&spec, 1);
        let worker = bench.spawn(eal, 0, core, &mut ports, Idle::Sleep);
        let counters = bench.counters[0].clone();
        let timed_out = counters.dropped.of(DropReason::ReassemblyTimeout);
        wait_until("all packets are received", || counters.received.read() == 3);
        if waits {
            wait_until("the lone fragment is given up", || timed_out.read() == 1);
        }
        bench.stop.store(true, Ordering::SeqCst);
        let stopped = worker.join().unwrap();
        assert_law(&counters);
        let counts = [&counters.transmitted, &counters.consumed, timed_out].map(|counter| counter.read());
        assert_eq!(counts, [1, 1, 1]);
        assert_eq!(bench.stats[0].slot(0).unwrap().rx_packets.read(), 1);
        drop((stopped, ports));
        let [sent] = &read_pcap(&lan_out)[..] else { panic!("one packet expected") };
        // All but the Ethernet header, the TTL and the checksum that covers it.
        assert_eq!((sent.len(), &sent[14 + 12..]), (14 + inner.len(), &inner[12..]));
    }
    assert_eq!(eal.buffers_in_use(), before);
}

fn two_workers_share_a_port(eal: &Eal, cores: [usize; 2]) {
    let before = eal.buffers_in_use();
    // One receive queue for two workers on the first port, one for each on the second.
    let one = PortOptions { rx_queues: RxQueues::Exactly(1), mac: Some(LAN_MAC), ..port("lan", "net_ring2") };
    let two = PortOptions { mac: Some(WAN_MAC), ..port("wan", "net_ring3") };
    let mut ports = Port::open_all(eal, 2, &[one, two]).unwrap();
    assert_eq!((ports[0].rx_queues(), ports[1].rx_queues()), (1, 2));
    let spec = two_ports();
    let mut bench = Bench::new(&spec, 2);
    let workers = [0, 1].map(|index| bench.spawn(eal, index, cores[index], &mut ports, Idle::Poll));
    wait_until("both workers forward", || workers.iter().all(Worker::is_ready));

    // Both have nothing to do, and end when they are told to.
    wait_until("both workers poll", || bench.loads.iter().all(|load| load.polls.read() > 1_000));
    bench.stop.store(true, Ordering::SeqCst);
    let stopped: Vec<Stopped> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    drop((stopped, ports));

    // The same on one worker, with packets that wait already: each is forwarded to the neighbour, comes back by the
    // ring, and is not the box's.
    let wan = PortOptions { mac: Some(WAN_MAC), ..port("wan", "net_ring4") };
    let lan = PortOptions { mac: Some(LAN_MAC), ..port("lan", "net_ring5") };
    let mut ports = Port::open_all(eal, 1, &[lan, wan]).unwrap();
    let mut bench = Bench::new(&spec, 1);
    bench.deal(&mut ports);
    let Some(Part { tx: Exits::Own(tx), .. }) = &mut bench.parts[0] else {
        panic!("one worker shares nothing")
    };
    for number in 0..PACKETS {
        let packet = plain("192.0.2.2", number as u16);
        assert!(tx[0].originate(&ethernet(LAN_MAC, &packet), 0));
        assert_eq!(tx[0].flush(|_| {}).taken, 1);
    }
    let worker = bench.spawn(eal, 0, cores[1], &mut ports, Idle::Poll);
    let counters = bench.counters[0].clone();
    wait_until("every packet went round", || counters.received.read() == 2 * PACKETS);
    bench.stop.store(true, Ordering::SeqCst);
    let mut stopped = worker.join().unwrap();
    assert_law(&counters);
    assert_eq!(counters.transmitted.read(), PACKETS);
    assert_eq!(counters.dropped.of(DropReason::EthernetAddress).read(), PACKETS);
    assert_eq!(stopped.latency.set().transit.len(), PACKETS);
    drop((stopped, ports));
    assert_eq!(eal.buffers_in_use(), before);
}

fn bursts_of_a_lane_leave_in_the_order_of_their_receipt(eal: &Eal) {
    let before = eal.buffers_in_use();
    let options = PortOptions { rx_queues: RxQueues::Exactly(1), ..port("ring", "net_ring6") };
    let mut ports = Port::open_all(eal, 2, &[options]).unwrap();
    let mut parts = Part::deal(&mut ports).unwrap();
    assert_eq!(parts.len(), 2);
    let Part { lanes, tx: Exits::Shared(exits), .. } = parts.remove(0) else { panic!("two workers share") };
    let lane = lanes[0].clone();
    assert_eq!((lanes.len(), lane.home(), lane.port()), (1, 0, PortId(0)));
    let put = |count: usize| {
        let mut exit = exits[0].lock();
        (0..count).for_each(|_| assert!(exit[0].originate(&[0; 60], 0)));
        assert_eq!(exit[0].flush(|_| {}).taken, count as u64);
    };
    let mut hands = [(); 3].map(|()| [(); TURN].map(|()| Burst::new(eal)));
    let [first, second, third] = &mut hands;
    assert!(lane.receive(first).is_none());

    // A lane is busy while it has more than one worker takes.
    (0..TURN).for_each(|_| put(BURST));
    let (bursts, first_place) = lane.receive(first).unwrap();
    assert!(lane.is_busy() && bursts == TURN && first.iter().all(|burst| burst.len() == BURST));
    put(BURST);
    put(2);
    let (bursts, second_place) = lane.receive(second).unwrap();
    assert!(!lane.is_busy() && (bursts, second[0].len(), second[1].len()) == (2, BURST, 2));
    put(1);
    let (bursts, third_place) = lane.receive(third).unwrap();
    assert_eq!((bursts, third[0].len()), (1, 1));

    // Whoever received later waits, and goes on once those before have sent, or given up.
    assert_eq!((first_place.exit(), first_place.wait()), (0, 0));
    let went = [AtomicBool::new(false), AtomicBool::new(false)];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            third_place.wait();
            assert!(went[0].load(Ordering::SeqCst));
            went[1].store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            second_place.wait();
            went[0].store(true, Ordering::SeqCst);
            second_place.pass_on();
        });
        // Whoever is wrong about it has time to be.
        std::thread::sleep(Duration::from_millis(20));
        assert!(went.iter().all(|went| !went.load(Ordering::SeqCst)));
        drop(first_place);
    });
    assert!(went[1].load(Ordering::SeqCst));
    drop((second_place, third_place));
    drop((hands, lane, lanes, exits, parts, ports));
    assert_eq!(eal.buffers_in_use(), before);
}

/// Packets that are played again and again.
const PLAYED: u16 = 1_000;

/// Two ports with a transmit queue for each of two workers. The first plays numbered packets without end into the one
/// receive queue that it has. Returns where the second sends to, by transmit queue.
fn one_queue_for_two(
    eal: &Eal,
    devices: [u8; 2],
    (name, packets, mac): (&str, &[Vec<u8>], Mac),
    other: (&str, Mac),
    folder: &Path,
) -> (Vec<Port>, [std::path::PathBuf; 2]) {
    let file = |end: &str| folder.join(format!("played-{}-{end}", devices[0]));
    write_pcap(&file("in"), packets);
    write_pcap(&file("none"), &[]);
    let outputs = ["out-0", "out-1"].map(file);
    // As many transmit queues as captures; of the receive queues one is used.
    let input = file("in").display().to_string();
    let source = format!("net_pcap{},rx_pcap={input},rx_pcap={input},infinite_rx=1", devices[0]);
    let source = PortOptions { mac: Some(mac), rx_queues: RxQueues::Exactly(1), ..port(name, &source) };
    let [first, second] = outputs.each_ref().map(|output| output.display());
    let (number, none) = (devices[1], file("none"));
    let sink = format!("net_pcap{number},rx_pcap={},tx_pcap={first},tx_pcap={second}", none.display());
    let sink = PortOptions { mac: Some(other.1), ..port(other.0, &sink) };
    // In the order of the configuration.
    let options = if name == "lan" { [source, sink] } else { [sink, source] };
    let ports = Port::open_all(eal, 2, &options).unwrap();
    let source = ports.iter().find(|port| port.description().contains("infinite")).unwrap();
    assert_eq!((source.rx_queues(), source.spreading().by), (1, Spread::Software));
    assert_eq!(source.spreading().why, "1 receive queue for 2 workers");
    (ports, outputs)
}

fn two_workers_share_one_tunnel_and_keep_its_order(eal: &Eal, cores: [usize; 2], folder: &Path) {
    let before = eal.buffers_in_use();
    let packets: Vec<Vec<u8>> = (0..PLAYED)
        .map(|number| {
            let [high, low] = (number % 50).to_be_bytes();
            let source = format!("10.7.{high}.{low}").parse().unwrap();
            let inner = udp(source, address("10.0.0.2"), (1000, 2000), 0, 64, &number.to_be_bytes());
            let gre = [&[0, 0, 8, 0], &inner[..]].concat();
            ethernet(WAN_MAC, &ip(address("198.51.100.7"), address("203.0.113.1"), 47, 0, 64, &gre))
        })
        .collect();
    let (mut ports, outputs) =
        one_queue_for_two(eal, [10, 11], ("wan", &packets, WAN_MAC), ("lan", LAN_MAC), folder);
    let mut bench = Bench::new(&gre_gateway(), 2);
    // Each of them sleeps while it has nothing to do, and the second is woken by the first.
    let workers = [1, 0].map(|index| bench.spawn(eal, index, cores[index], &mut ports, Idle::Sleep));
    let counters = bench.counters.clone();
    wait_until("both workers forward", || counters.iter().all(|counters| counters.received.read() > 5_000));
    bench.stop.store(true, Ordering::SeqCst);
    let mut stopped = workers.map(|worker| worker.join().unwrap());
    stopped.reverse();
    for (index, counters) in counters.iter().enumerate() {
        assert_law(counters);
        let load = &bench.loads[index];
        assert_eq!(load.packets.read(), counters.received.read());
        assert_eq!(counters.transmitted.read(), counters.received.read());
        assert_eq!(stopped[index].latency.set().worker.len(), counters.transmitted.read());
        assert!(load.waited_cycles.read() <= load.busy_cycles.read());
    }
    drop((stopped, bench, ports));
    // All of them, each behind the one received before it, whichever worker had it.
    let sent: Vec<u16> = read_pcap(&outputs[0])
        .into_iter()
        .map(|frame| u16::from_be_bytes([frame[14 + 28], frame[14 + 29]]))
        .collect();
    assert_eq!(sent.len() as u64, counters.iter().map(|counters| counters.transmitted.read()).sum::<u64>());
    let breach = sent.iter().zip((0..PLAYED).cycle()).position(|(sent, expected)| *sent != expected);
    assert_eq!(breach, None, "{:?}", breach.map(|at| &sent[at.saturating_sub(40)..][..80]));
    assert!(read_pcap(&outputs[1]).is_empty());
    assert_eq!(eal.buffers_in_use(), before);
}

/// GRE sequence numbers are of one worker's counting, and so are all packets of the queue.
fn what_one_worker_has_to_see_is_left_to_it(eal: &Eal, cores: [usize; 2], folder: &Path) {
    let packets: Vec<Vec<u8>> =
        (0..PLAYED).map(|number| ethernet(LAN_MAC, &plain("10.7.1.2", number))).collect();
    let (mut ports, outputs) =
        one_queue_for_two(eal, [12, 13], ("lan", &packets, LAN_MAC), ("wan", WAN_MAC), folder);
    let mut numbered = gre_gateway();
    numbered.tunnels[0].sequence = true;
    let mut bench = Bench::new(&numbered, 2);
    let workers = [1, 0].map(|index| bench.spawn(eal, index, cores[index], &mut ports, Idle::Poll));
    let counters = bench.counters.clone();
    let received = |worker: usize| counters[worker].received.read();
    wait_until("the first worker forwards", || received(0) > 20_000);
    assert_eq!(received(1), 0);
    // Once nothing is counted from packet to packet the other helps.
    bench.publisher.publish(generation(2, &gre_gateway(), 2)).unwrap();
    wait_until("the second worker helps", || received(1) > 5_000);
    bench.stop.store(true, Ordering::SeqCst);
    let stopped = workers.map(|worker| worker.join().unwrap());
    counters.iter().for_each(|counters| assert_law(counters));
    drop((stopped, bench, ports));
    let mut next = 0u32;
    for frame in read_pcap(&outputs[0]).iter().take_while(|frame| frame[14 + 20] & 0x10 != 0) {
        assert_eq!(frame[14 + 20 + 4..][..4], next.to_be_bytes());
        next += 1;
    }
    assert!(next > 20_000, "{next}");
}

/// The control thread's side of some workers.
struct Bench {
    publisher: Publisher<Generation>,
    stats: Vec<TunnelStats>,
    counters: Vec<Arc<WorkerCounters>>,
    loads: Vec<Arc<WorkerLoad>>,
    parts: Vec<Option<Part>>,
    stop: Arc<AtomicBool>,
}

impl Bench {
    fn new(spec: &Spec, workers: usize) -> Bench {
        let first = generation(1, spec, workers);
        let stats = first.stats.clone();
        Bench {
            publisher: Publisher::new(first),
            stats,
            counters: (0..workers).map(|_| Arc::default()).collect(),
            loads: (0..workers).map(|_| Arc::default()).collect(),
            parts: Vec::new(),
            stop: Arc::default(),
        }
    }

    /// Deals these ports' queues out to the workers, once.
    fn deal(&mut self, ports: &mut [Port]) {
        if self.parts.is_empty() {
            self.parts = Part::deal(ports).unwrap().into_iter().map(Some).collect();
        }
    }

    fn spawn(&mut self, eal: &Eal, index: usize, core: usize, ports: &mut [Port], idle: Idle) -> Worker {
        self.deal(ports);
        let (latency, _) = latency_exchange(LatencySet::new(&[true]));
        let setup = WorkerSetup {
            index,
            workers: self.counters.len(),
            core,
            eal: eal.clone(),
            part: self.parts[index].take().unwrap(),
            subscriber: self.publisher.subscribe(),
            counters: self.counters[index].clone(),
            load: self.loads[index].clone(),
            latency,
            tap: tap().0,
            idle,
            stop: self.stop.clone(),
        };
        Worker::spawn(setup).unwrap()
    }
}

fn port(name: &str, device: &str) -> PortOptions {
    PortOptions { name: name.to_owned(), device: device.to_owned(), mtu: 1500, ..PortOptions::default() }
}

fn generation(number: u64, spec: &Spec, workers: usize) -> Generation {
    let mut stats = vec![TunnelStats::default(); workers];
    stats.iter_mut().for_each(|stats| stats.grow(1));
    Generation { number, tables: Tables::compile(spec).unwrap(), stats }
}

/// What comes from the LAN for 10.7.0.0/16 goes into a GRE tunnel.
fn gre_gateway() -> Spec {
    let mut spec = two_ports();
    spec.tunnels.push(tunnel("acme", 0, Encap::Gre, "203.0.113.1", "198.51.100.7"));
    spec.routes.push(route("10.7.0.0/16", RouteTarget::Tunnel(TunnelId(0))));
    let gateway = RouteTarget::Gateway { address: address("192.0.2.2"), interface: InterfaceId(1) };
    spec.routes.push(route("198.51.100.7/32", gateway));
    spec
}

/// A UDP packet whose payload begins with its number.
fn plain(destination: &str, number: u16) -> Vec<u8> {
    udp(address("10.0.0.2"), address(destination), (1000, 2000), 0, 64, &number.to_be_bytes())
}

/// PACKETS to encapsulate, and one each of some that are dropped.
fn mixed_packets() -> Vec<Vec<u8>> {
    let good = (0..PACKETS).map(|number| ethernet(LAN_MAC, &plain("10.7.1.2", number as u16)));
    let mut bad_sum = ethernet(LAN_MAC, &plain("10.7.1.2", 0));
    bad_sum[14 + 10] ^= 0xff;
    let too_long = udp(address("10.0.0.2"), address("10.7.1.2"), (1, 2), 0, 64, &[0; 4_000]);
    let mut packets = vec![
        bad_sum,
        ethernet(LAN_MAC, &too_long),
        ethernet(LAN_MAC, &plain("172.16.0.1", 0)),
        ethernet(LAN_MAC, &plain("10.0.0.1", 0)),
        ethernet(PEER_MAC, &plain("10.7.1.2", 0)),
    ];
    packets.extend(good);
    packets
}

fn assert_law(counters: &WorkerCounters) {
    let came = counters.received.read() + counters.originated.read();
    let went = counters.transmitted.read() + counters.kernel.read() + counters.consumed.read();
    let dropped: Vec<_> = counters.dropped.non_zero().collect();
    assert_eq!(came, went + counters.dropped.total(), "dropped: {dropped:?}");
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

fn write_pcap(path: &Path, packets: &[Vec<u8>]) {
    let mut file = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    for packet in packets {
        file.extend([0, 0, packet.len() as u32, packet.len() as u32].map(u32::to_le_bytes).concat());
        file.extend(packet);
    }
    fs::write(path, file).unwrap();
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).unwrap();
    let mut rest = &file[24..];
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        packets.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    packets
}
