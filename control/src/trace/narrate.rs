//! The steps of a packet in words, each with the line of the file behind it.

use super::why::{self, Reason};
use super::{Arrival, frame, with_headroom};
use crate::config::Config;
use crate::plan::mac;
use forwarder::forward::{Engine, Outcome};
use forwarder::icmp_error::IcmpError;
use forwarder::stats::TunnelStats;
use forwarder::table::{
    ClampOn, Encap, InterfaceId, Item, Mac, PortId, RouteTarget, Spec, Tables, TunnelId, UdpKind,
};
use forwarder::trace::{Step, Summary, Taken, Telling};
use forwarder::tunnel::decap::Selector;
use forwarder::verdict::{Ingress, Verdict};
use forwarder::wire::ip::Version;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// What steps are explained by.
pub(super) struct Narrator<'a> {
    pub(super) config: &'a Config,
    pub(super) spec: &'a Spec,
    pub(super) tables: &'a Tables,
    by_slot: HashMap<u32, TunnelId>,
    is_of_copies: bool,
}

/// One packet's story.
pub(crate) struct Told {
    port: String,
    file: String,
    bytes: usize,
    /// The port that received it.
    pub(super) received_by: PortId,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// Its steps.
    pub(super) steps: Vec<Step>,
    /// The tunnels that it crossed or died in.
    pub(super) slots: Vec<u32>,
    tunnels: Vec<String>,
    lines: Vec<Line>,
}

/// A sentence, and the line of the file that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) line: Option<usize>,
}

impl Told {
    /// Makes `verdict` its fate, which a worker decided that had other fragments of the same packet: some of before the
    /// trace, or none of those that it let go of meanwhile.
    pub(super) fn ended_as(mut self, verdict: Verdict) -> Self {
        if self.outcome.verdict != verdict {
            let (name, reason) = fate(verdict);
            let reason = reason.map(|reason| format!(" as {reason}")).unwrap_or_default();
            let text =
                format!("but the worker had other fragments of its packet than were traced: {name}{reason}");
            self.lines.push(Line { text, line: None });
            self.outcome.verdict = verdict;
        }
        self
    }

    /// As it goes over the socket, and out with `--json`. `stamp` is the time of a capture, or of the worker's clock.
    pub(crate) fn json(&self, number: u64, stamp: Duration) -> Value {
        let (verdict, reason) = fate(self.outcome.verdict);
        let steps = self.lines.iter().map(|line| json!({ "text": line.text, "line": line.line }));
        json!({
            "packet": number,
            "time_ns": u64::try_from(stamp.as_nanos()).unwrap_or(u64::MAX),
            "port": self.port,
            "bytes": self.bytes,
            "verdict": verdict,
            "reason": reason,
            "tunnels": self.tunnels,
            "file": self.file,
            "steps": steps.collect::<Value>(),
        })
    }
}

impl<'a> Narrator<'a> {
    pub(super) fn new(config: &'a Config, spec: &'a Spec, tables: &'a Tables) -> Self {
        let by_slot = (0..).map(TunnelId).zip(&spec.tunnels).map(|(id, tunnel)| (tunnel.slot, id)).collect();
        Narrator { config, spec, tables, by_slot, is_of_copies: false }
    }

    /// For copies of a worker's packets: how many errors it has sent is not known here.
    pub(super) fn of_copies(self) -> Self {
        Narrator { is_of_copies: true, ..self }
    }

    /// Sends a frame through `engine` and tells what happens to it; `None` where the port is none of the tables'.
    pub(super) fn tell(
        &self,
        engine: &mut Engine,
        stats: &TunnelStats,
        arrival: Arrival,
        bytes: &[u8],
    ) -> Option<Told> {
        let mut buffer = Vec::new();
        with_headroom(bytes, &mut buffer);
        let (outcome, steps) = engine.trace(self.tables, stats, arrival, &mut frame(&mut buffer, bytes))?;
        let mut lines: Vec<Line> = Vec::new();
        let mut indent = "";
        for step in &steps {
            lines.push(self.step(step, indent));
            if matches!(step, Step::Made(_)) {
                indent = "  ";
            }
        }
        lines.push(self.end(arrival.0, bytes, &steps, outcome.verdict));
        let mut slots: Vec<u32> = outcome.trail.slots().collect();
        if let Some(id) = self.last_tunnel(&steps)
            && let Some(tunnel) = self.spec.tunnels.get(id.0 as usize)
            && !slots.contains(&tunnel.slot)
        {
            slots.push(tunnel.slot);
        }
        let name = |slot: &u32| self.by_slot.get(slot).map(|id| self.tunnel_name(*id).to_owned());
        Some(Told {
            port: self.config.port_names().get(usize::from(arrival.0.0)).map_or("", |name| name).to_owned(),
            file: self.config.file().to_owned(),
            bytes: bytes.len(),
            received_by: arrival.0,
            tunnels: slots.iter().filter_map(name).collect(),
            outcome,
            steps,
            slots,
            lines,
        })
    }

