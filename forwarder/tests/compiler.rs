//! What the compiler of the tables refuses, and what it derives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

mod common;

use common::*;
use forwarder::table::*;

fn errors(spec: &Spec) -> Vec<(Item, &'static str, String)> {
    let errors = Tables::compile(spec).expect_err("compiled");
    errors.into_iter().map(|error| (error.item, error.key, error.message)).collect()
}

fn one_error(spec: &Spec, item: Item, key: &str, words: &[&str]) {
    let errors = errors(spec);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((errors[0].0, errors[0].1), (item, key), "{errors:?}");
    for word in words {
        assert!(errors[0].2.contains(word), "{word:?} is not in {:?}", errors[0].2);
    }
}

fn to_tunnel(prefix: &str, tunnel: u32) -> RouteSpec {
    route(prefix, RouteTarget::Tunnel(TunnelId(tunnel)))
}

fn fou(spec: TunnelSpec, port: u16) -> TunnelSpec {
    let udp =
        UdpSpec { kind: UdpKind::Fou, port, source_port: SourcePort::Flow, checksum: UdpChecksum::Full };
    TunnelSpec { udp: Some(udp), ..spec }
}

#[test]
fn two_tunnels_that_take_the_same_packets_are_refused_at_the_later() {
    let one = tunnel("one", 0, Encap::Gre, "192.0.2.1", "192.0.2.2");
    let two = TunnelSpec { name: "two".into(), ..one.clone() };
    let spec = Spec { tunnels: vec![one.clone(), two.clone()], ..two_ports() };
    one_error(&spec, Item::Tunnel(TunnelId(1)), "remote", &["\"one\"", "192.0.2.2/32"]);
    let keyed = TunnelSpec { key: Some(0), ..two };
    assert!(Tables::compile(&Spec { tunnels: vec![one, keyed], ..two_ports() }).is_ok());
}

#[test]
fn one_address_and_port_has_one_kind() {
    let gre = fou(tunnel("gre", 0, Encap::Gre, "192.0.2.1", "192.0.2.2"), 5555);
    let ip = fou(tunnel("ip", 1, Encap::Ip, "192.0.2.1", "192.0.2.3"), 5555);
    let spec = Spec { tunnels: vec![gre.clone(), ip.clone()], ..two_ports() };
    one_error(&spec, Item::Tunnel(TunnelId(1)), "udp.port", &["5555", "\"gre\"", "GRE in FOU", "IP in FOU"]);
    let elsewhere = TunnelSpec { local: address("192.0.2.9"), ..ip };
    assert!(Tables::compile(&Spec { tunnels: vec![gre, elsewhere], ..two_ports() }).is_ok());
}

#[test]
fn a_tunnel_routed_into_itself_is_refused() {
    let spec = Spec {
        tunnels: vec![tunnel("t", 0, Encap::Gre, "192.0.2.1", "198.51.100.7")],
        routes: vec![to_tunnel("0.0.0.0/0", 0)],
        ..two_ports()
    };
    one_error(&spec, Item::Tunnel(TunnelId(0)), "remote", &["198.51.100.7", "itself"]);
}

#[test]
fn a_loop_is_refused_at_the_tunnel_that_closes_it() {
    let spec = Spec {
        tunnels: vec![
            tunnel("a", 0, Encap::Gre, "192.0.2.1", "198.51.100.1"),
            tunnel("b", 1, Encap::Gre, "192.0.2.1", "198.51.100.2"),
            tunnel("c", 2, Encap::Gre, "192.0.2.1", "198.51.100.3"),
        ],
        routes: vec![
            to_tunnel("198.51.100.1/32", 1),
            to_tunnel("198.51.100.2/32", 2),
            to_tunnel("198.51.100.3/32", 0),
        ],
        ..two_ports()
    };
    one_error(&spec, Item::Tunnel(TunnelId(2)), "remote", &["\"a\""]);
}

#[test]
fn five_layers_are_refused() {
    let chain = |count: u32| {
        let name = |index: u32| format!("198.51.100.{index}");
        let mut spec = two_ports();
        for index in 0..count {
            let remote = if index + 1 == count { "192.0.2.2".to_owned() } else { name(index) };
            spec.tunnels.push(tunnel(&format!("t{index}"), index, Encap::Ip, "192.0.2.1", &remote));
            if index + 1 < count {
                spec.routes.push(to_tunnel(&format!("{}/32", name(index)), index + 1));
            }
        }
        spec
    };
    assert!(Tables::compile(&chain(4)).is_ok());
    one_error(&chain(5), Item::Tunnel(TunnelId(0)), "remote", &["4 layers"]);
}

