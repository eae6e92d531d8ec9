"""Random inner packets, built by scapy.

A packet is kept as scapy's layers with lengths and checksums left out, so that a change of a field (one hop more, another
MSS) gives the whole packet again with scapy's own sums, and not with a correction of the old ones.
"""

from dataclasses import dataclass
from functools import cached_property

from scapy.layers.inet import (ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert, IPOption_Stream_Id)
from scapy.layers.inet6 import (ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop,
                                PadN, RouterAlert)
from scapy.layers.l2 import GRE
from scapy.packet import Raw

KINDS = ("tcp", "tcp", "tcp", "udp", "udp", "icmp", "other", "carried")


@dataclass(frozen=True)
class Flow:
    """What the packets of one conversation have in common, one way."""

    version: int
    source: str
    target: str
    kind: str
    ports: tuple
    label: int

    def key(self, has_ports):
        """What makes a flow: addresses, protocol, and ports where the packet shows them."""
        ports = self.ports if self.kind in ("tcp", "udp") and has_ports else None
        return self.source, self.target, self.kind, ports, has_ports


def talk(random, source, target, version):
    """A conversation between hosts of two networks."""
    hosts = [str(network[random.randrange(2, 60000)]) for network in (source.network(version), target.network(version))]
    ports = random.choice((80, 443, random.randrange(1, 65536))), random.randrange(1024, 65536)
    return Flow(version, *hosts, random.choice(KINDS), ports if random.random() < 0.5 else ports[::-1],
                random.choice((0, random.getrandbits(20))))


class Inner:
    """An IP packet. `cut` is the part of a whole packet's payload that a fragment holds: where it begins, where it ends.
    `has_ports`: whether the packet that came showed its ports."""

    def __init__(self, flow, whole, cut=None, has_ports=True):
        self.flow, self.whole, self.cut, self.has_ports = flow, whole, cut, has_ports

    @cached_property
    def raw(self):
        """Its bytes."""
        whole = bytes(self.whole)
        if self.cut is None:
            return whole
        head = self.whole.copy()
        head.remove_payload()
        start, end = self.cut
        if self.flow.version == 4:
            data = whole[len(head):]
            head.frag, head.flags = start // 8, "MF" if end < len(data) else 0
            return bytes(head / Raw(data[start:end]))
        data = whole[40:]
        piece = IPv6ExtHdrFragment(nh=whole[6], offset=start // 8, m=end < len(data), id=self.flow.label + 1)
        head.nh = 44
        return bytes(head / piece / Raw(data[start:end]))

    def changed(self, ttl=None, tos=None, mss=None):
        """Another packet with these fields."""
        whole = self.whole.copy()
        if ttl is not None:
            setattr(whole, "ttl" if self.flow.version == 4 else "hlim", ttl)
        if tos is not None:
            setattr(whole, "tos" if self.flow.version == 4 else "tc", tos)
        if mss is not None:
            whole[TCP].options = [(name, mss if name == "MSS" else value) for name, value in whole[TCP].options]
        return Inner(self.flow, whole, self.cut, self.has_ports)

    def pieces(self, limit):
        """The packet in fragments as large as the limit allows (RFC 791 §3.2), or alone where it is not above."""
        size = len(self.raw)
        if size <= limit:
            return [self]
        head = (self.raw[0] & 15) * 4
        room = (limit - head) & ~7
        first, end = self.cut or (0, size - head)
        cuts = [(start, min(start + room, end)) for start in range(first, end, room)]
        return [Inner(self.flow, self.whole, cut, self.has_ports) for cut in cuts]

    def ttl(self):
        return self.whole.ttl if self.flow.version == 4 else self.whole.hlim

    def tos(self):
        return self.whole.tos if self.flow.version == 4 else self.whole.tc

    def df(self):
        """The don't-fragment bit, which IPv6 does not have."""
        return self.flow.version == 4 and bool(self.whole.flags.DF)

    def mss(self):
        """The MSS that a clamp may lower: that of a SYN's option, in the first piece."""
        is_syn = self.flow.kind == "tcp" and "S" in self.whole[TCP].flags
        return dict(self.whole[TCP].options).get("MSS") if is_syn and not (self.cut and self.cut[0]) else None

    def flow_key(self):
        return self.flow.key(self.has_ports)


def tcp_options(random):
    """Options in any order, padded by scapy."""
    known = [("SAckOK", b""), ("WScale", random.randrange(15)), ("Timestamp", (random.getrandbits(32), 0))]
    options = [each for each in known if random.random() < 0.5] + [("NOP", None)] * random.randrange(4)
    if random.random() < 0.9:
        options.append(("MSS", random.choice((0, 536, 1220, 1440, 1460, 1460, 8960, 65535, random.randrange(1200, 1500)))))
    random.shuffle(options)
    return options


def transport(random, of):
    """The layer above IP, without payload."""
    sport, dport = of.ports
    if of.kind == "tcp":
        flags = random.choice(("S", "SA", "SEC", "S", "A", "PA", "R", "FA"))
        return TCP(sport=sport, dport=dport, seq=random.getrandbits(32), ack=random.getrandbits(32), flags=flags,
                   window=random.getrandbits(16), options=tcp_options(random) if random.random() < 0.95 else [])
    if of.kind == "udp":
        return UDP(sport=sport, dport=dport)
    if of.kind == "icmp":
        word = {"id": dport, "seq": random.getrandbits(16)}
        return ICMP(**word) if of.version == 4 else ICMPv6EchoRequest(**word)
    if of.kind == "carried":
        # Someone else's tunnel. No clamp looks into it.
        return GRE(proto=0x0800) / IP(src="172.31.0.1", dst="172.31.0.2", ttl=9) / TCP(
            sport=sport, dport=dport, options=[("MSS", 65495)])
    return Raw(b"")


def extensions(random):
    """IPv6 extension headers, mostly none."""
    if random.random() < 0.7:
        return []
    before = IPv6ExtHdrHopByHop(options=[random.choice((RouterAlert(), PadN(optdata=bytes(4))))])
    after = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(random.choice((4, 12))))])
    return random.choice(([before], [after], [before, after]))


