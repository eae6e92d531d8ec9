"""TCP's maximum segment size: lowered where a limit says so, and nothing else ever touched (RFC 9293 §3.7.1)."""

from oracle import *
from rows.tunnels import outer, received

NET = base() + route("10.2.0.0/16", gateway=PEER) + route("2001:db8:2::/48", gateway=PEER6)
OWN = route("10.2.0.0/16", gateway=PEER) + route("2001:db8:2::/48", gateway=PEER6)


def passes(row, sent, left=None, port_in="lan", **keys):
    """A packet from the host to the peer (or back) that comes out as `left`, one hop further."""
    left = hop(sent if left is None else left)
    if port_in == "lan":
        row.send("lan", from_host(sent)).out("wan", to_peer(left), **keys)
    else:
        row.send("wan", from_peer(sent)).out("lan", to_host(left), **keys)


# Directions, SYN and SYN-ACK, both families.
for direction in ("in", "out", "both"):
    row = Row(f"mss-{direction}", NET + clamp("wan", direction, ipv4=1332, ipv6=1312))
    for flags in ("S", "SA", "SEC"):
        for v4, v6, port_in, acts in (((HOST, FAR), (HOST6, FAR6), "lan", direction in ("out", "both")),
                                      ((FAR, HOST), (FAR6, HOST6), "wan", direction in ("in", "both"))):
            passes(row, syn(*v4, flags=flags), syn(*v4, size=1332 if acts else 1460, flags=flags), port_in)
            passes(row, syn(*v6, 1440, flags=flags), syn(*v6, size=1312 if acts else 1440, flags=flags), port_in)

# Only lowered: smaller ones, and the limit itself, stay. A family without a limit is left alone.
row = Row("mss-only-lowers", NET + clamp("wan", "both", ipv4=1332))
for size in (0, 1, 536, 1331, 1332):
    passes(row, syn(size=size))
for size in (1333, 1460, 8960, 65535):
    passes(row, syn(size=size), syn(size=1332))
passes(row, syn(HOST6, FAR6, 9000))

# Only SYNs, only TCP.
row = Row("mss-only-syn", NET + clamp("wan", "both", ipv4=1332, ipv6=1312))
for flags in ("A", "PA", "FA", "R", "RA", ""):
    passes(row, syn(flags=flags))
    passes(row, syn(HOST6, FAR6, flags=flags))
looks = tcp(HOST, FAR, mss(1460))
passes(row, ip4(HOST, FAR, 253, looks))
passes(row, datagram(payload=mss(1460) * 4))
passes(row, ip4(HOST, FAR, 6, tcp(HOST, FAR)))  # no options at all: none is put in
passes(row, ip4(HOST, FAR, 6, tcp(HOST, FAR, b"\x01\x01\x04\x02\x03\x03\x07\x00")))

# Options in any order, at any alignment; data behind the SYN (RFC 7413) stays.
row = Row("mss-option-order", NET + clamp("wan", "out", ipv4=1332, ipv6=1312))
NOP, SACK, SCALE = b"\x01", b"\x04\x02", b"\x03\x03\x07"
STAMP = b"\x08\x0a\x00\x01\x02\x03\x00\x00\x00\x00"
COOKIE = b"\x22\x0a12345678"
for before in (b"", NOP, NOP * 2, NOP * 3, SACK, SCALE, SCALE + SACK, STAMP, STAMP + SCALE, COOKIE + NOP, SCALE + STAMP,
               b"\xfe\x05abc", NOP * 35, NOP * 36):
    for after in (b"", SACK, STAMP):
        if len(before) + 4 + len(after) > 40:
            continue
        for source, target, limit in ((HOST, FAR, 1332), (HOST6, FAR6, 1312)):
            passes(row, syn(source, target, 1460, before=before, after=after),
                   syn(source, target, limit, before=before, after=after))