#[test]
fn mtu_and_mss_follow_from_the_stack() {
    let mut spec = Spec {
        tunnels: vec![
            tunnel("gre", 0, Encap::Gre, "203.0.113.1", "198.51.100.7"),
            fou(tunnel("fou", 1, Encap::Ip, "2001:db8::1", "2001:db8::2"), 5555),
        ],
        routes: vec![to_tunnel("198.51.100.7/32", 1)],
        ..two_ports()
    };
    let summary = |spec: &Spec| Tables::compile(spec).unwrap().summaries().to_vec();
    let [gre, fou] = summary(&spec)[..] else { panic!() };
    // GRE/IPv4 in FOU/IPv6: 72 bytes.
    assert_eq!((gre.mtu, gre.mss_ipv4, gre.mss_ipv6, gre.overhead), (1428, Some(1388), Some(1368), 72));
    assert_eq!((fou.mtu, fou.mss_ipv4, fou.mss_ipv6, fou.overhead), (1452, Some(1412), Some(1392), 48));
    assert!(gre.reachable && fou.reachable);

    spec.tunnels[1].mtu = Some(1400);
    spec.tunnels[0].mss = Mss::Off;
    let gre = summary(&spec)[0];
    assert_eq!((gre.mtu, gre.mss_ipv4, gre.mss_ipv6), (1376, None, None));

    spec.tunnels[0].mtu = Some(1377);
    one_error(&spec, Item::Tunnel(TunnelId(0)), "mtu", &["1377", "1376", "1400", "24"]);
}

#[test]
fn of_several_ways_the_smallest_mtu_counts() {
    let mut spec = two_ports();
    spec.interfaces[0].mtu = 1400;
    spec.tunnels.push(tunnel("t", 0, Encap::Gre, "192.0.2.1", "198.51.100.7"));
    for (gateway, interface) in [("10.0.0.2", 0), ("192.0.2.2", 1)] {
        let target = RouteTarget::Gateway { address: address(gateway), interface: InterfaceId(interface) };
        spec.routes.push(route("198.51.100.0/24", target));
    }
    assert_eq!(Tables::compile(&spec).unwrap().summaries()[0].mtu, 1376);
}

#[test]
fn a_remote_without_route_is_told_by_the_summary() {
    let spec = Spec { tunnels: vec![tunnel("t", 0, Encap::Gre, "192.0.2.1", "198.51.100.7")], ..two_ports() };
    assert!(!Tables::compile(&spec).unwrap().summaries()[0].reachable);
}

#[test]
fn no_room_for_packets_is_refused() {
    let mut spec =
        Spec { tunnels: vec![tunnel("t", 0, Encap::Gre, "192.0.2.1", "192.0.2.2")], ..two_ports() };
    spec.interfaces[1].mtu = 80;
    one_error(&spec, Item::Tunnel(TunnelId(0)), "", &["80", "24", "56"]);
}

#[test]
fn headers_longer_than_the_headroom_are_refused() {
    let around =
        |name: &str, slot, remote: &str| fou(tunnel(name, slot, Encap::Gre, "2001:db8::1", remote), 5555);
    let mut spec = Spec {
        tunnels: vec![
            around("a", 0, "2001:db8:1::1"),
            around("b", 1, "2001:db8:2::1"),
            around("c", 2, "2001:db8::2"),
        ],
        routes: vec![to_tunnel("2001:db8:1::1/128", 1), to_tunnel("2001:db8:2::1/128", 2)],
        ..two_ports()
    };
    // Three times 52 and Ethernet.
    one_error(&spec, Item::Tunnel(TunnelId(0)), "remote", &["170", "142"]);
    spec.routes.remove(0);
    spec.routes.push(to_tunnel("2001:db8:1::1/128", 2));
    assert!(Tables::compile(&spec).is_ok());
}

#[test]
fn ways_within_ways_are_bounded() {
    let mut spec = two_ports();
    for last in 11..43u8 {
        let text = format!("192.0.2.{last}");
        let target = RouteTarget::Gateway { address: address(&text), interface: InterfaceId(1) };
        spec.routes.push(route("198.51.100.0/24", target));
    }
    // Each of sixteen tunnels has 32 ways, and the last one leads into all of them.
    for index in 0..16u32 {
        spec.tunnels.push(tunnel(
            &format!("t{index}"),
            index,
            Encap::Gre,
            "192.0.2.1",
            &format!("198.51.100.{}", index + 1),
        ));
        spec.routes.push(to_tunnel("203.0.113.0/24", index));
    }
    assert!(Tables::compile(&spec).is_ok());
    spec.tunnels.push(tunnel("all", 16, Encap::Gre, "192.0.2.1", "203.0.113.1"));
    one_error(&spec, Item::Tunnel(TunnelId(16)), "remote", &["512", "256"]);
}
