//! A row for every error: what is put behind `BASE`, where it is found, and words of the message.

use super::{BASE, behind, check, findings};
use crate::diagnostic::Severity;

#[test]
fn system_control_kernel_and_icmp() {
    for (text, column, words) in [
        ("[system]\nworker_cores = []", 16, "empty"),
        ("[system]\nworker_cores = [2, 2]", 20, "core 2 is named twice"),
        ("[system]\nworker_cores = [1024]", 17, "0 to 1023, found 1024"),
        ("[system]\nworker_cores = 1", 16, "list of core numbers, found 1"),
        ("[system]\nworker_cores = [0]", 16, "shares core 0"),
        ("[system]\ncontrol_core = -1", 16, "found -1"),
        ("[system]\nhugepages = \"on\"", 13, "\"auto\", \"required\" or \"off\", found \"on\""),
        ("[system]\nidle = true", 8, "\"poll\" or \"sleep\", found true"),
        ("[system]\neal_args = [\"\"]", 13, "not empty"),
        ("[system]\neal_arg = []", 1, "nearest is `eal_args`"),
        ("[control]\nsocket = \"\"", 10, "1 to 107 bytes"),
        ("[control]\nmetrics = \"localhost\"", 11, "127.0.0.1:9472"),
        ("[control]\nmetrics = \"127.0.0.1:9472\"", 11, "not supported by this version"),
        ("[kernel]\nenabled = 1", 11, "true or false"),
        ("[kernel]\nenabled = true", 11, "not supported by this version"),
        ("[icmp]\ntotal = -1", 9, "0 to 1000000"),
    ] {
        check(text, 2, column, &[words]);
    }
    check("[sistem]\nx = 1", 1, 2, &["unknown", "`sistem`", "nearest is `system`"]);
    check("[[system]]", 1, 1, &["a table [system]", "an array"]);
}

#[test]
fn ports_and_vlans() {
    let port = |rest: &str| format!("[[port]]\nname = \"p\"\ndevice = \"d\"\n{rest}");
    for (rest, column, words) in [
        ("mtu = 67", 7, "68 to 9600, found 67"),
        ("mtu = \"1500\"", 7, "found \"1500\""),
        ("mac = \"01:00:00:00:00:01\"", 7, "one station"),
        ("mac = \"02:00:00:00:00\"", 7, "MAC address such as"),
        ("rx_queues = 0", 13, "\"auto\" or a number from 1 to 1024"),
        ("rx_queues = \"many\"", 13, "\"auto\" or a number"),
        ("rss = \"none\"", 7, "\"auto\", \"outer\", \"inner\" or \"off\""),
        ("addresses = \"10.0.0.1/8\"", 13, "a list of"),
        ("addresses = [\"10.0.0.1\"]", 14, "\"10.0.0.1/32\""),
        ("addresses = [\"10.0.0.1/33\"]", 14, "with its prefix length"),
        ("addresses = [\"10.0.0.1/8\", \"10.0.0.1/9\"]", 28, "twice"),
        ("addresses = [\"224.0.0.1/8\"]", 14, "multicast"),
        ("addresses = [\"::ffff:10.0.0.1/128\"]", 14, "IPv4-mapped"),
        ("adresses = []", 1, "nearest is `addresses`"),
        ("vlan = 5", 8, "[[port.vlan]]"),
    ] {
        check(&port(rest), 4, column, &[words]);
    }
    check("[[port]]\ndevice = \"d\"", 1, 1, &["missing key `name` in [[port]]"]);
    check("[[port]]\nname = \"p\"", 1, 1, &["missing key `device` in [[port]]"]);
    check("[[port]]\nname = \"a\"\ndevice = \"d\"", 2, 8, &["\"a\" is taken by line 2"]);
    check("[[port]]\nname = \"t\"\ndevice = \"d\"", 2, 8, &["\"t\" is taken by line 26"]);
    check("[[port]]\nname = \"p/q\"\ndevice = \"d\"", 2, 8, &["letters"]);
    check("[[port]]\nname = \"p\"\ndevice = \"net_null0,x=1\"", 3, 10, &["taken by line 3"]);
    check("[[port]]\nname = \"p\"\ndevice = \"a b\"", 3, 10, &["PCI address"]);
    check(&port("mtu = 1279\naddresses = [\"2001:db8:7::1/64\"]"), 4, 7, &["at least 1280"]);
    check(
        &port("mtu = 1279\n[[port.vlan]]\nid = 1\nname = \"q\"\naddresses = [\"2001:db8:7::1/64\"]"),
        4,
        7,
        &["1280"],
    );
    check(&port("[[port.vlan]]\nid = 4095\nname = \"q\""), 5, 6, &["1 to 4094, found 4095"]);
    check(&port("[[port.vlan]]\nname = \"q\""), 4, 1, &["missing key `id` in [[port.vlan]]"]);
    check(&port("[[port.vlan]]\nid = 1\nname = \"v\""), 6, 8, &["taken by line 11"]);
    check(
        &port("[[port.vlan]]\nid = 1\nname = \"q\"\n[[port.vlan]]\nid = 1\nname = \"r\""),
        8,
        6,
        &["VLAN 1 is on this port already, in line 37"],
    );
    let found = findings("[system]\nidle = \"poll\"\n");
    assert!(found.len() == 1 && found[0].message.contains("no [[port]]"), "{found:?}");
}

