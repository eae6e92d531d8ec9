//! Every key is taken and changes what is made of the file.

use super::{BASE, good};

/// `BASE` with a line put behind the first line that is `anchor`.
fn with(anchor: &str, line: &str) -> String {
    let (before, after) = BASE.split_once(anchor).unwrap();
    format!("{before}{anchor}\n{line}{after}")
}

#[test]
fn every_key_changes_what_is_made_of_it() {
    let seen = |text: &str| {
        let (config, spec) = good(text);
        format!("{:?} {:?} {:?} {spec:?}", config.system, config.control, config.ports)
    };
    let base = seen(BASE);
    let system = |line: &str| format!("[system]\n{line}\n{BASE}");
    let port = |line: &str| with("device = \"net_null0\"", line);
    let tunnel = |line: &str| with("encap = \"gre\"", line);
    let udp = |line: &str| {
        let (before, after) = BASE.split_once("[[route]]").unwrap();
        format!("{before}[tunnel.udp]\nkind = \"fou\"\n{line}\n[[route]]{after}")
    };
    let mut rows = vec![
        system("worker_cores = [3, 2]"),
        system("control_core = 7"),
        system("hugepages = \"required\""),
        system("hugepages = \"off\""),
        system("idle = \"sleep\""),
        system("eal_args = [\"--no-pci\"]"),
        format!("[control]\nsocket = \"/tmp/x\"\n{BASE}"),
        format!("[icmp]\nper_source = 9\n{BASE}"),
        format!("[icmp]\ntotal = 0\n{BASE}"),
        BASE.replace("name = \"b\"", "name = \"c\""),
        BASE.replace("net_null1", "0000:3b:00.0"),
        port("mtu = 9000"),
        port("mac = \"02:00:00:00:00:aa\""),
        port("rx_queues = 4"),
        port("rss = \"outer\""),
        port("rss = \"inner\""),
        port("rss = \"off\""),
        BASE.replace("198.51.100.1/24", "198.51.100.2/25"),
        BASE.replace("id = 5", "id = 4094"),
        BASE.replace("\"v\"", "\"w\""),
        BASE.replace("198.18.0.1/24", "198.18.0.7/24"),
        BASE.replace("00:03\"", "00:04\""),
        BASE.replace("address = \"198.18.0.2\"", "address = \"198.18.0.3\""),
        BASE.replace(
            "interface = \"v\"\naddress = \"198.18.0.2\"",
            "interface = \"b\"\naddress = \"198.51.100.2\"",
        ),
        BASE.replace("\"gre\"", "\"ip\""),
        BASE.replace("\"203.0.113.1\"", "\"203.0.113.2\""),
        BASE.replace("remote = \"192.0.2.2\"", "remote = \"192.0.2.3\""),
        tunnel("addresses = [\"10.255.0.1/31\"]"),
        tunnel("key = 0"),
        tunnel("key = 4294967295"),
        tunnel("checksum = true"),
        tunnel("sequence = true"),
        tunnel("keepalive = true"),
        tunnel("ttl = \"inherit\""),
        tunnel("ttl = 255"),
        tunnel("dscp = \"uniform\""),
        tunnel("dscp = 63"),
        tunnel("ecn = \"off\""),
        tunnel("df = \"inherit\""),
        tunnel("df = \"clear\""),
        tunnel("mtu = 1400"),
        tunnel("mss = \"off\""),
        tunnel("mss = { ipv4 = 1332 }"),
        tunnel("mss = { ipv4 = 1332, ipv6 = 1312 }"),
        tunnel("profile = \"cni-legacy-fou\""),
        tunnel("inner_source = [\"10.7.0.0/16\", \"10.8.0.1\"]"),
        tunnel("reassembly = true"),
        tunnel("latency = false"),
        udp(""),
        udp("port = 6666"),
        udp("source_port = 49152"),
        udp("checksum = \"full\""),
        udp("").replace("\"fou\"", "\"gue\""),
        udp("").replace("\"fou\"", "\"gre-in-udp\""),
        BASE.replace("10.0.0.0/8", "10.0.0.0/9"),
        format!("{BASE}weight = 65535"),
        format!("{BASE}priority = 0"),
        BASE.replace("tunnel = \"t\"", "gateway = \"192.0.2.2\""),
        BASE.replace("tunnel = \"t\"", "gateway = \"192.0.2.2\"\ninterface = \"a\"\nweight = 2"),
        BASE.replace("tunnel = \"t\"", "interface = \"a\""),
    ];
    for clamp in [
        "on = \"a\"\ndirection = \"in\"\nipv4 = 1332",
        "on = \"b\"\ndirection = \"in\"\nipv4 = 1332",
        "on = \"a\"\ndirection = \"out\"\nipv4 = 1332",
        "on = \"a\"\ndirection = \"both\"\nipv4 = 1332",
        "on = \"t\"\ndirection = \"both\"\nipv6 = 1312",
        "on = \"v\"\ndirection = \"in\"\nprefix = \"10.0.0.0/8\"\nipv4 = 1332",
    ] {
        rows.push(format!("{BASE}[[mss_clamp]]\n{clamp}"));
    }
    let mut all = vec![base];
    for row in rows {
        let seen = seen(&row);
        assert!(!all.contains(&seen), "a key without effect:\n{row}");
        all.push(seen);
    }
}

