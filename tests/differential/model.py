"""What must become of a packet, by culvert's contract and the RFCs it cites, in scapy's layers.

`arrival` makes a packet as the far end of a tunnel may send it, `departure` lays on the headers that culvert must send. Each
tells what the tunnels count. Lengths, checksums and the order of fields are scapy's affair.
"""

from dataclasses import dataclass, field

from scapy.fields import BitField, ByteField, ShortField, XStrLenField
from scapy.layers.inet import IP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.packet import Packet, Raw

from topology import Interface, Tunnel
from traffic import Inner

ETHERTYPES = {4: 0x0800, 6: 0x86DD}
PROTOCOLS = {4: 4, 6: 41}  # of IP in IP
NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3
# RFC 6040 §4.2, figure 4: by the inner field, then the outer one; None is a packet to drop.
COMBINED = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT0: NOT_ECT, ECT1: NOT_ECT, CE: None},
    ECT0: {NOT_ECT: ECT0, ECT0: ECT0, ECT1: ECT1, CE: CE},
    ECT1: {NOT_ECT: ECT1, ECT0: ECT1, ECT1: ECT1, CE: CE},
    CE: {NOT_ECT: CE, ECT0: CE, ECT1: CE, CE: CE},
}


class GUE(Packet):
    """Generic UDP Encapsulation, variant 0 (draft-ietf-intarea-gue-09 §3)."""

    name = "GUE"
    fields_desc = [BitField("variant", 0, 2), BitField("control", 0, 1), BitField("hlen", 0, 5), ByteField("proto", 0),
                   ShortField("flags", 0), XStrLenField("private", b"", length_from=lambda layer: 4 * layer.hlen)]


@dataclass
class Arrival:
    """A packet that came: its frame, and what is left when all tunnels are off."""

    port: str
    frame: bytes
    inner: object
    rx: dict = field(default_factory=dict)  # inner bytes by the tunnel's name
    reason: str | None = None  # why it is dropped
    perhaps: dict = field(default_factory=dict)  # as `rx`, of tunnels that may have counted what was then refused


@dataclass
class Departure:
    """A packet that must leave. `layers` begin with Ethernet's and end before the inner packet, or where culvert makes that
    itself, before what is behind its ICMP header."""

    port: str
    layers: list
    inner: object
    tx: dict
    clamped: str | None
    made: IP | IPv6 | None  # culvert's own header, the identification or label of which is its choice
    is_from_any: bool  # any of the box's addresses is right as its source

    def rest(self):
        """The bytes behind the layers."""
        return self.inner.raw if self.made is None else self.inner.whole.lastlayer().load


def version_of(packet):
    return packet[0] >> 4


def class_of(head):
    """Type of service or traffic class."""
    return head.tos if isinstance(head, IP) else head.tc


def joined(layers, payload):
    """The bytes of headers around a payload."""
    whole = Raw(payload)
    for layer in reversed(layers):
        whole = layer.copy() / whole
    return bytes(whole)


def ethernet(source, target, interface, version, priority=0):
    """Ethernet's header, and the tag of a VLAN."""
    kind = ETHERTYPES[version]
    if interface.tag is None:
        return [Ether(src=source, dst=target, type=kind)]
    return [Ether(src=source, dst=target, type=0x8100), Dot1Q(vlan=interface.tag, prio=priority, type=kind)]


# Arrival

def foreign_headers(random, tunnel, version):
    """A tunnel's headers as its far end may write them: fields that a receiver skips, checksums whether asked for or not."""
    # Congestion marks not too often: on packets that do not know of them they are the end.
    tos = random.choice((0, random.randrange(256) & random.choice((0xFF, 0xFE, 0xFD))))
    ttl = random.choice((64, 1, random.randrange(1, 256)))
    proto = 17 if tunnel.kind else 47 if tunnel.encap == "gre" else PROTOCOLS[version]
    if tunnel.version == 4:
        options = random.choice(([], [], [], [], [IPOption_Router_Alert()], [IPOption_NOP()] * 4))
        layers = [IP(src=tunnel.remote, dst=tunnel.local, tos=tos, ttl=ttl, proto=proto, options=options,
                     id=random.getrandbits(16), flags=random.choice(("DF", 0)))]
    else:
        layers = [IPv6(src=tunnel.remote, dst=tunnel.local, tc=tos, hlim=ttl, fl=random.getrandbits(20), nh=proto)]
        for header in random.choice(([], [], [], [], [IPv6ExtHdrHopByHop], [IPv6ExtHdrDestOpt])):
            layers[-1].nh = 0 if header is IPv6ExtHdrHopByHop else 60
            layers.append(header(options=[PadN(optdata=bytes(4))], nh=proto))
    if tunnel.kind:
        may_be_zero = tunnel.version == 4 or tunnel.is_zero
        checksum = 0 if may_be_zero and random.random() < 0.5 else None
        layers.append(UDP(sport=random.randrange(1, 65536), dport=tunnel.port, chksum=checksum))
    if tunnel.kind == "gue":
        words = random.choice((0, 0, 0, 1, 5))
        layers.append(GUE(hlen=words, private=random.randbytes(4 * words),
                          proto=47 if tunnel.encap == "gre" else PROTOCOLS[version]))
    if tunnel.encap == "gre":
        layers.append(gre(tunnel, version, random.random() < 0.5, random.choice((None, None, random.getrandbits(32)))))
        if random.random() < 0.15:
            layers[-1].recursion_control, layers[-1].flags = random.randrange(4), random.randrange(32)  # RFC 2784 §2.3
    return layers