#[test]
fn neighbors() {
    let neighbor = |interface: &str, address: &str, mac: &str| {
        format!("[[neighbor]]\ninterface = \"{interface}\"\naddress = \"{address}\"\nmac = \"{mac}\"")
    };
    let mac = "02:00:00:00:00:09";
    check(&neighbor("va", "198.18.0.9", mac), 2, 13, &["unknown name \"va\"", "nearest is"]);
    check(&neighbor("t", "198.18.0.9", mac), 2, 13, &["is a tunnel", "port or VLAN"]);
    check(&neighbor("v", "198.18.1.9", mac), 3, 11, &["on no network of \"v\"", "198.18.0.0/24"]);
    check(&neighbor("v", "2001:db8::1", mac), 3, 11, &["on no network of \"v\""]);
    check(&neighbor("v", "198.18.0.1", mac), 3, 11, &["box's own address"]);
    check(&neighbor("v", "198.18.0.2", mac), 3, 11, &["in line 23 already"]);
    check(&neighbor("v", "198.18.0.9/24", mac), 3, 11, &["without a prefix length"]);
    check(&neighbor("v", "198.18.0.9", "00:00:00:00:00:00"), 4, 7, &["one station"]);
    check(
        "[[neighbor]]\naddress = \"192.0.2.9\"\nmac = \"02:00:00:00:00:09\"",
        1,
        1,
        &["missing key `interface`"],
    );
    assert_eq!(behind(&neighbor("b", "fe80::1", mac)), []);
}