# Of several MSS options receivers take the first or the last: all are lowered.
passes(row, syn(after=mss(1400) + mss(1000)), syn(size=1332, after=mss(1332) + mss(1000)))
passes(row, syn(payload=b"early data"), syn(size=1332, payload=b"early data"))
passes(row, syn(payload=b"odd"), syn(size=1332, payload=b"odd"))
packet = ip4(HOST, FAR, 6, tcp(HOST, FAR, mss(1460)), options=b"\x94\x04\x00\x00")
passes(row, packet, ip4(HOST, FAR, 6, tcp(HOST, FAR, mss(1332)), options=b"\x94\x04\x00\x00"))
HOP_BY_HOP = b"\x06\x00\x01\x04\x00\x00\x00\x00"
passes(row, ip6(HOST6, FAR6, 0, HOP_BY_HOP + tcp(HOST6, FAR6, mss(1440))),
       ip6(HOST6, FAR6, 0, HOP_BY_HOP + tcp(HOST6, FAR6, mss(1312))))

# Sums that fold: every MSS near the limits and checksums near 0 and 0xffff.
row = Row("mss-checksum-corners", NET + clamp("wan", "out", ipv4=1332))
for sport in range(60000, 60200):
    passes(row, syn(size=65535 - sport % 7, sport=sport, before=NOP * (sport % 2)),
           syn(size=1332, sport=sport, before=NOP * (sport % 2)))

# Malformed options: what cannot be read is left alone, as is everything behind it.
row = Row("mss-malformed", NET + clamp("wan", "both", ipv4=1332, ipv6=1312))
for options in (b"\x02\x00\x05\xb4", b"\x02\x01\x05\xb4", b"\x02\x03\x05\xb4", b"\x02\x05\x05\xb4\x00\x01\x01\x01",
                b"\x03\x00" + mss(1460) + NOP * 2, b"\x03\x01" + mss(1460) + NOP * 2,
                b"\x03\xff" + mss(1460) + NOP * 2, NOP * 2 + b"\x02\x04", NOP * 1 + b"\x02\x04\x05", NOP * 3 + b"\x02",
                b"\x00\x01\x01\x01" + mss(1460), b"\x01\x00" + mss(1460) + b"\x00\x00", b"\x08\x0a" + NOP * 2,
                b"\x02\xff\x05\xb4"):
    for source, target in ((HOST, FAR), (HOST6, FAR6)):
        passes(row, ip(source, target, 6, tcp(source, target, options)))
# A data offset below five words or beyond the packet.
for offset in (0, 4, 15):
    raw = bytearray(tcp(HOST, FAR, mss(1460)))
    raw[12] = offset << 4
    raw[16:18] = b"\0\0"
    whole = bytes.fromhex("") + ip4(HOST, FAR, 6, bytes(raw))
    pseudo = whole[12:20] + bytes([0, 6]) + len(raw).to_bytes(2, "big")
    raw[16:18] = internet_checksum(pseudo + bytes(raw)).to_bytes(2, "big")
    passes(row, ip4(HOST, FAR, 6, bytes(raw)))
for cut in (0, 1, 12, 13, 14, 19):  # a TCP header that the packet does not hold whole
    passes(row, ip4(HOST, FAR, 6, tcp(HOST, FAR, mss(1460))[:cut]))
    passes(row, ip6(HOST6, FAR6, 6, tcp(HOST6, FAR6, mss(1460))[:cut]))
for cut in (21, 22, 23):  # an option beyond the end
    passes(row, ip4(HOST, FAR, 6, tcp(HOST, FAR, mss(1460))[:cut]))
row.marks["bad_checksums"] = True  # of the segments cut short

