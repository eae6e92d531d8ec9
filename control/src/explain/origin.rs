//! Which line of the file a field's value comes from.

use super::field::Field;
use crate::config::{Config, Origin};
use crate::plan::mac;
use forwarder::table::{
    Df, Dscp, Ecn, InterfaceId, InterfaceSpec, Item, Remote, RouteTarget, Spec, Ttl, TunnelId, TunnelSpec,
};
use forwarder::tunnel::encap::{HeaderKind, Image, Part};
use forwarder::wire::vlan::Vlan;
use std::collections::HashMap;
use std::net::IpAddr;

/// What lines are looked up in.
pub(super) struct Origins<'a> {
    config: &'a Config,
    spec: &'a Spec,
    by_slot: HashMap<u32, TunnelId>,
    by_mac: HashMap<(InterfaceId, String), Vec<usize>>,
}

impl<'a> Origins<'a> {
    /// Of `config`, from which `spec` was made.
    pub(super) fn new(config: &'a Config, spec: &'a Spec) -> Self {
        let by_slot = (0..).map(TunnelId).zip(&spec.tunnels).map(|(id, tunnel)| (tunnel.slot, id)).collect();
        let mut by_mac: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, neighbor) in spec.neighbors.iter().enumerate() {
            by_mac.entry((neighbor.interface, mac(neighbor.mac))).or_default().push(at);
        }
        Origins { config, spec, by_slot, by_mac }
    }

    /// How many slots tunnels count in.
    pub(super) fn slots(&self) -> usize {
        self.spec.tunnels.iter().map(|tunnel| tunnel.slot as usize + 1).max().unwrap_or(0)
    }

    /// The tunnel that counts in `slot`.
    pub(super) fn tunnel(&self, slot: u32) -> Option<(TunnelId, &'a TunnelSpec)> {
        let id = *self.by_slot.get(&slot)?;
        Some((id, self.spec.tunnels.get(id.0 as usize)?))
    }

    /// Whether the file says the Ethernet address of the port that `image` leaves by.
    pub(super) fn has_mac(&self, image: &Image) -> bool {
        self.config.ports.get(usize::from(image.port().0)).is_some_and(|port| port.mac.is_some())
    }

    /// The untagged side of the port that `image` leaves by, whose table has the port's keys.
    fn port(&self, image: &Image) -> Option<InterfaceId> {
        self.find(|interface| interface.port == image.port() && interface.vlan.is_none())
    }

    fn find(&self, is_it: impl Fn(&InterfaceSpec) -> bool) -> Option<InterfaceId> {
        self.spec.interfaces.iter().position(is_it).map(|at| InterfaceId(at as u16))
    }

    /// The line that decides a field of the header at this position of `parts`; `None` where no line does.
    pub(super) fn of(
        &self,
        at: usize,
        parts: &[Part],
        field: &Field,
        is_fixed: bool,
        image: &Image,
    ) -> Option<Origin> {
        let part = parts.get(at)?;
        let tunnels: Vec<(TunnelId, &TunnelSpec)> =
            chain(parts, at).filter_map(|slot| self.tunnel(slot)).collect();
        let (id, tunnel) = tunnels.first()?;
        let own = |key: &str| Some(self.config.origin(Item::Tunnel(*id), key));
        // What a layer inherits from one that does not, that one's line decides.
        let first = |key: &str, inherits: &dyn Fn(&TunnelSpec) -> bool| {
            let decides = tunnels.iter().find(|(_, tunnel)| !inherits(tunnel)).or(tunnels.last());
            let (id, _) = if is_fixed { decides? } else { tunnels.first()? };
            Some(self.config.origin(Item::Tunnel(*id), key))
        };
        let link = |id: Option<InterfaceId>, key: &str| Some(self.config.origin(Item::Interface(id?), key));
        match (part.kind, field.name) {
            (HeaderKind::Ethernet, "destination") => self.next_hop(parts, image, tunnel, field),
            (HeaderKind::Ethernet, "source") => link(self.port(image), "mac"),
            (HeaderKind::Ethernet, "type") if parts.get(at + 1)?.kind == HeaderKind::Vlan => {
                link(self.vlan(parts, image), "id")
            }
            (HeaderKind::Vlan, "id") => link(self.vlan(parts, image), "id"),
            (HeaderKind::Ethernet | HeaderKind::Vlan, "type") => own("local"),
            (_, "dscp") => {
                first("dscp", &|tunnel| tunnel.dscp == Dscp::Inherit || tunnel.dscp == Dscp::Uniform)
            }
            (_, "ecn") => first("ecn", &|tunnel| tunnel.ecn == Ecn::Rfc6040),
            (_, "ttl" | "hop_limit") => first("ttl", &|tunnel| tunnel.ttl == Ttl::Inherit),
            (_, "dont_fragment") => own("df"),
            (_, "identification") if tunnel.df != Df::Set => own("df"),
            (HeaderKind::Ipv4 | HeaderKind::Ipv6, "version" | "source") => own("local"),
            (HeaderKind::Ipv4 | HeaderKind::Ipv6, "destination") => own("remote"),
            (HeaderKind::Ipv4 | HeaderKind::Ipv6, "protocol" | "next_header") => {
                own(if tunnel.udp.is_some() { "udp" } else { "encap" })
            }
            (HeaderKind::Udp, "source_port") => own("udp.source_port"),
            (HeaderKind::Udp, "destination_port") => own("udp.port"),
            (HeaderKind::Udp, "checksum") => own("udp.checksum"),
            (HeaderKind::Gue, "variant") => own("udp.kind"),
            (HeaderKind::Gue, "protocol") => own("encap"),
            (HeaderKind::Gre, "checksum" | "checksum_present") => own("checksum"),
            (HeaderKind::Gre, "key" | "key_present") => own("key"),
            (HeaderKind::Gre, "sequence" | "sequence_present") => own("sequence"),
            (HeaderKind::Gre, "protocol_type") if is_fixed => {
                let (inside, _) = tunnels.get(1)?;
                Some(self.config.origin(Item::Tunnel(*inside), "local"))
            }
            _ => None,
        }
    }

    /// The VLAN whose tag the image has.
    fn vlan(&self, parts: &[Part], image: &Image) -> Option<InterfaceId> {
        let tag = parts.iter().find(|part| part.kind == HeaderKind::Vlan)?;
        let id = Vlan::new(image.bytes().get(tag.range.clone())?).ok()?.id();
        self.find(|interface| interface.port == image.port() && interface.vlan == Some(id))
    }

    /// The neighbour whose address the frame is sent to. Several may share a MAC address: the tunnel's remote end itself
    /// comes first, then the gateway of a route to it.
    fn next_hop(
        &self,
        parts: &[Part],
        image: &Image,
        outermost: &TunnelSpec,
        field: &Field,
    ) -> Option<Origin> {
        let interface = self.vlan(parts, image).or_else(|| self.port(image))?;
        let Remote::One(remote) = outermost.remote else { return None };
        let there = self.by_mac.get(&(interface, field.value.as_str()?.to_owned()))?;
        let address = |at: usize| self.spec.neighbors.get(at).map(|neighbor| neighbor.address);
        let likeness = |at: &&usize| match address(**at) {
            Some(address) if address == remote => 2,
            Some(address) if self.is_gateway(address, remote) => 1,
            _ => 0,
        };
        let best = match there.as_slice() {
            [only] => *only,
            several => *several.iter().max_by_key(likeness)?,
        };
        Some(self.config.origin(Item::Neighbor(best), "mac"))
    }

    fn is_gateway(&self, wanted: IpAddr, destination: IpAddr) -> bool {
        self.spec.routes.iter().any(|route| {
            route.prefix.contains(&destination)
                && matches!(route.target, RouteTarget::Gateway { address, .. } if address == wanted)
        })
    }
}

/// The slots of the tunnels from the header at this position inwards, each once.
fn chain(parts: &[Part], at: usize) -> impl Iterator<Item = u32> {
    let mut slots: Vec<u32> =
        parts.get(at..).unwrap_or_default().iter().filter_map(|part| part.slot).collect();
    slots.dedup();
    slots.into_iter()
}