#[test]
fn tunnels() {
    let tunnel =
        |rest: &str| format!("[[tunnel]]\nname = \"u\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\n{rest}");
    let one = |rest: &str| tunnel(&format!("remote = \"192.0.2.2\"\n{rest}"));
    for (remote, column, words) in [
        ("\"192.0.2\"", 10, "an address, \"any\", a prefix, or a list"),
        ("7", 10, "an address, \"any\""),
        ("\"2001:db8::1\"", 10, "different families"),
        ("\"2001:db8::/64\"", 10, "different families"),
        ("[\"10.0.0.1\", \"::1\"]", 23, "different families"),
        ("[\"any\"]", 11, "\"any\" inside a list"),
        ("[]", 10, "write remote = \"any\""),
        ("[\"10.0.0.1\", \"10.0.0.1/32\"]", 23, "twice"),
        ("\"10.0.0.1/8\"", 10, "expected \"10.0.0.0/8\" or \"10.0.0.1/32\""),
        ("\"203.0.113.2\"", 10, "own `local`"),
        ("\"255.255.255.255\"", 10, "broadcast"),
    ] {
        check(&tunnel(&format!("remote = {remote}")), 5, column, &[words]);
    }
    for (rest, column, words) in [
        ("key = 4294967296", 7, "0 to 4294967295"),
        ("checksum = 1", 12, "true or false"),
        ("ttl = 0", 7, "\"inherit\" or a number from 1 to 255, found 0"),
        ("ttl = \"x\"", 7, "\"inherit\" or"),
        ("dscp = 64", 8, "\"inherit\", \"uniform\" or a number from 0 to 63"),
        ("ecn = \"on\"", 7, "\"rfc6040\" or \"off\""),
        ("df = true", 6, "\"set\", \"inherit\" or \"clear\""),
        ("mtu = 67", 7, "\"auto\" or a number from 68"),
        ("mtu = 1477", 7, "tunnel \"u\": mtu 1477 does not fit"),
        ("mss = 1332", 7, "\"auto\", \"off\" or {"),
        ("mss = \"Auto\"", 7, "\"auto\", \"off\" or {"),
        ("mss = {}", 7, "at least one of `ipv4` and `ipv6`"),
        ("mss = { ipv4 = 0 }", 16, "1 to 65535"),
        ("mss = { ipv4 = 1437 }", 7, "more than tunnel \"u\" carries"),
        ("profile = \"cni\"", 11, "\"gre-internet\""),
        ("profile = \"cni-v2\"", 11, "mtu 1500 does not fit"),
        ("inner_source = []", 16, "empty"),
        ("inner_source = [\"10.0.0.1/8\"]", 17, "10.0.0.0/8"),
        ("reassembly = 1", 14, "true or false"),
        ("latency = \"on\"", 11, "\"auto\", true or false"),
        ("latency = 0", 11, "\"auto\", true or false, found 0"),
        ("health = {}", 10, "not supported by this version"),
        ("rate = 1", 1, "unknown key `rate` in [[tunnel]]"),
        ("udp = \"fou\"", 7, "a table [tunnel.udp]"),
    ] {
        check(&one(rest), 6, column, &[words]);
    }
    for (rest, column, words) in [
        ("kind = \"vxlan\"", 8, "\"fou\", \"gue\""),
        ("kind = \"gue1\"", 8, "encap = \"ip\""),
        ("kind = \"fou\"\nport = 0", 8, "1 to 65535"),
        ("kind = \"fou\"\nsource_port = 65536", 15, "\"flow\" or a number from 1 to 65535"),
        ("kind = \"fou\"\nchecksum = true", 12, "\"full\" or \"zero\""),
        ("kind = \"fou\"\nprot = 1", 1, "nearest is `port`"),
    ] {
        check(&one(&format!("[tunnel.udp]\n{rest}")), 6 + rest.lines().count(), column, &[words]);
    }
    check(&one("[tunnel.udp]\nport = 1"), 6, 1, &["missing key `kind` in [tunnel.udp]"]);
    check(&tunnel(""), 1, 1, &["missing key `remote` in [[tunnel]]"]);
    let ip = "[[tunnel]]\nname = \"u\"\nencap = \"ip\"\nlocal = \"203.0.113.2\"\nremote = \"192.0.2.2\"\n";
    check(&format!("{ip}key = 0"), 6, 7, &["`key` on encap = \"ip\""]);
    check(&format!("{ip}checksum = true"), 6, 12, &["`checksum` on encap = \"ip\""]);
    check(&format!("{ip}sequence = true"), 6, 12, &["`sequence` on encap = \"ip\""]);
    check(&ip.replace("203.0.113.2", "203.0.113"), 4, 9, &["an IPv4 or IPv6 address"]);
    check(&ip.replace("203.0.113.2", "0.0.0.0"), 4, 9, &["unspecified"]);
}

#[test]
fn tunnels_together() {
    let tunnel = |local: &str, remote: &str| {
        format!("[[tunnel]]\nname = \"u\"\nencap = \"gre\"\nlocal = \"{local}\"\nremote = \"{remote}\"\n")
    };
    check(&tunnel("203.0.113.1", "192.0.2.2"), 5, 10, &["tunnel \"u\"", "same packets as tunnel \"t\""]);
    check(&tunnel("203.0.113.9", "8.8.8.8"), 5, 10, &["no route to its `remote`"]);
    check(&tunnel("203.0.113.9", "192.0.2.9"), 5, 10, &["192.0.2.9 has no [[neighbor]] on \"a\""]);
    let into_itself =
        format!("{}[[route]]\nprefix = \"8.8.8.0/24\"\ntunnel = \"u\"", tunnel("203.0.113.9", "8.8.8.8"));
    check(&into_itself, 5, 10, &["tunnel \"u\"", "leads into itself"]);
}

