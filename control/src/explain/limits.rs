//! How a tunnel's MTU and MSS come about, step by step.
//!
//! The numbers are those that the tables hold; the steps retrace them over the compiled routes, so that each is said with
//! its line: the interface's MTU, less each tunnel's headers on the way, and what the file says instead.

use super::field;
use crate::config::{Config, Origin};
use forwarder::table::{
    ClampOn, InterfaceId, InterfaceSpec, Item, Mss, PortId, Remote, Spec, Tables, TunnelId, TunnelSpec,
    TunnelSummary, Way,
};
use forwarder::tunnel::encap::{self, Image};
use std::net::IpAddr;

/// What came out, and the steps there.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Largest inner packet in bytes.
    pub(super) mtu: u16,
    /// The tunnel's own clamp for IPv4.
    pub(super) mss_ipv4: Option<u16>,
    /// The tunnel's own clamp for IPv6.
    pub(super) mss_ipv6: Option<u16>,
    /// From the interface's MTU to the tunnel's.
    pub(super) mtu_steps: Vec<Step>,
    /// Why the MSS is what it is, IPv4 first; clamps beside the tunnel's own follow.
    pub(super) mss_reasons: Vec<String>,
}

/// A number of bytes and what it is; headers are negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// In bytes.
    pub(super) bytes: i64,
    /// What it is, and the line that says so.
    pub(super) words: String,
}

/// Where steps are looked up.
pub(super) struct Paths<'a> {
    pub(super) config: &'a Config,
    pub(super) spec: &'a Spec,
    pub(super) tables: &'a Tables,
}

