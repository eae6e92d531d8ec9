//! Every warning, with a file in which it is said and one in which it is not.

use super::{BASE, behind, check, findings};
use crate::diagnostic::Severity;

/// A tunnel that only receives, in a file without any that sends; `BASE` has one.
fn only_receiver(text: &str) -> Vec<(usize, String)> {
    let (ports, _) = BASE.split_once("[[tunnel]]").unwrap();
    let receiver = "[[tunnel]]\nname = \"r\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = \"any\"\n";
    let route = "[[route]]\nprefix = \"0.0.0.0/0\"\ngateway = \"192.0.2.2\"\n";
    let found = findings(&format!("{ports}{route}{receiver}{text}"));
    let before = ports.lines().count() + 8;
    let words = |finding: crate::diagnostic::Diagnostic| {
        assert_eq!(finding.severity, Severity::Warning);
        (
            finding.line.saturating_sub(before),
            format!("{} {}", finding.message, finding.help.unwrap_or_default()),
        )
    };
    found.into_iter().map(words).collect()
}

#[test]
fn an_mtu_in_the_place_of_an_mss() {
    let tunnel = |keys: &str| {
        let head =
            "[[tunnel]]\nname = \"u\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = \"192.0.2.2\"";
        format!("{head}\n{keys}")
    };
    let clamp = |on: &str, limit: &str| format!("[[mss_clamp]]\non = \"{on}\"\ndirection = \"out\"\n{limit}");
    check(&tunnel("mss = { ipv4 = 1476 }"), 6, 7, &["MTU of tunnel \"u\"", "write ipv4 = 1436"]);
    check(&tunnel("mss = { ipv6 = 1476 }"), 6, 7, &["MTU of tunnel \"u\"", "write ipv6 = 1416"]);
    check(&tunnel("mss = { ipv4 = 1500 }"), 6, 7, &["MTU of Ethernet", "write ipv4 = 1436"]);
    check(&tunnel("mtu = 1400\nmss = { ipv4 = 1400 }"), 7, 7, &["write ipv4 = 1360"]);
    check(&clamp("a", "ipv4 = 1500"), 4, 8, &["MTU of \"a\"", "write ipv4 = 1460"]);
    check(&clamp("a", "ipv4 = 1476"), 4, 8, &["MTU of tunnel \"t\"", "write ipv4 = 1436"]);
    check(&clamp("t", "ipv6 = 1500"), 4, 8, &["MTU of Ethernet", "write ipv6 = 1416"]);
    check(&clamp("v", "ipv4 = 1461"), 4, 8, &["more than \"v\" carries", "write ipv4 = 1460"]);
    assert_eq!(behind(&clamp("a", "ipv4 = 1436\nipv6 = 1416")), []);
    assert_eq!(behind(&tunnel("mss = { ipv4 = 1436, ipv6 = 1416 }")), []);
}

#[test]
fn the_number_for_ipv4_used_for_ipv6() {
    let clamp = "[[mss_clamp]]\non = \"a\"\ndirection = \"out\"\nipv4 = 1332\nipv6 = 1332";
    check(clamp, 5, 8, &["the number for IPv4", "write ipv6 = 1312"]);
    let tunnel = "[[tunnel]]\nname = \"u\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = \"192.0.2.2\"\n\
                  mss = { ipv4 = 1436, ipv6 = 1436 }";
    check(tunnel, 6, 7, &["the number for IPv4", "write ipv6 = 1416"]);
}

#[test]
fn a_clamp_on_the_side_that_cannot_help() {
    let clamp = |on: &str, direction: &str| {
        format!("[[mss_clamp]]\non = \"{on}\"\ndirection = \"{direction}\"\nipv4 = 1332\n")
    };
    let out = "[[mss_clamp]] with on = \"a\", direction = \"out\", ipv4 = 1332";
    for (text, line, words) in [
        ("mss = { ipv4 = 1332 }\n".to_owned(), 1, "write mss = \"off\" here"),
        ("mss = { ipv4 = 1332 }\n".to_owned(), 1, out),
        (clamp("r", "in"), 2, out),
        (clamp("r", "both"), 2, "limits the answers"),
        (clamp("r", "out"), 3, "nothing goes into tunnel \"r\""),
        (clamp("a", "in"), 3, "write direction = \"out\""),
    ] {
        let found = only_receiver(&text);
        assert!(
            found.len() == 1 && found[0].0 == line && found[0].1.contains(words),
            "{found:#?}\nin\n{text}"
        );
    }
    for fine in [
        clamp("a", "out"),
        clamp("a", "both"),
        clamp("b", "in"),
        clamp("a", "in") + &clamp("a", "out"),
        "profile = \"cni-legacy-fou\"\n".to_owned() + &clamp("a", "out"),
        "mss = \"off\"\n".to_owned(),
    ] {
        assert_eq!(only_receiver(&fine), [], "{fine}");
    }
    // A tunnel that sends may carry the answers.
    let receiver = "[[tunnel]]\nname = \"r\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = \"any\"\n";
    assert_eq!(behind(&format!("{receiver}mss = {{ ipv4 = 1332 }}\n{}", clamp("r", "in"))), []);
}