    fn step(&self, step: &Step, indent: &str) -> Line {
        let (text, line) = match step {
            Step::Arrived(id) => {
                (format!("came in by {}", self.interface(*id)), self.line(Item::Interface(*id), ""))
            }
            Step::Header(header) => (describe(header), None),
            Step::Own(address) => {
                let (what, line) = self.owner(*address);
                (format!("{address} is {what}"), line)
            }
            Step::Recognised { local, sender, selector } => {
                (format!("carries {} for {local}, from {sender}", carried(*selector)), None)
            }
            Step::Joined => ("the last fragment missing: the whole packet goes on".to_owned(), None),
            Step::Decapsulated(id) => (
                format!("taken out of tunnel \"{}\"", self.tunnel_name(*id)),
                self.line(Item::Tunnel(*id), ""),
            ),
            Step::Routed { destination, way } => self.route(*destination, *way),
            Step::TtlLowered(from) => (format!("TTL {from} is lowered to {}", from.saturating_sub(1)), None),
            Step::Clamped { from, to, by, is_leaving } => self.clamp(*from, *to, *by, *is_leaving),
            Step::Oversize { len, limit, by } => (
                format!("{len} bytes are more than the {limit} that {} takes", self.crossed(*by)),
                self.line(item(*by), "mtu"),
            ),
            Step::Cut { pieces, is_inner: true } => {
                (format!("cut into {pieces} fragments before it goes on"), None)
            }
            Step::Cut { pieces, is_inner: false } => (
                format!("goes in whole; the outermost packet is cut into {pieces} fragments (RFC 7676)"),
                None,
            ),
            Step::Encapsulated(slot) => match self.by_slot.get(slot) {
                Some(id) => (
                    format!("put into tunnel \"{}\"", self.tunnel_name(*id)),
                    self.line(Item::Tunnel(*id), ""),
                ),
                None => (format!("put into the tunnel of slot {slot}"), None),
            },
            Step::Told { to, error, what } => (self.told(*to, *error, *what), None),
            Step::Made(header) => (format!("made here: {}", describe(header)), None),
        };
        Line { text: format!("{indent}{text}"), line }
    }

    /// The last line: what became of it, and of a dropped packet why.
    fn end(&self, port: PortId, bytes: &[u8], steps: &[Step], verdict: Verdict) -> Line {
        let port_name =
            |id: PortId| self.config.port_names().get(usize::from(id.0)).map_or("", |name| name).to_owned();
        let (text, line) = match verdict {
            Verdict::Send(id) => (format!("leaves by port \"{}\"", port_name(id)), None),
            Verdict::Kernel(by) => {
                (format!("handed to the host, as come by {}", self.crossed(by)), self.line(item(by), ""))
            }
            Verdict::Consumed => ("ends here: answered, or told on".to_owned(), None),
            Verdict::Held => ("kept until the other fragments of its packet are there".to_owned(), None),
            Verdict::Drop(reason) => {
                let Reason { detail, at } = why::dropped(self, reason, port, bytes, steps);
                let detail = detail.map(|detail| format!(" {detail}")).unwrap_or_default();
                (format!("dropped as {}: {}{detail}", reason.name(), reason.help()), at)
            }
        };
        Line { text, line }
    }

    fn route(&self, destination: IpAddr, way: Option<Taken>) -> (String, Option<usize>) {
        let Some(way) = way else { return (format!("no route holds {destination}"), None) };
        let (to, leads) = match way {
            Taken::Neighbor(id, to) => (
                format!("out of {}, to {}", self.interface(id), self.neighbor(id, to)),
                Ingress::Interface(id),
            ),
            Taken::Unresolved(id) => {
                (format!("out of {}, next hop unknown", self.interface(id)), Ingress::Interface(id))
            }
            Taken::Tunnel(id) => (format!("into tunnel \"{}\"", self.tunnel_name(id)), Ingress::Tunnel(id)),
        };
        let (what, line) = match self.deciding_route(destination, leads) {
            Some(Decides::Route(index)) => {
                let prefix = self.spec.routes.get(index).map(|route| route.prefix.to_string());
                (format!("route {}", prefix.unwrap_or_default()), self.line(Item::Route(index), ""))
            }
            Some(Decides::Connected) => ("connected network".to_owned(), self.line(item(leads), "addresses")),
            None => ("route".to_owned(), None),
        };
        (format!("{destination}: {what}, {to}"), line)
    }

