"""What may stand between the outer IP header and the inner packet: GRE with its fields, GUE, GRE-in-UDP, and stacks of them."""

from itertools import product

from oracle import *
from rows.drops import Refusals

PORTS = {"fou": 5555, "gue": 6080, "gue1": 6080, "gre-in-udp": 4754}
EITHER = (False, True)


class End:
    """One tunnel of the box: its configuration, its MTU, the packets that it sends and those that it takes."""

    def __init__(self, name, encap="gre", kind=None, v6=False, local=None, remote=None, key=None, checksum=False,
                 sequence=False, udp_checksum="full", **more):
        self.name, self.encap, self.kind, self.v6 = name, encap, kind, v6
        self.local, self.remote = local or (BOX6 if v6 else BOX), remote or (PEER6 if v6 else PEER)
        self.key, self.checksum, self.sequence = key, checksum, sequence
        self.udp_checksum, self.more, self.count = udp_checksum, more, 0
        self.port = 5556 if (encap, kind) == ("ip", "fou") else PORTS.get(kind)

    def config(self):
        around = self.kind and {"kind": self.kind, "port": self.port, "source_port": 49152, "checksum": self.udp_checksum}
        return tunnel(self.name, self.encap, self.local, self.remote, udp=around, key=self.key,
                      checksum=self.checksum or None, sequence=self.sequence or None, **self.more)

    def mtu(self, of=1500):
        words = {None: 0, "gue": 3}.get(self.kind, 2)
        if self.encap == "gre":
            words += 1 + (self.key is not None) + self.checksum + self.sequence
        return of - (40 if self.v6 else 20) - 4 * words

    def wrap(self, inner, source, target, tos, ttl, df=False, zero=None, private=b"", **fields):
        """`fields` are those of GRE; `zero` is whether UDP goes without checksum."""
        payload, proto = inner, family(inner)
        if self.encap == "gre":
            payload, proto = gre(inner, self.key, **fields), 47
        if self.kind == "gue":
            payload = gue(payload, proto, private)
        if self.kind:
            zero = self.udp_checksum == "zero" if zero is None else zero
            payload, proto = udp(source, target, payload, 49152, self.port, 0 if zero else None), 17
        return ip(source, target, proto, payload, ttl=ttl, tos=tos, **({"df": True} if df and not self.v6 else {}))

    def sent(self, inner, tos=None, ttl=64):
        fields = {"checksum": self.checksum, "sequence": self.count if self.sequence else None}
        self.count += 1
        tos = class_of(inner) if tos is None else tos
        return self.wrap(inner, self.local, self.remote, tos, ttl, df=True, **fields)

    def taken(self, inner, tos=0, **fields):
        return self.wrap(inner, self.remote, self.local, tos, 64, **fields)


def config(ends):
    """Each tunnel with an IPv4 and an IPv6 network behind it, see `network`."""
    text = base()
    for number, end in enumerate(ends):
        text += end.config() + route(f"10.{20 + number}.0.0/16", tunnel=end.name)
        text += route(f"2001:db8:{20 + number}::/48", tunnel=end.name)
    return text


def network(number, v6=False):
    return f"2001:db8:{20 + number}::9" if v6 else f"10.{20 + number}.0.9"


def several(name, ends, **keys):
    return Row(name, config(ends), tunnels={end.name: end.mtu() for end in ends}, mask=[ID, LABEL], **keys)


def out_by(row, inner, *ends, **keys):
    """From the HOST through these tunnels, the innermost first."""
    row.send("lan", from_host(inner))
    packet, crossed = hop(inner), {}
    for end in ends:
        crossed[end.name] = packet
        packet = end.sent(packet, **keys)
    row.out("wan", to_peer(packet), tx=crossed)


def in_by(row, inner, *ends, **fields):
    """To the HOST out of these tunnels, the innermost first. `fields` are those of the innermost."""
    packet, crossed = inner, {}
    for end in ends:
        crossed[end.name] = packet
        packet = end.taken(packet, **fields) if end is ends[0] else end.taken(packet, checksum=end.checksum)
    row.send("wan", from_peer(packet)).out("lan", to_host(hop(inner)), rx=crossed)