#[test]
fn routes() {
    let route = |rest: &str| format!("[[route]]\nprefix = \"172.16.0.0/12\"\n{rest}");
    check(&route(""), 1, 1, &["leads nowhere"]);
    check(&route("tunnel = \"t\"\ngateway = \"192.0.2.2\""), 4, 11, &["several targets"]);
    check(&route("tunnel = \"t\"\ninterface = \"a\""), 4, 13, &["several targets"]);
    check(&route("tunnel = \"tt\""), 3, 10, &["unknown name \"tt\"", "nearest is \"t\""]);
    check(&route("tunnel = \"a\""), 3, 10, &["is a port or VLAN"]);
    check(&route("interface = \"t\""), 3, 13, &["is a tunnel"]);
    check(&route("gateway = \"10.9.9.9\""), 3, 11, &["on no connected network"]);
    check(&route("gateway = \"192.0.2.2\"\ninterface = \"b\""), 3, 11, &["on no connected network of \"b\""]);
    check(&route("gateway = \"2001:db8:1::2\""), 3, 11, &["different families"]);
    check(&route("gateway = \"192.0.2.1\""), 3, 11, &["own address"]);
    check(&route("gateway = \"192.0.2.99\""), 3, 11, &["192.0.2.99 has no [[neighbor]]"]);
    check(&route("gateway = \"192.0.2.2\"\nweight = 0"), 4, 10, &["1 to 65535, found 0"]);
    check(&route("gateway = \"192.0.2.2\"\npriority = -1"), 4, 12, &["0 to 4294967295"]);
    check("[[route]]\nprefix = \"10.1.0.0/8\"\ntunnel = \"t\"", 2, 10, &["expected \"10.0.0.0/8\""]);
    check("[[route]]\nprefix = \"default\"\ntunnel = \"t\"", 2, 10, &["\"0.0.0.0/0\""]);
    check("[[route]]\ntunnel = \"t\"", 1, 1, &["missing key `prefix`"]);
    check("[[route]]\nprefix = \"::/0\"\ngateway = \"fe80::1\"", 3, 11, &["link-local", "`interface`"]);
    check("[[route]]\nprefix = \"10.0.0.0/8\"\ntunnel = \"t\"", 1, 1, &["same route as in line 30"]);
    check(
        "[[route]]\nprefix = \"10.0.0.0/8\"\ngateway = \"192.0.2.2\"\npriority = 101",
        4,
        12,
        &["hidden by the one in line 30"],
    );
    check("[[route]]\nprefix = \"192.0.2.0/24\"\ntunnel = \"t\"", 2, 10, &["connected network"]);
    let receiver =
        "[[tunnel]]\nname = \"u\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = \"192.0.2.2/32\"\n";
    check(&format!("{receiver}{}", route("tunnel = \"u\"")), 8, 10, &["only receives", "without a length"]);
    let twin = "[[port]]\nname = \"p\"\ndevice = \"d\"\naddresses = [\"192.0.2.7/24\"]\n";
    check(
        &format!("{twin}{}", route("gateway = \"192.0.2.2\"")),
        7,
        11,
        &["2 connected networks", "`interface`"],
    );
}

#[test]
fn clamps() {
    let clamp = |rest: &str| format!("[[mss_clamp]]\n{rest}");
    check(&clamp("on = \"a\"\ndirection = \"out\""), 1, 1, &["at least one of `ipv4` and `ipv6`"]);
    check(&clamp("on = \"a\"\nipv4 = 1332"), 1, 1, &["missing key `direction`"]);
    check(&clamp("direction = \"in\"\nipv4 = 1332"), 1, 1, &["missing key `on`"]);
    check(
        &clamp("on = \"aa\"\ndirection = \"in\"\nipv4 = 1332"),
        2,
        6,
        &["port, VLAN or tunnel", "nearest is \"a\""],
    );
    check(&clamp("on = \"a\"\ndirection = \"inout\"\nipv4 = 1332"), 3, 13, &["\"in\", \"out\" or \"both\""]);
    check(&clamp("on = \"a\"\ndirection = \"in\"\nipv4 = 70000"), 4, 8, &["1 to 65535"]);
    check(&clamp("on = \"a\"\ndirection = \"in\"\nipv4 = 1\nprefix = \"::/0\""), 5, 10, &["would never act"]);
    check(
        &clamp("on = \"t\"\ndirection = \"in\"\nipv6 = 1417"),
        4,
        8,
        &["IPv6 MSS is more than tunnel \"t\""],
    );
}

#[test]
fn syntax_errors_come_with_the_others_but_without_what_only_seems_missing() {
    let found = findings("[[port]]\nname = \"é\" \"x\"\nmtu = 1\n[[route]\nprefix = \n");
    let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
    assert!(lines.contains(&2) && lines.contains(&3) && lines.contains(&4), "{found:#?}");
    assert!(found.iter().all(|finding| !finding.message.contains("missing")), "{found:#?}");
}

#[test]
fn what_only_follows_from_a_syntax_error_is_not_said() {
    check("[icmp]\ntotal = 07", 2, 9, &["syntax: ", "leading zero"]);
}

