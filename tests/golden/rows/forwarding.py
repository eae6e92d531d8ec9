"""Plain forwarding, VLANs, routes, and what is the host's."""

from scapy.layers.inet6 import (ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr,
                                IPv6)
from scapy.layers.l2 import ARP

from oracle import *

GATEWAY_ROUTES = route("10.2.0.0/16", gateway=PEER) + route("2001:db8:2::/48", gateway=PEER6)

row = Row("forward-ip4", base() + GATEWAY_ROUTES)
for packet in (datagram(), datagram(ttl=2, tos=0xB8), datagram(df=True, ident=7), datagram(payload=b""),
               datagram(payload=b"x" * 1472), syn(), echo(HOST, FAR)):
    row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet)))
back = datagram(FAR, HOST, ttl=255)
row.send("wan", from_peer(back)).out("lan", to_host(hop(back)))

row = Row("forward-ip6", base() + GATEWAY_ROUTES)
for packet in (datagram(HOST6, FAR6), datagram(HOST6, FAR6, ttl=2, tos=0xB8, label=0x12345),
               datagram(HOST6, FAR6, payload=b"x" * 1452), syn(HOST6, FAR6)):
    row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet)))
back = datagram(FAR6, HOST6, ttl=255)
row.send("wan", from_peer(back)).out("lan", to_host(hop(back)))

# The header checksum's corners: RFC 1624 §3 is about results of 0 and 0xffff. With each identification once, the sum
# passes through every value there is around them.
row = Row("forward-ip4-checksum-corners", base() + GATEWAY_ROUTES)
probe = ip4(HOST, FAR, 253, b"", ident=0)
start = int.from_bytes(probe[10:12], "big")
for step in range(-260, 4):
    packet = ip4(HOST, FAR, 253, b"", ident=(start + step) % 0xFFFF)
    row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet)))

row = Row("forward-padding", base() + GATEWAY_ROUTES)
for packet in (datagram(payload=b"1"), datagram(HOST6, FAR6, payload=b"")):
    row.send("lan", from_host(packet) + b"\xAA" * 18).out("wan", to_peer(hop(packet)))

# Transit packets with options or hop-by-hop headers are forwarded.
row = Row("forward-options", base() + GATEWAY_ROUTES)
packet = ip4(HOST, FAR, 17, udp(HOST, FAR), options=b"\x94\x04\x00\x00")  # RFC 2113 router alert
row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet)))
packet = ip6(HOST6, FAR6, 0, b"\x11\x00\x05\x02\x00\x00\x01\x00" + udp(HOST6, FAR6))  # RFC 2711 router alert
row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet)))
packet = ip4(HOST, FAR, 17, udp(HOST, FAR)[:8], frag=0, more=True)
row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet)))
packet = ip4(HOST, FAR, 17, b"the second piece", frag=1)
row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet)))

# Connected networks: the destination is its own next hop. A route by interface alone: the same.
THIRD_MAC = "02:00:00:00:0a:07"
row = Row("forward-connected", base() + route("203.0.113.0/24", interface="lan")
          + neighbor("lan", "203.0.113.7", THIRD_MAC) + neighbor("lan", "10.1.0.7", THIRD_MAC))
packet = datagram(PEER, HOST)
row.send("wan", from_peer(packet)).out("lan", to_host(hop(packet)))
packet = datagram(PEER, "10.1.0.7")
row.send("wan", from_peer(packet)).out("lan", ethernet(THIRD_MAC, LAN_MAC, hop(packet)))
packet = datagram(PEER, "203.0.113.7")
row.send("wan", from_peer(packet)).out("lan", ethernet(THIRD_MAC, LAN_MAC, hop(packet)))
packet = datagram(PEER6, HOST6)
row.send("wan", from_peer(packet)).out("lan", to_host(hop(packet)))
packet = datagram(HOST, "10.1.0.7")  # back out of the port it came in by
row.send("lan", from_host(packet)).out("lan", ethernet(THIRD_MAC, LAN_MAC, hop(packet)))

# Longest prefix first, whatever the order in the file; the default route last.
gateways = {"0.0.0.0/0": 1, "10.2.0.0/16": 2, "10.2.3.0/24": 3, "10.2.3.4/32": 4, "10.2.3.128/25": 5}
gateways6 = {"::/0": 1, "2001:db8:2::/48": 2, "2001:db8:2:3::/64": 3, "2001:db8:2:3::4/128": 4}
config = base()
for number in range(11, 16):
    config += neighbor("wan", f"192.0.2.{number}", f"02:00:00:00:0c:{number - 10:02x}")
    config += neighbor("wan", f"2001:db8::{number}", f"02:00:00:00:0c:{number - 10:02x}")
for prefix, number in gateways.items():
    config += route(prefix, gateway=f"192.0.2.{number + 10}")
for prefix, number in gateways6.items():
    config += route(prefix, gateway=f"2001:db8::{number + 10}")