#[test]
fn overlapping_senders() {
    let tunnel = |name: &str, remote: &str, keys: &str| {
        format!(
            "[[tunnel]]\nname = \"{name}\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = {remote}\n{keys}"
        )
    };
    let wide = tunnel("w", "\"198.51.0.0/16\"", "");
    for (remote, words) in [
        (
            "\"198.51.100.0/24\"",
            "198.51.100.0/24 of tunnel \"n\" is within 198.51.0.0/16 of tunnel \"w\" in line 37",
        ),
        ("[\"192.0.2.0/24\", \"198.51.100.7\"]", "198.51.100.7/32 of tunnel \"n\" is within"),
    ] {
        check(&format!("{wide}{}", tunnel("n", remote, "")), 10, 10, &[words, "its own `key`"]);
    }
    check(&tunnel("l", "[\"10.0.0.0/8\", \"10.1.0.0/16\"]", ""), 5, 10, &["leave 10.1.0.0/16 away"]);
    assert_eq!(behind(&format!("{wide}{}", tunnel("n", "\"198.51.100.0/24\"", "key = 1"))), []);
    assert_eq!(behind(&format!("{wide}{}", tunnel("n", "\"198.52.0.0/16\"", ""))), []);
    assert_eq!(behind(&format!("{wide}{}", tunnel("n", "\"any\"", ""))), []);
}

#[test]
fn nested_tunnels_whose_numbers_exceed_what_carries_them() {
    let inner = |keys: &str| {
        format!(
            "[[tunnel]]\nname = \"u\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = \"10.0.0.9\"\n{keys}\n"
        )
    };
    check(&inner("mtu = 1453"), 6, 7, &["mtu 1453 does not fit", "at most 1452"]);
    check(&inner("mss = { ipv4 = 1413 }"), 6, 7, &["more than tunnel \"u\" carries", "write ipv4 = 1412"]);
    assert_eq!(behind(&inner("mtu = 1452\nmss = { ipv4 = 1412, ipv6 = 1392 }")), []);
}

#[test]
fn networks_in_two_places_own_remotes_and_sequences_of_many_workers_are_warned_of() {
    let port = "[[port]]\nname = \"c\"\ndevice = \"net_null2\"\n";
    check(&format!("{port}addresses = [\"192.0.2.9/24\"]"), 4, 13, &["192.0.2.0/24", "line 4"]);
    check(&format!("{port}addresses = [\"240.0.0.1/24\"]"), 4, 14, &["reserved address"]);
    let tunnel = |remote: &str, rest: &str| {
        format!(
            "[[tunnel]]\nname = \"u\"\nencap = \"gre\"\nlocal = \"203.0.113.2\"\nremote = \"{remote}\"\nkey = 1\n{rest}"
        )
    };
    check(&tunnel("192.0.2.1", ""), 5, 10, &["address of this box"]);
    let system = "[system]\nworker_cores = [1, 2]\n";
    check(&tunnel("192.0.2.2", &format!("sequence = true\n{system}")), 7, 12, &["2 workers", "tunnel \"u\""]);
}

/// A tunnel with this name and these ends; `rest` are further keys.
fn tunnel(name: &str, local: &str, remote: &str, rest: &str) -> String {
    let encap = if rest.contains("kind") { "ip" } else { "gre" };
    format!(
        "[[tunnel]]\nname = \"{name}\"\nencap = \"{encap}\"\nlocal = \"{local}\"\nremote = {remote}\n{rest}\n"
    )
}

fn clamp(on: &str, direction: &str, rest: &str) -> String {
    format!("[[mss_clamp]]\non = \"{on}\"\ndirection = \"{direction}\"\n{rest}\n")
}

