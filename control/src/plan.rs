//! What would change between two configurations, by name: items added, items removed, keys changed.
//!
//! What counts is what acts: a tunnel that gets its `mtu` from a profile and one that says the same number are alike, and
//! the order of the file does not matter, except that of ports, which are numbered by it.

mod same;

use crate::config::{Config, Hugepages, Idle, Queues, Rss};
use forwarder::table::{
    ClampOn, Df, Dscp, Ecn, Encap, InterfaceId, Mac, Mss, Remote, RouteSpec, RouteTarget, SourcePort, Spec,
    Ttl, TunnelId, TunnelSpec, UdpChecksum, UdpKind,
};
use same::{Same, interface, tunnel};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{Display, Write};

/// Everything that differs: in JSON an array of `{"kind", "name", "change", "keys": [{"key", "old", "new"}]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Plan {
    changes: Vec<Change>,
}

/// One item that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    kind: Kind,
    name: String,
    change: What,
    keys: Vec<Difference>, // of an item that is changed
}

/// What an item is, in the words of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    System,
    Port,
    Vlan,
    Neighbor,
    Tunnel,
    Route,
    MssClamp,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::System => "system",
            Kind::Port => "port",
            Kind::Vlan => "vlan",
            Kind::Neighbor => "neighbor",
            Kind::Tunnel => "tunnel",
            Kind::Route => "route",
            Kind::MssClamp => "mss_clamp",
        }
    }

    /// Whether the file names items of this kind, each by a name of its own.
    fn is_named(self) -> bool {
        !matches!(self, Kind::Neighbor | Kind::Route | Kind::MssClamp)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Added,
    Removed,
    Changed,
}

/// A key with its old and new value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Difference {
    key: Cow<'static, str>,
    old: String,
    new: String,
}

/// An item as it is compared.
#[derive(Debug)]
struct Item<'a> {
    kind: Kind,
    name: String,
    keys: Keys<'a>,
}

/// An item's keys with their values in words.
#[derive(Debug)]
enum Keys<'a> {
    List(Vec<(&'static str, String)>),
    /// Those of items of which there are many: in words only where they are compared.
    Tunnel(&'a TunnelSpec),
    Route(&'a RouteSpec),
}

/// What devices were opened with; the other keys of a port are in the tables.
const FIXED_KEYS: [&str; 5] = ["device", "mtu", "mac", "rx_queues", "rss"];

impl Plan {
    /// What changes from the first configuration, with what was made from it, to the second.
    pub(crate) fn between(old: &Config, old_spec: &Spec, new: &Config, new_spec: &Spec) -> Plan {
        let (same_before, same) = Same::in_both(old_spec, new_spec);
        let (old_items, new_items) = (items(old, old_spec, &same_before), items(new, new_spec, &same));
        let before: HashMap<(Kind, &str), usize> =
            old_items.iter().enumerate().map(|(at, item)| ((item.kind, item.name.as_str()), at)).collect();
        let mut is_kept = vec![false; old_items.len()];
        let mut changes = Vec::with_capacity(new_items.len());
        for item in new_items {
            let at = before.get(&(item.kind, item.name.as_str())).copied();
            let there = at.and_then(|at| Some((old_items.get(at)?, is_kept.get_mut(at)?)));
            let Some((old, is_kept)) = there else {
                changes.push(item.change(What::Added, Vec::new()));
                continue;
            };
            *is_kept = true;
            let different = differences(old, &item);
            if !different.is_empty() {
                changes.push(item.change(What::Changed, different));
            }
        }
        let removed = old_items.into_iter().zip(is_kept).filter(|(_, is_kept)| !is_kept);
        changes.extend(removed.map(|(item, _)| item.change(What::Removed, Vec::new())));
        changes.extend(reordered(&old.port_names(), &new.port_names()));
        Plan { changes }
    }

    /// What a running daemon cannot change: cores, memory, the socket, devices and their order.
    pub(crate) fn restart(&self) -> Vec<String> {
        let needs = |change: &Change| {
            let Change { kind, name, change, keys } = change;
            let listed = |fits: fn(&str) -> bool| {
                keys.iter()
                    .map(|difference| &*difference.key)
                    .filter(|key| fits(key))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            match (kind, change) {
                (Kind::System, What::Changed) => Some(format!("{name} ({})", listed(|_| true))),
                (Kind::Port, What::Changed) => {
                    let keys = listed(|key| FIXED_KEYS.contains(&key));
                    (!keys.is_empty()).then(|| format!("port {name} ({keys})"))
                }
                (Kind::Port, What::Added) => Some(format!("port {name} (added)")),
                (Kind::Port, What::Removed) => Some(format!("port {name} (removed)")),
                _ => None,
            }
        };
        self.changes.iter().filter_map(needs).collect()
    }

    /// How many items of each sort, in a few words.
    pub(crate) fn summary(&self) -> String {
        let count = |what| self.changes.iter().filter(|change| change.change == what).count();
        let [added, removed, changed] = [What::Added, What::Removed, What::Changed].map(count);
        match self.changes.is_empty() {
            true => "nothing changes".to_owned(),
            false => format!("{added} added, {removed} removed, {changed} changed"),
        }
    }

    /// For people: a line for each item, and one for each key of a changed one.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        for Change { kind, name, change, keys } in &self.changes {
            let sign = match change {
                What::Added => '+',
                What::Removed => '-',
                What::Changed => '~',
            };
            let _ = writeln!(text, "{sign} {} {name}", kind.word());
            for Difference { key, old, new } in keys {
                let _ = writeln!(text, "    {key}: {old} -> {new}");
            }
        }
        if text.is_empty() {
            text.push_str("nothing changes\n");
        }
        text
    }
}

impl Keys<'_> {
    fn list(&self) -> Cow<'_, [(&'static str, String)]> {
        match self {
            Keys::List(keys) => Cow::Borrowed(keys),
            Keys::Tunnel(tunnel) => Cow::Owned(tunnel_keys(tunnel)),
            Keys::Route(route) => Cow::Owned(vec![
                ("weight", route.weight.to_string()),
                ("priority", route.priority.to_string()),
            ]),
        }
    }
}

