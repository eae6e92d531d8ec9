//! `culvert explain` from outside: what it says is what `culvert replay` sends, and what it derives is what limits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test may fail.

mod common;

use common::{Style, culvert, pcap, read_pcap, stderr, write};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::process::Output;

/// A LAN on which packets come in, a WAN with a VLAN on which they leave.
const PORTS: &str = r#"[[port]]
name = "lan"
device = "net_null0"
mtu = 9000
addresses = ["10.0.0.1/24", "2001:db8:a::1/64"]
[[port]]
name = "wan"
device = "net_null1"
mac = "02:00:00:00:00:aa"
addresses = ["192.0.2.1/24", "2001:db8:1::1/64"]
[[port.vlan]]
id = 120
name = "tagged"
addresses = ["198.18.0.1/24"]
[[neighbor]]
interface = "wan"
address = "192.0.2.2"
mac = "02:00:00:00:02:02"
[[neighbor]]
interface = "wan"
address = "2001:db8:1::2"
mac = "02:00:00:00:02:06"
[[neighbor]]
interface = "tagged"
address = "198.18.0.2"
mac = "02:00:00:00:02:12"
[[route]]
prefix = "10.9.0.0/16"
tunnel = "t"
[[route]]
prefix = "2001:db8:9::/48"
tunnel = "t"
"#;

/// [`PORTS`] without the routes into a tunnel.
fn only_ports() -> String {
    PORTS.split("[[route]]").next().unwrap().to_owned()
}

fn explain(folder: &Path, arguments: &[&str]) -> Output {
    culvert().arg("explain").args(arguments).current_dir(folder).output().unwrap()
}

