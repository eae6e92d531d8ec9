//! Named sets of a tunnel's `mtu` and `mss`, as operators of cloud and transit gateways publish them.

use forwarder::table::Mss;

/// A set of limits; a key beside the profile wins over its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) mtu: u16,
    pub(super) mss: Mss,
}

const fn limits(ipv4: u16, ipv6: u16) -> Mss {
    Mss::Fixed { ipv4: Some(ipv4), ipv6: Some(ipv6) }
}

/// Every profile by name.
pub(super) const PROFILES: [(&str, Profile); 4] = [
    ("gre-internet", Profile { mtu: 1476, mss: limits(1436, 1416) }),
    ("cni-v1-gre", Profile { mtu: 1476, mss: limits(1436, 1416) }),
    ("cni-legacy-fou", Profile { mtu: 1372, mss: limits(1332, 1312) }),
    ("cni-v2", Profile { mtu: 1500, mss: Mss::Off }),
];
