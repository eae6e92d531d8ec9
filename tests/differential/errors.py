"""What becomes of packets that cannot go on, and the ICMP errors that their senders get (RFC 792, 1812 §4.3, 4443)."""

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.packet import Raw

from model import departure
from topology import Tunnel, family
from traffic import Flow, Inner

# [icmp] per_source; a whole run takes less than a millisecond by its time stamps, so that nothing is added to it.
PER_SOURCE = 10


def refusal(inner, target):
    """Why a packet does not leave by `target`; None where it does."""
    if inner.ttl() <= 1:
        return "ttl"
    is_whole = inner.flow.version == 6 or inner.df()
    return "too_big" if is_whole and len(inner.raw) > target.mtu else None


def speaker(way, version):
    """The address that an error comes from: the way's first of the family, or the tunnel's `local`; None for any of the
    box's."""
    known = way.addresses() + ([way.local] if isinstance(way, Tunnel) else [])
    return next((each.split("/")[0] for each in known if family(each.split("/")[0]) == version), None)


def message(inner, reason, mtu):
    """The ICMP header, and as much of the packet as goes into 576 bytes or 1,280."""
    if inner.flow.version == 4:
        header = ICMP(type=11, code=0) if reason == "ttl" else ICMP(type=3, code=4, nexthopmtu=mtu)
        return header / Raw(inner.raw[:576 - 28])
    header = ICMPv6TimeExceeded(code=0) if reason == "ttl" else ICMPv6PacketTooBig(mtu=mtu)
    return header / Raw(inner.raw[:1280 - 48])


class Complaints:
    """The errors of one run."""

    def __init__(self, sequences):
        self.sequences, self.told = sequences, {}

    def about(self, source, target, inner, reason):
        """The error about a packet that came by `source`, on its way back; None where its sender is not told."""
        if inner.cut and inner.cut[0]:
            return None
        flow = inner.flow
        self.told[flow.source] = self.told.get(flow.source, 0) + 1
        if self.told[flow.source] > PER_SOURCE:
            return None
        sender = speaker(source, flow.version)
        address = sender or ("0.0.0.0" if flow.version == 4 else "::")  # to be filled in with the one that is found
        if flow.version == 4:
            head = IP(src=address, dst=flow.source, ttl=64, tos=0xC0, proto=1)
        else:
            head = IPv6(src=address, dst=flow.source, hlim=64, tc=0xC0, nh=58)
        whole = head / message(inner, reason, target.mtu)
        made = Inner(Flow(flow.version, address, flow.source, "icmp", (0, 0), 0), whole)
        return departure(self.sequences, source, made, None, made=True, is_from_any=sender is None)
