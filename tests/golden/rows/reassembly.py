"""Outer fragments put together, for tunnels that say so; every way in which fragments make no packet."""

import struct

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from oracle import *
from rows.tunnels import received

KEEP = {"reassembly": True}
TUNNELS = (base() + tunnel(**KEEP) + tunnel("s", "ip", **KEEP) + tunnel("t6", local=BOX6, remote=PEER6, **KEEP)
           + tunnel("s6", "ip", BOX6, PEER6, **KEEP) + tunnel("f", udp={"port": 5555, "checksum": "full"}, **KEEP)
           + tunnel("f6", "ip", BOX6, PEER6, udp={"port": 5556}, **KEEP)
           + tunnel("g", udp={"kind": "gue"}, **KEEP))
MTUS = {"t": 1476, "s": 1480, "t6": 1456, "s6": 1460, "f": 1468, "f6": 1452, "g": 1464}
INNER = datagram(FAR, HOST, payload=bytes(range(100)))
INNER6 = datagram(FAR6, HOST6, payload=bytes(range(100)))


def pieces(packet, *ends, ident=77, classes=None):
    """The fragments of a packet, cut behind so many bytes of its payload."""
    v6 = packet[0] >> 4 == 6
    header = IPv6(packet[:40]) if v6 else IP(packet[:20])
    data = packet[40 if v6 else 20:]
    found = []
    for index, (start, end) in enumerate(zip((0, *ends), (*ends, len(data)))):
        tos = classes[index] if classes else class_of(packet)
        more = end < len(data)
        if v6:
            fragment = struct.pack("!BBHI", header.nh, 0, start | more, ident)
            found.append(ip6(header.src, header.dst, 44, fragment + data[start:end], hlim=header.hlim, tc=tos))
        else:
            found.append(ip4(header.src, header.dst, header.proto, data[start:end], ttl=header.ttl, tos=tos, ident=ident,
                             frag=start // 8, more=more))
    return found


class Reassembly(Row):
    def __init__(self, name, config=TUNNELS, tunnels=None, **keys):
        super().__init__(name, config, tunnels=dict(MTUS) if tunnels is None else tunnels, **keys)

    def keep(self, *packets):
        for packet in packets:
            self.send("wan", from_peer(packet)).hold()

    def complete(self, packet, inner, name, count):
        """The last one missing; `count` were kept before."""
        self.send("wan", from_peer(packet)).out("lan", to_host(hop(inner)), rx={name: inner})
        self.joined(count)

    def refuse(self, reason, packet, count=0, tunnel_name=None):
        """One that ends the datagram, of which `count` were kept."""
        self.send("wan", from_peer(packet)).drop(reason, tunnel_name)
        if count:
            self.given_up(reason, count)


def wrapped(inner, name):
    kind = {"t": "gre", "s": "ip", "t6": "gre", "s6": "ip", "f": "fou-gre", "f6": "fou-ip"}
    if name == "g":
        return ip4(PEER, BOX, 17, udp(PEER, BOX, gue(gre(inner), 47), 50000, 6080))
    return received(inner, kind[name], name.endswith("6"))


# Every encapsulation, both families, in order and backwards; checksums are those of the whole.
row = Reassembly("reassembly-kinds")
for number, name in enumerate(MTUS):
    for inner in (INNER, INNER6):
        parts = pieces(wrapped(inner, name), 48, 96, ident=100 + number)
        row.keep(*parts[:2])
        row.complete(parts[2], inner, name, 2)
        row.keep(parts[1], parts[2])
        row.complete(parts[0], inner, name, 2)

# Copies are ignored, before the last and not after; other identifications are other packets; padding is none of it.
row = Reassembly("reassembly-order")
one, two = pieces(wrapped(INNER, "t"), 40, 80, ident=1), pieces(wrapped(INNER6, "t"), 40, ident=2)
row.keep(one[0], two[1], one[0], one[2] + b"\0" * 7, one[2])
row.complete(one[1], INNER, "t", 4)
row.complete(two[0], INNER6, "t", 1)
row.keep(one[1])
row.given_up("reassembly_timeout", 1)

# ECN (RFC 3168 §5.3): congestion that one fragment met is the packet's, and reaches the inner one (RFC 6040 §4.2).
row = Reassembly("reassembly-ecn")
INNER_ECT = marked(INNER, 2)
for number, name in enumerate(("t", "t6")):
    for index, classes in enumerate(([2, 2, 3], [3, 2, 2], [2, 3, 1], [2, 2, 2])):
        parts = pieces(wrapped(INNER_ECT, name), 40, 80, ident=10 * number + index, classes=classes)
        row.keep(*parts[:2])
        row.send("wan", from_peer(parts[2])).out(
            "lan", to_host(hop(marked(INNER_ECT, 3 if 3 in classes else 2))), rx={name: INNER_ECT})
        row.joined(2)
    parts = pieces(wrapped(INNER_ECT, name), 40, 80, ident=10 * number + 9, classes=[2, 0, 3])
    row.keep(parts[0])
    row.refuse("reassembly_invalid", parts[1], 1)
    row.refuse("reassembly_invalid", parts[2])

# Options are the first fragment's; extension headers stand in front of the fragment header, or behind it in the first.
row = Reassembly("reassembly-options")
whole = wrapped(INNER, "t")
ALERT = b"\x94\x04\0\0"
row.keep(ip4(PEER, BOX, 47, whole[20:60], ident=5, more=True, options=ALERT))
row.complete(ip4(PEER, BOX, 47, whole[60:], ident=5, frag=5), INNER, "t", 1)
whole = wrapped(INNER, "t6")[40:]
LIMIT = b"\x04\x01\x04\x01\x01\0"
for number, front in enumerate((0, 60)):
    # In front: in every fragment.
    head = bytes([44, 0]) + (LIMIT if front else b"\x05\x02\0\0\x01\0")
    row.keep(ip6(PEER6, BOX6, front, head + struct.pack("!BBHI", 47, 0, 1, number) + whole[:40]))
    row.complete(ip6(PEER6, BOX6, front, head + struct.pack("!BBHI", 47, 0, 40, number) + whole[40:]), INNER, "t6", 1)
behind = bytes([47, 0]) + LIMIT + whole
row.keep(ip6(PEER6, BOX6, 44, struct.pack("!BBHI", 60, 0, 40, 9) + behind[40:]))
row.complete(ip6(PEER6, BOX6, 44, struct.pack("!BBHI", 60, 0, 1, 9) + behind[:40]), INNER, "t6", 1)
# An atomic fragment is whole by itself (RFC 6946), whatever else has its identification.
row.keep(ip6(PEER6, BOX6, 44, struct.pack("!BBHI", 47, 0, 1, 11) + whole[:40]))
row.complete(ip6(PEER6, BOX6, 44, struct.pack("!BBHI", 47, 0, 0, 11) + whole), INNER, "t6", 0)
row.complete(ip6(PEER6, BOX6, 44, struct.pack("!BBHI", 47, 0, 40, 11) + whole[40:]), INNER, "t6", 1)

# Kept for the tunnels that ask for it, and the whole goes on by no other.
config = (base() + tunnel("yes", key=1, **KEEP) + tunnel("no", key=2)
          + tunnel("many", "ip", remote=["198.51.100.0/24"], **KEEP) + tunnel("apart", local="192.0.2.77"))
row = Reassembly("reassembly-by-tunnel", config, {"yes": 1472, "no": 1472, "many": 1480, "apart": 1476})
yes, no, none = (pieces(received(INNER, "gre", key=key), 40, ident=key or 3) for key in (1, 2, None))
row.keep(yes[0], no[0], none[0])
row.complete(yes[1], INNER, "yes", 1)
row.refuse("outer_fragment", no[1], tunnel_name="no")
row.joined(1)
row.refuse("no_tunnel", none[1])
row.joined(1)
listed = pieces(received(INNER, "ip", source="198.51.100.9"), 40)
row.keep(listed[1])
row.complete(listed[0], INNER, "many", 1)
for stranger in pieces(received(INNER, "ip", source="198.51.101.9"), 40):
    row.refuse("outer_fragment", stranger)
for other in pieces(ip4(PEER, "192.0.2.77", 47, gre(INNER)), 40):
    row.refuse("outer_fragment", other)

# As large as a buffer's MTU, in pieces of a smaller link.
row = Reassembly("reassembly-jumbo", base(mtu=9000) + tunnel(**KEEP), {"t": 8976})
inner = datagram(FAR, HOST, payload=bytes(range(256)) * 34)
parts = pieces(wrapped(inner, "t"), *range(1480, 8750, 1480))
row.keep(*parts[:-1])
row.complete(parts[-1], inner, "t", len(parts) - 1)

# The host's own fragments: those of a UDP port that no tunnel has may be a tunnel's until they are whole; others are not
# touched.
row = Reassembly("reassembly-host", base() + tunnel("f", udp={"port": 5555}, **KEEP), {"f": 1468})
hosts = ip4(PEER, BOX, 17, udp(PEER, BOX, bytes(80), 1000, 53), ident=8)
first, last = pieces(hosts, 40, ident=8)
row.keep(first)
row.send("wan", from_peer(last)).kernel("wan", from_peer(hosts))
row.joined(1)
for part in pieces(echo(PEER, "192.0.2.2"), 8):
    row.send("wan", from_peer(part)).kernel("wan", from_peer(part))

# In a tunnel: an outer packet that came out of another one in pieces.
row = Reassembly("reassembly-nested", base() + tunnel("carrier") + tunnel("t", "ip", "192.0.2.77", "198.51.100.7", **KEEP)
                 + route("198.51.100.7/32", tunnel="carrier"), {"carrier": 1476, "t": 1456})
inside = pieces(ip4("198.51.100.7", "192.0.2.77", 4, INNER), 48, 96)
for part in inside[:2]:
    row.send("wan", from_peer(received(part, "gre"))).hold(rx={"carrier": part})
row.send("wan", from_peer(received(inside[2], "gre"))).out("lan", to_host(hop(INNER)), rx={"carrier": inside[2], "t": INNER})
row.joined(2)
lost = pieces(ip4("198.51.100.7", "192.0.2.77", 4, INNER), 48, ident=5)[0]
row.send("wan", from_peer(received(lost, "gre"))).hold(rx={"carrier": lost})
row.given_up("reassembly_timeout", 1)
row.tunnels["carrier"]["dropped"]["reassembly_timeout"] = 1

# Drops. Two seconds from the first fragment, however late the others come; the end of the replay ends all waiting.
row = Reassembly("drop-reassembly-timeout")
first, second, third = pieces(wrapped(INNER, "t"), 40, 80)
row.keep(first)
row.time += 1_999_997
row.keep(second)
row.complete(third, INNER, "t", 2)
row.keep(first)
row.time += 1_000_000
row.keep(second)
row.time += 999_999
row.keep(third)
row.given_up("reassembly_timeout", 3)

row = Reassembly("drop-reassembly-full")
for ident in range(257):
    row.keep(pieces(wrapped(INNER, "t"), 40, ident=ident)[0])
row.given_up("reassembly_full", 1)
row.complete(pieces(wrapped(INNER, "t"), 40, ident=256)[1], INNER, "t", 1)
row.given_up("reassembly_timeout", 255)
long = wrapped(datagram(FAR, HOST, payload=b"x" * 500), "t")
parts = pieces(long, *range(8, 65 * 8, 8), ident=300)
row.keep(*parts[:64])
# The first of them took the place of the datagram that waited longest.
row.refuse("reassembly_full", parts[64], 64)

row = Reassembly("drop-reassembly-too-big")
big = wrapped(datagram(FAR, HOST, payload=bytes(10_000)), "t")
parts = pieces(big, 1440, 9264)
row.keep(parts[0])
row.refuse("reassembly_too_big", pieces(big, 9264)[1], 1)
row.refuse("reassembly_too_big", pieces(big, 1440, 2000)[1])

row = Reassembly("drop-reassembly-overlap")
for number, name in enumerate(("t", "t6")):
    whole = wrapped(INNER, name)
    parts = pieces(whole, 40, 80, ident=20 * number)
    row.keep(parts[0])
    row.refuse("reassembly_overlap", pieces(whole, 32, 80, ident=20 * number)[1], 1)
    # What still comes of it makes nothing.
    row.refuse("reassembly_overlap", parts[1])
    row.refuse("reassembly_overlap", parts[2])
    # The same place, other bytes.
    parts = pieces(whole, 40, 80, ident=20 * number + 1)
    row.keep(parts[1])
    row.refuse("reassembly_overlap", parts[1][:-1] + b"?", 1)
    # Its like under another identification is whole.
    parts = pieces(whole, 40, ident=20 * number + 2)
    row.keep(parts[1])
    row.complete(parts[0], INNER, name, 1)

row = Reassembly("drop-reassembly-invalid")
for number, name in enumerate(("t", "t6")):
    whole = wrapped(INNER, name)
    v6 = name == "t6"

    def raw(start, more, data, ident):
        if v6:
            return ip6(PEER6, BOX6, 44, struct.pack("!BBHI", 47, 0, start | more, ident) + data)
        return ip4(PEER, BOX, 47, data, frag=start // 8, more=bool(more), ident=ident)

    data = whole[40 if v6 else 20:]
    ident = 100 * number
    for good, bad in (((0, 1, data[:40]), (40, 1, data[40:79])),  # no multiple of eight
                      ((0, 1, data[:40]), (40, 0, b"")),  # nothing
                      ((80, 0, data[80:]), (88, 0, data[88:] + bytes(8))),  # two ends
                      ((80, 0, data[80:120]), (120, 1, bytes(8))),  # more behind the end
                      ((120, 1, data[120:128]), (80, 0, data[80:120])),  # the end before
                      ((0, 1, data[:40]), (65528, 0, bytes(16))),  # beyond what a length can say
                      ((80, 0, data[80:]), (0, 1, b"\xb0" + data[1:8]))):  # GRE's header cut in two
        ident += 1
        row.keep(raw(*good, ident))
        row.refuse("reassembly_invalid", raw(*bad, ident), 1)
row.refuse("reassembly_invalid", ip4(PEER, BOX, 17, udp(PEER, BOX, gre(INNER), 50000, 5555)[:7], more=True, ident=9))
