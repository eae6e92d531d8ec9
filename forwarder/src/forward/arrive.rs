//! The link: which interface a frame came in by, and what it carries.

use super::journey::Position;
use crate::table::{InterfaceId, Port};
use crate::verdict::DropReason;
use crate::wire::ethernet::Ethernet;
use crate::wire::ip::Version;
use crate::wire::vlan::Vlan;
use crate::wire::{ethertype, tail};

/// What the Ethernet header of a frame says.
pub(super) struct Arrival {
    pub(super) interface: InterfaceId,
    /// To more than one host of the link.
    pub(super) is_group: bool,
    /// The IP packet; `None` for address resolution, which is the host's.
    pub(super) packet: Option<Position>,
}

/// Reads Ethernet header and tag: which interface, which kind of packet.
#[inline]
pub(super) fn arrive(port: &Port, frame: &[u8]) -> Result<Arrival, DropReason> {
    let header = Ethernet::new(frame)?;
    let destination = header.destination();
    let is_group = destination.is_group();
    if !is_group && destination != port.mac {
        return Err(DropReason::EthernetAddress);
    }
    let (vlan, ethertype, offset) = match header.ethertype() {
        ethertype::VLAN => {
            let tag = Vlan::new(tail(frame, Ethernet::LEN))?;
            (tag.id(), tag.ethertype(), Ethernet::LEN + Vlan::LEN)
        }
        ethertype::QINQ => return Err(DropReason::VlanUnknown),
        other => (0, other, Ethernet::LEN),
    };
    // Identifier 0 is a priority tag on the untagged side (IEEE 802.1Q §9.6).
    let interface = match vlan {
        0 => port.untagged,
        _ => port.vlans.iter().find(|(id, _)| *id == vlan).map(|(_, interface)| *interface),
    };
    let interface = interface.ok_or(DropReason::VlanUnknown)?;
    let version = match ethertype {
        ethertype::IPV4 => Some(Version::V4),
        ethertype::IPV6 => Some(Version::V6),
        ethertype::ARP => None,
        ethertype::VLAN | ethertype::QINQ => return Err(DropReason::VlanUnknown),
        _ => return Err(DropReason::EthernetType),
    };
    let packet = version.map(|version| Position { offset, version });
    Ok(Arrival { interface, is_group, packet })
}