# Fragments: the first one holds the header, the others only look like it.
row = Row("mss-fragments", NET + clamp("wan", "both", ipv4=1332, ipv6=1312))
whole, lowered = tcp(HOST, FAR, mss(1460), payload=b"x" * 40), tcp(HOST, FAR, mss(1332), payload=b"x" * 40)
passes(row, ip4(HOST, FAR, 6, whole[:32], more=True, ident=5), ip4(HOST, FAR, 6, lowered[:32], more=True, ident=5))
passes(row, ip4(HOST, FAR, 6, whole[32:], frag=4, ident=5))
for offset in (1, 3, 185, 8189 - 5):
    for more in (False, True):
        passes(row, ip4(HOST, FAR, 6, tcp(HOST, FAR, mss(1460)), frag=offset, more=more, ident=6))


def piece(payload, offset, more):
    return ip6(HOST6, FAR6, 44, bytes([6, 0]) + (offset << 3 | more).to_bytes(2, "big") + b"\0\0\0\x07" + payload)


whole, lowered = tcp(HOST6, FAR6, mss(1440), payload=b"x" * 40), tcp(HOST6, FAR6, mss(1312), payload=b"x" * 40)
passes(row, piece(whole[:32], 0, 1), piece(lowered[:32], 0, 1))
passes(row, piece(whole[32:], 4, 0))
passes(row, piece(tcp(HOST6, FAR6, mss(1440)), 9, 0))
passes(row, piece(tcp(HOST6, FAR6, mss(1440)), 9, 1))

# A prefix: flows with an address of it on either side.
row = Row("mss-prefix", NET + route("203.0.113.0/24", gateway=PEER) + clamp("wan", "both", prefix="10.2.0.0/17", ipv4=1300)
          + clamp("wan", "both", prefix="2001:db8:2:8000::/49", ipv6=1280))
passes(row, syn(HOST, "10.2.127.255"), syn(HOST, "10.2.127.255", 1300))
passes(row, syn(HOST, "10.2.128.0"))
passes(row, syn(HOST, "203.0.113.1"))
passes(row, syn("10.2.0.0", HOST), syn("10.2.0.0", HOST, 1300), "wan")
passes(row, syn("10.2.255.0", HOST), port_in="wan")
passes(row, syn(HOST6, "2001:db8:2:8000::1"), syn(HOST6, "2001:db8:2:8000::1", 1280))
passes(row, syn(HOST6, "2001:db8:2:7fff::1"))

# Several limits: the lowest wins, whatever the order of their crossing or in the file.
row = Row("mss-lowest", base() + OWN + route("10.3.0.0/16", gateway=PEER) + clamp("lan", "in", ipv4=1400)
          + clamp("wan", "out", ipv4=1350) + clamp("wan", "both", ipv4=1380, ipv6=1290)
          + clamp("wan", "out", prefix="10.3.0.0/16", ipv4=1300) + clamp("lan", "both", ipv6=1270))
passes(row, syn(), syn(size=1350))
passes(row, syn(HOST, "10.3.0.1"), syn(HOST, "10.3.0.1", 1300))
passes(row, syn(FAR, HOST), syn(FAR, HOST, 1380), "wan")
passes(row, syn(HOST6, FAR6), syn(HOST6, FAR6, 1270))
passes(row, syn(FAR6, HOST6), syn(FAR6, HOST6, 1270), "wan")

# Different limits of different interfaces, packet by packet in one burst.
row = Row("mss-by-interface", base(wan_vlans=vlan("a", 10, "198.51.100.1/31") + vlan("b", 20, "198.51.100.3/31"))
          + neighbor("a", "198.51.100.0", PEER_MAC) + neighbor("b", "198.51.100.2", PEER_MAC)
          + route("10.2.0.0/16", gateway=PEER) + route("10.3.0.0/16", gateway="198.51.100.0")
          + route("10.4.0.0/16", gateway="198.51.100.2")
          + clamp("wan", "out", ipv4=1300) + clamp("b", "out", ipv4=1200))
