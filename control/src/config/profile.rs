//! Named sets of a tunnel's `mtu` and `mss`, as operators of cloud and transit gateways publish them.

use forwarder::table::Mss;

/// A set of limits; a key beside the profile wins over its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Inner bytes.
    pub(crate) mtu: u16,
    /// The tunnel's own clamp.
    pub(crate) mss: Mss,
    /// What it is for, in words.
    pub(crate) purpose: &'static str,
}

const fn limits(ipv4: u16, ipv6: u16) -> Mss {
    Mss::Fixed { ipv4: Some(ipv4), ipv6: Some(ipv6) }
}

/// Every profile by name.
pub(crate) const PROFILES: [(&str, Profile); 4] = [
    (
        "gre-internet",
        Profile {
            mtu: 1476,
            mss: limits(1436, 1416),
            purpose: "GRE over IPv4 across the internet: 1500 bytes less 24",
        },
    ),
    (
        "cni-v1-gre",
        Profile {
            mtu: 1476,
            mss: limits(1436, 1416),
            purpose: "GRE over IPv4 on a private interconnect of the first generation: 1500 bytes less 24",
        },
    ),
    (
        "cni-legacy-fou",
        Profile {
            mtu: 1372,
            mss: limits(1332, 1312),
            purpose: "an interconnect whose provider carries the GRE on in FOU over IPv6: 128 bytes in all, as published",
        },
    ),
    (
        "cni-v2",
        Profile {
            mtu: 1500,
            mss: Mss::Off,
            purpose: "an interconnect of the second generation, which leaves 1500 bytes inside: nothing to lower",
        },
    ),
];