#[test]
fn written_defaults_change_nothing() {
    let text = format!(
        "[kernel]\nenabled = false\n[system]\nworker_cores = {:?}\ncontrol_core = 0\nhugepages = \"auto\"\nidle = \"poll\"\n\
         eal_args = []\n[control]\nsocket = \"/run/culvert/control.sock\"\n{BASE}weight = 1\npriority = 100\n",
        good(BASE).0.system.worker_cores
    );
    let text = text.replace(
        "device = \"net_null0\"",
        "device = \"net_null0\"\nmtu = 1500\nrx_queues = \"auto\"\nrss = \"auto\"",
    );
    let text = text.replace(
        "encap = \"gre\"",
        "encap = \"gre\"\naddresses = []\nchecksum = false\nsequence = false\nkeepalive = false\nttl = 64\ndscp = \"inherit\"\n\
         ecn = \"rfc6040\"\ndf = \"set\"\nmtu = \"auto\"\nmss = \"auto\"\nreassembly = false\nlatency = \"auto\"",
    );
    let ((base, base_spec), (config, spec)) = (good(BASE), good(&text));
    assert_eq!(spec, base_spec);
    assert_eq!((config.system, config.control, config.ports), (base.system, base.control, base.ports));
}

#[test]
fn keys_beside_a_profile_win() {
    use forwarder::table::Mss;
    let tunnel = |keys: &str| good(&with("encap = \"gre\"", keys)).1.tunnels.remove(0);
    let plain = tunnel("profile = \"gre-internet\"");
    assert_eq!((plain.mtu, plain.mss), (Some(1476), Mss::Fixed { ipv4: Some(1436), ipv6: Some(1416) }));
    let mtu = tunnel("profile = \"cni-v1-gre\"\nmtu = \"auto\"");
    assert_eq!((mtu.mtu, mtu.mss), (None, plain.mss));
    let mss = tunnel("profile = \"cni-legacy-fou\"\nmss = \"off\"");
    assert_eq!((mss.mtu, mss.mss), (Some(1372), Mss::Off));
}

#[test]
fn udp_defaults_follow_the_outer_family() {
    use forwarder::table::UdpChecksum;
    let text = |local: &str, remote: &str| {
        format!(
            "[[tunnel]]\nname = \"u\"\nencap = \"ip\"\nlocal = \"{local}\"\nremote = \"{remote}\"\nudp.kind = \"fou\"\n"
        )
    };
    let udp = |text: &str| good(&format!("{BASE}{text}")).1.tunnels.remove(1).udp.unwrap();
    let ipv4 = udp(&text("203.0.113.9", "192.0.2.2"));
    assert_eq!((ipv4.port, ipv4.checksum), (5555, UdpChecksum::Zero));
    assert_eq!(udp(&text("2001:db8::9", "any")).checksum, UdpChecksum::Full);
}

#[test]
fn a_gateway_on_a_tunnels_network_is_its_other_end() {
    use forwarder::table::{RouteTarget, TunnelId};
    let text = with("encap = \"gre\"", "addresses = [\"10.255.0.1/31\"]");
    let (_, spec) = good(&text.replace("tunnel = \"t\"", "gateway = \"10.255.0.0\""));
    assert_eq!(spec.routes[0].target, RouteTarget::Tunnel(TunnelId(0)));
}

#[test]
fn latency_is_kept_automatically_up_to_a_thousand_tunnels() {
    let tunnels = |count: usize| -> String {
        let tunnel = |number: usize| {
            format!(
                "[[tunnel]]\nname = \"n{number}\"\nencap = \"gre\"\nlocal = \"203.0.113.9\"\nremote = \"any\"\nkey = {number}\n"
            )
        };
        (1..count).map(tunnel).collect()
    };
    assert!(good(&format!("{BASE}{}", tunnels(1024))).1.tunnels[0].latency);
    assert!(!good(&format!("{BASE}{}", tunnels(1025))).1.tunnels[0].latency);
}

#[test]
fn a_ports_own_mac_wins_over_the_devices() {
    let (_, spec) = good(&with("device = \"net_null1\"", "mac = \"02:aa:00:00:00:01\""));
    let macs: Vec<u8> = spec.interfaces.iter().map(|interface| interface.mac.0[1]).collect();
    assert_eq!((macs, spec.interfaces[0].mac.0), (vec![0, 0xaa, 0xaa], [2, 0, 0, 0, 0, 1]));
}
