"""What the outer header takes from the inner one, and gives back: TTL, DSCP, ECN, DF."""

from oracle import *
from rows.tunnels import outer, received


def wrapped(inner, tos=0, ttl=64, df=True, v6=False, encap="gre"):
    """A tunnel packet to the PEER with these fields."""
    payload, proto = (gre(inner), 47) if encap == "gre" else (inner, family(inner))
    if v6:
        return to_peer(ip6(BOX6, PEER6, proto, payload, hlim=ttl, tc=tos))
    return to_peer(ip4(BOX, PEER, proto, payload, ttl=ttl, tos=tos, df=df))


def arriving(inner, tos, v6=False):
    if v6:
        return from_peer(ip6(PEER6, BOX6, 47, gre(inner), tc=tos))
    return from_peer(ip4(PEER, BOX, 47, gre(inner), tos=tos))


# TTL: a number, or the inner one after it was lowered.
row = Row("ttl-fixed", base() + tunnel(ttl=255) + tunnel("b", "ip", BOX6, PEER6, ttl=1) + far() +
          route("10.3.0.0/16", tunnel="b"), tunnels={"t": 1476, "b": 1460}, mask=[ID, LABEL])
for ttl in (2, 64, 255):
    packet = datagram(ttl=ttl)
    row.send("lan", from_host(packet)).out("wan", wrapped(hop(packet), ttl=255), tx={"t": packet})
    packet = datagram(HOST, "10.3.0.1", ttl=ttl)
    row.send("lan", from_host(packet)).out("wan", wrapped(hop(packet), ttl=1, v6=True, encap="ip"), tx={"b": packet})

row = Row("ttl-inherit", base() + tunnel(ttl="inherit") + tunnel("b", "ip", BOX6, PEER6, ttl="inherit") + far() +
          route("10.3.0.0/16", tunnel="b"), tunnels={"t": 1476, "b": 1460}, mask=[ID, LABEL])
for ttl in (2, 64, 255):
    for packet in (datagram(ttl=ttl), datagram(HOST6, FAR6, ttl=ttl)):
        row.send("lan", from_host(packet)).out("wan", wrapped(hop(packet), ttl=ttl - 1), tx={"t": packet})
    packet = datagram(HOST, "10.3.0.1", ttl=ttl)
    row.send("lan", from_host(packet)).out(
        "wan", wrapped(hop(packet), ttl=ttl - 1, v6=True, encap="ip"), tx={"b": packet})

# In a stack each tunnel's own rule: the outermost inherits what the middle one set.
row = Row("ttl-stack", base() + tunnel("acme", local="203.0.113.1", remote="198.51.100.7", ttl=77)
          + tunnel("haul", "ip", BOX6, PEER6, ttl="inherit", udp={"port": 5556, "source_port": 49152})
          + route("198.51.100.7/32", tunnel="haul") + far("acme"), tunnels={"acme": 1428, "haul": 1452}, mask=[ID, LABEL])
packet = datagram(ttl=9)
middle = ip4("203.0.113.1", "198.51.100.7", 47, gre(hop(packet)), ttl=77, df=True)
row.send("lan", from_host(packet)).out(
    "wan", to_peer(outer(middle, "fou-ip", True, ttl=77)), tx={"acme": packet, "haul": middle})

# DSCP and ECN on the way in. RFC 6040 §4.1: normal mode copies the two bits, compatibility mode clears them.
TOS = [0xB8 | ecn for ecn in range(4)] + [0x00, 0xFC, 0x21]
for name, keys, expected in (
        ("dscp-inherit", {}, lambda tos: tos),
        ("dscp-fixed", {"dscp": 10}, lambda tos: 10 << 2 | tos & 3),
        ("dscp-fixed-0", {"dscp": 0}, lambda tos: tos & 3),
        ("dscp-fixed-63", {"dscp": 63}, lambda tos: 63 << 2 | tos & 3),
        ("dscp-uniform", {"dscp": "uniform"}, lambda tos: tos),
        ("ecn-off", {"ecn": "off"}, lambda tos: tos & 0xFC),
        ("ecn-off-dscp-fixed", {"ecn": "off", "dscp": 46}, lambda tos: 46 << 2)):
    row = Row(name, base() + tunnel(**keys) + tunnel("t6", local=BOX6, remote=PEER6, **keys)
              + route("10.2.0.0/16", tunnel="t") + route("2001:db8:2::/48", tunnel="t")
              + route("10.3.0.0/16", tunnel="t6") + route("2001:db8:3::/48", tunnel="t6"),
              tunnels={"t": 1476, "t6": 1456}, mask=[ID, LABEL])
    for tos in TOS:
        for source, net, net6 in ((HOST, "10.2.0.9", "10.3.0.9"), (HOST6, FAR6, "2001:db8:3::9")):
            packet = datagram(source, net, tos=tos)
            row.send("lan", from_host(packet)).out("wan", wrapped(hop(packet), tos=expected(tos)), tx={"t": packet})
            packet = datagram(source, net6, tos=tos)
            row.send("lan", from_host(packet)).out(
                "wan", wrapped(hop(packet), tos=expected(tos), v6=True), tx={"t6": packet})
    # On the way out the inner DSCP stays as it is, but for "uniform"; ECN is combined whatever the mode.
    for tos, inner_tos in ((0xB8, 0x28), (0x00, 0xFC), (0xB9, 0x2A), (0x03, 0x2A)):
        after = (tos & 0xFC) if keys.get("dscp") == "uniform" else inner_tos & 0xFC
        ecn = {(1, 2): 1, (3, 2): 3}.get((tos & 3, inner_tos & 3), inner_tos & 3)
        for source, target, in ((FAR, HOST), (FAR6, HOST6)):
            inner = datagram(source, target, tos=inner_tos)
            for name_in, v6 in (("t", False), ("t6", True)):
                row.send("wan", arriving(inner, tos, v6)).out(
                    "lan", to_host(hop(marked(inner, after | ecn))), rx={name_in: inner})