def gre(tunnel, version, checksum, sequence):
    """GRE with scapy's order of the optional fields, and its checksum."""
    return GRE(proto=ETHERTYPES[version], chksum_present=int(checksum), key_present=int(tunnel.key is not None),
               key=tunnel.key, seqnum_present=int(sequence is not None), sequence_number=sequence)


def damages(tunnel, layers):
    """Each way in which one of a tunnel's headers may be wrong, by the reason for which it is dropped."""
    found = {}
    udp = next((layer for layer in layers if isinstance(layer, UDP)), None)
    if udp is not None and udp.chksum is None:
        found["udp_checksum"] = udp
        if tunnel.version == 6 and not tunnel.is_zero:
            found["udp_zero_checksum"] = udp
    if tunnel.encap == "gre":
        if layers[-1].chksum_present:
            found["gre_checksum"] = layers[-1]
        found["no_tunnel"] = layers[-1]
    return found


def damaged(random, gateway, tunnel, layers, payload):
    """The packet with one thing wrong, and the reason."""
    reason, layer = random.choice(sorted(damages(tunnel, layers).items()))
    place = layers.index(layer)
    if reason == "udp_zero_checksum":
        layer.chksum = 0
    elif reason == "no_tunnel":
        taken = {each.key for each in gateway.tunnels}
        layer.key_present = 1
        layer.key = next(key for key in iter(lambda: random.getrandbits(32), None) if key not in taken)
    else:
        right = type(layer)(joined(layers, payload)[sum(map(len, layers[:place])):]).chksum
        # A UDP checksum of 0 would be none at all.
        layer.chksum = next(wrong for wrong in (right ^ 1 << random.randrange(16), right ^ 3) if wrong)
    return joined(layers, payload), reason


def merged(tunnel, outer, inner):
    """The inner traffic class after decapsulation; None where the marks contradict each other."""
    mark = COMBINED[inner & 3][outer & 3]
    if mark is None:
        return None
    return ((outer if tunnel.dscp == "uniform" else inner) & 0xFC) | mark


def arrival(random, gateway, way, version, make):
    """A packet by this way. `make` gives an inner packet of this IP version and of at most so many bytes."""
    bottom = way.bottom()
    if isinstance(way, Interface):
        inner = make(way.mtu)
        return Arrival(bottom.port, framed(random, bottom, inner.raw), inner)
    stack = way.stack()
    headers = []
    for tunnel in stack:
        headers.append(foreign_headers(random, tunnel, version))
        version = tunnel.version
    room = bottom.mtu - sum(len(layer) for layers in headers for layer in layers)
    inner = make(room)
    classes = [inner.tos()] + [class_of(layers[0]) for layers in headers]
    found = Arrival(bottom.port, b"", inner)
    wrong = random.randrange(len(stack)) if random.random() < 0.06 else None
    packet = inner.raw
    for place, (tunnel, layers) in enumerate(zip(stack, headers)):
        if place == wrong and damages(tunnel, layers):
            found.rx.clear()
            found.perhaps = {tunnel.name: len(packet)}
            packet, found.reason = damaged(random, gateway, tunnel, layers, packet)
        else:
            found.rx[tunnel.name] = len(packet)
            packet = joined(layers, packet)
    found.frame = framed(random, bottom, packet)
    # The marks travel from the outermost header inwards, as far as the packet gets.
    outer = classes[-1]
    for tunnel, inside in list(zip(stack, classes))[::-1]:
        if tunnel.name in found.perhaps:
            return found
        outer = merged(tunnel, outer, inside)
        if outer is None:
            inwards = [each.name for each in stack[:stack.index(tunnel)]]
            found.perhaps = {tunnel.name: found.rx.pop(tunnel.name)}
            found.rx = {name: size for name, size in found.rx.items() if name not in inwards}
            found.reason = "ecn_illegal"
            return found
    found.inner = inner.changed(tos=outer)
    return found


def framed(random, interface, packet):
    """The packet as the router beside an interface sends it, with padding behind as short frames have it."""
    head = ethernet(interface.beside, interface.mac, interface, version_of(packet), random.choice((0, 0, random.randrange(8))))
    frame = joined(head, packet)
    return frame + random.randbytes(max(0, 60 - len(frame)) if random.random() < 0.7 else random.choice((0, 0, 4)))


# Departure