impl Item<'_> {
    fn change(self, change: What, keys: Vec<Difference>) -> Change {
        Change { kind: self.kind, name: self.name, change, keys }
    }
}

fn differences(old: &Item<'_>, new: &Item<'_>) -> Vec<Difference> {
    let (old, new) = (old.keys.list(), new.keys.list());
    let keys = old.iter().zip(new.iter()).filter(|(old, new)| old.1 != new.1);
    keys.map(|(old, new)| Difference { key: new.0.into(), old: old.1.clone(), new: new.1.clone() }).collect()
}

/// Ports that both have, in another order.
fn reordered(old: &[&str], new: &[&str]) -> Option<Change> {
    let common = |names: &[&str], others: &[&str]| {
        let names: Vec<&str> = names.iter().filter(|name| others.contains(name)).copied().collect();
        names.join(", ")
    };
    let (old, new) = (common(old, new), common(new, old));
    (old != new).then(|| Change {
        kind: Kind::System,
        name: "ports".to_owned(),
        change: What::Changed,
        keys: vec![Difference { key: "order".into(), old, new }],
    })
}

/// Everything in a configuration but what is the same in both. Items of one kind always have the same keys in the same
/// order.
fn items<'a>(config: &Config, spec: &'a Spec, same: &'a Same) -> Vec<Item<'a>> {
    let mut items = machine(config);
    for (index, interface) in spec.interfaces.iter().enumerate() {
        let addresses = ("addresses", list(&interface.addresses));
        let port = config.ports.get(usize::from(interface.port.0));
        let port_name = port.map_or("", |port| &port.name);
        let keys = match (interface.vlan, port) {
            (Some(id), _) => vec![("port", port_name.to_owned()), ("id", id.to_string()), addresses],
            (None, Some(port)) => vec![
                ("device", port.device.clone()),
                ("mtu", port.mtu.to_string()),
                ("mac", port.mac.map_or("the device's own".to_owned(), mac)),
                (
                    "rx_queues",
                    match port.rx_queues {
                        Queues::Auto => "auto".to_owned(),
                        Queues::Fixed(count) => count.to_string(),
                    },
                ),
                (
                    "rss",
                    word(
                        port.rss,
                        [
                            (Rss::Auto, "auto"),
                            (Rss::Outer, "outer"),
                            (Rss::Inner, "inner"),
                            (Rss::Off, "off"),
                        ],
                    ),
                ),
                addresses,
            ],
            (None, None) => continue,
        };
        let kind = if interface.vlan.is_some() { Kind::Vlan } else { Kind::Port };
        let name = interface_name(spec, InterfaceId(index as u16));
        items.push(Item { kind, name, keys: Keys::List(keys) });
    }
    for neighbor in &spec.neighbors {
        let name = format!("{} on {}", neighbor.address, interface_name(spec, neighbor.interface));
        items.push(Item { kind: Kind::Neighbor, name, keys: Keys::List(vec![("mac", mac(neighbor.mac))]) });
    }
    for tunnel in different(&spec.tunnels, &same.tunnels) {
        items.push(Item { kind: Kind::Tunnel, name: tunnel.name.clone(), keys: Keys::Tunnel(tunnel) });
    }
    for route in different(&spec.routes, &same.routes) {
        let mut name = format!("{} ", route.prefix);
        // Writing to a string cannot fail.
        let _ = match route.target {
            RouteTarget::Gateway { address, interface: on } => {
                write!(name, "via {address} on {}", interface(spec, on).unwrap_or_default())
            }
            RouteTarget::Interface(on) => write!(name, "on {}", interface(spec, on).unwrap_or_default()),
            RouteTarget::Tunnel(into) => write!(name, "into {}", tunnel(spec, into).unwrap_or_default()),
        };
        items.push(Item { kind: Kind::Route, name, keys: Keys::Route(route) });
    }
    for clamp in &spec.clamps {
        let on = match clamp.on {
            ClampOn::Interface(interface) => interface_name(spec, interface),
            ClampOn::Tunnel(tunnel) => tunnel_name(spec, tunnel),
        };
        let direction = match (clamp.input, clamp.output) {
            (true, true) => "both",
            (true, false) => "in",
            _ => "out",
        };
        let prefix = clamp.prefix.map_or(String::new(), |prefix| format!(" {prefix}"));
        let keys = vec![("ipv4", or_none(clamp.ipv4)), ("ipv6", or_none(clamp.ipv6))];
        let name = format!("{on} {direction}{prefix}");
        items.push(Item { kind: Kind::MssClamp, name, keys: Keys::List(keys) });
    }
    number_alike(&mut items);
    items
}