fn json_of(config: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "c.toml", config);
    let output = explain(folder.path(), &["c.toml", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text_of(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "c.toml", config);
    let output = explain(folder.path(), &["c.toml"]);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A UDP packet to the tunnel's prefix that differs with `number` in family, flow, length, DSCP, ECN, TTL and DF.
fn inner(number: u8) -> Vec<u8> {
    let payload = vec![number; 20 + usize::from(number)];
    let udp_len = (8 + payload.len()) as u16;
    let class = number.wrapping_mul(0x25);
    let ttl = 30 + number;
    let mut packet = if number.is_multiple_of(2) {
        let mut header = vec![0x45, class];
        header.extend((20 + udp_len).to_be_bytes());
        header.extend([0, number, if number.is_multiple_of(4) { 0x40 } else { 0 }, 0, ttl, 17, 0, 0]);
        header.extend([10, 0, 0, 9, 10, 9, 0, number]);
        let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        header[10..12].copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
        header
    } else {
        let mut header = vec![0x60 | class >> 4, class << 4, 0, 0];
        header.extend(udp_len.to_be_bytes());
        header.extend([17, ttl]);
        header.extend("2001:db8:a::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
        header.extend(format!("2001:db8:9::{number}").parse::<std::net::Ipv6Addr>().unwrap().octets());
        header
    };
    packet.extend([0x40, number, 0x50, 0]);
    packet.extend(udp_len.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

const PACKETS: u8 = 16;

/// What replay sends by the WAN for every [`inner`] packet.
fn sent(config: &str) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "c.toml", config);
    let frames: Vec<_> = (0..PACKETS)
        .map(|number| {
            let kind = if number % 2 == 0 { [0x08, 0] } else { [0x86, 0xdd] };
            let header = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0xee, 1], kind.as_slice()].concat();
            (1_700_000_000_000_000_000 + u64::from(number) * 1_000, [header, inner(number)].concat())
        })
        .collect();
    write(folder.path(), "in.pcap", pcap(Style::USUAL, 1, &frames));
    let output = culvert()
        .args(["replay", "--config", "c.toml", "--in", "lan=in.pcap", "--out", "out"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let (_, _, packets) = read_pcap(&folder.path().join("out/wan.pcap"));
    let packets: Vec<Vec<u8>> = packets.into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(packets.len(), usize::from(PACKETS), "{}", String::from_utf8_lossy(&output.stdout));
    packets
}

/// Compares every digit that explain prints with what replay sends, and demands that every dot stands for something that
/// differs between packets.
#[track_caller]
fn assert_same(name: &str, config: &str) -> Value {
    let explained = json_of(config);
    let tunnel = explained.as_array().unwrap().iter().find(|tunnel| tunnel["tunnel"] == "t").unwrap().clone();
    let stack = tunnel["stack"].as_array().unwrap();
    let sent = sent(config);
    let mut offset = 0;
    for header in stack {
        let (digits, bytes) = (header["hex"].as_str().unwrap(), header["bytes"].as_u64().unwrap() as usize);
        assert_eq!(digits.len(), bytes * 2, "{name}: {header:#}");
        assert_eq!(header["offset"], offset, "{name}: {header:#}");
        let mut seen = vec![HashSet::new(); digits.len()];
        for packet in &sent {
            let real: String =
                packet[offset..offset + bytes].iter().map(|byte| format!("{byte:02x}")).collect();
            for (at, (said, real)) in digits.chars().zip(real.chars()).enumerate() {
                assert!(
                    said == '.' || said == real,
                    "{name}: digit {at} of {header:#}\nbut sent {}",
                    hex(packet)
                );
                seen[at].insert(real);
            }
        }
        // Dots stand for one field or several in a row: what never differs needs none.
        let mut at = 0;
        for run in digits.split_inclusive(|digit| digit != '.') {
            let dots = run.chars().filter(|digit| *digit == '.').count();
            let differs = seen[at..at + dots].iter().any(|real| real.len() > 1);
            assert!(dots == 0 || differs, "{name}: {dots} dots from digit {at} of {header:#}");
            at += run.len();
        }
        offset += bytes;
    }
    // What follows is the inner packet, with its TTL lowered.
    for (number, packet) in (0..PACKETS).zip(&sent) {
        let (inner, at) = (inner(number), if number % 2 == 0 { 12 } else { 8 });
        assert_eq!(packet[offset + at..], inner[at..], "{name}: {}", hex(packet));
    }
    let link: u64 = stack
        .iter()
        .filter(|header| ["ethernet", "vlan"].contains(&header["header"].as_str().unwrap()))
        .map(|header| header["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(tunnel["overhead"].as_u64().unwrap(), offset as u64 - link, "{name}");
    tunnel
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(tunnel: &Value) -> Vec<&str> {
    tunnel["stack"].as_array().unwrap().iter().map(|header| header["header"].as_str().unwrap()).collect()
}

/// Tunnel "t" over IPv4 or IPv6 with further keys, and its UDP table.
fn one(encap: &str, ipv6: bool, keys: &str, udp: &str) -> String {
    let (local, remote) =
        if ipv6 { ("2001:db8:ff::1", "2001:db8:1::2") } else { ("203.0.113.1", "192.0.2.2") };
    let udp = if udp.is_empty() { String::new() } else { format!("[tunnel.udp]\n{udp}\n") };
    format!(
        "{PORTS}[[tunnel]]\nname = \"t\"\nencap = \"{encap}\"\nlocal = \"{local}\"\nremote = \"{remote}\"\n{keys}\n{udp}"
    )
}

#[test]
fn what_it_explains_is_what_replay_sends() {
    for (name, config, headers, mtu) in [
        ("gre4", one("gre", false, "", ""), "ethernet ipv4 gre", 1476),
        ("gre6", one("gre", true, "", ""), "ethernet ipv6 gre", 1456),
        ("key", one("gre", false, "key = 0x01020304", ""), "ethernet ipv4 gre", 1472),
        ("key 0", one("gre", true, "key = 0", ""), "ethernet ipv6 gre", 1452),
        ("checksum", one("gre", false, "checksum = true", ""), "ethernet ipv4 gre", 1472),
        ("sequence", one("gre", false, "sequence = true", ""), "ethernet ipv4 gre", 1472),
        ("all", one("gre", true, "checksum = true\nkey = 7\nsequence = true", ""), "ethernet ipv6 gre", 1444),
        ("ip4", one("ip", false, "", ""), "ethernet ipv4", 1480),
        ("ip6", one("ip", true, "", ""), "ethernet ipv6", 1460),
        ("fou4", one("ip", false, "", "kind = \"fou\""), "ethernet ipv4 udp", 1472),
        ("fou6", one("ip", true, "", "kind = \"fou\""), "ethernet ipv6 udp", 1452),
        ("fou4 gre", one("gre", false, "", "kind = \"fou\"\nport = 7777"), "ethernet ipv4 udp gre", 1468),
        (
            "fou6 zero",
            one("gre", true, "", "kind = \"fou\"\nchecksum = \"zero\""),
            "ethernet ipv6 udp gre",
            1448,
        ),
        ("fou4 full", one("ip", false, "", "kind = \"fou\"\nchecksum = \"full\""), "ethernet ipv4 udp", 1472),
        ("fou source", one("ip", false, "", "kind = \"fou\"\nsource_port = 5555"), "ethernet ipv4 udp", 1472),
        ("gue4", one("ip", false, "", "kind = \"gue\""), "ethernet ipv4 udp gue", 1468),
        ("gue6 gre", one("gre", true, "key = 9", "kind = \"gue\""), "ethernet ipv6 udp gue gre", 1440),
        ("gue1", one("ip", false, "", "kind = \"gue1\""), "ethernet ipv4 udp", 1472),
        ("gue1 v6", one("ip", true, "", "kind = \"gue1\""), "ethernet ipv6 udp", 1452),
        ("gre-in-udp4", one("gre", false, "", "kind = \"gre-in-udp\""), "ethernet ipv4 udp gre", 1468),
        ("gre-in-udp6", one("gre", true, "", "kind = \"gre-in-udp\""), "ethernet ipv6 udp gre", 1448),
        (
            "ttl",
            one("gre", false, "ttl = \"inherit\"\ndscp = 46\necn = \"off\"", ""),
            "ethernet ipv4 gre",
            1476,
        ),
        ("ttl6", one("gre", true, "ttl = 255\ndscp = 63", ""), "ethernet ipv6 gre", 1456),
        (
            "uniform",
            one("ip", true, "ttl = \"inherit\"\ndscp = \"uniform\"\necn = \"off\"", ""),
            "ethernet ipv6",
            1460,
        ),
        ("df", one("gre", false, "df = \"inherit\"", ""), "ethernet ipv4 gre", 1476),
        ("no df", one("ip", false, "df = \"clear\"", ""), "ethernet ipv4", 1480),
        (
            "vlan",
            one("gre", false, "", "").replace("remote = \"192.0.2.2\"", "remote = \"198.18.0.2\""),
            "ethernet vlan ipv4 gre",
            1476,
        ),
    ] {
        let tunnel = assert_same(name, &config);
        assert_eq!(names(&tunnel).join(" "), headers, "{name}");
        assert_eq!(tunnel["mtu"], mtu, "{name}");
        assert_eq!(tunnel["mss_ipv4"], mtu - 40, "{name}");
        assert_eq!(tunnel["mss_ipv6"], mtu - 60, "{name}");
    }
}

/// GRE in FOU over IPv6, and that in GRE with a key over IPv4 on a VLAN.
fn stacked(middle: &str) -> String {
    one("gre", false, "ttl = 9\ndscp = 10\ndf = \"clear\"", "")
        .replace("remote = \"192.0.2.2\"", "remote = \"198.51.100.7\"")
        + &format!(
            r#"[[route]]
prefix = "198.51.100.7/32"
tunnel = "fou"
[[tunnel]]
name = "fou"
encap = "ip"
local = "2001:db8:ff::1"
remote = "2001:db8:fe::1"
{middle}
[tunnel.udp]
kind = "fou"
"#
        )
}

fn three() -> String {
    stacked("ttl = \"inherit\"")
        + r#"[[route]]
prefix = "2001:db8:fe::/64"
tunnel = "outer"
[[tunnel]]
name = "outer"
encap = "gre"
local = "203.0.113.2"
remote = "198.18.0.2"
key = 5
ttl = "inherit"
df = "inherit"
"#
}

#[test]
fn what_it_explains_of_stacks_is_what_replay_sends() {
    let two = stacked("ttl = \"inherit\"")
        + "[[route]]\nprefix = \"2001:db8:fe::/64\"\ngateway = \"2001:db8:1::2\"\n";
    let tunnel = assert_same("two", &two);
    assert_eq!(names(&tunnel).join(" "), "ethernet ipv6 udp ipv4 gre");
    assert_eq!((&tunnel["overhead"], &tunnel["mtu"]), (&json!(72), &json!(1428)));
    // What the carrier inherits from a layer that has it fixed is fixed, by that layer's line.
    let carrier = &tunnel["stack"][1];
    assert_eq!((&carrier["fields"]["hop_limit"], &carrier["fields"]["dscp"]), (&json!(9), &json!(10)));
    let line = |text: &str| two.lines().position(|line| line == text).unwrap() + 1;
    assert_eq!(carrier["lines"]["hop_limit"], line("ttl = 9"));
    assert_eq!(carrier["lines"]["dscp"], line("dscp = 10"));

    let tunnel = assert_same("three", &three());
    assert_eq!(names(&tunnel).join(" "), "ethernet vlan ipv4 gre ipv6 udp ipv4 gre");
    assert_eq!((&tunnel["overhead"], &tunnel["mtu"]), (&json!(100), &json!(1400)));
}

#[test]
fn every_value_names_its_line() {
    let config = one("gre", false, "key = 7\nttl = 9", "kind = \"fou\"\nport = 7777");
    let tunnel = json_of(&config)[0].clone();
    let line = |text: &str| config.lines().position(|line| line == text).unwrap() + 1;
    let header = |name: &str| {
        let stack = tunnel["stack"].as_array().unwrap();
        stack.iter().find(|header| header["header"] == name).unwrap().clone()
    };
    for (name, field, value, text) in [
        ("ethernet", "destination", json!("02:00:00:00:02:02"), "mac = \"02:00:00:00:02:02\""),
        ("ethernet", "source", json!("02:00:00:00:00:aa"), "mac = \"02:00:00:00:00:aa\""),
        ("ipv4", "source", json!("203.0.113.1"), "local = \"203.0.113.1\""),
        ("ipv4", "destination", json!("192.0.2.2"), "remote = \"192.0.2.2\""),
        ("ipv4", "ttl", json!(9), "ttl = 9"),
        ("ipv4", "dont_fragment", json!(1), "[[tunnel]]"),
        ("udp", "destination_port", json!(7777), "port = 7777"),
        ("gre", "key", json!(7), "key = 7"),
    ] {
        let header = header(name);
        assert_eq!(header["fields"][field], value, "{name} {field}");
        assert_eq!(header["lines"][field], line(text), "{name} {field}");
    }
    assert!(
        header("udp")["fields"]["source_port"]["per_packet"].as_str().unwrap().contains("49152 to 65535")
    );
    let text = text_of(&config);
    for part in [
        format!("key               7  c.toml:{} key", line("key = 7")).replace("  ", " "),
        format!("c.toml:{} default of df", line("[[tunnel]]")),
        "the inner packet's (RFC 6040)".to_owned(),
    ] {
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(&part), "{part}\nin\n{text}");
    }
}

#[test]
fn the_steps_to_an_mtu_come_to_that_mtu() {
    let own_mtu =
        stacked("mtu = 1400") + "[[route]]\nprefix = \"2001:db8:fe::/64\"\ngateway = \"2001:db8:1::2\"\n";
    let receiver =
        only_ports() + "[[tunnel]]\nname = \"t\"\nencap = \"gre\"\nlocal = \"192.0.2.1\"\nremote = \"any\"\n";
    for (config, mtu) in [
        (one("gre", false, "", ""), 1476),
        (one("gre", false, "mtu = 1400", ""), 1400),
        (one("gre", false, "profile = \"cni-legacy-fou\"", ""), 1372),
        (own_mtu, 1376),
        (three(), 1400),
        (receiver, 1476),
    ] {
        let tunnels = json_of(&config);
        let tunnel = tunnels.as_array().unwrap().iter().find(|tunnel| tunnel["tunnel"] == "t").unwrap();
        assert_eq!(tunnel["mtu"], mtu, "{tunnel:#}");
        let mut sum = 0;
        for step in tunnel["derivation"]["mtu"].as_array().unwrap() {
            let step = step.as_str().unwrap();
            let bytes: i64 = step.split(' ').next().unwrap().parse().unwrap();
            sum = if bytes > 0 { bytes } else { sum + bytes };
        }
        assert_eq!(sum, mtu, "{tunnel:#}");
    }
}

#[test]
fn a_tunnel_that_only_receives_says_what_it_takes() {
    let receiver = only_ports()
        + "[[tunnel]]\nname = \"r\"\nencap = \"gre\"\nlocal = \"203.0.113.1\"\nremote = [\"192.0.2.0/25\", \"198.51.100.1\"]\nkey = 3\n";
    let tunnel = json_of(&receiver)[0].clone();
    assert_eq!(tunnel["stack"], json!([]));
    let takes = tunnel["only_receives"].as_str().unwrap();
    assert_eq!(takes, "GRE with key 3, sent to 203.0.113.1 by 192.0.2.0/25, 198.51.100.1");
    assert!(text_of(&receiver).contains("only receives"));
}

#[test]
fn a_tunnel_that_cannot_send_says_why() {
    let lost = one("gre", false, "", "").replace("remote = \"192.0.2.2\"", "remote = \"8.8.8.8\"");
    let tunnel = json_of(&lost)[0].clone();
    assert_eq!(tunnel["stack"], json!([]));
    assert!(tunnel["cannot_send"][0].as_str().unwrap().contains("no route leads to 8.8.8.8"), "{tunnel:#}");
    let unknown = one("gre", false, "", "").replace("remote = \"192.0.2.2\"", "remote = \"192.0.2.9\"");
    assert!(text_of(&unknown).contains("has no [[neighbor]]"));
}

#[test]
fn every_way_of_a_tunnel_is_shown() {
    let config = one("gre", false, "", "").replace("remote = \"192.0.2.2\"", "remote = \"198.51.100.7\"")
        + "[[route]]\nprefix = \"198.51.100.0/24\"\ngateway = \"192.0.2.2\"\n[[route]]\nprefix = \"198.51.100.0/24\"\ngateway = \"198.18.0.2\"\n";
    let tunnel = json_of(&config)[0].clone();
    assert_eq!(names(&tunnel).join(" "), "ethernet ipv4 gre");
    let other = &tunnel["alternatives"][0];
    assert_eq!((&other[1]["header"], &other[1]["fields"]["id"]), (&json!("vlan"), &json!(120)));
    let text = text_of(&config);
    assert!(text.contains("Way 1 of 2") && text.contains("Way 2 of 2"), "{text}");
}

#[test]
fn one_tunnel_can_be_asked_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "c.toml", three());
    let output = explain(folder.path(), &["c.toml", "--json", "--tunnel", "fou"]);
    let tunnels: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(tunnels.as_array().unwrap().len(), 1);
    assert_eq!(tunnels[0]["tunnel"], "fou");
    let output = explain(folder.path(), &["c.toml", "--tunnel", "fuo"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("the nearest is \"fou\""), "{}", stderr(&output));
    write(folder.path(), "bad.toml", "[[port]]\n");
    let output = explain(folder.path(), &["bad.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("bad.toml:1:1: error:"), "{}", stderr(&output));
}

#[test]
fn profiles_are_listed_without_a_file_and_mean_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let output = explain(folder.path(), &["--profiles", "--json"]);
    let profiles: Value = serde_json::from_slice(&output.stdout).unwrap();
    let profiles = profiles.as_array().unwrap();
    assert_eq!(profiles.len(), 4);
    let text = String::from_utf8(explain(folder.path(), &["--profiles"]).stdout).unwrap();
    for profile in profiles {
        let name = profile["profile"].as_str().unwrap();
        assert!(text.contains(name), "{text}");
        let config = one("gre", false, &format!("profile = \"{name}\""), "")
            .replace("net_null1\"", "net_null1\"\nmtu = 9000");
        let tunnel = json_of(&config)[0].clone();
        for key in ["mtu", "mss_ipv4", "mss_ipv6"] {
            assert_eq!(tunnel[key], profile[key], "{name} {key}");
        }
    }
}

#[test]
fn the_readme_shows_what_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let output = explain(&root.join("docs/examples"), &["ingest.toml", "--tunnel", "backhaul-fra"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(readme.contains(printed.trim_end()), "README.md has to show\n{printed}");
}
