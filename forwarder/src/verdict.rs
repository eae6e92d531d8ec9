//! What becomes of a packet: a value, so that tests compare it and counters add up.
//!
//! Every packet that came in leaves with exactly one [`Verdict`]. A dropped one names its [`DropReason`]; the list below
//! is the whole of them, each with the name that users see and a sentence that says what happened and where to look.

use crate::table::{InterfaceId, PortId, TunnelId};

/// A packet's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Complete with its Ethernet header, to be transmitted by this port.
    Send(PortId),
    /// The host's share of traffic, by the way it came in.
    Kernel(Ingress),
    /// Answered here; the answer is a packet of its own.
    Consumed,
    /// A fragment that is kept until its packet is whole or given up, and counted then, not before
    /// ([`Engine::released`](crate::forward::Engine::released)).
    Held,
    /// Not sent, for this reason.
    Drop(DropReason),
}

/// The way by which a packet for the host came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ingress {
    /// By a port or VLAN: the Ethernet frame as received, a VLAN's tag taken off.
    Interface(InterfaceId),
    /// Out of a tunnel: the inner IP packet.
    Tunnel(TunnelId),
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $help:literal;)*) => {
        /// Why a packet was not sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $help] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order in which they are counted and shown.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in counters, JSON and captures: `snake_case`, stable.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// A sentence for people: what happened, and what to look at.
            pub const fn help(self) -> &'static str {
                match self { $(DropReason::$variant => $help,)* }
            }
        }
    };
}

drop_reasons! {
    // The frame itself.
    Truncated = "truncated": "A header or the payload that it promises is cut off by the end of the packet.";
    EthernetAddress = "ethernet_address": "The destination MAC is neither this port's nor broadcast or multicast.";
    EthernetType = "ethernet_type": "The frame carries neither IPv4, IPv6 nor ARP.";
    VlanUnknown = "vlan_unknown": "The frame's VLAN is not configured on this port, or it is tagged twice.";
    LinkBroadcast = "link_broadcast": "A unicast IP packet came in a broadcast or multicast frame (RFC 1812 §5.3.4).";
    MultiSegment = "multi_segment": "The device delivered a packet in several buffers; ports are set up for one.";

    // The IP header.
    IpVersion = "ip_version": "The version in the IP header is not what the frame or tunnel header announced.";
    Ipv4Header = "ipv4_header": "The IPv4 header length or total length contradicts the header itself.";
    Ipv4Checksum = "ipv4_checksum": "The IPv4 header checksum is wrong.";
    SourceRoute = "source_route": "The packet asks for source routing, by IPv4 option or IPv6 routing header.";
    Ipv6Extensions = "ipv6_extensions": "The IPv6 extension headers are malformed or more than eight.";
    MartianSource = "martian_source": "The source address can never be a sender's: loopback, multicast, broadcast or unspecified.";
    MartianDestination = "martian_destination": "The destination address is never forwarded: loopback, multicast, reserved or unspecified.";

    // Decapsulation.
    NoTunnel = "no_tunnel": "A tunnel packet for a tunnel's local address, but no tunnel has this sender, port and key.";
    OuterFragment = "outer_fragment": "A tunnel packet came in fragments, and its tunnel does not say reassembly = true.";
    ReassemblyTimeout = "reassembly_timeout": "Fragments of a tunnel packet of which others did not come within two seconds.";
    ReassemblyFull = "reassembly_full": "Fragments of a tunnel packet given up for others: more wait at a time, or more make up one, than are kept.";
    ReassemblyTooBig = "reassembly_too_big": "Fragments of a tunnel packet that as a whole is larger than a packet buffer; a larger port MTU makes larger buffers.";
    ReassemblyOverlap = "reassembly_overlap": "Fragments of a tunnel packet that overlap each other (RFC 5722).";
    ReassemblyInvalid = "reassembly_invalid": "Fragments of a tunnel packet that contradict each other or the rules: lengths, ends, ECN, or headers cut in two.";
    GreVersion = "gre_version": "The GRE version is not 0.";
    GreRouting = "gre_routing": "The GRE header carries RFC 1701 routing.";
    GreReserved = "gre_reserved": "Reserved GRE flag bits 4 or 5 are set (RFC 2784 §2.3).";
    GreEthernet = "gre_ethernet": "GRE carries Ethernet (protocol 0x6558, gretap); only IPv4 and IPv6 are taken.";
    GreProtocol = "gre_protocol": "GRE carries a protocol that is neither IPv4 nor IPv6.";
    GreKeepalive = "gre_keepalive": "A GRE keepalive, and the tunnel does not say keepalive = true.";
    GreChecksum = "gre_checksum": "The GRE checksum is wrong.";
    UdpLength = "udp_length": "The UDP length is more than the IP packet holds, or less than a UDP header.";
    UdpChecksum = "udp_checksum": "The UDP checksum of a tunnel packet is wrong.";
    UdpZeroChecksum = "udp_zero_checksum": "UDP over IPv6 came without checksum, and the tunnel does not say checksum = \"zero\" (RFC 6935).";
    GueVersion = "gue_version": "The GUE variant is one that no tunnel on this port takes.";
    GueControl = "gue_control": "A GUE control message; only data is taken.";
    GueFlags = "gue_flags": "GUE flags are set that announce fields culvert does not know.";
    GueProtocol = "gue_protocol": "GUE carries a protocol that is neither IPv4, IPv6 nor GRE.";
    EcnIllegal = "ecn_illegal": "Outer ECN says congestion, the inner packet cannot carry that (RFC 6040 §4.2).";
    InnerSource = "inner_source": "The inner source address is outside the tunnel's inner_source.";
    Looped = "looped": "GRE carried a packet for the very router that put it into GRE (RFC 2784 §3.1); only ICMP may do so.";
    TooManyLayers = "too_many_layers": "More than four tunnel layers for this box.";

    // Forwarding.
    Ttl = "ttl": "TTL or hop limit ran out.";
    NoRoute = "no_route": "No route has this destination.";
    NeighborUnknown = "neighbor_unknown": "The next hop's MAC address is not known.";
    TooBig = "too_big": "Larger than the MTU of the way out, and not allowed to be fragmented.";
    Headroom = "headroom": "The buffer has no room for the headers to put in front.";

    // The host and the device.
    IcmpChecksum = "icmp_checksum": "A ping for the box itself came with a wrong ICMP checksum.";
    NoKernel = "no_kernel": "For the box itself, and no kernel is attached.";
    TxFull = "tx_full": "The device's transmit queue took no more packets, or no buffer was free for one made here.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_snake_case_and_unique() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for name in names {
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn reasons_index_their_own_counter() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn help_is_one_sentence() {
        for reason in DropReason::ALL {
            assert!(reason.help().ends_with('.'), "{}", reason.name());
        }
    }
}