/// One finding in the file without a tunnel that sends, or none where there are no words.
#[track_caller]
fn in_return(text: &str, line: usize, words: &[&str]) {
    let found = only_receiver(text);
    assert_eq!(found.len(), usize::from(!words.is_empty()), "{found:#?}\nin\n{text}");
    for (found_line, message) in &found {
        assert_eq!(*found_line, line, "{message}\nin\n{text}");
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}\n{message}\nin\n{text}");
    }
}

#[test]
fn mtus_that_are_known_are_no_mss() {
    let profile = ["MTU of the profile \"cni-legacy-fou\"", "write ipv4 = 1332"];
    check(&clamp("a", "out", "ipv4 = 1372"), 4, 8, &profile);
    check(&clamp("t", "in", "ipv4 = 1428"), 4, 8, &["GRE in FOU over IPv6", "write ipv4 = 1388"]);
    assert_eq!(behind(&clamp("a", "out", "ipv4 = 1452")), []); // of a PPPoE line
    let gue = tunnel("u", "203.0.113.2", "\"192.0.2.2\"", "udp = { kind = \"gue\" }");
    assert_eq!(behind(&format!("{gue}{}", clamp("a", "out", "ipv4 = 1428"))), []); // its own 1468 less 40
}

#[test]
fn a_limit_for_ipv6_that_is_some_number_for_ipv4() {
    check(
        &clamp("a", "out", "ipv6 = 1332"),
        4,
        8,
        &["of the profile \"cni-legacy-fou\"", "write ipv6 = 1312"],
    );
    check(&clamp("a", "out", "ipv6 = 1436"), 4, 8, &["number for IPv4 of tunnel \"t\"", "write ipv6 = 1416"]);
    check(&clamp("a", "out", "ipv6 = 1460"), 4, 8, &["number for IPv4 of \"a\"", "write ipv6 = 1440"]);
    let apart = |direction: &str| clamp("a", "out", "ipv4 = 1300") + &clamp("a", direction, "ipv6 = 1300");
    check(&apart("out"), 8, 8, &["beside it", "write ipv6 = 1280"]);
    assert_eq!(behind(&apart("in")), []);
    assert_eq!(behind(&clamp("a", "out", "ipv4 = 1352\nipv6 = 1332")), []);
    // 1412 is what GRE in FOU leaves of the path to IPv4, and what a key leaves to IPv6.
    let keyed = tunnel("u", "203.0.113.2", "\"192.0.2.2\"", "key = 1");
    assert_eq!(behind(&format!("{keyed}{}", clamp("a", "out", "ipv6 = 1412"))), []);
}

#[test]
fn a_limit_on_a_tunnel_that_no_route_leads_into() {
    let (ports, _) = BASE.split_once("[[tunnel]]").unwrap();
    let default = "[[route]]\nprefix = \"0.0.0.0/0\"\ngateway = \"192.0.2.2\"\n";
    let one = |rest: &str| tunnel("u", "203.0.113.2", "\"198.51.100.7\"", rest);
    let neighbor =
        "[[neighbor]]\ninterface = \"b\"\naddress = \"198.51.100.7\"\nmac = \"02:00:00:00:00:07\"\n";
    let lines = |text: &str| {
        let found = findings(&format!("{ports}{neighbor}{text}"));
        let before = ports.lines().count() + 4;
        found.into_iter().map(|finding| (finding.line - before, finding.message)).collect::<Vec<_>>()
    };
    let limit = "mss = { ipv4 = 1332 }";
    let own = "addresses = [\"10.255.0.1/31\"]\n".to_owned() + limit;
    for (text, line, words) in [
        (one(limit) + default, 6, "no route leads into tunnel \"u\""),
        (one("") + &clamp("u", "in", "ipv4 = 1332") + default, 8, "limits the answers"),
        (one("") + &clamp("u", "out", "ipv4 = 1332"), 9, "the clamp never acts"),
        (one(&own) + default, 7, "limits the answers"),
    ] {
        let found = lines(&text);
        assert!(
            found.len() == 1 && found[0].0 == line && found[0].1.contains(words),
            "{found:#?}\nin\n{text}"
        );
    }
    for fine in [
        one("") + default,
        one("profile = \"gre-internet\"") + default + &clamp("a", "out", "ipv4 = 1436"),
        one(&own) + default + &clamp("a", "out", "ipv4 = 1332"),
        one(limit) + "[[route]]\nprefix = \"0.0.0.0/0\"\ntunnel = \"u\"\n",
        // Without a default route nothing tells by which way answers leave.
        one(limit),
        tunnel("u", "203.0.113.2", "\"any\"", "profile = \"gre-internet\"")
            + &clamp("b", "out", "ipv4 = 1332"),
    ] {
        assert_eq!(lines(&fine), [], "{fine}");
    }
}