row = Row("routes-longest-prefix", config)
for destination, number in {"8.8.8.8": 1, "10.3.0.0": 1, "10.2.0.1": 2, "10.2.2.255": 2, "10.2.3.0": 3, "10.2.3.5": 3,
                            "10.2.3.4": 4, "10.2.3.127": 3, "10.2.3.128": 5, "10.2.4.0": 2, "10.1.255.255": 1}.items():
    packet = datagram(HOST, destination)
    row.send("lan", from_host(packet)).out("wan", ethernet(f"02:00:00:00:0c:{number:02x}", WAN_MAC, hop(packet)))
for destination, number in {"2620:fe::fe": 1, "2001:db8:3::1": 1, "2001:db8:2::1": 2, "2001:db8:2:3::5": 3,
                            "2001:db8:2:3::4": 4, "2001:db8:2:4::": 2}.items():
    packet = datagram(HOST6, destination)
    row.send("lan", from_host(packet)).out("wan", ethernet(f"02:00:00:00:0c:{number:02x}", WAN_MAC, hop(packet)))

row = Row("routes-priority", base() + neighbor("wan", "192.0.2.11", THIRD_MAC)
          + route("10.2.0.0/16", gateway=PEER, priority=200) + route("10.2.0.0/16", gateway="192.0.2.11", priority=50)
          + route("10.3.0.0/16", gateway=PEER) + route("10.3.0.0/16", gateway="192.0.2.11", priority=101))
packet = datagram()
row.send("lan", from_host(packet)).out("wan", ethernet(THIRD_MAC, WAN_MAC, hop(packet)))
packet = datagram(HOST, "10.3.0.9")
row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet)))

# VLANs in and out, the same addresses told apart by the tag alone.
VLANS = vlan("cni-a", 120, "198.51.100.1/31") + vlan("cni-b", 4094, "198.51.100.3/31", "2001:db8:b::1/127")
row = Row("forward-vlan", base(wan_vlans=VLANS)
          + neighbor("cni-a", "198.51.100.0", PEER_MAC) + neighbor("cni-b", "198.51.100.2", PEER_MAC)
          + neighbor("cni-b", "2001:db8:b::", PEER_MAC)
          + route("10.2.0.0/16", gateway="198.51.100.0") + route("10.3.0.0/16", gateway="198.51.100.2", interface="cni-b")
          + route("2001:db8:2::/48", gateway="2001:db8:b::"))
packet = datagram()
row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet), tag=120))
packet = datagram(HOST, "10.3.0.1")
row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet), tag=4094))
packet = datagram(HOST6, FAR6)
row.send("lan", from_host(packet)).out("wan", to_peer(hop(packet), tag=4094))
packet = datagram(FAR, HOST)
row.send("wan", from_peer(packet, tag=120)).out("lan", to_host(hop(packet)))
row.send("wan", from_peer(packet, tag=0x6000 | 120)).out("lan", to_host(hop(packet)))  # a priority, no other network
packet = datagram(FAR, "10.3.0.1")
row.send("wan", from_peer(packet, tag=120)).out("wan", to_peer(hop(packet), tag=4094))

# What is the host's, by port and VLAN, as it came but for the tag.
row = Row("kernel", base(lan_vlans=vlan("guests", 30, "10.30.0.1/24", "2001:db8:30::1/64")))
arp = bytes(ARP(op="who-has", hwsrc=HOST_MAC, psrc=HOST, hwdst="00:00:00:00:00:00", pdst="10.1.0.1"))
BROADCAST = "ff:ff:ff:ff:ff:ff"


def host(interface, tag, frame_of):
    """Sends a frame tagged or not and expects the untagged one."""
    row.send("lan", frame_of(tag)).kernel(interface, frame_of(None))


host("lan", None, lambda tag: ethernet(BROADCAST, HOST_MAC, arp, tag=tag, ethertype=0x0806))
guest_arp = bytes(ARP(op="who-has", hwsrc=HOST_MAC, psrc="10.30.0.9", hwdst="00:00:00:00:00:00", pdst="10.30.0.1"))
host("guests", 30, lambda tag: ethernet(BROADCAST, HOST_MAC, guest_arp, tag=tag, ethertype=0x0806))
reply = bytes(ARP(op="is-at", hwsrc=HOST_MAC, psrc=HOST, hwdst=LAN_MAC, pdst="10.1.0.1"))
host("lan", None, lambda tag: ethernet(LAN_MAC, HOST_MAC, reply, tag=tag, ethertype=0x0806))
host("lan", None, lambda tag: from_host(echo(HOST, "10.1.0.1"), tag=tag))
host("lan", None, lambda tag: from_host(echo(HOST, BOX, ttl=1), tag=tag))  # the other port's address, the last hop
host("guests", 30, lambda tag: from_host(echo("10.30.0.9", "10.30.0.1"), tag=tag))
host("lan", None, lambda tag: from_host(datagram(HOST, "10.1.0.1", dport=3784, ttl=255), tag=tag))
host("lan", None, lambda tag: from_host(syn(HOST, "10.1.0.1", dport=179, ttl=1), tag=tag))
host("lan", None, lambda tag: from_host(datagram(HOST6, "2001:db8:1::1"), tag=tag))
host("guests", 30, lambda tag: from_host(datagram("2001:db8:30::9", "2001:db8:30::1"), tag=tag))
solicit = bytes(IPv6(src=HOST6, dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt="2001:db8:1::1")
                / ICMPv6NDOptSrcLLAddr(lladdr=HOST_MAC))