fn different<'a, T>(items: &'a [T], same: &'a [bool]) -> impl Iterator<Item = &'a T> {
    items.iter().zip(same).filter(|(_, is_same)| !**is_same).map(|(item, _)| item)
}

/// Items without a name of their own may stand in a file several times: the second is `… #2`.
fn number_alike(items: &mut [Item<'_>]) {
    let mut seen: HashMap<(Kind, &str), usize> = HashMap::with_capacity(items.len());
    let mut later: Vec<(usize, usize)> = Vec::new();
    for (at, item) in items.iter().enumerate().filter(|(_, item)| !item.kind.is_named()) {
        let count = seen.entry((item.kind, &item.name)).or_default();
        *count += 1;
        if *count > 1 {
            later.push((at, *count));
        }
    }
    for (at, number) in later {
        if let Some(item) = items.get_mut(at) {
            let _ = write!(item.name, " #{number}");
        }
    }
}

fn machine<'a>(config: &Config) -> Vec<Item<'a>> {
    let system = &config.system;
    let hugepages = [(Hugepages::Auto, "auto"), (Hugepages::Required, "required"), (Hugepages::Off, "off")];
    let keys = vec![
        ("worker_cores", list(&system.worker_cores)),
        ("control_core", system.control_core.to_string()),
        ("hugepages", word(system.hugepages, hugepages)),
        ("idle", word(system.idle, [(Idle::Poll, "poll"), (Idle::Sleep, "sleep")])),
        ("eal_args", list(&system.eal_args)),
    ];
    let socket = vec![("socket", config.control.socket.display().to_string())];
    let item = |name: &str, keys| Item { kind: Kind::System, name: name.to_owned(), keys: Keys::List(keys) };
    vec![item("system", keys), item("control", socket)]
}

fn tunnel_keys(tunnel: &TunnelSpec) -> Vec<(&'static str, String)> {
    let kinds = [
        (UdpKind::Fou, "fou"),
        (UdpKind::Gue, "gue"),
        (UdpKind::Gue1, "gue1"),
        (UdpKind::GreInUdp, "gre-in-udp"),
    ];
    let udp =
        |value: &dyn Fn(&forwarder::table::UdpSpec) -> String| tunnel.udp.as_ref().map_or(none(), value);
    vec![
        ("encap", word(tunnel.encap, [(Encap::Gre, "gre"), (Encap::Ip, "ip")])),
        ("local", tunnel.local.to_string()),
        (
            "remote",
            match &tunnel.remote {
                Remote::One(address) => address.to_string(),
                Remote::Senders(senders) => format!("senders {}", list(senders)),
            },
        ),
        ("addresses", list(&tunnel.addresses)),
        ("key", or_none(tunnel.key)),
        ("checksum", tunnel.checksum.to_string()),
        ("sequence", tunnel.sequence.to_string()),
        ("keepalive", tunnel.keepalive.to_string()),
        (
            "ttl",
            match tunnel.ttl {
                Ttl::Fixed(ttl) => ttl.to_string(),
                Ttl::Inherit => "inherit".to_owned(),
            },
        ),
        (
            "dscp",
            match tunnel.dscp {
                Dscp::Inherit => "inherit".to_owned(),
                Dscp::Uniform => "uniform".to_owned(),
                Dscp::Fixed(dscp) => dscp.to_string(),
            },
        ),
        ("ecn", word(tunnel.ecn, [(Ecn::Rfc6040, "rfc6040"), (Ecn::Off, "off")])),
        ("df", word(tunnel.df, [(Df::Set, "set"), (Df::Inherit, "inherit"), (Df::Clear, "clear")])),
        ("mtu", tunnel.mtu.map_or("auto".to_owned(), |mtu| mtu.to_string())),
        (
            "mss",
            match tunnel.mss {
                Mss::Auto => "auto".to_owned(),
                Mss::Off => "off".to_owned(),
                Mss::Fixed { ipv4, ipv6 } => format!("ipv4 {}, ipv6 {}", or_none(ipv4), or_none(ipv6)),
            },
        ),
        ("inner_source", list(&tunnel.inner_source)),
        ("reassembly", tunnel.reassembly.to_string()),
        ("latency", tunnel.latency.to_string()),
        ("udp.kind", udp(&|udp| word(udp.kind, kinds))),
        ("udp.port", udp(&|udp| udp.port.to_string())),
        (
            "udp.source_port",
            udp(&|udp| match udp.source_port {
                SourcePort::Flow => "flow".to_owned(),
                SourcePort::Fixed(port) => port.to_string(),
            }),
        ),
        (
            "udp.checksum",
            udp(&|udp| word(udp.checksum, [(UdpChecksum::Full, "full"), (UdpChecksum::Zero, "zero")])),
        ),
    ]
}

fn interface_name(spec: &Spec, id: InterfaceId) -> String {
    interface(spec, id).unwrap_or_default().to_owned()
}

fn tunnel_name(spec: &Spec, id: TunnelId) -> String {
    tunnel(spec, id).unwrap_or_default().to_owned()
}

fn word<T: PartialEq, const N: usize>(value: T, words: [(T, &str); N]) -> String {
    words.into_iter().find(|(known, _)| *known == value).map_or(String::new(), |(_, word)| word.to_owned())
}

fn list<T: Display>(items: &[T]) -> String {
    if items.is_empty() {
        return none();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn or_none<T: Display>(value: Option<T>) -> String {
    value.map_or_else(none, |value| value.to_string())
}

fn none() -> String {
    "none".to_owned()
}

/// An Ethernet address in its usual form.
pub(crate) fn mac(Mac(bytes): Mac) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Slots, parse};
    use serde_json::json;

    const BASE: &str = r#"
        [[port]]
        name = "a"
        device = "net_null0"
        addresses = ["192.0.2.1/24"]
        [[port]]
        name = "b"
        device = "net_null1"
          [[port.vlan]]
          id = 5
          name = "v"
          addresses = ["198.51.100.1/24"]
        [[neighbor]]
        interface = "a"
        address = "192.0.2.2"
        mac = "02:00:00:00:00:02"
        [[tunnel]]
        name = "t"
        encap = "gre"
        local = "203.0.113.1"
        remote = "192.0.2.2"
        mtu = 1372
        mss = { ipv4 = 1332, ipv6 = 1312 }
        [[route]]
        prefix = "10.0.0.0/8"
        tunnel = "t"
        [[mss_clamp]]
        on = "v"
        direction = "out"
        ipv4 = 1300
    "#;

    fn plan(old: &str, new: &str) -> Plan {
        let read = |text: &str| {
            let mut config = parse("f", text.to_owned()).unwrap();
            let spec = config.spec(&config.stand_in_macs(), &mut Slots::default());
            (config, spec)
        };
        let ((old, old_spec), (new, new_spec)) = (read(old), read(new));
        Plan::between(&old, &old_spec, &new, &new_spec)
    }

    #[test]
    fn nothing_changes_between_alike_files() {
        let profile = BASE.replace("mtu = 1372", "profile = \"cni-legacy-fou\"");
        let profile = profile.replace("mss = { ipv4 = 1332, ipv6 = 1312 }", "");
        let same = plan(BASE, &profile);
        assert_eq!(same, Plan::default());
        assert_eq!((same.summary(), same.text()), ("nothing changes".into(), "nothing changes\n".into()));
    }

    #[test]
    fn changed_keys_have_old_and_new_value() {
        for (from, to, kind, name, key, old, new) in [
            (
                "\"192.0.2.1/24\"",
                "\"192.0.2.9/24\"",
                "port",
                "a",
                "addresses",
                "192.0.2.1/24",
                "192.0.2.9/24",
            ),
            ("id = 5", "id = 6", "vlan", "v", "id", "5", "6"),
            (
                "00:02\"",
                "00:03\"",
                "neighbor",
                "192.0.2.2 on a",
                "mac",
                "02:00:00:00:00:02",
                "02:00:00:00:00:03",
            ),
            ("mtu = 1372", "mtu = 1400", "tunnel", "t", "mtu", "1372", "1400"),
            ("mtu = 1372", "mtu = 1372\nreassembly = true", "tunnel", "t", "reassembly", "false", "true"),
            (
                "tunnel = \"t\"",
                "tunnel = \"t\"\nweight = 3",
                "route",
                "10.0.0.0/8 into t",
                "weight",
                "1",
                "3",
            ),
            ("ipv4 = 1300", "ipv4 = 1200", "mss_clamp", "v out", "ipv4", "1300", "1200"),
        ] {
            let plan = plan(BASE, &BASE.replace(from, to));
            let expected = json!([{"kind": kind, "name": name, "change": "changed",
                "keys": [{"key": key, "old": old, "new": new}]}]);
            assert_eq!(serde_json::to_value(&plan).unwrap(), expected);
            assert_eq!(serde_json::from_value::<Plan>(expected).unwrap(), plan);
            assert!(plan.restart().is_empty(), "{kind}");
            assert_eq!(plan.summary(), "0 added, 0 removed, 1 changed");
            assert_eq!(plan.text(), format!("~ {kind} {name}\n    {key}: {old} -> {new}\n"));
        }
    }

    #[test]
    fn a_renamed_item_is_one_removed_and_one_added() {
        let plan = plan(BASE, &BASE.replace("\"v\"", "\"w\""));
        let lines = plan.text();
        assert_eq!(lines, "+ vlan w\n+ mss_clamp w out\n- vlan v\n- mss_clamp v out\n");
    }

    #[test]
    fn devices_and_cores_need_a_restart() {
        let restart = |from: &str, to: &str| plan(BASE, &BASE.replace(from, to)).restart();
        assert_eq!(restart("net_null1", "net_null2"), ["port b (device)"]);
        assert_eq!(restart("name = \"b\"", "name = \"c\""), ["port c (added)", "port b (removed)"]);
        assert_eq!(
            plan(BASE, &format!("[system]\nworker_cores = [7]\n{BASE}")).restart(),
            ["system (worker_cores)"]
        );
        let ports = |first: &str, second: &str| {
            format!(
                "[[port]]\nname = \"{first}\"\ndevice = \"{first}\"\n[[port]]\nname = \"{second}\"\ndevice = \"{second}\""
            )
        };
        assert_eq!(plan(&ports("p", "q"), &ports("q", "p")).restart(), ["ports (order)"]);
    }

    #[test]
    fn only_what_differs_of_a_prefix_with_several_routes_is_said() {
        let more =
            |keys: &str| format!("{BASE}[[route]]\nprefix = \"10.0.0.0/8\"\ngateway = \"192.0.2.2\"\n{keys}");
        let plan = plan(&more("weight = 1\n"), &more("weight = 2\n"));
        assert_eq!(plan.text(), "~ route 10.0.0.0/8 via 192.0.2.2 on a\n    weight: 1 -> 2\n");
    }

    #[test]
    fn routes_alike_are_numbered() {
        let twice = format!("{BASE}\n[[route]]\nprefix = \"10.0.0.0/8\"\ntunnel = \"t\"");
        assert_eq!(plan(BASE, &twice).text(), "+ route 10.0.0.0/8 into t #2\n");
    }
}