#[test]
fn limits_that_a_tunnel_without_sending_has_no_use_for() {
    let out = "add [[mss_clamp]] with on = \"a\", direction = \"out\", ipv4 = 1332, ipv6 = 1312";
    in_return("profile = \"cni-legacy-fou\"\n", 1, &["this `profile` lowers", out]);
    in_return("mtu = 1372\n", 1, &["this `mtu` lowers", out]);
    in_return(&format!("mtu = 1372\n{}", clamp("a", "out", "ipv4 = 1332")), 0, &[]);
    in_return(&clamp("b", "out", "ipv4 = 1332"), 2, &["on = \"a\", direction = \"out\", ipv4 = 1332"]);
    in_return(&(clamp("b", "out", "ipv4 = 1332") + &clamp("a", "out", "ipv4 = 1332")), 0, &[]);
    in_return(&clamp("b", "both", "ipv4 = 1332"), 0, &[]);
    in_return(
        &(clamp("b", "in", "ipv4 = 1332") + &clamp("a", "in", "ipv4 = 1332")),
        7,
        &["direction = \"out\""],
    );
}

#[test]
fn a_limit_on_answers_that_is_larger_than_the_tunnel_of_their_packets() {
    in_return(&clamp("a", "out", "ipv4 = 1437"), 4, &["more than tunnel \"r\" carries", "write ipv4 = 1436"]);
    in_return(&clamp("b", "in", "ipv6 = 1417"), 4, &["more than tunnel \"r\" carries", "write ipv6 = 1416"]);
    in_return(&clamp("a", "out", "ipv4 = 1500"), 4, &["MTU of \"a\"", "write ipv4 = 1436"]);
    in_return(&clamp("a", "out", "ipv4 = 1436\nipv6 = 1416"), 0, &[]);
    // Where a tunnel is sent into, answers may leave by it.
    let receiver = tunnel("r", "203.0.113.2", "\"any\"", "");
    assert_eq!(behind(&format!("{receiver}{}", clamp("a", "out", "ipv4 = 1437"))), []);
}

