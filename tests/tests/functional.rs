//! culvert at work: two of them in namespaces of their own, TAP ports, a tunnel between, a host behind each.
//!
//! ```text
//!  left host 10.1.0.9 ── lan [a] wan ── 192.0.2.1 ══ GRE ══ 192.0.2.2 ── wan [b] lan ── 10.2.0.9 right host
//! ```
//!
//! Traffic never leaves the namespaces. Each test ends with the law of conservation in both. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tests::binary;
use tests::counters::conserved;
use tests::namespace::{Gateway, Namespace, obstacle, until, wire};

fn main() {
    let mut arguments = Arguments::from_args();
    // Each test keeps two poll-mode workers and a host pair busy.
    arguments.test_threads = Some(1);
    let obstacle = obstacle();
    if let Some(reason) = obstacle {
        println!("skipped: functional tests: {reason}");
    }
    let tests: [(&str, fn()); 10] = [
        ("pings_and_tcp_cross_the_tunnel_both_ways", pings_and_tcp_cross_the_tunnel_both_ways),
        ("stack_of_gre_in_fou_over_ipv6_carries_traffic", stack_of_gre_in_fou_over_ipv6_carries_traffic),
        (
            "reload_during_traffic_loses_and_reorders_nothing",
            reload_during_traffic_loses_and_reorders_nothing,
        ),
        ("reload_of_a_bad_file_changes_nothing", reload_of_a_bad_file_changes_nothing),
        ("traffic_recovers_when_the_wire_is_back", traffic_recovers_when_the_wire_is_back),
        ("sigterm_during_traffic_exits_0", sigterm_during_traffic_exits_0),
        (
            "packets_reloads_and_signals_wake_sleeping_workers",
            packets_reloads_and_signals_wake_sleeping_workers,
        ),
        ("receive_interrupts_let_workers_sleep_longer", receive_interrupts_let_workers_sleep_longer),
        ("packets_for_the_box_are_dropped_by_name_without_a_kernel", packets_for_the_box_without_a_kernel),
        ("what_cannot_start_says_why", what_cannot_start_says_why),
    ];
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let run = move || -> Result<(), Failed> {
                test();
                Ok(())
            };
            Trial::test(name, run).with_ignored_flag(obstacle.is_some())
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// The four namespaces and their wires.
struct Site {
    left: Namespace,
    right: Namespace,
    a: Namespace,
    b: Namespace,
}

const LEFT_MAC: &str = "02:00:00:00:0a:09";
const RIGHT_MAC: &str = "02:00:00:00:0b:09";
/// The ports' Ethernet addresses: lan and wan of a, lan and wan of b.
const MACS: [[&str; 2]; 2] =
    [["02:00:00:00:0a:01", "02:00:00:00:0a:02"], ["02:00:00:00:0b:01", "02:00:00:00:0b:02"]];

impl Site {
    fn new() -> Site {
        let [left, right, a, b] = ["left", "right", "a", "b"].map(Namespace::new);
        wire((&left, "eth"), (&a, "end-lan"));
        wire((&right, "eth"), (&b, "end-lan"));
        wire((&a, "end-wan"), (&b, "end-wan"));
        for (host, mac, gateway, net) in
            [(&left, LEFT_MAC, MACS[0][0], 1), (&right, RIGHT_MAC, MACS[1][0], 2)]
        {
            host.address("eth", mac, &[&format!("10.{net}.0.9/24"), &format!("2001:db8:{net}::9/64")]);
            host.neighbor("eth", &format!("10.{net}.0.1"), gateway);
            host.neighbor("eth", &format!("2001:db8:{net}::1"), gateway);
            host.sh(&format!(
                "ip route add default via 10.{net}.0.1; ip -6 route add default via 2001:db8:{net}::1"
            ));
        }
        Site { left, right, a, b }
    }

    fn start(&self, end: usize, tunnels: &str) -> Gateway<'_> {
        let namespace = if end == 1 { &self.a } else { &self.b };
        Gateway::start(namespace, &config(end, tunnels), &[("lan", "end-lan"), ("wan", "end-wan")])
    }
}

