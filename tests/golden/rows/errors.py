"""Packets that cannot go on as they are: cut into fragments, or their senders told by ICMP (RFC 792, 4443, 7588, 7676)."""

from oracle import *
from rows.tunnels import outer, received


def cut(packet, limit):
    """The fragments of an IPv4 packet without options (RFC 791 §3.2), each as large as it may be."""
    room = (limit - 20) & ~7
    data = packet[20:]
    found = []
    for start in range(0, len(data), room):
        more = start + room < len(data)
        header = bytearray(packet[:20])
        header[2:4] = struct.pack("!H", 20 + len(data[start:start + room]))
        header[6:8] = struct.pack("!H", (0x2000 if more else 0) | start // 8)
        found.append(rechecked(bytes(header) + data[start:start + room]))
    return found


def large(size, target=FAR, ident=77):
    return datagram(HOST, target, payload=bytes(number & 255 for number in range(size - 28)), ident=ident)


# Without DF: cut before it is encapsulated, each piece with headers of its own (RFC 7588 §3.1).
row = Row("fragments-inner", base() + tunnel() + far() + tunnel("k", key=5, mtu=700) + route("10.3.0.0/16", tunnel="k"),
          tunnels={"t": 1476, "k": 700}, mask=[ID])
for size in (1477, 2952, 2953, 8000):
    packet = large(size)
    found = [hop(piece) for piece in cut(packet, 1476)]
    row.send("lan", from_host(packet)).pieces("wan", [to_peer(outer(piece, "gre")) for piece in found], tx={"t": found})
packet = large(1500, "10.3.0.9")
found = [hop(piece) for piece in cut(packet, 700)]
row.send("lan", from_host(packet)).pieces("wan", [to_peer(outer(piece, "gre", key=5)) for piece in found], tx={"k": found})

# The same without a tunnel, and out of one.
row = Row("fragments-link", port("lan", 0, "10.1.0.1/24", mtu=1000) + port("wan", 1, "192.0.2.2/24")
          + neighbor("lan", HOST, HOST_MAC) + neighbor("wan", PEER, PEER_MAC) + tunnel(), tunnels={"t": 1476})
packet = datagram(FAR, HOST, payload=b"y" * 1200, ident=5)
row.send("wan", from_peer(packet)).pieces("lan", [to_host(hop(piece)) for piece in cut(packet, 1000)])
row.send("wan", from_peer(received(packet, "gre"))).pieces(
    "lan", [to_host(hop(piece)) for piece in cut(packet, 1000)], rx={"t": packet})

# A tunnel below 1,280: IPv6 goes in whole and the outer packet is cut (RFC 7676 §3.1).
row = Row("fragments-outer", base() + tunnel(mtu=1000) + far(), tunnels={"t": 1000}, mask=[OWN_ID])
packet = datagram(HOST6, FAR6, payload=b"z" * 1232)
whole = outer(hop(packet), "gre")
whole = rechecked(whole[:6] + b"\0\0" + whole[8:])
row.send("lan", from_host(packet)).pieces("wan", [to_peer(piece) for piece in cut(whole, 1024)], tx={"t": hop(packet)})

# Who speaks: the interface's first address of the family, a tunnel's, else its local.
row = Row("errors-speaker", base(wan_vlans=vlan("cni", 120, "198.51.100.1/31")) + neighbor("cni", "198.51.100.0", PEER_MAC)
          + tunnel("own", addresses=["10.255.0.1/31", "10.255.1.1/31"]) + tunnel("bare", "ip")
          + route("10.2.0.0/16", tunnel="own") + route("10.3.0.0/16", tunnel="bare"),
          tunnels={"own": 1476, "bare": 1480}, mask=[ID, OWN_ID])
packet = datagram(HOST, "10.99.0.1")
row.send("lan", from_host(packet)).error("no_route", "lan", to_host(complaint("10.1.0.1", 3, 0, 0, packet)))
packet = datagram(HOST6, "2001:db8:99::1")
row.send("lan", from_host(packet)).error("no_route", "lan", to_host(complaint("2001:db8:1::1", 1, 0, 0, packet)))
packet = datagram("10.2.0.9", "10.99.0.1")
error = complaint("10.255.0.1", 3, 0, 0, packet)
row.send("wan", from_peer(received(packet, "gre"))).error(
    "no_route", "wan", to_peer(outer(error, "gre", tos=0xC0)), tunnel_name="own", rx={"own": packet}, tx={"own": error})
packet = datagram("10.3.0.9", "10.99.0.1", ttl=1)
error = complaint(BOX, 11, 0, 0, packet)
row.send("wan", from_peer(received(packet, "ip"))).error(
    "ttl", "wan", to_peer(outer(error, "ip", tos=0xC0)), tunnel_name="bare", rx={"bare": packet}, tx={"bare": error})

# How many: ten a second to one address, and what `[icmp]` says.
for name, text, count in (("errors-rate", "", 10), ("errors-rate-set", "[icmp]\nper_source = 3\ntotal = 4\n\n", 3)):
    row = Row(name, text + base(), mask=[OWN_ID])
    packet = datagram(HOST, "10.99.0.1")
    for number in range(12):
        row.send("lan", from_host(packet))
        if number < count:
            row.error("no_route", "lan", to_host(complaint("10.1.0.1", 3, 0, 0, packet)))
        else:
            row.drop("no_route")
    row.time += 5_000_000
    row.send("lan", from_host(packet)).error("no_route", "lan", to_host(complaint("10.1.0.1", 3, 0, 0, packet)))

# Errors about outer packets: told on to the inner sender, where enough of its packet was quoted (RFC 2473 §8).
row = Row("errors-relayed", base() + tunnel("v4", key=3) + tunnel("v6", "ip", BOX6, PEER6, udp={"source_port": 50000})
          + route("10.2.0.0/16", tunnel="v4") + route("2001:db8:2::/48", tunnel="v6"),
          tunnels={"v4": 1472, "v6": 1452}, mask=[OWN_ID])
inner = hop(datagram(payload=b"q" * 1300, df=True))
sent = outer(inner, "gre", key=3)
for kind, code, mtu, told in ((3, 4, 1300, (3, 4, 1272)), (3, 0, 0, (3, 1, 0)), (11, 0, 0, (3, 1, 0))):
    row.send("wan", from_peer(complaint("192.0.2.77", kind, code, mtu, sent))).answer(
        "lan", to_host(complaint(BOX, *told, inner[:548 - 28])))
inner = hop(datagram(HOST6, FAR6, payload=b"q" * 1340))
sent = outer(inner, "fou-ip", True, sport=50000, dport=5555)
for kind, code, mtu, told in ((2, 0, 1400, (2, 0, 1352)), (1, 0, 0, (1, 3, 0)), (3, 0, 0, (1, 3, 0))):
    row.send("wan", from_peer(complaint("2001:db8:9::77", kind, code, mtu, sent))).answer(
        "lan", to_host(complaint(BOX6, *told, inner[:1232 - 48])))
# About nothing that this box's tunnels send, or about something else than that: the host's.
foreign = ip4(BOX, "198.51.100.200", 47, gre(inner, key=3))
for cause in (foreign, outer(inner, "gre", key=4), datagram(BOX, "192.0.2.200")):
    frame = from_peer(complaint("192.0.2.77", 3, 4, 1300, cause))
    row.send("wan", frame).kernel("wan", frame)
