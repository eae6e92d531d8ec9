"""Every reason to refuse a packet. Beside each refused one goes a good one, to see that only the bad one suffers."""

from scapy.layers.inet6 import ICMPv6EchoRequest

from oracle import *
from rows.tunnels import outer, received

GATEWAYS = route("10.2.0.0/16", gateway=PEER) + route("2001:db8:2::/48", gateway=PEER6)
PLAIN = base(wan_vlans=vlan("cni", 120, "198.51.100.1/31")) + GATEWAYS
TUNNELS = (base() + tunnel() + tunnel("k", key=7) + tunnel("s", "ip") + tunnel("t6", local=BOX6, remote=PEER6)
           + tunnel("s6", "ip", BOX6, PEER6) + tunnel("f", udp={"port": 5555}) + tunnel("f6", "ip", BOX6, PEER6,
                                                                                         udp={"port": 5556}))
MTUS = {"t": 1476, "k": 1472, "s": 1480, "t6": 1456, "s6": 1460, "f": 1468, "f6": 1452}
INNER = datagram(FAR, HOST)


class Refusals(Row):
    """A row of packets on the wan that all die for the same reason."""

    def __init__(self, reason, config=TUNNELS, tunnels=None, good=None, name=None):
        self.reason = reason
        tunnels = dict(MTUS) if config is TUNNELS else (tunnels or {})
        super().__init__(f"drop-{name or reason.replace('_', '-')}", config, tunnels=tunnels)
        if config is TUNNELS:
            self.send("wan", from_peer(received(INNER, "gre"))).out("lan", to_host(hop(INNER)), rx={"t": INNER})

    def refuse(self, *frames, reason=None, port_in="wan", lost=None):
        for frame in frames:
            # What the tunnel counts for a packet that never came out of it is not laid down.
            self.send(port_in, frame).drop(reason or self.reason, loose=list(self.tunnels), lost=lost)
        return self


good = datagram(FAR, HOST)
good6 = datagram(FAR6, HOST6)

# The frame.
row = Refusals("truncated", PLAIN, name="truncated-plain")
row.send("wan", from_peer(good)).out("lan", to_host(hop(good)))
frame, frame6, tagged = from_peer(good), from_peer(good6), from_peer(good, tag=120)
row.refuse(*(frame[:cut] for cut in (1, 6, 13, 14, 15, 20, 33, 34, len(frame) - 1)))
row.refuse(*(frame6[:cut] for cut in (15, 30, 53, 54, len(frame6) - 1)))
row.refuse(*(tagged[:cut] for cut in (14, 15, 17, 18, 19, 37, len(tagged) - 1)))
row.refuse(from_peer(ip4(FAR, HOST, 17, b"", options=b"\x01" * 40)[:40]))

row = Refusals("truncated")
whole = gre(INNER)
for payload, proto in ((b"", 47), (whole[:1], 47), (whole[:3], 47), (gre(INNER, key=7)[:4], 47), (gre(INNER, key=7)[:7], 47),
                       (gre(INNER, checksum=True, sequence=1)[:8], 47), (whole[:4], 47), (whole[:5], 47), (whole[:23], 47),
                       (whole[:-1], 47), (b"", 4), (INNER[:19], 4), (INNER[:-1], 4), (datagram(FAR6, HOST6)[:39], 41)):
    row.refuse(from_peer(ip4(PEER, BOX, proto, payload)))
for payload, proto in ((b"", 47), (whole[:3], 47), (whole[:-1], 47), (b"", 4), (INNER[:-1], 4),
                       (datagram(FAR6, HOST6)[:39], 41), (datagram(FAR6, HOST6)[:-1], 41)):
    row.refuse(from_peer(ip6(PEER6, BOX6, proto, payload)))
row.refuse(from_peer(ip4(PEER, BOX, 17, udp(PEER, BOX, whole[:-1], 50000, 5555))),
           from_peer(ip4(PEER, BOX, 17, udp(PEER, BOX, whole[:2], 50000, 5555))),
           from_peer(ip4(PEER, BOX, 17, udp(PEER, BOX, b"", 50000, 5555))),
           from_peer(ip6(PEER6, BOX6, 17, udp(PEER6, BOX6, INNER[:-1], 50000, 5556))),
           from_peer(ip6(PEER6, BOX6, 17, udp(PEER6, BOX6, b"", 50000, 5556))))