def both_families(number, payload):
    """Packets of the HOST to a tunnel's networks, and back."""
    hosts = ((HOST, network(number)), (HOST6, network(number, True)))
    return ([datagram(host, there, payload=payload) for host, there in hosts],
            [datagram(there, host, payload=payload) for host, there in hosts])


# The fields of GRE (RFC 2784 §2.1, RFC 2890 §2), on IP and in each kind of UDP: C, K and S in all combinations, with
# payloads of even and odd length. What is sent is as configured; C and S that arrive are taken whatever was. Sequence
# numbers count from 0, each tunnel for itself.
for kind, v6 in product((None, "fou", "gue", "gre-in-udp"), EITHER):
    local = "2001:db8::1{}" if v6 else "192.0.2.1{}"
    ends = [End("gre" + "-c" * c + "-k" * k + "-s" * s, kind=kind, v6=v6, local=local.format(number), key=7 if k else None,
                checksum=c, sequence=s) for number, (c, k, s) in enumerate(product(EITHER, repeat=3))]
    row = several(f"{kind or 'gre'}{6 if v6 else 4}-gre-fields", ends)
    for payload in (b"even", b"odd", b""):
        for number, end in enumerate(ends):
            for inner in both_families(number, payload)[0]:
                out_by(row, inner, end)
    for (number, end), payload, c, s in product(enumerate(ends), (b"even", b"odd"), EITHER, (None, 0, 0x80000001)):
        for inner in both_families(number, payload)[1]:
            in_by(row, inner, end, checksum=c, sequence=s)
    for number, end in enumerate(ends):  # the MTU that is left is known to the MSS
        packet, room = syn(HOST, network(number)), end.mtu() - 40
        row.send("lan", from_host(packet)).out("wan", to_peer(end.sent(hop(syn(HOST, network(number), size=room)))),
                                               tx={end.name: packet}, clamped=end.name)

# Sequence numbers past one byte, of two tunnels in turn; those that arrive are never enforced (RFC 2890 §2.2 leaves it to
# the receiver), in whatever order and however often they come.
ends = [End("a", sequence=True), End("b", key=2, sequence=True, checksum=True), End("c", v6=True, sequence=True)]
row = several("gre-sequence", ends)
for number in range(258):
    out_by(row, datagram(HOST, network(0), payload=b""), ends[0])
    if number % 50 == 0:
        out_by(row, datagram(HOST, network(1), payload=b""), ends[1])
        out_by(row, datagram(HOST, network(2), payload=b""), ends[2])
for sequence in (7, 8, 8, 3, 0, 0xFFFFFFFF, 0, 0x7FFFFFFF, 0x80000000, None, 7):
    for number, end in enumerate(ends):
        in_by(row, datagram(network(number), HOST), end, sequence=sequence, checksum=end.checksum)

# A GRE checksum that computes to 0 is sent as 0, unlike one of UDP; of the two zeros of one's complement either is right
# on arrival. Some payload gives it: it is looked for here.
end = End("t", checksum=True)
row = several("gre-checksum-zero", [end])
for word in range(0x10000):
    inner = ip4(HOST, network(0), 253, word.to_bytes(2, "big"))
    if gre(hop(inner), checksum=True)[4:6] == b"\0\0":
        out_by(row, inner, end)
        break
else:
    raise AssertionError("no payload gives a zero checksum")
for word in range(0x10000):
    inner = ip4(network(0), HOST, 253, word.to_bytes(2, "big"))
    whole = gre(inner, checksum=True)
    if whole[4:6] == b"\0\0":
        for zero in (b"\0\0", b"\xff\xff"):
            frame = from_peer(ip4(PEER, BOX, 47, whole[:4] + zero + whole[6:]))
            row.send("wan", frame).out("lan", to_host(hop(inner)), rx={"t": inner})
        break

# Bits 6 to 12 are ignored, each alone, whatever C, K and S say (RFC 2784 §2.3), and so is what stands beside the checksum
# (§2.4: of no meaning to a receiver, but covered).
ends = [End("t"), End("k", key=7), End("f", kind="fou"), End("g", kind="gue"), End("u", kind="gre-in-udp"), End("t6", v6=True)]
row = several("gre-ignored-bits", ends)
inner = datagram(FAR, HOST, payload=b"odd")
for bit, end in product(range(3, 10), ends):
    for c, s in product(EITHER, (None, 5)):
        in_by(row, inner, end, checksum=c, sequence=s, flags=1 << bit)