/// One end's configuration: ports and neighbours, and `tunnels`.
fn config(end: usize, tunnels: &str) -> String {
    let other = 3 - end;
    let [lan, wan] = MACS[end - 1];
    let peer = MACS[other - 1][1];
    let host = [LEFT_MAC, RIGHT_MAC][end - 1];
    format!(
        r#"
[[port]]
name = "lan"
device = "net_tap0,iface=lan"
mac = "{lan}"
addresses = ["10.{end}.0.1/24", "2001:db8:{end}::1/64"]

[[port]]
name = "wan"
device = "net_tap1,iface=wan"
mac = "{wan}"
addresses = ["192.0.2.{end}/24", "2001:db8::{end}/64"]

[[neighbor]]
interface = "lan"
address = "10.{end}.0.9"
mac = "{host}"

[[neighbor]]
interface = "lan"
address = "2001:db8:{end}::9"
mac = "{host}"

[[neighbor]]
interface = "wan"
address = "192.0.2.{other}"
mac = "{peer}"

[[neighbor]]
interface = "wan"
address = "2001:db8::{other}"
mac = "{peer}"
{tunnels}"#
    )
}

/// A GRE tunnel to the other end, and the routes into it.
fn gre(end: usize) -> String {
    let other = 3 - end;
    format!(
        r#"
[[tunnel]]
name = "link"
encap = "gre"
local = "192.0.2.{end}"
remote = "192.0.2.{other}"

[[route]]
prefix = "10.{other}.0.0/16"
tunnel = "link"

[[route]]
prefix = "2001:db8:{other}::/48"
tunnel = "link"
"#
    )
}

fn script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("functional").join(name).to_str().unwrap().to_owned()
}

fn ping(host: &Namespace, arguments: &str) -> bool {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let mut command = host.command("ping");
    command
        .args(["-n", "-q", "-c", "3", "-i", "0.2", "-W", "2"])
        .args(arguments)
        .output()
        .unwrap()
        .status
        .success()
}

/// A helper process, ended with its value.
struct Helper(Child);

impl Helper {
    fn start(host: &Namespace, name: &str, arguments: &[&str]) -> Helper {
        let mut command = host.command("python3");
        command.arg(script(name)).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        Helper(command.spawn().unwrap())
    }

