//! Why a packet was dropped: what it has, what the configuration asks for, and the line that asks.

use super::narrate::{Narrator, carried, item};
use crate::plan::mac;
use forwarder::table::{InterfaceId, Item, Mac, PortId, Remote, TunnelId, TunnelSpec};
use forwarder::trace::{Step, Taken};
use forwarder::tunnel::decap::Selector;
use forwarder::verdict::{DropReason, Ingress};
use forwarder::wire::ethernet::Ethernet;
use std::net::IpAddr;

/// A sentence beside the reason's own, and the line it is about.
pub(super) struct Reason {
    pub(super) detail: Option<String>,
    pub(super) at: Option<usize>,
}

/// Why a frame that came by `port` was dropped for `reason` after these steps.
pub(super) fn dropped(
    narrator: &Narrator<'_>,
    reason: DropReason,
    port: PortId,
    bytes: &[u8],
    steps: &[Step],
) -> Reason {
    let own: Vec<&Step> = steps.iter().take_while(|step| !matches!(step, Step::Made(_))).collect();
    let tunnel = narrator.last_tunnel(steps);
    let of_tunnel = |key: &str, detail: &dyn Fn(&TunnelSpec) -> String| {
        let id = tunnel?;
        let spec = narrator.spec.tunnels.get(id.0 as usize)?;
        Some((Some(detail(spec)), narrator.line(Item::Tunnel(id), key)))
    };
    let named = |tunnel: &TunnelSpec| format!("It is of tunnel \"{}\".", tunnel.name);
    let found = match reason {
        DropReason::EthernetAddress => ethernet_address(narrator, port, bytes),
        DropReason::VlanUnknown => vlan(narrator, port, bytes),
        DropReason::NoTunnel => no_tunnel(narrator, &own),
        DropReason::OuterFragment => {
            of_tunnel("reassembly", &named).or_else(|| outer_fragment(narrator, &own))
        }
        DropReason::UdpZeroChecksum => of_tunnel("udp.checksum", &named),
        DropReason::GreKeepalive => of_tunnel("keepalive", &named),
        DropReason::InnerSource => of_tunnel("inner_source", &|tunnel| {
            let nets: Vec<String> = tunnel.inner_source.iter().map(ToString::to_string).collect();
            format!("Tunnel \"{}\" lets out {}.", tunnel.name, nets.join(", "))
        }),
        DropReason::NoRoute => no_route(narrator, &own),
        DropReason::NeighborUnknown => neighbor(narrator, &own),
        DropReason::TooBig => too_big(narrator, &own),
        _ => of_tunnel("", &named),
    };
    // What no key decides is at least of the interface by which it came.
    let arrived = own.iter().find_map(|step| match step {
        Step::Arrived(id) => narrator.line(Item::Interface(*id), ""),
        _ => None,
    });
    let (detail, at) = found.unwrap_or((None, None));
    Reason {
        detail,
        at: at
            .or(arrived)
            .or_else(|| untagged(narrator, port).and_then(|id| narrator.line(Item::Interface(id), ""))),
    }
}

type Found = Option<(Option<String>, Option<usize>)>;

fn untagged(narrator: &Narrator<'_>, port: PortId) -> Option<InterfaceId> {
    let is_it =
        |interface: &forwarder::table::InterfaceSpec| interface.port == port && interface.vlan.is_none();
    narrator.spec.interfaces.iter().position(is_it).map(|at| InterfaceId(at as u16))
}

fn ethernet_address(narrator: &Narrator<'_>, port: PortId, bytes: &[u8]) -> Found {
    let destination = Ethernet::new(bytes).ok()?.destination();
    let id = untagged(narrator, port)?;
    let Mac(own) = narrator.spec.interfaces.get(usize::from(id.0))?.mac;
    let detail = format!("The frame is for {}, the port has {}.", mac(destination), mac(Mac(own)));
    Some((Some(detail), narrator.line(Item::Interface(id), "mac")))
}