row = Refusals("ethernet_address", PLAIN)
row.send("wan", from_peer(good)).out("lan", to_host(hop(good)))
row.refuse(*(ethernet(mac, PEER_MAC, good) for mac in (LAN_MAC, PEER_MAC, "02:00:00:00:00:03", "00:00:00:00:00:00")))
row.refuse(ethernet(LAN_MAC, PEER_MAC, good6))

row = Refusals("ethernet_type", PLAIN)
row.refuse(*(from_peer(good, ethertype=kind) for kind in (0x88CC, 0x8847, 0x0842, 0x8035, 0x0000, 0x05DC, 0xFFFF)))
row.refuse(from_peer(good, tag=120, ethertype=0x88CC))

row = Refusals("vlan_unknown", PLAIN)
row.send("wan", from_peer(good, tag=120)).out("lan", to_host(hop(good)))
row.refuse(*(from_peer(good, tag=tag) for tag in (1, 119, 121, 4094)))
row.refuse(from_peer(good, tag=99, ethertype=0x0800))
row.refuse(from_host(good, tag=120), port_in="lan")  # configured, but on the other port
row.refuse(from_peer(b"\x00\x78\x08\x00" + good, tag=120, ethertype=0x8100))  # tagged twice

row = Refusals("link_broadcast", PLAIN)
row.send("wan", from_peer(good)).out("lan", to_host(hop(good)))
row.refuse(ethernet("ff:ff:ff:ff:ff:ff", PEER_MAC, good), ethernet("01:00:5e:00:00:05", PEER_MAC, good),
           ethernet("33:33:00:00:00:01", PEER_MAC, good6), ethernet("ff:ff:ff:ff:ff:ff", PEER_MAC, good, tag=120))

# The IP header.
row = Refusals("ip_version")
row.refuse(from_peer(good6, ethertype=0x0800), from_peer(good, ethertype=0x86DD),
           from_peer(b"\x55" + good[1:], ethertype=0x0800), from_peer(b"\x00" + good6[1:], ethertype=0x86DD),
           from_peer(ip4(PEER, BOX, 47, gre(good6, protocol=0x0800))), from_peer(ip4(PEER, BOX, 47, gre(good, protocol=0x86DD))),
           from_peer(ip4(PEER, BOX, 4, good6)), from_peer(ip4(PEER, BOX, 41, good)),
           from_peer(ip6(PEER6, BOX6, 4, good6)), from_peer(ip6(PEER6, BOX6, 41, good)),
           from_peer(ip6(PEER6, BOX6, 17, udp(PEER6, BOX6, b"\x50" + good[1:], 50000, 5556))))


def spoilt(packet, **bytes_at):
    raw = bytearray(packet)
    for at, byte in bytes_at.items():
        raw[int(at[1:])] = byte
    return bytes(raw)


row = Refusals("ipv4_header")
bad = [rechecked(spoilt(good, _0=0x44)), spoilt(good, _0=0x40), rechecked(spoilt(good, _2=0, _3=19)),
       rechecked(spoilt(good, _2=0, _3=0))]
row.refuse(*(from_peer(packet) for packet in bad))
row.refuse(*(from_peer(ip4(PEER, BOX, 47, gre(packet))) for packet in bad))
row.refuse(*(from_peer(ip6(PEER6, BOX6, 4, packet)) for packet in bad))

row = Refusals("ipv4_checksum")
bad = [spoilt(good, _11=good[11] ^ 1), spoilt(good, _8=good[8] - 1), spoilt(good, _10=0, _11=0)]
row.refuse(*(from_peer(packet) for packet in bad))
row.refuse(*(from_peer(ip4(PEER, BOX, 47, gre(packet))) for packet in bad))
row.refuse(from_peer(spoilt(received(INNER, "gre"), _1=4)), from_peer(spoilt(received(INNER, "ip"), _1=4)),
           from_peer(spoilt(received(INNER, "fou-gre"), _1=4)))

row = Refusals("source_route")
LOOSE, STRICT = b"\x83\x07\x04\x0a\x01\x00\x09\x00", b"\x01\x89\x07\x04\x0a\x01\x00\x09"
for options in (LOOSE, STRICT):
    row.refuse(from_peer(ip4(FAR, HOST, 17, udp(FAR, HOST), options=options)),
               from_peer(ip4(PEER, BOX, 47, gre(INNER), options=options)),
               from_peer(ip4(PEER, BOX, 47, gre(ip4(FAR, HOST, 17, udp(FAR, HOST), options=options)))))