# All sixteen pairs of RFC 6040 §4.2, figure 4: the outgoing field by inner and outer.
NOT, ECT1, ECT0, CE = 0, 1, 2, 3
TABLE = {NOT: {NOT: NOT, ECT0: NOT, ECT1: NOT, CE: None}, ECT0: {NOT: ECT0, ECT0: ECT0, ECT1: ECT1, CE: CE},
         ECT1: {NOT: ECT1, ECT0: ECT1, ECT1: ECT1, CE: CE}, CE: {NOT: CE, ECT0: CE, ECT1: CE, CE: CE}}
row = Row("ecn-decap", base() + tunnel() + tunnel("t6", local=BOX6, remote=PEER6, ecn="off"),
          tunnels={"t": 1476, "t6": 1456})
for source, target in ((FAR, HOST), (FAR6, HOST6)):
    for name, v6 in (("t", False), ("t6", True)):
        for inner_ecn, line in TABLE.items():
            for outer_ecn, result in line.items():
                inner = datagram(source, target, tos=0x28 | inner_ecn)
                row.send("wan", arriving(inner, 0x48 | outer_ecn, v6))
                if result is None:
                    row.drop("ecn_illegal", name)
                else:
                    row.out("lan", to_host(hop(marked(inner, 0x28 | result))), rx={name: inner})
for counts in row.tunnels.values():
    counts.update(rx_packets="*", rx_bytes="*")  # whether a packet refused for its ECN was decapsulated is left open

# Congestion marks survive a stack of two: the outermost CE reaches the innermost packet.
row = Row("ecn-stack", base() + tunnel("acme", local="203.0.113.1", remote="198.51.100.7")
          + tunnel("haul", "ip", BOX6, PEER6, udp={"port": 5556, "source_port": 49152})
          + route("198.51.100.7/32", tunnel="haul") + far("acme"), tunnels={"acme": 1428, "haul": 1452}, mask=[ID, LABEL])
inner = datagram(FAR, HOST, tos=ECT0)
middle = ip4("198.51.100.7", "203.0.113.1", 47, gre(inner), tos=ECT0)
frame = from_peer(ip6(PEER6, BOX6, 17, udp(PEER6, BOX6, middle, 50000, 5556), tc=CE))
row.send("wan", frame).out("lan", to_host(hop(marked(inner, CE))), rx={"acme": inner, "haul": middle})
packet = datagram(tos=0xB8 | CE)
middle = ip4("203.0.113.1", "198.51.100.7", 47, gre(hop(packet)), tos=0xB8 | CE, df=True)
row.send("lan", from_host(packet)).out(
    "wan", to_peer(ip6(BOX6, PEER6, 17, udp(BOX6, PEER6, middle, 49152, 5556), tc=0xB8 | CE)),
    tx={"acme": packet, "haul": middle})

# The don't-fragment bit.
for name, keys, expected in (("df-set", {"df": "set"}, lambda df: True), ("df-clear", {"df": "clear"}, lambda df: False),
                             ("df-inherit", {"df": "inherit"}, lambda df: df)):
    row = Row(name, base() + tunnel(**keys) + far(), tunnels={"t": 1476}, mask=[ID])
    for df in (False, True, False):
        packet = datagram(df=df, ident=77)
        row.send("lan", from_host(packet)).out("wan", wrapped(hop(packet), df=expected(df)), tx={"t": packet})
    packet = datagram(HOST6, FAR6)  # has no such bit to inherit, as the kernel reads it (linux/gre4-nopmtudisc)
    row.send("lan", from_host(packet)).out("wan", wrapped(hop(packet), df=name == "df-set"), tx={"t": packet})

# Everything by its default beside the same written out: no difference.
row = Row("tunnel-defaults", base() + tunnel("a", local="192.0.2.3") + route("10.2.0.0/16", tunnel="a")
          + tunnel("b", local="192.0.2.4", checksum=False, sequence=False, ttl=64, dscp="inherit", ecn="rfc6040", df="set",
                   mtu="auto", mss="auto", latency="auto") + route("10.3.0.0/16", tunnel="b"),
          tunnels={"a": 1476, "b": 1476}, mask=[ID])
for network, name, local in (("10.2.0.9", "a", "192.0.2.3"), ("10.3.0.9", "b", "192.0.2.4")):
    packet = datagram(HOST, network, tos=0x2A)
    sent = to_peer(ip4(local, PEER, 47, gre(hop(packet)), tos=0x2A, df=True))
    row.send("lan", from_host(packet)).out("wan", sent, tx={name: packet})
    packet = syn(HOST, network)
    sent = to_peer(ip4(local, PEER, 47, gre(hop(syn(HOST, network, size=1436))), df=True))
    row.send("lan", from_host(packet)).out("wan", sent, tx={name: packet}, clamped=name)