whole = bytearray(gre(inner, checksum=True))
whole[4:8] = b"\0\0\x12\x34"
whole[4:6] = struct.pack("!H", internet_checksum(bytes(whole)))
row.send("wan", from_peer(ip4(PEER, BOX, 47, bytes(whole)))).out("lan", to_host(hop(inner)), rx={"t": inner})

# What GRE refuses it refuses in UDP, too, and with every combination of C, K and S: what these bits announce is not known.
for reason, bits in {"gre_reserved": (0x0800, 0x0400), "gre_routing": (0x4000,), "gre_version": range(1, 8)}.items():
    row = Refusals(reason, config(ends), {end.name: end.mtu() for end in ends}, name=reason.replace("_", "-") + "-fields")
    for end in ends:
        in_by(row, inner, end)
    for bit, end, c, s in product(bits, ends, EITHER, (None, 5)):
        row.refuse(from_peer(end.taken(inner, checksum=c, sequence=s, flags=bit)))

# A wrong GRE checksum inside UDP whose own is right, or absent.
row = Refusals("gre_checksum", config(ends), {end.name: end.mtu() for end in ends}, name="gre-checksum-in-udp")
wrong = gre(inner, checksum=True)
wrong = wrong[:-1] + bytes([wrong[-1] ^ 1])
for dport, payload in ((5555, wrong), (6080, gue(wrong, 47)), (6080, gue(wrong, 47, bytes(8))), (4754, wrong)):
    row.refuse(*(from_peer(ip4(PEER, BOX, 17, udp(PEER, BOX, payload, 50000, dport, zero))) for zero in (None, 0)))

# UDP's own checksum around GUE and GRE-in-UDP, full and zero, over both families. What arrives is verified where it is
# there; none is taken over IPv4, and over IPv6 by those that send none (RFC 6935 §5).
CARRIED = (("gue", "gre"), ("gue", "ip"), ("gue1", "ip"), ("gre-in-udp", "gre"))
ends = [End(f"{kind}-{encap}-{6 if v6 else 4}-{checksum}", encap, kind, v6, udp_checksum=checksum,
            local=("2001:db8::{}" if v6 else "192.0.2.{}").format(10 + number))
        for number, ((kind, encap), v6, checksum) in enumerate(product(CARRIED, EITHER, ("full", "zero")))]
row = several("udp-checksums", ends, zero_udp=True)
for number, end in enumerate(ends):
    for payload in (b"even", b"odd"):
        for inner in both_families(number, payload)[0]:
            out_by(row, inner, end)
        for inner in both_families(number, payload)[1]:
            in_by(row, inner, end, zero=False)
            if not end.v6 or end.udp_checksum == "zero":
                in_by(row, inner, end, zero=True)
inner = datagram(FAR, HOST)
mtus = {end.name: end.mtu() for end in ends}
row = Refusals("udp_zero_checksum", config(ends), mtus, name="udp-zero-checksum-kinds")
row.refuse(*(from_peer(end.taken(inner, zero=True)) for end in ends if end.v6 and end.udp_checksum == "full"))
row = Refusals("udp_checksum", config(ends), mtus, name="udp-checksum-kinds")
for end in ends:
    packet = end.taken(inner, zero=False)
    row.refuse(from_peer(packet[:-1] + bytes([packet[-1] ^ 1])))
row = Refusals("outer_fragment", config(ends), mtus, name="outer-fragment-kinds")
for end in ends:
    packet = end.taken(inner)[40 if end.v6 else 20:]
    if end.v6:
        row.refuse(from_peer(ip6(end.remote, end.local, 44, bytes([17, 0, 0, 1, 0, 0, 0, 9]) + packet[:40])))
    else:
        row.refuse(from_peer(ip4(end.remote, end.local, 17, packet[:40], more=True)),
                   from_peer(ip4(end.remote, end.local, 17, packet[40:], frag=5)))