def network_layer(random, of):
    """The IP header and what belongs to it."""
    tos = random.choice((0, random.randrange(256)))
    ttl = random.choice((2, 64, 255, random.randrange(2, 256))) if random.random() < 0.97 else 1
    proto = {"tcp": 6, "udp": 17, "carried": 47, "other": 253, "icmp": 1 if of.version == 4 else 58}[of.kind]
    if of.version == 4:
        options = random.choice(([], [], [], [IPOption_Router_Alert()], [IPOption_NOP()] * 3, [IPOption_Stream_Id()]))
        return IP(src=of.source, dst=of.target, ttl=ttl, tos=tos, proto=proto, id=random.getrandbits(16),
                  flags=random.choice(("DF", 0)), options=options)
    layer = IPv6(src=of.source, dst=of.target, hlim=ttl, tc=tos, fl=of.label)
    headers = extensions(random)
    for header in headers:
        layer = layer / header
    layer.lastlayer().nh = proto
    return layer


def keep_copied(head):
    """Leaves the options that stand in every piece of a packet, so that all pieces have the same header (RFC 791 §3.1)."""
    head.options = [each for each in head.options if not isinstance(each, IPOption_NOP)]


def lookalike(size, at):
    """A payload that would be a SYN with an MSS where it is read from byte `at` on."""
    syn = bytes(TCP(sport=1, dport=2, flags="S", options=[("MSS", 65495)]))
    start = -at % len(syn)
    return (syn * (size // len(syn) + 2))[start:start + size]


def packet(random, of, limit, room):
    """A packet of the flow: `limit` bytes at most and that size often. Now and then one above it, up to `room` bytes."""
    head, above = network_layer(random, of), transport(random, of)
    if room > limit and random.random() < (0.25 if of.version == 4 else 0.08):
        if of.version == 4:
            keep_copied(head)
        size = random.randint(limit + 1, room)
        return Inner(of, head / above / Raw(random.randbytes(size - len(head / above))))
    if random.random() < 0.15 and of.kind in ("tcp", "udp"):
        return fragment(random, of, head, above, random.choice((limit, limit, room)))
    least = len(head / above)
    sizes = least, least + 1, limit, limit, limit - 1, random.randint(least, limit), random.randint(least, least + 99)
    size = random.choice(sizes)
    return Inner(of, head / above / Raw(random.randbytes(min(size, limit) - least)))


def fragment(random, of, head, above, limit):
    """One piece of a packet: the first, one in the middle, or the last."""
    if of.version == 4:
        head.flags = 0
        keep_copied(head)
        room = limit - len(head)
    else:
        head = IPv6(src=of.source, dst=of.target, hlim=head.hlim, tc=head.tc, fl=of.label, nh=head.lastlayer().nh)
        room = limit - 48
    size = random.choice((room, random.randrange(64, room))) & ~7
    start = random.choice((0, 0, size, 2 * size, 3 * size))
    whole = head / above / Raw(lookalike(size * 3, start - len(above)))
    end = min(start + size, 3 * size + len(above))
    return Inner(of, whole, (start, end), False)