def clamped(gateway, source, target, inner):
    """The inner packet with its MSS lowered, and the name of the tunnel that counts it."""
    size = inner.mss()
    if size is None:
        return inner, None
    version = inner.flow.version
    limits = []
    for way, direction in ((source, "in"), (target, "out")):
        owner = way.name if isinstance(way, Tunnel) else None
        if owner:
            limits.append((way.mss[version], owner))
        limits += [(each.limits.get(version), owner) for each in gateway.clamps
                   if each.on is way and each.holds(direction, (inner.flow.source, inner.flow.target))]
    limits = [each for each in limits if each[0] is not None and each[0] < size]
    if not limits:
        return inner, None
    lowest = min(limits, key=lambda each: each[0])
    return inner.changed(mss=lowest[0]), lowest[1]


class Sequences(dict):
    """Each tunnel's next GRE sequence number, from 0 (RFC 2890 §2.2)."""

    def next(self, tunnel):
        self[tunnel.name] = self.get(tunnel.name, -1) + 1
        return self[tunnel.name]


def own_headers(tunnel, version, tos, ttl, df, sequences):
    """What culvert must send in front of a packet. What it may choose (identification, label, port) is 0."""
    dscp = tos & 0xFC if tunnel.dscp in ("inherit", "uniform") else tunnel.dscp << 2
    tos = dscp | (tos & 3 if tunnel.ecn == "rfc6040" else NOT_ECT)
    ttl = ttl if tunnel.ttl == "inherit" else tunnel.ttl
    proto = 17 if tunnel.kind else 47 if tunnel.encap == "gre" else PROTOCOLS[version]
    if tunnel.version == 4:
        is_set = {"set": True, "clear": False, "inherit": df}[tunnel.df]
        layers = [IP(src=tunnel.local, dst=tunnel.remote, tos=tos, ttl=ttl, proto=proto, id=0, flags="DF" if is_set else 0)]
    else:
        layers = [IPv6(src=tunnel.local, dst=tunnel.remote, tc=tos, hlim=ttl, nh=proto, fl=0)]
    if tunnel.kind:
        port = 0 if tunnel.source_port == "flow" else tunnel.source_port
        layers.append(UDP(sport=port, dport=tunnel.port, chksum=0 if tunnel.is_zero else None))
    if tunnel.kind == "gue":
        layers.append(GUE(proto=47 if tunnel.encap == "gre" else PROTOCOLS[version]))
    if tunnel.encap == "gre":
        layers.append(gre(tunnel, version, tunnel.checksum, sequences.next(tunnel) if tunnel.sequence else None))
    return layers


def steered(tunnel, sequences, inner):
    """The packet with a first word of payload for which a checksum of the tunnel computes to zero. One's complement has two
    zeros, of which UDP must send the one (RFC 768) and GRE, as any checksum, the other. A payload that has a checksum of its
    own would undo the change, so it needs a packet that has none."""
    sent = inner.changed(ttl=inner.ttl() - 1)
    headers = own_headers(tunnel, inner.flow.version, sent.tos(), sent.ttl(), sent.df(), Sequences(sequences))
    summed = [layer for layer in headers if isinstance(layer, UDP) and layer.chksum is None and layer.sport]
    summed += [layer for layer in headers if isinstance(layer, GRE) and layer.chksum_present]
    data = inner.whole.lastlayer().load
    if not summed or len(data) < 2:
        return inner
    layer = summed[-1]
    before = sum(map(len, headers[:headers.index(layer)]))
    total = int.from_bytes(data[:2], "big") + type(layer)(joined(headers, sent.raw)[before:]).chksum
    whole = inner.whole.copy()
    whole.lastlayer().load = ((total & 0xFFFF) + (total >> 16)).to_bytes(2, "big") + data[2:]
    return Inner(inner.flow, whole)


def departures(gateway, sequences, source, target, inner):
    """What must leave by `target` for a packet that came by `source` and is out of its tunnels: it, or its fragments, which
    are made before encapsulation (RFC 7588 §3.1)."""
    inner, owner = clamped(gateway, source, target, inner.changed(ttl=inner.ttl() - 1))
    pieces = inner.pieces(target.mtu)
    return [departure(sequences, target, piece, owner if piece is pieces[0] else None) for piece in pieces]


def departure(sequences, target, inner, owner, made=False, is_from_any=False):
    """One packet, with all headers around it. `made`: it is culvert's own."""
    layers, tx = [], {}
    version, tos, ttl, df, size = inner.flow.version, inner.tos(), inner.ttl(), inner.df(), len(inner.raw)
    for tunnel in target.stack() if isinstance(target, Tunnel) else []:
        tx[tunnel.name] = size
        headers = own_headers(tunnel, version, tos, ttl, df, sequences)
        layers = headers + layers
        size += sum(map(len, headers))
        head, version = headers[0], tunnel.version
        tos, ttl = class_of(head), head.ttl if version == 4 else head.hlim
        df = version == 4 and bool(head.flags.DF)
    bottom = target.bottom()
    layers = ethernet(bottom.mac, bottom.beside, bottom, version) + layers
    if not made:
        return Departure(bottom.port, layers, inner, tx, owner, None, False)
    head, message = inner.whole.copy(), inner.whole.payload.copy()
    head.remove_payload()
    message.remove_payload()
    return Departure(bottom.port, layers + [head, message], inner, tx, owner, head, is_from_any)
