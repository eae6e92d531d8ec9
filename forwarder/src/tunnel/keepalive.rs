//! GRE keepalives: recognised, and turned round where the tunnel answers them.
//!
//! Cisco's way to see whether the other end is alive, which no RFC describes: a GRE packet whose payload is an IP packet
//! from the receiver back to the sender, which is GRE again, of protocol type 0 and with nothing in it. The receiver has
//! only to take the outer headers off and to route what is left. Others do it a little differently:
//!
//! | sender | what differs | what is done |
//! |---|---|---|
//! | Cisco | | routed to the inner destination, which is the sender |
//! | Huawei | the outer protocol type is 4 | the same |
//! | VeloCloud | the inner addresses are those inside the tunnel | the same: their route leads into the tunnel |
//! | MikroTik behind NAT | the inner destination is the private address that it has on its own side | goes to the outer sender instead |

use crate::verdict::DropReason;
use crate::wire::gre::{self, GreRepr};
use crate::wire::ip::{Ip, Version};
use crate::wire::{at_mut, ipv4, ipv6, protocol, tail};
use ipnet::IpNet;
use std::net::IpAddr;

/// How a tunnel answers keepalives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// The networks inside the tunnel: what is addressed to them is routed as it is.
    pub inside: Vec<IpNet>,
}

/// Whether `packet` is an IP packet of this version that is a keepalive on its way back.
#[cold]
pub fn is_keepalive(packet: &[u8], version: Version) -> bool {
    let carries = |ip: Ip<'_>| {
        let packet = packet.get(..ip.total_len())?;
        let upper = ip.upper_layer(packet).ok()?;
        let is_gre = upper.protocol == protocol::GRE && !upper.is_fragment;
        let header = GreRepr::parse(tail(packet, upper.offset)).ok().filter(|_| is_gre)?;
        Some(matches!(header.protocol_type, gre::KEEPALIVE | gre::HUAWEI_KEEPALIVE))
    };
    Ip::check(packet, version).ok().and_then(carries).unwrap_or(false)
}

impl Keepalive {
    /// Sees to it that a keepalive, which came from `sender` and begins `packet`, goes to where it is waited for.
    ///
    /// # Errors
    /// [`DropReason::Truncated`].
    #[cold]
    pub fn turn(&self, packet: &mut [u8], version: Version, sender: IpAddr) -> Result<(), DropReason> {
        let destination = Ip::new(packet, version)?.destination();
        if self.inside.iter().any(|net| net.contains(&destination)) {
            return Ok(());
        }
        match (version, sender) {
            (Version::V4, IpAddr::V4(sender)) => ipv4::set_destination(at_mut(packet, 0)?, sender),
            (Version::V6, IpAddr::V6(sender)) => ipv6::set_destination(at_mut(packet, 0)?, sender),
            // A keepalive of the other family can only be for somebody inside.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4::{Ipv4, Ipv4Repr};

    fn keepalive(protocol_type: u16, fragment: u16) -> Vec<u8> {
        let header = Ipv4Repr {
            traffic_class: 0,
            total_len: 24,
            identification: 1,
            fragment,
            ttl: 255,
            protocol: protocol::GRE,
            source: [192, 0, 2, 1].into(),
            destination: [10, 0, 0, 5].into(),
        };
        [header.emit().as_slice(), &[0, 0], &protocol_type.to_be_bytes()].concat()
    }

    #[test]
    fn only_whole_gre_of_protocol_type_0_or_4_is_one() {
        assert!(is_keepalive(&keepalive(0, 0), Version::V4));
        assert!(is_keepalive(&keepalive(4, 0), Version::V4));
        assert!(!is_keepalive(&keepalive(0x0800, 0), Version::V4));
        assert!(!is_keepalive(&keepalive(0, ipv4::MF), Version::V4));
        assert!(!is_keepalive(&keepalive(0, 0), Version::V6));
        assert!(!is_keepalive(&keepalive(0, 0)[..23], Version::V4));
    }

    #[test]
    fn it_goes_to_the_sender_unless_it_is_for_somebody_inside() {
        let to = |inside: &str| {
            let mut packet = keepalive(0, 0);
            let keepalive = Keepalive { inside: vec![inside.parse().unwrap()] };
            keepalive.turn(&mut packet, Version::V4, [198, 51, 100, 7].into()).unwrap();
            ipv4::check(&packet).map(Ipv4::destination)
        };
        assert_eq!(to("10.255.0.0/31"), Ok([198, 51, 100, 7].into()));
        assert_eq!(to("10.0.0.4/31"), Ok([10, 0, 0, 5].into()));
    }
}