#[test]
fn a_key_twice_names_the_first() {
    let tunnel = "[[tunnel]]\nname = \"u\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = \"192.0.2.2\"\nkey = 1\n";
    check(&format!("{tunnel}key = 2"), 7, 1, &["duplicate key `key`", "in line 38 already"]);
    check(&format!("{tunnel}\"key\" = 2"), 7, 1, &["duplicate key `key`", "in line 38 already"]);
    check(
        "[icmp]\ntotal = 1\n[system]\n[icmp] # again\n",
        4,
        2,
        &["duplicate key `icmp`", "in line 33 already"],
    );
    let inside = tunnel.replace("key = 1", "mss = { ipv4 = 1000, ipv4 = 1001 }");
    check(&inside, 6, 22, &["duplicate key `ipv4`", "in line 38 already"]);
}

#[test]
fn what_the_tables_show_is_said_beside_errors_that_they_do_not_depend_on() {
    let tunnel = |name: &str, rest: &str| {
        format!(
            "[[tunnel]]\nname = \"{name}\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = \"192.0.2.2\"\n{rest}\n"
        )
    };
    let lines = |text: &str| behind(text).iter().map(|(line, ..)| *line).collect::<Vec<_>>();
    let large = tunnel("u", "mtu = 1477");
    for other in [
        "[icmp]\ntotal = -1",
        "[[mss_clamp]]\non = 1\ndirection = \"in\"\nipv4 = 1",
        "[[neighbor]]\ninterface = 1\naddress = \"192.0.2.9\"\nmac = \"02:00:00:00:00:09\"",
    ] {
        assert_eq!(lines(&format!("{large}{other}")), [6, 8], "{other}");
    }
    assert_eq!(lines(&format!("{large}{}", tunnel("w", "key = 1\nttl = 0"))), [6, 13]);
    // Without its key the second tunnel would seem to take what the first one takes.
    assert_eq!(lines(&format!("{}{}", tunnel("u", ""), tunnel("w", "key = -1"))), [12]);
    // Nor is an address that a lost route would have led elsewhere worth a word.
    assert_eq!(lines(&format!("{large}[[route]]\nprefix = 1\ntunnel = \"t\"")), [8]);
}

#[test]
fn columns_count_characters() {
    check("[control]\nsocket = \"ééé\"  \n[icmp]\n\"é\" = 1", 4, 1, &["unknown key `é`"]);
    check("[system]\neal_args = [\"ééé\", \"\"]", 2, 20, &["not empty"]);
    let marked = findings("\u{feff}x = 1\ny = 2\n");
    let places: Vec<_> = marked.iter().map(|finding| (finding.line, finding.column)).collect();
    assert_eq!(places, [(1, 1), (1, 1), (2, 1)], "{marked:#?}");
}

#[test]
fn twenty_errors_are_all_reported() {
    let text: String = (0..20)
        .map(|number| format!("[[route]]\nprefix = \"10.{number}.0.1/16\"\ntunnel = \"t\"\n"))
        .collect();
    let found = behind(&text);
    let lines: Vec<usize> = found.iter().map(|(line, ..)| *line).collect();
    assert_eq!(lines, (0..20).map(|number| 3 * number + 2).collect::<Vec<_>>());
}

#[test]
fn errors_are_told_from_warnings() {
    let severity = |text: &str| findings(&format!("{BASE}{text}")).remove(0).severity;
    assert_eq!(severity("[system]\nworker_cores = [0]"), Severity::Warning);
    assert_eq!(severity("[system]\nworker_cores = []"), Severity::Error);
}

#[test]
fn keys_that_this_version_does_not_act_on_are_warned_of_and_never_run() {
    for text in [
        "[control]\nmetrics = \"127.0.0.1:9472\"".to_owned(),
        "[kernel]\nenabled = true".to_owned(),
        "[[tunnel]]\nname = \"u\"\nencap = \"ip\"\nlocal = \"203.0.113.2\"\nremote = \"192.0.2.2\"\nhealth = {}".to_owned(),
    ] {
        let config = super::super::parse("f", format!("{BASE}{text}")).unwrap();
        assert_eq!(config.warnings.len(), 1, "{text}");
        assert_eq!(config.refusals.len(), 1, "{text}");
        let (warning, refusal) = (&config.warnings[0], &config.refusals[0]);
        assert_eq!((warning.severity, refusal.severity), (Severity::Warning, Severity::Error));
        assert_eq!((warning.line, warning.column), (refusal.line, refusal.column));
    }
    assert!(
        super::super::parse("f", format!("{BASE}[kernel]\nenabled = false")).unwrap().refusals.is_empty()
    );
}