for order in ((2, 3, 4), (4, 3, 2), (3, 3, 4, 4, 2, 2), (2, 4, 2, 4, 3)):
    for net in order:  # a port's clamp does not hold for its VLANs
        tag, limit = {2: (None, 1300), 3: (10, 1460), 4: (20, 1200)}[net]
        sent = syn(HOST, f"10.{net}.0.1")
        left = to_peer(hop(syn(HOST, f"10.{net}.0.1", limit)), tag=tag)
        row.send("lan", from_host(sent)).out("wan", left)


def into(row, name, sent, left, clamped=None, **keys):
    row.send("lan", from_host(sent)).out("wan", to_peer(outer(hop(left), "gre", **keys)), tx={name: sent}, clamped=clamped)


def out_of(row, name, sent, left, clamped=None, **keys):
    row.send("wan", from_peer(received(sent, "gre", **keys))).out(
        "lan", to_host(hop(left)), rx={name: sent}, clamped=clamped)


# A tunnel's own: auto in both directions, off, fixed for one family.
row = Row("mss-tunnel-auto", base() + tunnel() + far(), tunnels={"t": 1476}, mask=[ID])
for flags in ("S", "SA"):
    into(row, "t", syn(flags=flags), syn(size=1436, flags=flags), "t")
    into(row, "t", syn(HOST6, FAR6, flags=flags), syn(HOST6, FAR6, 1416, flags=flags), "t")
    out_of(row, "t", syn(FAR, HOST, flags=flags), syn(FAR, HOST, 1436, flags=flags), "t")
    out_of(row, "t", syn(FAR6, HOST6, flags=flags), syn(FAR6, HOST6, 1416, flags=flags), "t")
into(row, "t", syn(size=1436), syn(size=1436))
row = Row("mss-tunnel-mtu", base() + tunnel(mtu=1372) + far(), tunnels={"t": 1372}, mask=[ID])
into(row, "t", syn(), syn(size=1332), "t")
into(row, "t", syn(HOST6, FAR6), syn(HOST6, FAR6, 1312), "t")
row = Row("mss-tunnel-off", base() + tunnel(mss="off") + far(), tunnels={"t": (1476, None, None)}, mask=[ID])
into(row, "t", syn(size=9000), syn(size=9000))
out_of(row, "t", syn(FAR6, HOST6, size=9000), syn(FAR6, HOST6, size=9000))
row = Row("mss-tunnel-fixed", base() + tunnel(mss={"ipv4": 1332, "ipv6": 1312}) + far()
          + tunnel("k", key=1, mss={"ipv4": 1200}) + route("10.3.0.0/16", tunnel="k") + route("2001:db8:3::/48", tunnel="k"),
          tunnels={"t": (1476, 1332, 1312), "k": (1472, 1200, None)}, mask=[ID])
into(row, "t", syn(), syn(size=1332), "t")
into(row, "t", syn(HOST6, FAR6), syn(HOST6, FAR6, 1312), "t")
into(row, "k", syn(HOST, "10.3.0.1"), syn(HOST, "10.3.0.1", 1200), "k", key=1)
into(row, "k", syn(HOST6, "2001:db8:3::1"), syn(HOST6, "2001:db8:3::1"), key=1)
out_of(row, "k", syn(FAR, HOST), syn(FAR, HOST, 1200), "k", key=1)

row = Row("mss-profiles", base() + tunnel("p1", profile="gre-internet") + tunnel("p2", key=2, profile="cni-legacy-fou")
          + tunnel("p3", key=3, profile="cni-legacy-fou", mss={"ipv4": 1000, "ipv6": 1100})
          + tunnel("p4", key=4, profile="cni-legacy-fou", mtu=1400)
          + "".join(route(f"10.1{n}.0.0/16", tunnel=f"p{n}") for n in (1, 2, 3, 4)),
          tunnels={"p1": 1476, "p2": (1372, 1332, 1312), "p3": (1372, 1000, 1100), "p4": (1400, 1332, 1312)}, mask=[ID])
