//! Which packets are asked for: by names as they stand on the command line, and by what these stand for.

use super::narrate::Told;
use crate::config::{Config, nearest};
use forwarder::table::{InterfaceId, PortId, Spec};
use forwarder::tap::Wanted;
use forwarder::trace::Step;
use forwarder::verdict::{DropReason, Verdict};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What is asked for, in the operator's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub(crate) struct Question {
    /// Only packets that came by this port or VLAN
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// Only packets that came out of, went into, or died in this tunnel
    #[arg(long, value_name = "NAME")]
    pub(crate) tunnel: Option<String>,
    /// Only packets with such an address in one of their IP headers
    #[arg(long, value_name = "ADDRESS or PREFIX")]
    pub(crate) address: Option<String>,
    /// Only dropped packets
    #[arg(long)]
    #[serde(default)]
    pub(crate) dropped: bool,
    /// Only packets dropped for this reason
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,
}

/// The same by numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    interface: Option<Side>,
    slot: Option<u32>,
    address: Option<IpNet>,
    dropped: bool,
    reason: Option<DropReason>,
}

/// A port's untagged side, or a VLAN.
#[derive(Clone, Copy, Debug)]
struct Side {
    id: InterfaceId,
    port: PortId,
    is_untagged: bool,
}

impl Side {
    /// Whether `told` came by it. What was refused by its Ethernet header is the port's.
    fn received(self, told: &Told) -> bool {
        let arrived = told.steps.iter().find_map(|step| match step {
            Step::Arrived(id) => Some(*id),
            _ => None,
        });
        arrived.map_or(self.is_untagged && told.received_by == self.port, |id| id == self.id)
    }
}

impl Filter {
    /// What `question` means with this configuration; `Err`: what it does not have.
    pub(crate) fn new(question: &Question, config: &Config, spec: &Spec) -> Result<Self, String> {
        let interface = question.interface.as_deref().map(|name| {
            let at = spec.interfaces.iter().position(|interface| interface.name == name);
            let names = spec.interfaces.iter().map(|interface| interface.name.as_str());
            let at = at.ok_or_else(|| unknown("port or VLAN", name, config.file(), names))?;
            let interface = spec.interfaces.get(at);
            Ok::<_, String>(Side {
                id: InterfaceId(at as u16),
                port: interface.map_or(PortId(0), |interface| interface.port),
                is_untagged: interface.is_some_and(|interface| interface.vlan.is_none()),
            })
        });
        let slot = question.tunnel.as_deref().map(|name| {
            let tunnel = spec.tunnels.iter().find(|tunnel| tunnel.name == name);
            let names = spec.tunnels.iter().map(|tunnel| tunnel.name.as_str());
            tunnel.map(|tunnel| tunnel.slot).ok_or_else(|| unknown("tunnel", name, config.file(), names))
        });
        let address = question.address.as_deref().map(|text| {
            let address = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            address.ok_or_else(|| format!("--address: expected an address or a prefix, found \"{text}\""))
        });
        let reason = question.reason.as_deref().map(|name| {
            let reason = DropReason::ALL.iter().find(|reason| reason.name() == name);
            let names = DropReason::ALL.iter().map(|reason| reason.name());
            reason.copied().ok_or_else(|| unknown("drop reason", name, "`culvert show drops --all`", names))
        });
        Ok(Filter {
            interface: interface.transpose()?,
            slot: slot.transpose()?,
            address: address.transpose()?,
            dropped: question.dropped,
            reason: reason.transpose()?,
        })
    }

    /// As much of it as a worker looks at.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            port: self.interface.map(|side| side.port),
            slot: self.slot,
            dropped: self.dropped,
            reason: self.reason,
            address: self.address,
        }
    }

    /// Whether this packet is asked for.
    pub(crate) fn fits(&self, told: &Told) -> bool {
        let reason = match told.outcome.verdict {
            Verdict::Drop(reason) => Some(reason),
            _ => None,
        };
        let has_address = |net: IpNet| {
            told.steps.iter().any(|step| match step {
                Step::Header(header) => net.contains(&header.source) || net.contains(&header.destination),
                _ => false,
            })
        };
        self.interface.is_none_or(|side| side.received(told))
            && self.slot.is_none_or(|slot| told.slots.contains(&slot))
            && self.address.is_none_or(has_address)
            && (!self.dropped || reason.is_some())
            && self.reason.is_none_or(|wanted| reason == Some(wanted))
    }
}

fn unknown<'a>(what: &str, name: &str, place: &str, known: impl Iterator<Item = &'a str>) -> String {
    let hint = nearest(name, known).map(|nearest| format!(", the nearest is \"{nearest}\""));
    format!("no {what} \"{name}\" in {place} (expected the name of one{})", hint.unwrap_or_default())
}