ROUTING = bytes([47, 2, 0, 1, 0, 0, 0, 0]) + b"\x20\x01\x0d\xb8" + b"\0" * 11 + b"\x09"
row.refuse(from_peer(ip6(PEER6, BOX6, 43, ROUTING + gre(INNER))))
row.refuse(from_peer(ip6(PEER6, BOX6, 60, bytes([43]) + b"\x00\x04\x01\x04\x01\x01\x00" + ROUTING + gre(INNER))))

row = Refusals("ipv6_extensions")
nine = b"".join(bytes([60 if more else 47]) + b"\x00\x01\x04\0\0\0\0" for more in range(8, -1, -1))
row.refuse(from_peer(ip6(PEER6, BOX6, 60, nine + gre(INNER))))

# Martians, outside and out of a tunnel.
SOURCES = ["127.0.0.1", "127.255.255.255", "0.0.0.0", "224.0.0.1", "239.255.255.255", "255.255.255.255"]
SOURCES6 = ["::1", "::", "ff02::1", "ff0e::7"]
row = Refusals("martian_source")
for source in SOURCES:
    packet = ip4(source, HOST, 17, udp(source, HOST))
    row.refuse(from_peer(packet), from_peer(ip4(PEER, BOX, 47, gre(packet))))
for source in SOURCES6:
    packet = ip6(source, HOST6, 17, udp(source, HOST6))
    row.refuse(from_peer(packet), from_peer(ip6(PEER6, BOX6, 47, gre(packet))))
row = Refusals("martian_destination")
for target in ("127.0.0.1", "127.9.9.9", "0.0.0.0"):
    packet = ip4(FAR, target, 17, udp(FAR, target))
    row.refuse(from_peer(packet), from_peer(ip4(PEER, BOX, 47, gre(packet))))
for target in ("::1", "::"):
    packet = ip6(FAR6, target, 17, udp(FAR6, target))
    row.refuse(from_peer(packet), from_peer(ip6(PEER6, BOX6, 47, gre(packet))))

# Decapsulation.
row = Refusals("no_tunnel")
row.refuse(from_peer(received(INNER, "gre", source="198.51.100.99")), from_peer(received(INNER, "gre", key=8)),
           from_peer(received(INNER, "gre", key=0)), from_peer(received(INNER, "ip", source="198.51.100.99")),
           from_peer(received(INNER, "fou-gre", source="198.51.100.99")), from_peer(received(INNER, "fou-gre", key=7)),
           from_peer(received(INNER, "gre", True, source="2001:db8::99")), from_peer(received(INNER, "gre", True, key=7)),
           from_peer(received(INNER, "ip", True, source="2001:db8::99")),
           from_peer(received(INNER, "fou-ip", True, source="2001:db8::99")))

row = Refusals("outer_fragment")
row.refuse(from_peer(ip4(PEER, BOX, 47, gre(INNER)[:40], more=True)), from_peer(ip4(PEER, BOX, 47, gre(INNER)[40:], frag=5)),
           from_peer(ip4(PEER, BOX, 4, INNER[:32], more=True)), from_peer(ip4(PEER, BOX, 4, INNER[32:], frag=4)),
           from_peer(ip4(PEER, BOX, 17, udp(PEER, BOX, gre(INNER), 50000, 5555)[:40], more=True)))
FIRST, LATER = bytes([47, 0, 0, 1, 0, 0, 0, 9]), bytes([47, 0, 0, 5 << 3, 0, 0, 0, 9])
row.refuse(from_peer(ip6(PEER6, BOX6, 44, FIRST + gre(INNER)[:40])), from_peer(ip6(PEER6, BOX6, 44, LATER + gre(INNER)[40:])))

row = Refusals("gre_version")
row.refuse(*(from_peer(ip4(PEER, BOX, 47, gre(INNER, flags=version))) for version in range(1, 8)))
row.refuse(from_peer(ip4(PEER, BOX, 47, b"\x30\x81\x88\x0b" + (len(INNER)).to_bytes(2, "big") + b"\0\1\0\0\0\1" + INNER)),
           from_peer(ip6(PEER6, BOX6, 47, gre(INNER, flags=1))))