fn vlan(narrator: &Narrator<'_>, port: PortId, bytes: &[u8]) -> Found {
    let of_port = narrator.spec.interfaces.iter().filter(|interface| interface.port == port);
    let known: Vec<String> =
        of_port.filter_map(|interface| interface.vlan).map(|tag| tag.to_string()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let tag = bytes.get(14..16).and_then(|tag| tag.first_chunk::<2>());
    let tag = tag.map(|tag| u16::from_be_bytes(*tag) & 0x0fff)?;
    let id = untagged(narrator, port)?;
    let detail = format!("The tag is {tag}; the port's VLANs: {known}.");
    Some((Some(detail), narrator.line(Item::Interface(id), "")))
}

/// The tunnel that comes nearest, and what is different about it.
fn no_tunnel(narrator: &Narrator<'_>, steps: &[&Step]) -> Found {
    let last = steps.iter().rev().find_map(|step| match step {
        Step::Recognised { local, sender, selector } => Some((*local, *sender, *selector)),
        _ => None,
    });
    let Some((local, sender, selector)) = last else {
        // GRE or IP in IP for a tunnel's end that has no tunnel of that kind at all.
        let local = last_own(steps)?;
        let at = narrator.spec.tunnels.iter().position(|tunnel| tunnel.local == local)?;
        let detail = format!("No tunnel at {local} takes this encapsulation without UDP.");
        return Some((Some(detail), narrator.line(Item::Tunnel(TunnelId(at as u32)), "encap")));
    };
    let candidates =
        (0..).map(TunnelId).zip(&narrator.spec.tunnels).filter(|(_, tunnel)| tunnel.local == local);
    let differing = candidates.map(|(id, tunnel)| (differences(tunnel, sender, selector), id, tunnel));
    let (differences, id, tunnel) = differing.min_by_key(|(differences, ..)| differences.len())?;
    let (key, _) = differences.first()?;
    let words: Vec<&str> = differences.iter().map(|(_, words)| words.as_str()).collect();
    let detail = format!("The nearest is tunnel \"{}\", which {}.", tunnel.name, words.join(", and "));
    Some((Some(detail), narrator.line(Item::Tunnel(id), key)))
}

/// A tunnel that does not ask for what would make the fragments a packet; which one they are of shows only then.
fn outer_fragment(narrator: &Narrator<'_>, steps: &[&Step]) -> Found {
    let local = last_own(steps)?;
    let at = narrator.spec.tunnels.iter().position(|tunnel| tunnel.local == local && !tunnel.reassembly)?;
    let name = narrator.spec.tunnels.get(at).map_or("", |tunnel| &tunnel.name);
    let detail = format!("Tunnel \"{name}\" at {local} is one of those that do not put fragments together.");
    Some((Some(detail), narrator.line(Item::Tunnel(TunnelId(at as u32)), "reassembly")))
}

/// The last of the box's addresses that the packet was for.
fn last_own(steps: &[&Step]) -> Option<IpAddr> {
    steps.iter().rev().find_map(|step| match step {
        Step::Own(address) => Some(*address),
        _ => None,
    })
}

/// What keeps `tunnel` from taking such a packet: the key of the file, and words.
fn differences(tunnel: &TunnelSpec, sender: IpAddr, selector: Selector) -> Vec<(&'static str, String)> {
    let mut differences = Vec::new();
    let udp = tunnel.udp.map(|udp| (udp.kind, udp.port));
    if (udp, tunnel.encap) != (selector.udp, selector.encap) {
        let takes = carried(Selector { udp, encap: tunnel.encap, key: tunnel.key });
        differences.push((
            if udp.is_some() { "udp" } else { "encap" },
            format!("takes {}", takes.trim_end_matches(',')),
        ));
    } else if tunnel.key != selector.key {
        let words = |key: Option<u32>| key.map_or("no key".to_owned(), |key| format!("key {key}"));
        differences.push(("key", format!("takes {} (found {})", words(tunnel.key), words(selector.key))));
    }
    let takes = match &tunnel.remote {
        Remote::One(remote) => *remote == sender,
        Remote::Senders(senders) => senders.iter().any(|net| net.contains(&sender)),
    };
    if !takes {
        let who = match &tunnel.remote {
            Remote::One(remote) => remote.to_string(),
            Remote::Senders(senders) => {
                senders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        };
        differences.push(("remote", format!("takes what {who} sends (found {sender})")));
    }
    differences
}

fn no_route(narrator: &Narrator<'_>, steps: &[&Step]) -> Found {
    let (destination, way) = last_route(steps)?;
    if let Some(Taken::Tunnel(id)) = way {
        let name = narrator.tunnel_name(id);
        let detail = format!("Tunnel \"{name}\" has no way to its remote end: nothing can be sent into it.");
        return Some((Some(detail), narrator.line(Item::Tunnel(id), "remote")));
    }
    let detail = format!("A [[route]] or a connected network that holds {destination} is missing.");
    Some((Some(detail), None))
}

fn neighbor(narrator: &Narrator<'_>, steps: &[&Step]) -> Found {
    let (destination, way) = last_route(steps)?;
    match way? {
        Taken::Unresolved(id) => {
            let detail =
                format!("No [[neighbor]] on {} is the next hop to {destination}.", narrator.interface(id));
            Some((Some(detail), narrator.line(Item::Interface(id), "")))
        }
        Taken::Tunnel(id) => {
            let detail = format!(
                "The next hop to the remote end of tunnel \"{}\" has no [[neighbor]].",
                narrator.tunnel_name(id)
            );
            Some((Some(detail), narrator.line(Item::Tunnel(id), "remote")))
        }
        Taken::Neighbor(..) => None,
    }
}

fn too_big(narrator: &Narrator<'_>, steps: &[&Step]) -> Found {
    steps.iter().rev().find_map(|step| match step {
        Step::Oversize { limit, by, .. } => {
            let key = match by {
                Ingress::Interface(_) => "interface's",
                Ingress::Tunnel(_) => "tunnel's",
            };
            let detail = format!("The {key} MTU is {limit}.");
            Some((Some(detail), narrator.line(item(*by), "mtu")))
        }
        _ => None,
    })
}

fn last_route(steps: &[&Step]) -> Option<(IpAddr, Option<Taken>)> {
    steps.iter().rev().find_map(|step| match step {
        Step::Routed { destination, way } => Some((*destination, *way)),
        _ => None,
    })
}
