"""GRE keepalives in the ways of several vendors, and the packets that RFC 2784 §3.1 wants discarded."""

from scapy.layers.inet6 import ICMPv6EchoReply

from oracle import *
from rows.drops import Refusals

INSIDE = ["10.255.0.1/31", "2001:db8:ff::1/127"]
ANSWERS = base() + tunnel(addresses=INSIDE, keepalive=True, inner_source=["10.2.0.0/16"])


def keepalive(src=BOX, dst=PEER, protocol=0, ttl=255, **fields):
    """What is to come back: GRE with nothing in it."""
    return ip4(src, dst, 47, gre(b"", protocol=protocol, **fields), ttl=ttl)


def from_tunnel(inner, protocol=None, **fields):
    return from_peer(ip4(PEER, BOX, 47, gre(inner, protocol=protocol, **fields)))


def readdressed(packet, dst):
    return rechecked(packet[:16] + bytes(map(int, dst.split("."))) + packet[20:])


row = Row("keepalives", ANSWERS, tunnels={"t": 1476}, mask=[ID])
# Cisco: taken out and routed back, also with fields of GRE in it, and although the source is none of inner_source.
for inner in (keepalive(), keepalive(ttl=2), keepalive(key=7, sequence=1), keepalive(checksum=True)):
    row.send("wan", from_tunnel(inner)).out("wan", to_peer(hop(inner)), rx={"t": inner})
# Huawei: GRE with protocol type 4 outside.
for inner in (keepalive(), keepalive(protocol=4)):
    row.send("wan", from_tunnel(inner, protocol=4)).out("wan", to_peer(hop(inner)), rx={"t": inner})
# VeloCloud: the addresses inside the tunnel, so that it goes back through it.
inner = keepalive("10.255.0.1", "10.255.0.0")
row.send("wan", from_tunnel(inner)).out(
    "wan", to_peer(ip4(BOX, PEER, 47, gre(hop(inner)), df=True)), rx={"t": inner}, tx={"t": inner})
# MikroTik behind NAT: the inner destination is an address that only it knows, so it goes to where it came from.
inner = keepalive(dst="192.168.5.15")
row.send("wan", from_tunnel(inner)).out("wan", to_peer(readdressed(hop(inner), PEER)), rx={"t": inner})
# What is no keepalive is still held to inner_source.
inner = datagram("10.3.0.9", HOST)
row.send("wan", from_tunnel(inner)).drop("inner_source", loose=["t"])

row = Row("keepalives-gre6", base() + tunnel(local=BOX6, remote=PEER6, keepalive=True), tunnels={"t": 1456})
inner = ip6(BOX6, PEER6, 47, gre(b"", protocol=0), hlim=255)
row.send("wan", from_peer(ip6(PEER6, BOX6, 47, gre(inner)))).out("wan", to_peer(hop(inner)), rx={"t": inner})

row = Refusals("gre_keepalive")
for inner in (keepalive(), keepalive(protocol=4), keepalive("10.255.0.1", "10.255.0.0"), keepalive(dst="192.168.5.15")):
    row.refuse(from_tunnel(inner))
row.refuse(from_tunnel(keepalive(), protocol=4),
           from_peer(ip6(PEER6, BOX6, 47, gre(ip6(BOX6, PEER6, 47, gre(b"", protocol=0))))))

# A payload for the router that encapsulated it is discarded, but not ICMP, by which services probe: their own reply, with
# this box's address as source, is to come back.
row = Refusals("looped")
row.refuse(from_tunnel(datagram(BOX, PEER)), from_tunnel(datagram(FAR, PEER)), from_tunnel(syn(HOST, PEER)),
           from_peer(ip6(PEER6, BOX6, 47, gre(datagram(FAR6, PEER6)))))
for inner in (ip4(BOX, PEER, 1, bytes(ICMP(type=0, id=7, seq=1) / Raw(b"probe"))), echo(FAR, PEER)):
    row.send("wan", from_tunnel(inner)).out("wan", to_peer(hop(inner)), rx={"t": inner})
inner = ip6(BOX6, PEER6, 58, transport(BOX6, PEER6, 58, ICMPv6EchoReply(id=1, seq=1, data=b"probe")))
row.send("wan", from_peer(ip6(PEER6, BOX6, 47, gre(inner)))).out("wan", to_peer(hop(inner)), rx={"t6": inner})
# Of tunnels without GRE no RFC asks for this.
inner = datagram(FAR, PEER)
row.send("wan", from_peer(ip4(PEER, BOX, 4, inner))).out("wan", to_peer(hop(inner)), rx={"s": inner})