    /// The route of the configuration that leads this way: the longest prefix, of the lowest priority number.
    fn deciding_route(&self, destination: IpAddr, leads: Ingress) -> Option<Decides> {
        let leads_there = |target: &RouteTarget| match target {
            RouteTarget::Gateway { interface, .. } | RouteTarget::Interface(interface) => {
                Ingress::Interface(*interface) == leads
            }
            RouteTarget::Tunnel(id) => Ingress::Tunnel(*id) == leads,
        };
        let nets = match leads {
            Ingress::Interface(id) => {
                self.spec.interfaces.get(usize::from(id.0)).map(|spec| &spec.addresses[..])
            }
            Ingress::Tunnel(id) => self.spec.tunnels.get(id.0 as usize).map(|spec| &spec.addresses[..]),
        };
        let holding = nets.into_iter().flatten().filter(|net| net.contains(&destination));
        let connected = holding.map(|net| (net.prefix_len(), i64::MAX, Decides::Connected));
        let routes = self.spec.routes.iter().enumerate();
        let routes =
            routes.filter(|(_, route)| route.prefix.contains(&destination) && leads_there(&route.target));
        let routes = routes.map(|(index, route)| {
            (route.prefix.prefix_len(), -i64::from(route.priority), Decides::Route(index))
        });
        routes
            .chain(connected)
            .max_by_key(|(len, priority, _)| (*len, *priority))
            .map(|(.., decides)| decides)
    }

    fn clamp(&self, from: u16, to: u16, by: Ingress, is_leaving: bool) -> (String, Option<usize>) {
        let on = match by {
            Ingress::Interface(id) => ClampOn::Interface(id),
            Ingress::Tunnel(id) => ClampOn::Tunnel(id),
        };
        let is_it = |clamp: &&forwarder::table::ClampSpec| {
            let of_direction = if is_leaving { clamp.output } else { clamp.input };
            clamp.on == on && of_direction && (clamp.ipv4 == Some(to) || clamp.ipv6 == Some(to))
        };
        let place = match self.spec.clamps.iter().position(|clamp| is_it(&clamp)) {
            Some(at) => self.line(Item::Clamp(at), ""),
            None => self.line(item(by), "mss"),
        };
        let side = if is_leaving { "leaving by" } else { "coming by" };
        (format!("MSS {from} is lowered to {to}, {side} {}", self.crossed(by)), place)
    }

    /// Whose address this is.
    fn owner(&self, address: IpAddr) -> (String, Option<usize>) {
        let tunnels = || (0..).map(TunnelId).zip(&self.spec.tunnels);
        if let Some((id, _)) = tunnels().find(|(_, tunnel)| tunnel.local == address) {
            let others = tunnels().filter(|(_, tunnel)| tunnel.local == address).count() - 1;
            let more = if others > 0 { format!(" and of {others} more") } else { String::new() };
            let text = format!("the local end of tunnel \"{}\"{more}", self.tunnel_name(id));
            return (text, self.line(Item::Tunnel(id), "local"));
        }
        let has_it = |nets: &[ipnet::IpNet]| nets.iter().any(|net| net.addr() == address);
        if let Some((id, _)) = tunnels().find(|(_, tunnel)| has_it(&tunnel.addresses)) {
            let text = format!("an address of tunnel \"{}\"", self.tunnel_name(id));
            return (text, self.line(Item::Tunnel(id), "addresses"));
        }
        let interface = self.spec.interfaces.iter().position(|interface| has_it(&interface.addresses));
        match interface.map(|at| InterfaceId(at as u16)) {
            Some(id) => {
                (format!("an address of {}", self.interface(id)), self.line(Item::Interface(id), "addresses"))
            }
            None => ("a broadcast address of the box's networks".to_owned(), None),
        }
    }

    /// The tunnel of the last header that was taken for one's, or that the packet was put into. What is made on its way has
    /// a way of its own.
    pub(super) fn last_tunnel(&self, steps: &[Step]) -> Option<TunnelId> {
        let own = steps.split(|step| matches!(step, Step::Made(_))).next().unwrap_or_default();
        own.iter().rev().find_map(|step| match step {
            Step::Decapsulated(id) | Step::Routed { way: Some(Taken::Tunnel(id)), .. } => Some(*id),
            Step::Recognised { local, sender, selector } => self.tables.endpoint(*local, *sender, *selector),
            _ => None,
        })
    }

    pub(super) fn line(&self, item: Item, key: &str) -> Option<usize> {
        Some(self.config.origin(item, key).line)
    }

    pub(super) fn crossed(&self, by: Ingress) -> String {
        match by {
            Ingress::Interface(id) => self.interface(id),
            Ingress::Tunnel(id) => format!("tunnel \"{}\"", self.tunnel_name(id)),
        }
    }