# One port, two addresses, five tunnels: GUE with IP, GRE, GRE with keys, and variant 1, told apart by what the packets say.
for v6 in EITHER:
    ends = [End("ip", "ip", "gue", v6), End("gre", kind="gue", v6=v6), End("key-0", kind="gue", v6=v6, key=0),
            End("key-9", kind="gue", v6=v6, key=9, checksum=True), End("bare", "ip", "gue1", v6)]
    row = several(f"gue{6 if v6 else 4}-same-port", ends)
    for number, end in enumerate(ends):
        there, back = both_families(number, b"odd")
        for inner in there:
            out_by(row, inner, end)
        for inner in back:
            in_by(row, inner, end)

# Private data is skipped by the header's length, whatever is in it: none, one word, as much as there may be.
ends = [End("ip", "ip", "gue"), End("gre", kind="gue", key=9), End("ip6", "ip", "gue", True), End("gre6", kind="gue", v6=True)]
row = several("gue-private-data", ends)
for words, byte, end, number in product((0, 1, 30, 31), (0x00, 0x45, 0xFF), ends, range(2)):
    in_by(row, both_families(0, b"odd")[1][number], end, private=bytes([byte]) * 4 * words)

# What GUE refuses, beside variant 1 so that nothing falls through to it.
REFUSING = [End("g", "ip", "gue"), End("gre", kind="gue"), End("bare", "ip", "gue1"), End("g6", "ip", "gue", True),
            End("gre6", kind="gue", v6=True)]
INNER, WITH_GRE = datagram(FAR, HOST), gre(datagram(FAR, HOST))


def refusing(reason, *payloads, ends=REFUSING, name=None):
    """Payloads of UDP, over each family that the tunnels have."""
    row = Refusals(reason, config(ends), {end.name: end.mtu() for end in ends}, name=name)
    for end in ends:
        in_by(row, INNER, end)
    for payload in payloads:
        row.refuse(from_peer(ip4(PEER, BOX, 17, udp(PEER, BOX, payload, 50000, 6080))))
        if any(end.v6 for end in ends):
            row.refuse(from_peer(ip6(PEER6, BOX6, 17, udp(PEER6, BOX6, payload, 50000, 6080))))


refusing("gue_control", *(gue(INNER, ctype, first=0x20) for ctype in (0, 1, 2, 4, 41, 47, 59, 255)),
         gue(WITH_GRE, 47, first=0x20), gue(INNER, private=bytes(4), first=0x20), gue(INNER, private=bytes(124), first=0x20))
refusing("gue_flags", *(gue(INNER, flags=1 << bit) for bit in range(16)), gue(WITH_GRE, 47, flags=1),
         *(gue(INNER, private=bytes(4 * words), flags=flags) for words in (1, 2, 31) for flags in (0x8000, 0x0001, 0xFFFF)))
refusing("gue_protocol", *(gue(INNER, number) for number in range(256) if number not in (4, 41, 47)),
         gue(INNER, 17, bytes(8)))
refusing("gue_version", *(bytes([first]) + gue(INNER)[1:] for first in (0x80, 0x84, 0xA0, 0xBF, 0xC0, 0xC4, 0xE0, 0xFF)))
refusing("gue_version", INNER, datagram(FAR6, HOST6), bytes([0x40]) + gue(INNER)[1:], bytes([0x7F]) + gue(INNER)[1:],
         ends=[end for end in REFUSING if end.kind == "gue"], name="gue-version-0-alone")
refusing("gue_version", gue(INNER), gue(datagram(FAR6, HOST6)), gue(WITH_GRE, 47), gue(INNER, private=bytes(4)),
         gue(INNER, first=0x20), gue(INNER, flags=1), gue(INNER, first=0x80), gue(INNER, first=0xC0),
         ends=[End("bare", "ip", "gue1"), End("bare6", "ip", "gue1", True)], name="gue-version-1-alone")