impl Paths<'_> {
    /// Those of a tunnel.
    pub(super) fn limits(&self, id: TunnelId, tunnel: &TunnelSpec, summary: TunnelSummary) -> Limits {
        let mut mtu_steps = Vec::new();
        self.mtu(id, tunnel, &mut mtu_steps);
        let mss_reasons = self.mss(id, tunnel, summary.mtu);
        let TunnelSummary { mtu, mss_ipv4, mss_ipv6, .. } = summary;
        Limits { mtu, mss_ipv4, mss_ipv6, mtu_steps, mss_reasons }
    }

    /// Adds the steps to the MTU of a tunnel, those of the tunnels that carry it before, and returns what they come to.
    fn mtu(&self, id: TunnelId, tunnel: &TunnelSpec, steps: &mut Vec<Step>) -> i64 {
        let narrowest = match tunnel.remote {
            Remote::One(remote) => self.narrowest(remote),
            Remote::Senders(_) => None,
        };
        let path = match narrowest {
            Some((Way::Tunnel(carrier), _)) => match self.spec.tunnels.get(carrier.0 as usize) {
                Some(spec) => self.mtu(carrier, spec, steps),
                None => 0,
            },
            other => {
                let step = match other {
                    Some((Way::Neighbor(interface, _) | Way::Unresolved(interface), ways)) => {
                        self.interface(interface, if ways > 1 { ", the narrowest way" } else { "" })
                    }
                    _ => self.nearest(tunnel),
                };
                let bytes = step.bytes;
                steps.push(step);
                bytes
            }
        };
        let own = encap::overhead(tunnel) as i64;
        let words = format!("{}: tunnel \"{}\"", own_headers(tunnel), tunnel.name);
        steps.push(Step { bytes: -own, words });
        let allowed = path - own;
        let Some(mtu) = tunnel.mtu.map(i64::from) else { return allowed };
        let said = self.said(self.config.origin(Item::Tunnel(id), "mtu"), "mtu");
        steps.push(Step {
            bytes: mtu,
            words: format!("tunnel \"{}\" says so: {said}; {allowed} are left", tunnel.name),
        });
        mtu
    }

    /// The way with the smallest MTU, and how many there are.
    fn narrowest(&self, remote: IpAddr) -> Option<(Way, usize)> {
        let route = self.tables.route(remote)?;
        let mtu = |way: &Way| match way {
            Way::Neighbor(interface, _) | Way::Unresolved(interface) => {
                self.tables.interface(*interface).map_or(0, |interface| interface.mtu)
            }
            Way::Tunnel(carrier) => self.tables.tunnel(*carrier).map_or(0, |tunnel| usize::from(tunnel.mtu)),
        };
        Some((route.ways().min_by_key(mtu)?, route.ways().count()))
    }

    fn interface(&self, id: InterfaceId, why: &str) -> Step {
        let Some(interface) = self.spec.interfaces.get(usize::from(id.0)) else {
            return Step { bytes: 0, words: "no interface".to_owned() };
        };
        // VLANs have the MTU of their port, whose keys stand at its untagged side.
        let is_port = |other: &InterfaceSpec| other.port == interface.port && other.vlan.is_none();
        let port = self.spec.interfaces.iter().position(is_port).map_or(id, |at| InterfaceId(at as u16));
        let said = self.said(self.config.origin(Item::Interface(port), "mtu"), "mtu");
        let words = format!("interface \"{}\": {said}{why}", interface.name);
        Step { bytes: i64::from(interface.mtu), words }
    }

    /// The MTU that is reckoned with where no route leads anywhere: that of the interface that has the address, else the
    /// smallest.
    fn nearest(&self, tunnel: &TunnelSpec) -> Step {
        let local = tunnel.local;
        let why = match tunnel.remote {
            Remote::One(_) => "as no route says by which interface",
            Remote::Senders(_) => "as the tunnel only receives",
        };
        let ids = || (0..).map(InterfaceId).zip(&self.spec.interfaces);
        let has_it = |(_, interface): &(InterfaceId, &InterfaceSpec)| {
            interface.addresses.iter().any(|net| net.addr() == local)
        };
        match ids().find(has_it) {
            Some((id, _)) => self.interface(id, &format!(", which has {local}, {why}")),
            None => match ids().min_by_key(|(_, interface)| interface.mtu) {
                Some((id, _)) => self.interface(id, &format!(", the smallest, {why}")),
                None => Step { bytes: 0, words: "no interface".to_owned() },
            },
        }
    }

    fn mss(&self, id: TunnelId, tunnel: &TunnelSpec, mtu: u16) -> Vec<String> {
        let said = self.said(self.config.origin(Item::Tunnel(id), "mss"), "mss");
        let mut reasons = match tunnel.mss {
            Mss::Auto => vec![
                format!("{said}: mtu {mtu} less 40 (IPv4 20, TCP 20)"),
                format!("{said}: mtu {mtu} less 60 (IPv6 40, TCP 20)"),
            ],
            Mss::Off => vec![format!("{said}: off"); 2],
            Mss::Fixed { ipv4, ipv6 } => [ipv4, ipv6]
                .map(|limit| {
                    if limit.is_some() { said.clone() } else { format!("{said}: this family is left alone") }
                })
                .to_vec(),
        };
        for (at, clamp) in self.spec.clamps.iter().enumerate() {
            if clamp.on != ClampOn::Tunnel(id) {
                continue;
            }
            let origin = self.config.origin(Item::Clamp(at), "");
            let direction = match (clamp.input, clamp.output) {
                (true, true) => "both directions",
                (true, false) => "what comes out",
                _ => "what goes in",
            };
            let limit = |limit: Option<u16>| limit.map_or("-".to_owned(), |limit| limit.to_string());
            let prefix = clamp.prefix.map(|prefix| format!(", flows of {prefix} only")).unwrap_or_default();
            reasons.push(format!(
                "{}:{} [[mss_clamp]]: {direction}: ipv4 {}, ipv6 {}{prefix}; the lowest wins",
                self.config.file(),
                origin.line,
                limit(clamp.ipv4),
                limit(clamp.ipv6),
            ));
        }
        reasons
    }

    fn said(&self, origin: Origin, key: &str) -> String {
        said(self.config.file(), origin, key)
    }
}

/// The line that gives a key's value, in words.
pub(super) fn said(file: &str, origin: Origin, key: &str) -> String {
    match origin.key {
        Some(giver) => format!("{file}:{} {giver}", origin.line),
        None => format!("{file}:{} default of {key}", origin.line),
    }
}

/// The tunnel's own headers with their lengths, outermost first.
fn own_headers(tunnel: &TunnelSpec) -> String {
    let link = Image::new(&[0; 14], PortId(0), InterfaceId(0), 0);
    let Ok(image) = link.stack(TunnelId(0), tunnel, tunnel.local) else { return String::new() };
    let parts = image.parts().into_iter().filter(|part| part.slot.is_some());
    parts
        .map(|part| format!("{} {}", field::name(part.kind), part.range.len()))
        .collect::<Vec<_>>()
        .join(", ")
}