into(row, "p1", syn(HOST, "10.11.0.1"), syn(HOST, "10.11.0.1", 1436), "p1")
for number, limit in ((2, 1332), (3, 1000), (4, 1332)):
    into(row, f"p{number}", syn(HOST, f"10.1{number}.0.1"), syn(HOST, f"10.1{number}.0.1", limit), f"p{number}", key=number)

# Who is said to have clamped: the one whose limit was the one applied.
row = Row("mss-attribution", base() + clamp("lan", "in", ipv4=1400) + tunnel("a", key=1, mss={"ipv4": 1300})
          + tunnel("b", key=2, mss={"ipv4": 1450}) + tunnel("c", key=3, mss={"ipv4": 1350}) + clamp("c", "out", ipv4=1250)
          + "".join(route(f"10.1{n}.0.0/16", tunnel=name) for n, name in ((2, "a"), (3, "b"), (4, "c"))),
          tunnels={"a": (1472, 1300, None), "b": (1472, 1450, None), "c": (1472, 1350, None)}, mask=[ID])
into(row, "a", syn(HOST, "10.12.0.1"), syn(HOST, "10.12.0.1", 1300), "a", key=1)
into(row, "b", syn(HOST, "10.13.0.1"), syn(HOST, "10.13.0.1", 1400), None, key=2)  # the interface's clamp did it
into(row, "c", syn(HOST, "10.14.0.1"), syn(HOST, "10.14.0.1", 1250), "c", key=3)
into(row, "a", syn(HOST, "10.12.0.1", 1299), syn(HOST, "10.12.0.1", 1299), None, key=1)
out_of(row, "b", syn("10.13.0.1", HOST), syn("10.13.0.1", HOST, 1450), "b", key=2)


def across(sent, size, rx, tx, key, clamped):
    left = to_peer(outer(hop(syn("10.9.0.1", sent, size)), "gre", key=key))
    packet = syn("10.9.0.1", sent)
    row.send("wan", from_peer(received(packet, "gre", key={"a": 1, "b": 2, "c": 3}[rx]))).out(
        "wan", left, rx={rx: packet}, tx={tx: packet}, clamped=clamped)


across("10.13.0.1", 1300, "a", "b", 2, "a")
across("10.12.0.1", 1300, "b", "a", 1, "a")
across("10.14.0.1", 1250, "a", "c", 3, "c")
# Out of a tunnel and back into it: equal limits, one packet, counted once.
across("10.12.0.1", 1300, "a", "a", 1, "a")

# A clamp looks at the packet that crosses there, not into what it carries.
row = Row("mss-not-inside", base() + tunnel(mss="off") + far() + clamp("wan", "both", ipv4=1000, ipv6=1000)
          + route("10.9.0.0/16", gateway=PEER), tunnels={"t": (1476, None, None)}, mask=[ID])
into(row, "t", syn(), syn())
out_of(row, "t", syn(FAR, HOST), syn(FAR, HOST))
carried = ip4(HOST, "10.9.0.1", 47, gre(syn()))
row.send("lan", from_host(carried)).out("wan", to_peer(hop(carried)))

# Direct server return: requests out of the tunnel as they are, answers out of the transit port with 1332.
row = Row("mss-direct-return", base(lan_vlans=vlan("transit", 7, "198.51.100.2/31")) + tunnel(mss="off")
          + neighbor("transit", "198.51.100.3", PEER_MAC) + route("0.0.0.0/0", gateway="198.51.100.3")
          + clamp("transit", "out", prefix="10.1.0.0/24", ipv4=1332), tunnels={"t": (1476, None, None)})
out_of(row, "t", syn("8.8.8.8", HOST), syn("8.8.8.8", HOST))
for flags in ("SA", "S"):
    sent, left = syn(HOST, "8.8.8.8", flags=flags), syn(HOST, "8.8.8.8", 1332, flags=flags)
    row.send("lan", from_host(sent)).out("lan", ethernet(PEER_MAC, LAN_MAC, hop(left), tag=7))
