//! Answering pings for the box's own addresses.
//!
//! Tunnel addresses are answered here whatever else is attached, because the host does not know the tunnels; the other
//! addresses only where there is no host to answer for them.

use crate::verdict::DropReason;
use crate::wire::checksum::{self, Sum};
use crate::wire::icmp::{self, Icmp, IcmpRepr};
use crate::wire::ip::{Ip, Version};
use crate::wire::ipv4::Ipv4Repr;
use crate::wire::ipv6::Ipv6Repr;
use crate::wire::{protocol, tail};

/// TTL and hop limit of an answer.
const TTL: u8 = 64;

/// Appends to `to` the answer to the echo request that `packet` begins with, as an IP packet. `false`, and nothing
/// appended, for everything that is no echo request in one piece.
///
/// # Errors
/// [`DropReason::IcmpChecksum`] for a request whose checksum is wrong; it is not answered (RFC 1122 §3.2.2).
#[cold]
pub fn answer(packet: &[u8], version: Version, to: &mut Vec<u8>) -> Result<bool, DropReason> {
    let ip = Ip::check(packet, version)?;
    let packet = packet.get(..ip.total_len()).ok_or(DropReason::Truncated)?;
    let upper = ip.upper_layer(packet)?;
    let (protocol, request, reply) = match version {
        Version::V4 => (protocol::ICMP, icmp::ECHO_REQUEST, icmp::ECHO_REPLY),
        Version::V6 => (protocol::ICMPV6, icmp::ECHO_REQUEST_V6, icmp::ECHO_REPLY_V6),
    };
    if upper.protocol != protocol || upper.is_fragment {
        return Ok(false);
    }
    let message = tail(packet, upper.offset);
    let Ok(header) = Icmp::new(message).map(IcmpRepr::parse) else { return Ok(false) };
    if (header.kind, header.code) != (request, 0) {
        return Ok(false);
    }
    let pseudo = match ip {
        Ip::V4(_) => Sum::default(),
        Ip::V6(header) => Sum::pseudo_header(header.addresses(), protocol, message.len()),
    };
    if !(pseudo + Sum::of(message)).is_intact() {
        return Err(DropReason::IcmpChecksum);
    }
    // The header is made anew, so that options and extension headers do not come back.
    match ip {
        Ip::V4(header) => to.extend(
            Ipv4Repr {
                traffic_class: header.traffic_class(),
                total_len: (version.header_len() + message.len()) as u16,
                identification: header.identification(),
                fragment: 0,
                ttl: TTL,
                protocol,
                source: header.destination(),
                destination: header.source(),
            }
            .emit(),
        ),
        Ip::V6(header) => to.extend(
            Ipv6Repr {
                traffic_class: header.traffic_class(),
                flow_label: header.flow_label(),
                payload_len: message.len() as u16,
                next_header: protocol,
                hop_limit: TTL,
                source: header.destination(),
                destination: header.source(),
            }
            .emit(),
        ),
    }
    // Swapping the addresses leaves the pseudo-header's sum alone.
    let checksum = checksum::update(header.checksum, [request, 0], [reply, 0]);
    to.extend(IcmpRepr { kind: reply, checksum, ..header }.emit());
    to.extend(tail(message, Icmp::LEN));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Vec<u8> {
        let header = Ipv4Repr {
            traffic_class: 0x48,
            total_len: 31,
            identification: 7,
            fragment: 0,
            ttl: 3,
            protocol: 1,
            source: [192, 0, 2, 1].into(),
            destination: [192, 0, 2, 2].into(),
        };
        let mut message = vec![8, 0, 0, 0, 1, 2, 3, 4, b'a', b'b', b'c'];
        let checksum = Sum::of(&message).checksum();
        message[2..4].copy_from_slice(&checksum);
        [header.emit().as_slice(), &message].concat()
    }

    fn run(packet: &[u8]) -> (Result<bool, DropReason>, Vec<u8>) {
        let padded = [packet, &[0; 9]].concat();
        let mut to = Vec::new();
        (answer(&padded, Version::V4, &mut to), to)
    }

    #[test]
    fn an_answer_goes_back_with_the_same_data() {
        let (result, packet) = run(&request());
        assert_eq!(result, Ok(true));
        let ip = Ip::check(&packet, Version::V4).unwrap();
        assert_eq!(
            (ip.source().to_string(), ip.destination().to_string()),
            ("192.0.2.2".into(), "192.0.2.1".into())
        );
        assert_eq!((ip.ttl(), ip.traffic_class(), ip.total_len()), (64, 0x48, packet.len()));
        assert!(Sum::of(&packet[20..]).is_intact());
        assert_eq!((packet[20], &packet[24..]), (0, [1, 2, 3, 4, b'a', b'b', b'c'].as_slice()));
    }

    #[test]
    fn other_messages_stay_as_they_are() {
        let mut reply = request();
        reply[20] = 0;
        assert_eq!(run(&reply).0, Ok(false));
        let mut other_code = request();
        other_code[21] = 1;
        assert_eq!(run(&other_code).0, Ok(false));
    }

    #[test]
    fn damaged_requests_are_not_answered() {
        let mut damaged = request();
        damaged[30] ^= 1;
        assert_eq!(run(&damaged).0, Err(DropReason::IcmpChecksum));
    }
}