    pub(super) fn interface(&self, id: InterfaceId) -> String {
        match self.spec.interfaces.get(usize::from(id.0)) {
            Some(interface) => match interface.vlan {
                Some(tag) => format!("VLAN \"{}\" ({tag})", interface.name),
                None => format!("port \"{}\"", interface.name),
            },
            None => format!("interface {}", id.0),
        }
    }

    pub(super) fn tunnel_name(&self, id: TunnelId) -> &'a str {
        self.spec.tunnels.get(id.0 as usize).map_or("", |tunnel| &tunnel.name)
    }

    fn told(&self, to: IpAddr, error: IcmpError, what: Telling) -> String {
        let error = match error {
            IcmpError::TooBig(mtu) => format!("too big, MTU {mtu}"),
            IcmpError::TimeExceeded => "time exceeded".to_owned(),
            IcmpError::NoRoute => "no route".to_owned(),
            IcmpError::Unreachable => "unreachable".to_owned(),
        };
        match what {
            Telling::Sent | Telling::Limited if self.is_of_copies => {
                format!("its sender {to} is told, unless the worker had told too many already: {error}")
            }
            Telling::Sent => format!("its sender {to} is told: {error}"),
            Telling::AboutOwn => format!("{to}, an address of this box, is not told: {error}"),
            Telling::NotDue => format!("its sender {to} may not be told by the RFCs: {error}"),
            Telling::NoSpeaker => {
                format!("its sender {to} is not told, as the box has no address of that family: {error}")
            }
            Telling::Limited => {
                format!("its sender {to} is not told, as there were too many errors already: {error}")
            }
        }
    }

    fn neighbor(&self, interface: InterfaceId, to: Mac) -> String {
        let mut known =
            self.spec.neighbors.iter().filter(|known| known.interface == interface && known.mac == to);
        match (known.next(), known.next()) {
            (Some(only), None) => format!("{} ({})", only.address, mac(to)),
            _ => mac(to),
        }
    }
}

/// What a route stems from.
enum Decides {
    Route(usize),
    Connected,
}

/// The item behind an interface or tunnel.
pub(super) fn item(by: Ingress) -> Item {
    match by {
        Ingress::Interface(id) => Item::Interface(id),
        Ingress::Tunnel(id) => Item::Tunnel(id),
    }
}

/// A verdict in a word, and the reason of a drop.
fn fate(verdict: Verdict) -> (&'static str, Option<&'static str>) {
    match verdict {
        Verdict::Send(_) => ("transmitted", None),
        Verdict::Kernel(_) => ("kernel", None),
        Verdict::Consumed => ("consumed", None),
        Verdict::Held => ("held", None),
        Verdict::Drop(reason) => ("dropped", Some(reason.name())),
    }
}

fn describe(header: &Summary) -> String {
    let Summary { source, destination, ttl, len, .. } = header;
    let version = if header.version == Version::V4 { "IPv4" } else { "IPv6" };
    let protocol = match header.protocol {
        Some(1) => "ICMP".to_owned(),
        Some(4) => "IPv4 inside".to_owned(),
        Some(6) => "TCP".to_owned(),
        Some(17) => "UDP".to_owned(),
        Some(41) => "IPv6 inside".to_owned(),
        Some(47) => "GRE".to_owned(),
        Some(58) => "ICMPv6".to_owned(),
        Some(other) => format!("protocol {other}"),
        None => "malformed extension headers".to_owned(),
    };
    let ports = header.ports.map(|(from, to)| format!(" {from} > {to}")).unwrap_or_default();
    let fragment = if header.is_fragment { ", a fragment" } else { "" };
    format!("{version} {source} > {destination}, {protocol}{ports}, {len} bytes, TTL {ttl}{fragment}")
}

/// What a tunnel packet is, but for its sender.
pub(super) fn carried(selector: Selector) -> String {
    let inside = match (selector.encap, selector.key) {
        (Encap::Ip, _) => "IP in IP".to_owned(),
        (Encap::Gre, None) => "GRE without key".to_owned(),
        (Encap::Gre, Some(key)) => format!("GRE with key {key}"),
    };
    let Some((kind, port)) = selector.udp else { return inside };
    let inside = if selector.encap == Encap::Ip { "IP".to_owned() } else { inside };
    let kind = match kind {
        UdpKind::Fou => "FOU",
        UdpKind::Gue => "GUE variant 0",
        UdpKind::Gue1 => "GUE variant 1",
        UdpKind::GreInUdp => "UDP (RFC 8086)",
    };
    format!("{inside} in {kind}, port {port},")
}