row = Refusals("gre_routing")
row.refuse(from_peer(ip4(PEER, BOX, 47, gre(INNER, flags=0x4000))), from_peer(ip6(PEER6, BOX6, 47, gre(INNER, flags=0x4000))))
row = Refusals("gre_reserved")
row.refuse(*(from_peer(ip4(PEER, BOX, 47, gre(INNER, flags=bit))) for bit in (0x0800, 0x0400, 0x0C00)))
row.refuse(from_peer(ip4(PEER, BOX, 47, gre(INNER, key=7, flags=0x0400))))
row = Refusals("gre_ethernet")
row.refuse(from_peer(ip4(PEER, BOX, 47, gre(from_peer(INNER), protocol=0x6558))),
           from_peer(ip6(PEER6, BOX6, 47, gre(from_peer(INNER), protocol=0x6558))),
           from_peer(ip4(PEER, BOX, 17, udp(PEER, BOX, gre(from_peer(INNER), protocol=0x6558), 50000, 5555))))
row = Refusals("gre_protocol")
row.refuse(*(from_peer(ip4(PEER, BOX, 47, gre(INNER, protocol=number))) for number in (0, 0x0004, 0x8847, 0x880B, 0x88BE, 0xFFFF)))
row = Refusals("gre_checksum")
summed = gre(INNER, checksum=True)
row.refuse(from_peer(ip4(PEER, BOX, 47, spoilt(summed, _4=summed[4] ^ 1))), from_peer(ip4(PEER, BOX, 47, summed[:-1] + b"\xff")),
           from_peer(ip4(PEER, BOX, 47, spoilt(summed, _4=0, _5=0))),
           from_peer(ip4(PEER, BOX, 47, spoilt(gre(INNER, key=7, checksum=True), _12=0x47))))

row = Refusals("udp_length")
full = udp(PEER, BOX, gre(INNER), 50000, 5555, checksum=0)
for length in (0, 1, 7, len(full) + 1, 65535):
    row.refuse(from_peer(ip4(PEER, BOX, 17, full[:4] + length.to_bytes(2, "big") + full[6:])))
row = Refusals("udp_checksum")
full = udp(PEER, BOX, gre(INNER), 50000, 5555)
row.refuse(from_peer(ip4(PEER, BOX, 17, spoilt(full, _7=full[7] ^ 1))), from_peer(ip4(PEER, BOX, 17, full[:-1] + b"\xff")))
full = udp(PEER6, BOX6, INNER, 50000, 5556)
row.refuse(from_peer(ip6(PEER6, BOX6, 17, spoilt(full, _6=full[6] ^ 1))), from_peer(ip6(PEER6, BOX6, 17, full[:-1] + b"\xff")),
           from_peer(ip6(PEER6, BOX6, 17, udp("2001:db8::77", BOX6, INNER, 50000, 5556))))  # of another sender
row = Refusals("udp_zero_checksum")
row.refuse(from_peer(ip6(PEER6, BOX6, 17, udp(PEER6, BOX6, INNER, 50000, 5556, checksum=0))))

# A ping for a tunnel's address, spoilt on its way (RFC 1122 §3.2.2): in its data, in its checksum, over IPv6.
row = Refusals("icmp_checksum")
spoiled = echo(PEER, BOX)
row.refuse(from_peer(spoiled[:-1] + b"!"), from_peer(spoiled[:22] + b"\0\0" + spoiled[24:]))
message = transport(PEER6, BOX6, 58, ICMPv6EchoRequest(id=1, seq=1, data=b"ping"))
row.refuse(from_peer(ip6(PEER6, BOX6, 58, message[:-1] + b"!")), from_peer(ip6("2001:db8::77", BOX6, 58, message)))

row = Refusals("ecn_illegal")
row.refuse(from_peer(ip4(PEER, BOX, 47, gre(INNER), tos=3)), from_peer(ip4(PEER, BOX, 4, INNER, tos=3)),
           from_peer(ip6(PEER6, BOX6, 47, gre(good6), tc=3)),
           from_peer(ip4(PEER, BOX, 17, udp(PEER, BOX, gre(INNER), 50000, 5555), tos=0xBB)))

row = Refusals("too_many_layers")
nested = INNER
for _ in range(5):
    nested = received(nested, "gre")
row.refuse(from_peer(nested), from_peer(received(nested, "gre")))