#[test]
fn keys_about_sending_on_a_tunnel_that_only_receives() {
    let udp = |line: &str| format!("[tunnel.udp]\nkind = \"fou\"\n{line}");
    for (rest, line, column, key) in [
        ("ttl = 63", 6, 7, "`ttl`"),
        ("ttl = \"inherit\"", 6, 7, "`ttl`"),
        ("dscp = 0", 6, 8, "`dscp`"),
        ("ecn = \"off\"", 6, 7, "`ecn`"),
        ("df = \"inherit\"", 6, 6, "`df`"),
        ("checksum = true", 6, 12, "`checksum`"),
        ("sequence = true", 6, 12, "`sequence`"),
        ("mtu = 1400\nmss = \"off\"", 6, 7, "`mtu`"),
        (&udp("source_port = 7"), 8, 15, "`udp.source_port`"),
        (&udp("checksum = \"full\""), 8, 12, "`udp.checksum`"),
    ] {
        let (what, help) = (format!("{key} is without effect on tunnel \"u\""), format!("leave {key} away"));
        let words = [what.as_str(), "only receives", help.as_str()];
        check(&tunnel("u", "203.0.113.2", "\"any\"", rest), line, column, &words);
        assert_eq!(behind(&tunnel("u", "203.0.113.2", "\"192.0.2.2\"", rest)), [], "{rest}");
    }
    let several = tunnel("u", "203.0.113.2", "[\"10.0.0.0/8\"]", "df = \"clear\"\nttl = 7");
    check(&several, 6, 6, &["`ttl`, `df` are without effect", "leave `ttl`, `df` away"]);
    for used in
        ["dscp = \"uniform\"", "key = 7", "inner_source = [\"10.0.0.0/8\"]", "latency = false", "ttl = 64"]
    {
        assert_eq!(behind(&tunnel("u", "203.0.113.2", "\"any\"", used)), [], "{used}");
    }
    assert_eq!(behind(&tunnel("u", "2001:db8:1::1", "\"any\"", &udp("checksum = \"zero\""))), []);
    let two = "[system]\nworker_cores = [1, 2]\n";
    let found = behind(&(tunnel("u", "203.0.113.2", "\"any\"", "sequence = true") + two));
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn a_bit_that_the_outer_header_has_not() {
    let over_ipv6 = |rest: &str| tunnel("u", "2001:db8:1::1", "\"2001:db8:1::2\"", rest);
    check(&over_ipv6("df = \"clear\""), 6, 6, &["`df` is without effect on tunnel \"u\"", "leave `df` away"]);
    assert_eq!(behind(&over_ipv6("df = \"set\"")), []);
    assert_eq!(behind(&tunnel("u", "203.0.113.2", "\"192.0.2.2\"", "df = \"clear\"")), []);
}

#[test]
fn a_limit_of_the_family_that_the_prefix_is_not_of() {
    let both = |prefix: &str| clamp("a", "out", &format!("prefix = \"{prefix}\"\nipv4 = 1332\nipv6 = 1312"));
    check(&both("10.0.0.0/8"), 6, 8, &["`ipv6` is without effect", "10.0.0.0/8", "leave `ipv6` away"]);
    check(&both("2001:db8::/32"), 5, 8, &["`ipv4` is without effect", "2001:db8::/32"]);
    assert_eq!(behind(&clamp("a", "out", "prefix = \"10.0.0.0/8\"\nipv4 = 1332")), []);
    assert_eq!(behind(&clamp("a", "out", "ipv4 = 1332\nipv6 = 1312")), []);
}

#[test]
fn routes_that_no_packet_takes() {
    let route = |prefix: &str| {
        let gateway = if prefix.contains(':') { "2001:db8:1::2" } else { "192.0.2.2" };
        format!("[[route]]\nprefix = \"{prefix}\"\ngateway = \"{gateway}\"\n")
    };
    for prefix in [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "127.0.0.1",
        "224.0.0.0/4",
        "239.1.0.0/16",
        "240.0.0.0/4",
        "255.255.255.255",
        "::1",
        "::/128",
        "ff00::/8",
        "fe80::/10",
        "fe80::7",
    ] {
        check(&route(prefix), 2, 10, &[prefix, "never taken", "never forwarded", "leave the route away"]);
    }
    check(&route("198.51.100.1"), 2, 10, &["never taken", "an address of this box"]);
    check(&route("203.0.113.1"), 2, 10, &["never taken", "an address of this box"]);
    for taken in ["0.0.0.0/0", "126.0.0.0/7", "169.254.0.0/16", "192.0.2.9", "::/0", "fe00::/7", "fc00::/7"] {
        assert_eq!(behind(&route(taken)), [], "{taken}");
    }
    // The outer packets of a tunnel between two hosts of a link do take such a route.
    let link = "[[neighbor]]\ninterface = \"b\"\naddress = \"fe80::7\"\nmac = \"02:00:00:00:00:07\"\n\
                [[route]]\nprefix = \"fe80::7\"\ninterface = \"b\"\n";
    assert_eq!(behind(&(tunnel("u", "fe80::1", "\"fe80::7\"", "") + link)), []);
}

#[test]
fn addresses_that_are_no_single_hosts() {
    let port = |address: &str| {
        format!("[[port]]\nname = \"c\"\ndevice = \"net_null2\"\naddresses = [\"{address}\"]\n")
    };
    for (address, kind) in
        [("10.9.0.0/24", "network's own"), ("10.9.0.255/24", "broadcast"), ("2001:db8:9::/64", "anycast")]
    {
        check(&port(address), 4, 14, &[address, "no host's", kind]);
        let own = format!("addresses = [\"{address}\"]");
        check(&tunnel("u", "203.0.113.2", "\"192.0.2.2\"", &own), 6, 14, &["no host's", kind]);
    }
    for fine in ["10.9.0.0/31", "10.9.0.0/32", "10.9.0.1/24", "2001:db8:9::/127"] {
        assert_eq!(behind(&port(fine)), [], "{fine}");
    }
    let neighbor = |address: &str| {
        format!("[[neighbor]]\ninterface = \"a\"\naddress = \"{address}\"\nmac = \"02:00:00:00:00:09\"\n")
    };
    let route = "[[route]]\nprefix = \"172.16.0.0/12\"\n";
    let group = neighbor("192.0.2.255");
    check(&group, 3, 11, &["the neighbor 192.0.2.255", "192.0.2.0/24", "broadcast"]);
    assert_eq!(behind(&neighbor("192.0.2.254")), []);
    assert_eq!(behind(&neighbor("2001:db8:1::")), []);
    let found = behind(&format!("{group}{route}gateway = \"192.0.2.255\""));
    assert!(
        found.len() == 2 && found[1].0 == 7 && found[1].2.contains("`gateway` 192.0.2.255"),
        "{found:#?}"
    );
    check(&tunnel("u", "203.0.113.2", "\"192.0.2.255\"", ""), 5, 10, &["the remote end", "broadcast"]);
    check(&tunnel("u", "192.0.2.0", "\"192.0.2.2\"", ""), 4, 9, &["the tunnel's `local`", "network's own"]);
    assert_eq!(behind(&tunnel("u", "192.0.2.1", "\"192.0.2.2\"", "")), []);
}

#[test]
fn prefixes_that_no_host_is_in() {
    let words = ["no host has an address in", "matches nothing"];
    for (remote, column) in
        [("\"224.0.0.0/4\"", 10), ("[\"10.0.0.0/8\", \"127.0.0.0/8\"]", 25), ("[\"240.0.0.0/4\"]", 11)]
    {
        check(&tunnel("u", "203.0.113.2", remote, ""), 5, column, &words);
    }
    for remote in ["[\"224.0.0.1\"]", "[\"0.0.0.0/32\"]"] {
        check(&tunnel("u", "203.0.113.2", remote, ""), 5, 11, &["`remote` is no host's address"]);
    }
    let source =
        |prefix: &str| tunnel("u", "203.0.113.2", "\"192.0.2.2\"", &format!("inner_source = [\"{prefix}\"]"));
    check(&source("127.0.0.0/8"), 6, 17, &words);
    check(&source("ff00::/8"), 6, 17, &words);
    check(&clamp("a", "out", "prefix = \"224.0.0.0/4\"\nipv4 = 1332"), 4, 10, &words);
    assert_eq!(behind(&source("fe80::/10")), []);
    assert_eq!(behind(&source("0.0.0.0/0")), []);
    assert_eq!(behind(&tunnel("u", "203.0.113.2", "[\"0.0.0.0/1\", \"192.0.2.9\"]", "")), []);
}

#[test]
fn one_address_in_networks_of_two_lengths() {
    let port = |address: &str| {
        format!("[[port]]\nname = \"c\"\ndevice = \"net_null2\"\naddresses = [\"{address}\"]\n")
    };
    check(&port("198.18.0.1/25"), 4, 13, &["198.18.0.1 is that of line 12", "write \"198.18.0.1/32\""]);
    assert_eq!(behind(&port("198.18.0.1/32")), []);
    assert_eq!(behind(&port("fe80::1/64")), []);
}

#[test]
fn ipv6_into_what_is_too_small_for_it() {
    let route = "[[route]]\nprefix = \"2001:db8:9::/48\"\ntunnel = \"u\"\n";
    let small = |mtu: u16| tunnel("u", "203.0.113.2", "\"192.0.2.2\"", &format!("mtu = {mtu}"));
    let words = ["IPv6 is sent into tunnel \"u\"", "at least 1280, found 1279", "write mtu = 1280"];
    check(&(small(1279) + route), 6, 7, &words);
    assert_eq!(behind(&(small(1280) + route)), []);
    assert_eq!(behind(&small(1279)), []);
    let derived = tunnel("u", "203.0.113.2", "\"10.0.0.9\"", "addresses = [\"2001:db8:9::1/64\"]");
    let text = format!("{}{derived}", BASE.replace("encap = \"gre\"", "encap = \"gre\"\nmtu = 1300"));
    let found = findings(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].message.contains("found 1276"), "{found:#?}");
    assert!(found[0].help.as_ref().unwrap().contains("take 1328 bytes"), "{found:#?}");

    let out = |mtu: u16| {
        format!(
            "[[port]]\nname = \"c\"\ndevice = \"net_null2\"\nmtu = {mtu}\n\
             [[neighbor]]\ninterface = \"c\"\naddress = \"fe80::7\"\nmac = \"02:00:00:00:00:07\"\n\
             [[route]]\nprefix = \"2001:db8:9::/48\"\ngateway = \"fe80::7\"\ninterface = \"c\"\n"
        )
    };
    check(&out(1279), 11, 11, &["sends IPv6 by \"c\"", "at least 1280", "found 1279"]);
    assert_eq!(behind(&out(1280)), []);
}

#[test]
fn senders_whose_packets_are_larger_than_the_port() {
    let clamped = |profile: &str| format!("profile = \"{profile}\"\n{}", clamp("a", "out", "ipv4 = 1332"));
    in_return(&clamped("cni-v2"), 1, &["1524 with all headers", "write mtu = 1524"]);
    in_return(&clamped("gre-internet"), 0, &[]);
}
