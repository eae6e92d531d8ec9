//! Clamps on the side that cannot help. An MSS option limits what its sender receives: where nothing is routed into the
//! tunnels, and answers leave by another way, it is the SYN or SYN-ACK on that other way that keeps the tunnels' packets
//! small.

use super::Places;
use super::document::Findings;
use super::place::Place;
use super::tunnel::named;
use forwarder::table::{
    ClampOn, ClampSpec, InterfaceId, Mss, Remote, RouteTarget, Spec, TunnelId, TunnelSpec,
};
use std::collections::HashSet;

/// By which ways the two directions of a flow go, as far as routes tell.
pub(super) struct Sides<'a> {
    spec: &'a Spec,
    /// Tunnels that a route leads into.
    routed: HashSet<TunnelId>,
    /// Interfaces by which default routes lead out.
    ways: Vec<InterfaceId>,
    /// Interfaces with a clamp on what leaves.
    clamped_out: HashSet<InterfaceId>,
    /// Whether answers to what comes out of the tunnels go by another way.
    returns_directly: bool,
}

impl<'a> Sides<'a> {
    pub(super) fn new(spec: &'a Spec) -> Self {
        let is_default = |prefix: &ipnet::IpNet| prefix.prefix_len() == 0;
        let routed: HashSet<TunnelId> = spec.routes.iter().filter_map(|route| into(&route.target)).collect();
        let defaults = spec.routes.iter().filter(|route| is_default(&route.prefix));
        let ways: Vec<InterfaceId> = defaults.filter_map(|route| out_of(&route.target)).collect();
        let clamped = spec.clamps.iter().filter(|clamp| clamp.output);
        let clamped_out = clamped.filter_map(|clamp| match clamp.on {
            ClampOn::Interface(id) => Some(id),
            ClampOn::Tunnel(_) => None,
        });
        let clamped_out = clamped_out.collect();
        let only_receive = spec.tunnels.iter().all(only_receives);
        // With a tunnel that is sent into, a SYN that comes out of another one may be answered through it. A tunnel that
        // could send and is in no route is one that only receives if there is another way to the internet.
        let returns_directly =
            !spec.tunnels.is_empty() && routed.is_empty() && (only_receive || !ways.is_empty());
        Sides { spec, routed, ways, clamped_out, returns_directly }
    }

    /// Whether a clamp lowers SYNs on their way to the internet, where their answers come by a tunnel.
    pub(super) fn limits_inward(&self, clamp: &ClampSpec) -> bool {
        let ClampOn::Interface(id) = clamp.on else { return false };
        let is_way = self.ways.contains(&id);
        self.returns_directly && !self.ways.is_empty() && if is_way { clamp.output } else { clamp.input }
    }

    /// Adds the warnings.
    pub(super) fn add(&self, places: &Places, findings: &mut Findings) {
        // Without a default route nothing tells which interface leads to the internet: each may.
        let may_limit = |clamp: &ClampSpec| match clamp.on {
            ClampOn::Interface(_) => self.ways.is_empty() || self.limits_inward(clamp),
            ClampOn::Tunnel(_) => false,
        };
        let is_limited = self.spec.clamps.iter().any(may_limit);
        let tunnels = (0..).map(TunnelId).zip(&self.spec.tunnels).zip(&places.tunnels);
        for ((id, tunnel), place) in tunnels.filter(|_| self.returns_directly) {
            self.own_limit(id, tunnel, place, is_limited, findings);
        }
        for (clamp, place) in self.spec.clamps.iter().zip(&places.clamps) {
            match clamp.on {
                ClampOn::Tunnel(id) => self.on_tunnel(id, clamp, place, is_limited, findings),
                ClampOn::Interface(id) => self.on_interface(id, clamp, place, is_limited, findings),
            }
        }
    }

    /// A tunnel's own limit, which somebody wrote for packets that it does not reach. A profile is about more than the MSS,
    /// and TCP to a tunnel's own network is limited on it: both are well beside a limit that helps.
    fn own_limit(
        &self,
        id: TunnelId,
        tunnel: &TunnelSpec,
        place: &Place,
        is_limited: bool,
        findings: &mut Findings,
    ) {
        let giver = place.giver("mss");
        let has_mtu = tunnel.mtu.is_some() && place.giver("mtu") == Some("mtu");
        let (key, ipv4, ipv6) = match tunnel.mss {
            Mss::Fixed { ipv4, ipv6 } if giver == Some("mss") => ("mss", ipv4, ipv6),
            Mss::Fixed { ipv4, ipv6 } if giver == Some("profile") => ("profile", ipv4, ipv6),
            Mss::Auto if has_mtu => {
                let less = |headers: u16| tunnel.mtu.map(|mtu| mtu.saturating_sub(headers).max(1));
                ("mtu", less(40), less(60))
            }
            _ => return,
        };
        if is_limited && (key != "mss" || !self.is_idle(id, tunnel)) {
            return;
        }
        let clamp = self.clamp_out(ipv4, ipv6);
        let help = match key {
            "mss" => format!("write mss = \"off\" here, and {clamp}"),
            _ => format!("add {clamp}"),
        };
        findings.warning(place.of(key), wrong_way(tunnel, &format!("`{key}`"))).help(help);
    }

