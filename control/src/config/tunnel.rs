//! `[[tunnel]]` with `[tunnel.udp]` and `[tunnel.health]`.

use super::document::{Findings, Table};
use super::names::{Named, Names};
use super::place::Place;
use super::port::read_addresses;
use super::profile::PROFILES;
use super::source::Source;
use super::value::{Value, quoted};
use forwarder::table::{
    Df, Dscp, Ecn, Encap, Mss, Remote, SourcePort, Ttl, TunnelId, TunnelSpec, UdpChecksum, UdpKind, UdpSpec,
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// Tunnels up to which `latency = "auto"` keeps histograms.
const LATENCY_LIMIT: usize = 1024;

pub(super) const ENCAP: [(&str, Encap); 2] = [("gre", Encap::Gre), ("ip", Encap::Ip)];
pub(super) const ECN: [(&str, Ecn); 2] = [("rfc6040", Ecn::Rfc6040), ("off", Ecn::Off)];
pub(super) const DF: [(&str, Df); 3] = [("set", Df::Set), ("inherit", Df::Inherit), ("clear", Df::Clear)];
pub(super) const KINDS: [(&str, UdpKind); 4] = [
    ("fou", UdpKind::Fou),
    ("gue", UdpKind::Gue),
    ("gue1", UdpKind::Gue1),
    ("gre-in-udp", UdpKind::GreInUdp),
];
pub(super) const CHECKSUM: [(&str, UdpChecksum); 2] =
    [("full", UdpChecksum::Full), ("zero", UdpChecksum::Zero)];

/// Reads the `[[tunnel]]` that has this position, of `count` in all. Its `slot` is given later.
pub(super) fn read(
    id: TunnelId,
    count: usize,
    mut table: Table<'_>,
    names: &mut Names,
    source: &Source,
    findings: &mut Findings,
) -> (TunnelSpec, Place) {
    let name = names.declare(table.require("name", findings), Named::Tunnel(id), source, findings);
    let encap = table.require("encap", findings).and_then(|value| value.choice(&ENCAP, findings));
    let local = table.require("local", findings).and_then(|value| value.address(findings));
    let remote = table.require("remote", findings).and_then(|value| read_remote(value, local, findings));
    let addresses = table.get("addresses").map(|value| read_addresses(value, findings)).unwrap_or_default();
    let gre = GreKeys::read(&mut table, encap, findings);
    let treatment = findings.aside(|findings| Treatment::read(&mut table, count, findings));
    let mut udp_place = None;
    let udp = table.table("udp", "[tunnel.udp]", findings).and_then(|mut udp| {
        let spec = read_udp(&mut udp, encap, local, findings);
        udp_place = Some(udp.finish(findings));
        spec
    });
    if let Some(health) = table.table("health", "[tunnel.health]", findings) {
        findings.aside(|findings| read_health(health, findings));
    }
    let tunnel = TunnelSpec {
        name,
        slot: 0,
        encap: encap.unwrap_or(Encap::Ip),
        local: local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        remote: remote.unwrap_or(Remote::One(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        addresses: addresses.into(),
        key: gre.key,
        checksum: gre.checksum,
        sequence: gre.sequence,
        keepalive: gre.keepalive,
        ttl: treatment.ttl,
        dscp: treatment.dscp,
        ecn: treatment.ecn,
        df: treatment.df,
        mtu: treatment.mtu,
        mss: treatment.mss,
        inner_source: treatment.inner_source.into(),
        reassembly: treatment.reassembly,
        latency: treatment.latency,
        udp,
    };
    let mut place = table.finish(findings);
    if let Some(inner) = udp_place {
        place = place.join(&inner, findings.shapes());
    }
    (tunnel, place)
}

/// How packets are treated that go in or come out, as far as it does not decide which ones these are.
struct Treatment {
    ttl: Ttl,
    dscp: Dscp,
    ecn: Ecn,
    df: Df,
    mtu: Option<u16>,
    mss: Mss,
    inner_source: Vec<IpNet>,
    reassembly: bool,
    latency: bool,
}

impl Treatment {
    fn read(table: &mut Table<'_>, count: usize, findings: &mut Findings) -> Self {
        let ttl = table.get("ttl").and_then(|value| read_ttl(value, findings));
        let dscp = table.get("dscp").and_then(|value| read_dscp(value, findings));
        let ecn = table.get("ecn").and_then(|value| value.choice(&ECN, findings));
        let df = table.get("df").and_then(|value| value.choice(&DF, findings));
        let profile = table.get("profile").and_then(|value| value.choice(&PROFILES, findings));
        let mtu = match table.get("mtu") {
            Some(value) => read_mtu(value, findings),
            None => profile.map(|profile| profile.mtu),
        };
        let mss = match table.get("mss") {
            Some(value) => read_mss(value, findings).unwrap_or(Mss::Auto),
            None => profile.map_or(Mss::Auto, |profile| profile.mss),
        };
        let inner_source = table.get("inner_source").map(|value| read_prefixes(value, findings));
        let reassembly = table.get("reassembly").and_then(|value| value.boolean(findings));
        let latency = table.get("latency").and_then(|value| read_latency(value, count, findings));
        Treatment {
            ttl: ttl.unwrap_or(Ttl::Fixed(64)),
            dscp: dscp.unwrap_or(Dscp::Inherit),
            ecn: ecn.unwrap_or(Ecn::Rfc6040),
            df: df.unwrap_or(Df::Set),
            mtu,
            mss,
            inner_source: inner_source.unwrap_or_default(),
            reassembly: reassembly.unwrap_or(false),
            latency: latency.unwrap_or(count <= LATENCY_LIMIT),
        }
    }
}

/// What only GRE has.
struct GreKeys {
    key: Option<u32>,
    checksum: bool,
    sequence: bool,
    keepalive: bool,
}

impl GreKeys {
    fn read(table: &mut Table<'_>, encap: Option<Encap>, findings: &mut Findings) -> Self {
        let key = table.get("key");
        let mut flag = |key| {
            let value = table.get(key)?;
            value.boolean(findings)?.then_some(value)
        };
        let (checksum, sequence, keepalive) = (flag("checksum"), flag("sequence"), flag("keepalive"));
        if encap == Some(Encap::Ip) {
            let keys =
                [("key", key), ("checksum", checksum), ("sequence", sequence), ("keepalive", keepalive)];
            for (name, value) in keys {
                if let Some(value) = value {
                    let message = format!(
                        "`{name}` on encap = \"ip\" (expected it with encap = \"gre\" only, found {}): IP in IP has no \
                         field for it",
                        value.found()
                    );
                    findings.error(value.at(), message);
                }
            }
        }
        GreKeys {
            key: key.and_then(|value| value.number("", 0..=u64::from(u32::MAX), findings)),
            checksum: checksum.is_some(),
            sequence: sequence.is_some(),
            keepalive: keepalive.is_some(),
        }
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Whether an end is of the family of `local`. Reports one that is not.
fn is_of_family(value: Value<'_>, address: IpAddr, local: Option<IpAddr>, findings: &mut Findings) -> bool {
    let Some(local) = local.filter(|local| local.is_ipv4() != address.is_ipv4()) else { return true };
    let message = format!(
        "`remote` and `local` are of different families (expected {} as `local` {local} is, found {})",
        family(local),
        value.found()
    );
    findings.error(value.at(), message);
    false
}

fn read_remote(value: Value<'_>, local: Option<IpAddr>, findings: &mut Findings) -> Option<Remote> {
    if value.array().is_some() {
        let mut senders: Vec<IpNet> = Vec::new();
        let items = value.full_list("addresses and prefixes", findings);
        if items.is_none() {
            findings.help_last("write remote = \"any\" where everybody may send");
        }
        for item in items? {
            if item.string(&mut Findings::default()) == Some("any") {
                let message = "\"any\" inside a list (expected addresses and prefixes; found \"any\")";
                findings.error(item.at(), message).help("write remote = \"any\" without a list");
                continue;
            }
            let Some(sender) = item.prefix(findings) else { continue };
            if is_of_family(item, sender.addr(), local, findings) {
                item.check_sender(sender, findings);
            }
            if senders.contains(&sender) {
                findings.error(item.at(), format!("the sender {sender} is here twice (expected each once)"));
            }
            senders.push(sender);
        }
        return Some(Remote::Senders(senders.into()));
    }
    let expected = "an address, \"any\", a prefix, or a list of addresses and prefixes";
    let Some(text) = value.string(&mut Findings::default()) else {
        value.wrong(expected, findings);
        return None;
    };
    if text == "any" {
        let everybody = match local? {
            IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
        };
        return Some(Remote::Senders([everybody].into()));
    }
    if text.contains('/') {
        let sender = value.prefix(findings)?;
        if is_of_family(value, sender.addr(), local, findings) {
            value.check_sender(sender, findings);
        }
        return Some(Remote::Senders([sender].into()));
    }
    if text.parse::<IpAddr>().is_err() {
        value.wrong(expected, findings);
        return None;
    }
    let address = value.address(findings)?;
    is_of_family(value, address, local, findings);
    if Some(address) == local {
        let message =
            format!("`remote` is the tunnel's own `local` address (expected the other end, found {address})");
        findings.error(value.at(), message);
    }
    Some(Remote::One(address))
}

fn read_ttl(value: Value<'_>, findings: &mut Findings) -> Option<Ttl> {
    match value.string(&mut Findings::default()) {
        Some("inherit") => Some(Ttl::Inherit),
        _ => value.number("\"inherit\" or ", 1..=255, findings).map(Ttl::Fixed),
    }
}

fn read_dscp(value: Value<'_>, findings: &mut Findings) -> Option<Dscp> {
    match value.string(&mut Findings::default()) {
        Some("inherit") => Some(Dscp::Inherit),
        Some("uniform") => Some(Dscp::Uniform),
        _ => value.number("\"inherit\", \"uniform\" or ", 0..=63, findings).map(Dscp::Fixed),
    }
}

fn read_mtu(value: Value<'_>, findings: &mut Findings) -> Option<u16> {
    match value.string(&mut Findings::default()) {
        Some("auto") => None,
        _ => value.number("\"auto\" or ", 68..=65_535, findings),
    }
}

fn read_latency(value: Value<'_>, count: usize, findings: &mut Findings) -> Option<bool> {
    let is_kept = match value.string(&mut Findings::default()) {
        Some("auto") => Some(count <= LATENCY_LIMIT),
        _ => value.boolean(&mut Findings::default()),
    };
    if is_kept.is_none() {
        value.wrong("\"auto\", true or false", findings);
    }
    is_kept
}

fn read_mss(value: Value<'_>, findings: &mut Findings) -> Option<Mss> {
    let Some(mut table) = value.table("`mss`") else {
        let chosen = value.choice(&[("auto", Mss::Auto), ("off", Mss::Off)], &mut Findings::default());
        if chosen.is_none() {
            value.wrong("\"auto\", \"off\" or { ipv4 = …, ipv6 = … }", findings);
        }
        return chosen;
    };
    let (ipv4, ipv6) = read_limits(&mut table, findings);
    table.finish(findings);
    Some(Mss::Fixed { ipv4, ipv6 })
}

/// Reads `ipv4` and `ipv6`, of which one has to be there.
pub(super) fn read_limits(table: &mut Table<'_>, findings: &mut Findings) -> (Option<u16>, Option<u16>) {
    let (ipv4, ipv6) = (table.get("ipv4"), table.get("ipv6"));
    if ipv4.is_none() && ipv6.is_none() {
        let message = "no limit (expected at least one of `ipv4` and `ipv6`, found neither)";
        findings.error(table.header(), message).absence();
    }
    let mut limit = |value: Option<Value<'_>>| value.and_then(|value| value.number("", 1..=65_535, findings));
    (limit(ipv4), limit(ipv6))
}

fn read_prefixes(value: Value<'_>, findings: &mut Findings) -> Vec<IpNet> {
    let items = value.full_list("prefixes", findings).unwrap_or_default();
    items.iter().filter_map(|item| item.hosts(findings)).collect()
}

fn read_udp(
    table: &mut Table<'_>,
    encap: Option<Encap>,
    local: Option<IpAddr>,
    findings: &mut Findings,
) -> Option<UdpSpec> {
    let kind_value = table.require("udp.kind", findings);
    let kind = kind_value.and_then(|value| value.choice(&KINDS, findings));
    let port = table.get("udp.port").map(|value| value.number("", 1..=65_535, findings));
    let source_port = match table.get("udp.source_port") {
        Some(value) if value.string(&mut Findings::default()) == Some("flow") => Some(SourcePort::Flow),
        Some(value) => value.number("\"flow\" or ", 1..=65_535, findings).map(SourcePort::Fixed),
        None => Some(SourcePort::Flow),
    };
    let checksum = table.get("udp.checksum").and_then(|value| value.choice(&CHECKSUM, findings));
    let by_family =
        if local.is_some_and(|local| local.is_ipv4()) { UdpChecksum::Zero } else { UdpChecksum::Full };
    let (value, kind) = (kind_value?, kind?);
    let fits = match kind {
        UdpKind::GreInUdp => encap != Some(Encap::Ip),
        UdpKind::Gue1 => encap != Some(Encap::Gre),
        UdpKind::Fou | UdpKind::Gue => true,
    };
    if !fits {
        let message = format!(
            "kind {} does not carry this tunnel's encap (expected {})",
            value.found(),
            match kind {
                UdpKind::Gue1 => "encap = \"ip\": variant 1 has IP directly inside",
                _ => "encap = \"gre\"",
            }
        );
        findings.error(value.at(), message);
    }
    let default_port = match kind {
        UdpKind::Fou => 5555,
        UdpKind::Gue | UdpKind::Gue1 => 6080,
        UdpKind::GreInUdp => 4754,
    };
    Some(UdpSpec {
        kind,
        port: port.unwrap_or(Some(default_port))?,
        source_port: source_port?,
        checksum: checksum.unwrap_or(by_family),
    })
}

fn read_health(mut table: Table<'_>, findings: &mut Findings) {
    if let Some(value) = table.get("target") {
        value.address(findings);
    }
    if let Some(value) = table.get("interval")
        && let Some(text) = value.string(findings)
        && !is_duration(text)
    {
        value.wrong("a time such as \"1s\" or \"500ms\"", findings);
    }
    for key in ["down_after", "up_after"] {
        if let Some(value) = table.get(key) {
            value.number::<u32>("", 1..=1000, findings);
        }
    }
    findings.not_yet(table.header(), "[tunnel.health]");
    table.finish(findings);
}

fn is_duration(text: &str) -> bool {
    let number = text.strip_suffix("ms").or_else(|| text.strip_suffix('s'));
    number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number > 0)
}

/// The name of a tunnel in a message.
pub(super) fn named(tunnel: &TunnelSpec) -> String {
    format!("tunnel {}", quoted(&tunnel.name))
}