refusing("truncated", b"", *(gue(b"", 4)[:length] for length in range(1, 5)), gue(INNER[:-1]), gue(INNER[:19]),
         gue(INNER[:19], private=bytes(4)), *(bytes([words]) + gue(b"", 4)[1:] + bytes(4 * words - 1) for words in (1, 2, 31)),
         gue(datagram(FAR6, HOST6)[:39]), gue(WITH_GRE[:3], 47), gue(WITH_GRE[:-1], 47), gue(gre(INNER, key=1)[:7], 47),
         name="gue-truncated")
refusing("ip_version", gue(INNER, 41), gue(datagram(FAR6, HOST6), 4), b"\x55" + INNER[1:], b"\x75" + INNER[1:],
         gue(gre(INNER, protocol=0x86DD), 47), ends=REFUSING + [End("bare6", "ip", "gue1", True)], name="gue-ip-version")
refusing("no_tunnel", gue(gre(INNER, key=0), 47), gue(gre(INNER, key=8), 47), name="gue-no-tunnel")
refusing("gre_ethernet", gue(gre(from_peer(INNER), protocol=0x6558), 47), name="gue-gre-ethernet")

# Variant 1 alone: IP by its version bits.
ends = [End("bare", "ip", "gue1"), End("bare6", "ip", "gue1", True)]
row = several("gue1-alone", ends)
for number, end in enumerate(ends):
    for payload in (b"even", b"odd"):
        there, back = both_families(number, payload)
        for inner in there:
            out_by(row, inner, end)
        for inner in back:
            in_by(row, inner, end)

# What is left out: ports 6080 and 4754; UDP's checksum zero over IPv4 and full over IPv6; source ports from the flow, one
# for each.
kinds = {"gue": End("gue", kind="gue", udp_checksum="zero"), "gue-ip": End("gue-ip", "ip", "gue", udp_checksum="zero"),
         "gue1": End("gue1", "ip", "gue1", udp_checksum="zero"), "gre-in-udp": End("gre-in-udp", kind="gre-in-udp", udp_checksum="zero"),
         "gue6": End("gue6", kind="gue", v6=True), "gue1-6": End("gue1-6", "ip", "gue1", True),
         "gre-in-udp6": End("gre-in-udp6", kind="gre-in-udp", v6=True)}
text = base()
for number, end in enumerate(kinds.values()):
    text += tunnel(end.name, end.encap, end.local, end.remote, udp={"kind": end.kind})
    text += route(f"10.{20 + number}.0.0/16", tunnel=end.name) + route(f"2001:db8:{20 + number}::/48", tunnel=end.name)
row = Row("udp-defaults", text, tunnels={end.name: end.mtu() for end in kinds.values()}, mask=[ID, LABEL, PORT], distinct=14)
for number, end in enumerate(kinds.values()):
    there, back = both_families(number, b"odd")
    for inner in there + there:
        out_by(row, inner, end)
    for inner in back:
        in_by(row, inner, end)

# UDP to other ports of a tunnel's address is the host's, a first fragment, too.
row = Row("udp-other-ports", text, tunnels={end.name: end.mtu() for end in kinds.values()})
for dport in (53, 4753, 4755, 5555, 6079, 6081):
    for source, target in ((PEER, BOX), (PEER6, BOX6)):
        frame = from_peer(ip(source, target, 17, udp(source, target, gue(INNER), 50000, dport)))
        row.send("wan", frame).kernel("wan", frame)
frame = from_peer(ip4(PEER, BOX, 17, udp(PEER, BOX, gue(INNER), 50000, 6081)[:40], more=True))
row.send("wan", frame).kernel("wan", frame)

# Traffic class and TTL cross these headers as they do others; a congestion mark is written into the inner packet after the
# GRE checksum over it was verified.
ends = [End("fixed", kind="gue", dscp=46, ttl=9, checksum=True), End("plain", "ip", "gue", True),
        End("bare", "ip", "gue1", ttl="inherit", local="192.0.2.3"), End("uniform", kind="gre-in-udp", v6=True, key=1,
                                                                        checksum=True, sequence=True, dscp="uniform")]
row = several("udp-traffic-class", ends)
for (number, end), tos, v6 in product(enumerate(ends), (0x00, 0xB9, 0x2A, 0xFF), EITHER):
    inner = datagram(HOST6 if v6 else HOST, network(number, v6), tos=tos, ttl=33, payload=b"odd")
    out_by(row, inner, end, tos=46 << 2 | tos & 3 if end.name == "fixed" else tos,
           ttl={"fixed": 9, "bare": 32}.get(end.name, 64))