    fn on_tunnel(
        &self,
        id: TunnelId,
        clamp: &ClampSpec,
        place: &Place,
        is_limited: bool,
        findings: &mut Findings,
    ) {
        let Some(tunnel) = self.spec.tunnels.get(id.0 as usize) else { return };
        let is_idle = self.is_idle(id, tunnel);
        let help = format!("write {} instead", self.clamp_out(clamp.ipv4, clamp.ipv6));
        if !clamp.input && is_idle {
            let message = format!(
                "nothing goes into {}, as {}: the clamp never acts (expected a clamp on what leaves towards the internet, \
                 found direction = \"out\" on the tunnel)",
                named(tunnel),
                if only_receives(tunnel) { "it only receives" } else { "no route leads there" }
            );
            findings.warning(place.of("direction"), message).help(help);
        } else if clamp.input && self.returns_directly && (is_idle || !is_limited) {
            findings.warning(place.of("on"), wrong_way(tunnel, "clamp")).help(help);
        }
    }

    fn on_interface(
        &self,
        id: InterfaceId,
        clamp: &ClampSpec,
        place: &Place,
        is_limited: bool,
        findings: &mut Findings,
    ) {
        if !self.returns_directly || self.ways.is_empty() {
            return;
        }
        let is_way = self.ways.contains(&id);
        // A clamp on this way out may stand beside it; elsewhere one clamp that helps is enough.
        let is_helped = if is_way { self.clamped_out.contains(&id) } else { is_limited };
        if is_helped {
            return;
        }
        let (key, message, help) = if is_way {
            let message = "the clamp lowers SYNs that come in, which limits what is sent to the internet; what comes back \
                           through the tunnel stays as large as before (expected direction = \"out\", found \"in\")";
            ("direction", message, "write direction = \"out\"".to_owned())
        } else {
            let message = "the clamp lowers SYNs that came from the internet, which limits the answers; what comes through \
                           the tunnel stays as large as before (expected a clamp on SYN and SYN-ACK that leave towards \
                           the internet)";
            ("on", message, format!("write {} instead", self.clamp_out(clamp.ipv4, clamp.ipv6)))
        };
        findings.warning(place.of(key), message).help(help);
    }

    /// Whether nothing goes into a tunnel.
    fn is_idle(&self, id: TunnelId, tunnel: &TunnelSpec) -> bool {
        only_receives(tunnel) || (tunnel.addresses.is_empty() && !self.routed.contains(&id))
    }

    /// What to write so that packets through a tunnel that is not sent into stay small.
    fn clamp_out(&self, ipv4: Option<u16>, ipv6: Option<u16>) -> String {
        let interface = self.ways.first().and_then(|id| self.spec.interfaces.get(usize::from(id.0)));
        let on = match interface {
            Some(interface) => format!("on = \"{}\"", interface.name),
            None => "on = the interface by which answers leave".to_owned(),
        };
        let limit = |key: &str, limit: Option<u16>| {
            limit.map(|limit| format!(", {key} = {limit}")).unwrap_or_default()
        };
        format!("[[mss_clamp]] with {on}, direction = \"out\"{}{}", limit("ipv4", ipv4), limit("ipv6", ipv6))
    }
}

fn only_receives(tunnel: &TunnelSpec) -> bool {
    matches!(tunnel.remote, Remote::Senders(_))
}

fn into(target: &RouteTarget) -> Option<TunnelId> {
    match target {
        RouteTarget::Tunnel(id) => Some(*id),
        _ => None,
    }
}

fn out_of(target: &RouteTarget) -> Option<InterfaceId> {
    match target {
        RouteTarget::Gateway { interface, .. } | RouteTarget::Interface(interface) => Some(*interface),
        RouteTarget::Tunnel(_) => None,
    }
}

fn wrong_way(tunnel: &TunnelSpec, what: &str) -> String {
    let why = match only_receives(tunnel) {
        true => format!("{} only receives", named(tunnel)),
        false => format!("no route leads into {}", named(tunnel)),
    };
    format!(
        "{why}, so this {what} lowers SYNs that come out of it and nothing else: that limits the answers, which do not go \
         through the tunnel (expected a clamp on SYN and SYN-ACK that leave towards the internet)"
    )
}