# Forwarding.
row = Refusals("ttl")
# Nobody is told about a TTL that was used up before; the senders of the others cannot be reached from here.
row.refuse(*(from_peer(datagram(FAR, HOST, ttl=ttl)) for ttl in (0,)), from_peer(datagram(FAR6, HOST6, ttl=0)),
           from_peer(received(datagram(FAR, HOST, ttl=0), "gre")))
row.refuse(from_peer(datagram(FAR, HOST, ttl=1)), from_peer(datagram(FAR6, HOST6, ttl=1)),
           from_peer(received(datagram(FAR, HOST, ttl=1), "gre")),
           from_peer(received(datagram(FAR6, HOST6, ttl=1), "ip", True)), lost="no_route")
row = Row("drop-ttl-encap", base() + tunnel() + far(), tunnels={"t": 1476}, mask=[OWN_ID])
for packet, speaker, kind in ((datagram(ttl=1), "10.1.0.1", 11), (datagram(HOST6, FAR6, ttl=1), "2001:db8:1::1", 3)):
    row.send("lan", from_host(packet)).error("ttl", "lan", to_host(complaint(speaker, kind, 0, 0, packet)), loose=["t"])

row = Refusals("no_route")
row.refuse(from_peer(datagram(FAR, "203.0.113.9")), from_peer(datagram(FAR6, "2001:db8:ffff::1")),
           from_peer(received(datagram(FAR, "203.0.113.9"), "gre")),
           from_peer(received(datagram(FAR6, "2001:db8:ffff::1"), "ip", True)), lost="no_route")
row = Refusals("neighbor_unknown")
row.refuse(from_peer(datagram(FAR, "10.1.0.77")), from_peer(datagram(FAR6, "2001:db8:1::77")),
           from_peer(received(datagram(FAR, "10.1.0.77"), "gre")))

row = Row("drop-too-big", base() + tunnel() + tunnel("b", "ip", BOX6, PEER6, udp={"port": 5556, "source_port": 49152})
          + far() + route("10.3.0.0/16", tunnel="b") + tunnel("small", key=1, mtu=1000) + route("10.4.0.0/16", tunnel="small"),
          tunnels={"t": 1476, "b": 1452, "small": 1000}, mask=[ID, OWN_ID, LABEL])


def sized(target, size, source=HOST):
    header = 40 if ":" in source else 20
    return datagram(source, target, payload=b"x" * (size - header - 8), **({} if header == 40 else {"df": True}))


for target, name, limit, wrap in (("10.2.0.9", "t", 1476, lambda p: outer(p, "gre")),
                                  ("10.3.0.9", "b", 1452, lambda p: outer(p, "fou-ip", True)),
                                  ("10.4.0.9", "small", 1000, lambda p: outer(p, "gre", key=1))):
    for size in (limit - 1, limit):
        packet = sized(target, size)
        row.send("lan", from_host(packet)).out("wan", to_peer(wrap(hop(packet))), tx={name: packet})
    packet = sized(target, limit + 1)
    row.send("lan", from_host(packet)).error(
        "too_big", "lan", to_host(complaint("10.1.0.1", 3, 4, limit, packet)), loose=[name])
packet = sized(FAR6, 1476, HOST6)
row.send("lan", from_host(packet)).out("wan", to_peer(outer(hop(packet), "gre")), tx={"t": packet})
packet = sized(FAR6, 1477, HOST6)
row.send("lan", from_host(packet)).error(
    "too_big", "lan", to_host(complaint("2001:db8:1::1", 2, 0, 1476, packet)), loose=["t"])

# A port's own MTU, smaller than that of the port it came in by.
row = Row("drop-too-big-port", port("lan", 0, "10.1.0.1/24", "2001:db8:1::1/64", mtu=9000)
          + port("wan", 1, "192.0.2.2/24", "2001:db8::2/64", mtu=1400) + neighbor("wan", PEER, PEER_MAC)
          + neighbor("wan", PEER6, PEER_MAC) + neighbor("lan", HOST, HOST_MAC) + neighbor("lan", HOST6, HOST_MAC)
          + GATEWAYS, mask=[OWN_ID])
for target, source, speaker, kind, code in ((FAR, HOST, "10.1.0.1", 3, 4), (FAR6, HOST6, "2001:db8:1::1", 2, 0)):
    packet = sized(target, 1400, source)
    row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet)))
    for size in (1401, 9000):
        packet = sized(target, size, source)
        row.send("lan", from_host(packet)).error(
            "too_big", "lan", to_host(complaint(speaker, kind, code, 1400, packet)))