for (number, end), (tos, inside, ecn), v6 in product(
        enumerate(ends), ((0xB8, 0x28, 0), (0x03, 0x2A, 3), (0x49, 0x2A, 1), (0x4B, 0x29, 3), (0x48, 0x2B, 3)), EITHER):
    inner = datagram(network(number, v6), HOST6 if v6 else HOST, tos=inside, payload=b"odd")
    after = marked(inner, (tos if end.name == "uniform" else inside) & 0xFC | ecn)
    row.send("wan", from_peer(end.taken(inner, tos, checksum=True, sequence=tos) if end.encap == "gre" else end.taken(inner, tos)))
    row.out("lan", to_host(hop(after)), rx={end.name: inner})

# Stacks: each of these in each of these. The carrier's checksums cover the passenger's, and its sequence number counts the
# packets of all its passengers.
POSITIONS = {"ip": {"encap": "ip"}, "gre": {"checksum": True, "sequence": True}, "gre6": {"v6": True, "checksum": True, "key": 3},
             "fou": {"kind": "fou", "checksum": True, "udp_checksum": "zero"}, "gue": {"kind": "gue", "checksum": True, "sequence": True},
             "gue-ip6": {"encap": "ip", "kind": "gue", "v6": True}, "gue-zero": {"encap": "ip", "kind": "gue", "udp_checksum": "zero"},
             "gue1": {"encap": "ip", "kind": "gue1"}, "gue1-6": {"encap": "ip", "kind": "gue1", "v6": True},
             "gre-in-udp6": {"kind": "gre-in-udp", "v6": True, "key": 0, "checksum": True, "sequence": True}}


def passenger(number, name, keys):
    """A tunnel with its own two addresses."""
    local, remote = ("2001:db8:e::{}", "2001:db8:c::{}") if keys.get("v6") else ("203.0.113.{}", "198.51.100.{}")
    return End(name, local=local.format(1 + number), remote=remote.format(1 + number), **keys)


def rides(end, carrier):
    return route(f"{end.remote}/{128 if end.v6 else 32}", tunnel=carrier.name)


for carried_by, keys in POSITIONS.items():
    carrier = End("carrier", **keys)
    ends = [passenger(number, name, inside) for number, (name, inside) in enumerate(POSITIONS.items())]
    text = config(ends) + carrier.config() + "".join(rides(end, carrier) for end in ends)
    row = Row(f"stack-in-{carried_by}", text, mask=[ID, LABEL],
              tunnels={"carrier": carrier.mtu(), **{end.name: end.mtu(carrier.mtu()) for end in ends}})
    for number, end in enumerate(ends):
        for payload in (b"even", b"odd"):
            there, back = both_families(number, payload)
            for inner in there:
                out_by(row, inner, end, carrier)
            for inner in back:
                in_by(row, inner, end, carrier, **({"checksum": end.checksum} if end.encap == "gre" else {}))

# Longer ones, in every turn: each layer is once the innermost, once the outermost.
for chain in (["gre-in-udp6", "gre", "gue1"], ["gue", "gre6", "gue1"], ["gre", "ip", "gue-zero", "gue1"]):
    for turn in range(len(chain)):
        names = chain[turn:] + chain[:turn]
        ends = [passenger(number, name, POSITIONS[name]) for number, name in enumerate(names[:-1])]
        ends.append(End(names[-1], **POSITIONS[names[-1]]))
        mtus, room = {}, 1500
        for end in reversed(ends):
            room = mtus[end.name] = end.mtu(room)
        text = config(ends) + "".join(rides(end, carrier) for end, carrier in zip(ends, ends[1:]))
        row = Row("stack-" + "-in-".join(names), text, tunnels=mtus, mask=[ID, LABEL])
        for payload in (b"even", b"odd"):
            there, back = both_families(0, payload)
            for inner in there:
                out_by(row, inner, *ends)
            for inner in back:
                in_by(row, inner, *ends, **({"checksum": True} if ends[0].encap == "gre" else {}))