    /// Waits for its first line.
    fn ready(mut self) -> Helper {
        let mut line = String::new();
        BufReader::with_capacity(1, self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        self
    }

    /// Closes its input and reads what it found out.
    fn finish(mut self) -> Value {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until so many packets more have entered the gateway's first tunnel.
fn assert_flowing(gateway: &Gateway<'_>, packets: u64) {
    let sent = || gateway.show("tunnels")[0]["tx_packets"].as_u64().unwrap();
    let before = sent();
    until("traffic flows", || sent() >= before + packets);
}

/// Both ends at rest, nothing missing.
fn assert_law(gateways: &[&Gateway<'_>]) {
    for gateway in gateways {
        until("everything is accounted for", || gateway.show("drops")["unaccounted"] == 0);
        if let Err(broken) = conserved(&gateway.show("drops")) {
            panic!("{broken}");
        }
    }
}

fn pings_and_tcp_cross_the_tunnel_both_ways() {
    let site = Site::new();
    let (a, b) = (site.start(1, &gre(1)), site.start(2, &gre(2)));
    for size in [0, 56, 1448] {
        assert!(ping(&site.left, &format!("-M do -s {size} 10.2.0.9")), "{size} bytes from left to right");
        assert!(ping(&site.right, &format!("-M do -s {size} 10.1.0.9")), "{size} bytes from right to left");
    }
    assert!(ping(&site.left, "-s 1428 2001:db8:2::9"), "IPv6 at the tunnel's MTU");
    for (address, megabytes) in [("10.2.0.9", "8"), ("2001:db8:2::9", "4")] {
        let _server = Helper::start(&site.right, "content.py", &["serve", address, "5001"]).ready();
        let result = Helper::start(&site.left, "content.py", &["fetch", address, "5001", megabytes]).finish();
        assert_eq!(result["same"], true, "{result}");
    }
    for gateway in [&a, &b] {
        let tunnels = gateway.show("tunnels");
        let link = &tunnels[0];
        assert_eq!(link["name"], "link");
        assert!(
            link["rx_packets"].as_u64() > Some(1000) && link["tx_packets"].as_u64() > Some(1000),
            "{link}"
        );
        // SYN and SYN-ACK of either family, by both ends: the first box lowers them, the second finds them low.
        assert_eq!(link["mtu"], 1476);
        assert_eq!(link["mss_clamped"], 2, "{link}");
    }
    // A byte more must not pass, and the sender's kernel believes what it is told.
    for (arguments, address) in [("-M do -s 1449", "10.2.0.9"), ("-M do -s 1429", "2001:db8:2::9")] {
        assert!(!ping(&site.left, &format!("{arguments} {address}")), "{address}");
        let learned = site.left.sh(&format!("ip route get {address}"));
        assert!(learned.contains("mtu 1476"), "{learned}");
    }
    // Without don't-fragment it passes in pieces, which the other end's kernel puts together.
    assert!(ping(&site.right, "-M dont -s 4000 10.1.0.9"), "fragments");
    assert_law(&[&a, &b]);
}

fn stack_of_gre_in_fou_over_ipv6_carries_traffic() {
    let site = Site::new();
    let stack = |end: usize| {
        let other = 3 - end;
        format!(
            r#"
[[tunnel]]
name = "inner"
encap = "gre"
local = "203.0.113.{end}"
remote = "203.0.113.{other}"

[[tunnel]]
name = "outer"
encap = "ip"
local = "2001:db8::{end}"
remote = "2001:db8::{other}"
udp = {{ kind = "fou", port = 5556 }}

[[route]]
prefix = "203.0.113.{other}/32"
tunnel = "outer"

[[route]]
prefix = "10.{other}.0.0/16"
tunnel = "inner"
"#
        )
    };
    let (a, b) = (site.start(1, &stack(1)), site.start(2, &stack(2)));
    assert!(ping(&site.left, "-M do -s 1400 10.2.0.9"), "the stack's MTU is 1428");
    let _server = Helper::start(&site.right, "content.py", &["serve", "10.2.0.9", "5001"]).ready();
    let result = Helper::start(&site.left, "content.py", &["fetch", "10.2.0.9", "5001", "4"]).finish();
    assert_eq!(result["same"], true, "{result}");
    assert!(result["maximum_segment"].as_u64() <= Some(1388), "{result}");
    assert_law(&[&a, &b]);
}

fn reload_during_traffic_loses_and_reorders_nothing() {
    let site = Site::new();
    let (a, b) = (site.start(1, &gre(1)), site.start(2, &gre(2)));
    assert!(ping(&site.left, "10.2.0.9"));
    let receiver = Helper::start(&site.right, "numbered.py", &["receive", "10.2.0.9"]).ready();
    let sender = Helper::start(&site.left, "numbered.py", &["send", "10.2.0.9", "2000"]);
    let extra = |number: usize| {
        format!(
            "\n[[tunnel]]\nname = \"extra-{number}\"\nencap = \"gre\"\nkey = {number}\nlocal = \"192.0.2.1\"\n\
             remote = \"192.0.2.2\"\n\n[[route]]\nprefix = \"10.77.{number}.0/24\"\ntunnel = \"extra-{number}\"\n"
        )
    };
    assert_flowing(&a, 200);
    let mut generation = 1;
    for number in 1..=100 {
        // Each time a tunnel comes, another goes, and the one in use is compiled anew.
        a.write(&config(1, &(gre(1) + &extra(number) + &extra(number + 100))));
        let output = a.reload();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let workers = a.show("workers");
        let reached = workers[0]["generation"].as_u64().unwrap();
        assert!(reached > generation, "generation {reached} after {generation}");
        generation = reached;
    }
    let sent = sender.finish();
    let received = receiver.finish();
    let total: u64 = sent.as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert!(total > 1000, "only {total} datagrams were under way");
    for (flow, count) in sent.as_object().unwrap() {
        assert_eq!(received[flow]["count"], *count, "lost in flow {flow}: {received}\n{}", a.show("drops"));
        assert_eq!(received[flow]["jumps"], 0, "reordered in flow {flow}: {received}");
    }
    assert_law(&[&a, &b]);
}

fn reload_of_a_bad_file_changes_nothing() {
    let site = Site::new();
    let (a, b) = (site.start(1, &gre(1)), site.start(2, &gre(2)));
    assert!(ping(&site.left, "10.2.0.9"));
    let generation = a.show("workers")[0]["generation"].clone();
    let receiver = Helper::start(&site.right, "numbered.py", &["receive", "10.2.0.9"]).ready();
    let sender = Helper::start(&site.left, "numbered.py", &["send", "10.2.0.9", "1000"]);
    assert_flowing(&a, 200);

    a.write(&config(1, &gre(1).replace("remote", "remot")));
    a.signal("HUP");
    until("the signal is answered", || a.log().contains("remot"));
    let output = a.reload();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("remote"), "the nearest known key is named");
    assert_eq!(a.show("workers")[0]["generation"], generation);

    a.write(&config(1, &gre(1)));
    a.signal("HUP");
    until("a good file is taken", || a.show("workers")[0]["generation"] != generation);
    assert_flowing(&a, 200);

    let (sent, received) = (sender.finish(), receiver.finish());
    for (flow, count) in sent.as_object().unwrap() {
        assert_eq!(received[flow]["count"], *count, "lost in flow {flow}: {received}");
    }
    assert_law(&[&a, &b]);
}

fn traffic_recovers_when_the_wire_is_back() {
    let site = Site::new();
    let (a, b) = (site.start(1, &gre(1)), site.start(2, &gre(2)));
    assert!(ping(&site.left, "10.2.0.9"));
    site.b.sh("ip link set end-wan down");
    assert!(!ping(&site.left, "10.2.0.9"), "the wire is cut");
    site.b.sh("ip link set end-wan up");
    until("the wire is back", || ping(&site.left, "10.2.0.9"));
    // The port itself takes nothing.
    site.a.sh("ip link set wan down");
    assert!(!ping(&site.left, "10.2.0.9"), "the port is down");
    until("what the device refuses is dropped by name", || {
        a.show("drops")["dropped"]["tx_full"].as_u64().is_some_and(|count| count > 0)
    });
    site.a.sh("ip link set wan up");
    until("the port is back", || ping(&site.left, "10.2.0.9"));
    // The other end's process: gone, and started anew.
    b.signal("TERM");
    let (status, log) = b.wait();
    assert!(status.success(), "{log}");
    assert!(!ping(&site.left, "10.2.0.9"), "the other end is gone");
    let b = site.start(2, &gre(2));
    until("the other end is back", || ping(&site.left, "10.2.0.9"));
    assert_law(&[&a, &b]);
}

fn sigterm_during_traffic_exits_0() {
    let site = Site::new();
    for signal in ["TERM", "INT"] {
        let (a, b) = (site.start(1, &gre(1)), site.start(2, &gre(2)));
        let sender = Helper::start(&site.left, "numbered.py", &["send", "10.2.0.9", "2000"]);
        assert_flowing(&a, 200);
        a.signal(signal);
        let (status, log) = a.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        drop(sender);
        assert_law(&[&b]);
    }
}

/// How often the gateway's worker has gone to sleep.
fn sleeps(gateway: &Gateway<'_>) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let mut texts =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default());
    let worker = texts.find(|text| text.starts_with("Name:\tworker-1\n")).unwrap();
    let count = worker.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t"));
    count.unwrap().parse().unwrap()
}

/// Waits until the gateway's worker has seen no packet for so long that it sleeps again and again.
fn assert_asleep(gateway: &Gateway<'_>) {
    let before = sleeps(gateway);
    until("the worker sleeps", || sleeps(gateway) >= before + 3);
}

fn packets_reloads_and_signals_wake_sleeping_workers() {
    let site = Site::new();
    let (a, b) = (site.start(1, &gre(1)), site.start(2, &gre(2)));
    for _ in 0..10 {
        assert_asleep(&a);
        assert_asleep(&b);
        assert!(ping(&site.left, "-c 1 10.2.0.9"), "a packet after silence, and its answer");
    }
    assert_law(&[&a, &b]);
    assert_asleep(&a);
    assert_eq!(a.reload().status.code(), Some(0), "{}", a.log());
    assert_eq!(a.show("workers")[0]["generation"], 2);
    assert_asleep(&a);
    a.signal("TERM");
    let (status, log) = a.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

fn receive_interrupts_let_workers_sleep_longer() {
    let namespace = Namespace::new("idle");
    let port = |device: &str| format!("[[port]]\nname = \"lan\"\ndevice = \"{device}\"\n");
    let announced = Gateway::start(&namespace, &port("net_tap0,iface=lan"), &[]);
    let looked_at = Gateway::start(&namespace, &port("net_null0,no-rx=1"), &[]);
    let line = "no receive interrupts";
    assert!(!announced.log().contains(line) && looked_at.log().contains(line), "{}", announced.log());
    let before = [sleeps(&announced), sleeps(&looked_at)];
    until("the worker sleeps a few times", || sleeps(&announced) >= before[0] + 20);
    let after = [sleeps(&announced), sleeps(&looked_at)];
    assert!(after[1] - before[1] > after[0] - before[0], "{before:?}, {after:?}");
}

fn packets_for_the_box_without_a_kernel() {
    let site = Site::new();
    let (a, b) = (site.start(1, &gre(1)), site.start(2, &gre(2)));
    site.left.sh("echo something | socat -u - UDP4-DATAGRAM:10.1.0.1:9");
    until("the datagram is dropped by name", || {
        a.show("drops")["dropped"]["no_kernel"].as_u64().is_some_and(|count| count > 0)
    });
    assert_law(&[&a, &b]);
}

/// Runs culvert with a configuration that it must refuse, and returns what it says.
fn refusal(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let socket = folder.path().join("socket");
    let head = format!("[control]\nsocket = \"{}\"\n", socket.display());
    std::fs::write(&path, config.replace("[control]\n", &head)).unwrap();
    let mut command = Command::new("timeout");
    let output =
        command.arg("20").arg(binary::culvert()).arg("run").arg("--config").arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(!socket.exists(), "the socket is taken away again");
    text
}

fn what_cannot_start_says_why() {
    let port = |device: &str| format!("[[port]]\nname = \"wan\"\ndevice = \"{device}\"\n");
    let missing = refusal(&("[control]\n".to_owned() + &port("0000:ff:1f.7")));
    assert!(missing.contains("0000:ff:1f.7"), "{missing}");
    let unknown = refusal(&("[control]\n".to_owned() + &port("net_nothing0")));
    assert!(unknown.contains("net_nothing0"), "{unknown}");
    let core = refusal(&("[system]\nworker_cores = [4095]\n[control]\n".to_owned() + &port("net_null0")));
    assert!(core.contains("4095"), "{core}");
    let free: u64 = std::fs::read_to_string("/proc/meminfo")
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("HugePages_Free:")?.trim().parse::<u64>().ok())
        .sum();
    if free == 0 {
        let pages =
            refusal(&("[system]\nhugepages = \"required\"\n[control]\n".to_owned() + &port("net_null0")));
        assert!(pages.contains("hugepages"), "{pages}");
    } else {
        println!("skipped: hugepages = \"required\" without hugepages: this machine has {free} free");
    }

    // A path that another culvert listens on, and one that is something else's.
    let site = Site::new();
    let a = site.start(1, &gre(1));
    let output = Command::new(binary::culvert())
        .args(["show", "ports", "--socket", "/nonexistent/socket"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/socket"));
    let taken = a.show("config").to_string();
    assert!(taken.contains("net_tap0"), "{taken}");
}