host("lan", None, lambda tag: ethernet("33:33:ff:00:00:01", HOST_MAC, solicit, tag=tag))
solicit = bytes(IPv6(src="2001:db8:30::9", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt="2001:db8:30::1")
                / ICMPv6NDOptSrcLLAddr(lladdr=HOST_MAC))
host("guests", 30, lambda tag: ethernet("33:33:ff:00:00:01", HOST_MAC, solicit, tag=tag))
advert = bytes(IPv6(src=HOST6, dst="2001:db8:1::1", hlim=255) / ICMPv6ND_NA(tgt=HOST6, S=1))
host("lan", None, lambda tag: from_host(advert, tag=tag))
# Link-local addresses are the host's affair: it has one on every interface, which no configuration names.
host("lan", None, lambda tag: from_host(datagram("fe80::9", "fe80::1"), tag=tag))
host("lan", None, lambda tag: from_host(ip4(HOST, "10.1.0.1", 17, udp(HOST, "10.1.0.1")[:16], more=True), tag=tag))

# Out of a tunnel, the host's packets keep their TTL and have no Ethernet header.
row = Row("kernel-tunnel", base() + tunnel(addresses=["10.255.0.1/31", "2001:db8:ff::1/127"]), tunnels={"t": 1476})
for inner in (syn("10.255.0.0", "10.255.0.1", size=1400, dport=179, ttl=1), datagram("10.255.0.0", "10.255.0.1"),
              datagram("10.255.0.0", "10.1.0.1"), datagram("2001:db8:ff::", "2001:db8:ff::1")):
    row.send("wan", from_peer(ip4(PEER, BOX, 47, gre(inner)))).kernel("t", inner, rx={"t": inner})
# UDP to a tunnel's local address on a port that no tunnel has, and what is no tunnel protocol.
for packet in (datagram(PEER, BOX, dport=9999), syn(PEER, BOX, dport=22)):
    row.send("wan", from_peer(packet)).kernel("wan", from_peer(packet))
# A tunnel's address makes a connected route into it.
packet = datagram(HOST, "10.255.0.0")
row.marks["mask"] = [ID]
row.send("lan", from_host(packet)).out("wan", to_peer(ip4(BOX, PEER, 47, gre(hop(packet)), df=True)), tx={"t": packet})

# Pings for a tunnel's addresses are answered without the host, by the way that leads back; the answer is a packet of
# culvert's own with a TTL of 64. Pings for interfaces' addresses, and those in pieces, are the host's.
row = Row("echo", base() + tunnel(addresses=["10.255.0.1/31", "2001:db8:ff::1/127"])
          + tunnel("t6", "ip", BOX6, PEER6), tunnels={"t": 1476, "t6": 1460}, mask=[ID])


def ping(src, dst, reply=False, ttl=64, data=b"0123456789", tos=0):
    if ":" in src:
        layer = (ICMPv6EchoReply if reply else ICMPv6EchoRequest)(id=0x1234, seq=7, data=data)
        return ip6(src, dst, 58, transport(src, dst, 58, layer), hlim=ttl, tc=tos)
    return ip4(src, dst, 1, bytes(ICMP(type=0 if reply else 8, id=0x1234, seq=7) / Raw(data)), ttl=ttl, tos=tos)


for data in (b"", b"odd", b"x" * 1200):
    for source, target in ((PEER, BOX), (PEER6, BOX6), (HOST, BOX), (HOST6, BOX6)):
        side, there, back = ("wan", from_peer, to_peer) if source in (PEER, PEER6) else ("lan", from_host, to_host)
        request = there(ping(source, target, ttl=1, data=data, tos=0x20))
        row.send(side, request).answer(side, back(ping(target, source, True, data=data, tos=0x20)))
    for source, target in (("10.255.0.0", "10.255.0.1"), ("2001:db8:ff::", "2001:db8:ff::1")):
        request, reply = ping(source, target, ttl=1, data=data), ping(target, source, True, data=data)
        row.send("wan", from_peer(ip4(PEER, BOX, 47, gre(request)))).answer(
            "wan", to_peer(ip4(BOX, PEER, 47, gre(reply), df=True)), rx={"t": request}, tx={"t": reply})
    request = from_peer(ping(PEER, "10.1.0.1", data=data))
    row.send("wan", request).kernel("wan", request)
request = from_peer(ip4(PEER, BOX, 1, ping(PEER, BOX)[20:36], more=True))
row.send("wan", request).kernel("wan", request)
request = from_peer(ping(PEER, BOX, reply=True))
row.send("wan", request).kernel("wan", request)
