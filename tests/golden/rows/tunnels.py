"""Encapsulation and decapsulation, both families outside and inside, stacks, and which tunnel a packet belongs to."""

from oracle import *

INNER_OUT = [datagram(), datagram(HOST6, FAR6), datagram(payload=b""), syn(size=500), syn(HOST6, FAR6, size=500)]
INNER_IN = [datagram(FAR, HOST), datagram(FAR6, HOST6, ttl=2), datagram(FAR, HOST, payload=b"odd"), echo(FAR, HOST)]


def outer(inner, kind, v6=False, source=None, target=None, sport=49152, checksum=None, ttl=64, dport=None, tos=0, **greys):
    """A tunnel packet: `kind` is gre or ip, with sport for UDP; checksum 0 for none."""
    source, target = source or (BOX6 if v6 else BOX), target or (PEER6 if v6 else PEER)
    if kind.endswith("gre"):
        payload, proto = gre(inner, checksum=greys.pop("checksum_gre", False), **greys), 47
    else:
        payload, proto = inner, family(inner)
    if kind.startswith("gue-"):
        payload = bytes([0, proto, 0, 0]) + payload
    if "-" in kind:
        port_number = dport or {"fou-gre": 5555, "fou-ip": 5556, "greudp-gre": 4754}.get(kind, 6080)
        payload, proto = udp(source, target, payload, sport, port_number, checksum), 17
    if v6:
        return ip6(source, target, proto, payload, hlim=ttl, tc=tos)
    return ip4(source, target, proto, payload, ttl=ttl, tos=tos, df=True)


def received(inner, kind, v6=False, source=None, **keys):
    return outer(inner, kind, v6, source or (PEER6 if v6 else PEER), BOX6 if v6 else BOX, **keys)


def both_ways(name, kind, v6, mtu, checksum=None, tunnel_keys=None, marks=None, **greys):
    """One tunnel, everything in INNER_OUT through it and everything in INNER_IN out of it."""
    local, remote = (BOX6, PEER6) if v6 else (BOX, PEER)
    encap = "gre" if kind.endswith("gre") else "ip"
    fou = None
    if "-" in kind:
        words = {"fou": "fou", "gue": "gue", "gue1": "gue1", "greudp": "gre-in-udp"}
        fou = {"kind": words[kind.split("-")[0]], "source_port": 49152}
        if kind.startswith("fou"):
            fou["port"] = 5555 if encap == "gre" else 5556
        if checksum is not None or not v6:
            fou["checksum"] = "zero" if checksum == 0 else "full"
    new = Row(name, base() + tunnel(encap=encap, local=local, remote=remote, udp=fou, **(tunnel_keys or {})) + far(),
              tunnels={"t": mtu}, mask=[LABEL] if v6 else [ID], **(marks or {}))
    for inner in INNER_OUT:
        frame = to_peer(outer(hop(inner), kind, v6, checksum=checksum, **greys))
        new.send("lan", from_host(inner)).out("wan", frame, tx={"t": inner})
    for inner in INNER_IN:
        frame = from_peer(received(inner, kind, v6, checksum=checksum, **greys))
        new.send("wan", frame).out("lan", to_host(hop(inner)), rx={"t": inner})
    return new


both_ways("gre4", "gre", False, 1476)
both_ways("gre6", "gre", True, 1456)
both_ways("ip4", "ip", False, 1480)
both_ways("ip6", "ip", True, 1460)
both_ways("gre4-key", "gre", False, 1472, tunnel_keys={"key": 0x01020304}, key=0x01020304)
both_ways("gre4-key-0", "gre", False, 1472, tunnel_keys={"key": 0}, key=0)
both_ways("gre6-key-max", "gre", True, 1452, tunnel_keys={"key": 0xFFFFFFFF}, key=0xFFFFFFFF)
both_ways("fou4-gre", "fou-gre", False, 1468)
both_ways("fou4-gre-zero", "fou-gre", False, 1468, checksum=0)
both_ways("fou4-ip", "fou-ip", False, 1472)
both_ways("fou4-ip-zero", "fou-ip", False, 1472, checksum=0)
both_ways("fou6-gre", "fou-gre", True, 1448)
both_ways("fou6-gre-zero", "fou-gre", True, 1448, checksum=0, marks={"zero_udp": True})
both_ways("fou6-ip", "fou-ip", True, 1452)
both_ways("fou6-ip-zero", "fou-ip", True, 1452, checksum=0, marks={"zero_udp": True})
both_ways("fou6-gre-key", "fou-gre", True, 1444, tunnel_keys={"key": 9}, key=9)

both_ways("gue4-ip", "gue-ip", False, 1468)
both_ways("gue6-ip", "gue-ip", True, 1448)
both_ways("gue4-gre", "gue-gre", False, 1464)
both_ways("gue6-gre-key", "gue-gre", True, 1440, tunnel_keys={"key": 3}, key=3)
both_ways("gue1-4-ip", "gue1-ip", False, 1472)
both_ways("gue1-6-ip", "gue1-ip", True, 1452)
both_ways("gre-in-udp4", "greudp-gre", False, 1468)
both_ways("gre-in-udp6", "greudp-gre", True, 1448)
both_ways("gre4-checksum", "gre", False, 1472, tunnel_keys={"checksum": True}, **{"checksum_gre": True})
both_ways("gre6-checksum-key", "gre", True, 1448, tunnel_keys={"checksum": True, "key": 1}, checksum_gre=True, key=1)

# FOU's defaults: port 5555, checksum zero over IPv4 and full over IPv6. A checksum that arrives is good either way.
row = Row("fou-defaults", base() + tunnel("v4", udp={"source_port": 50000})
          + tunnel("v6", local=BOX6, remote=PEER6, udp={"source_port": 50000})
          + route("10.2.0.0/16", tunnel="v4") + route("2001:db8:2::/48", tunnel="v6"),
          tunnels={"v4": 1468, "v6": 1448}, mask=[ID, LABEL])
packet = datagram()
row.send("lan", from_host(packet)).out(
    "wan", to_peer(outer(hop(packet), "fou-gre", sport=50000, checksum=0)), tx={"v4": packet})
packet = datagram(HOST6, FAR6)
row.send("lan", from_host(packet)).out(
    "wan", to_peer(outer(hop(packet), "fou-gre", True, sport=50000)), tx={"v6": packet})
packet = datagram(FAR, HOST)
for checksum in (None, 0):
    row.send("wan", from_peer(received(packet, "fou-gre", checksum=checksum, sport=7))).out(
        "lan", to_host(hop(packet)), rx={"v4": packet})
row.send("wan", from_peer(received(packet, "fou-gre", True, sport=65535))).out(
    "lan", to_host(hop(packet)), rx={"v6": packet})

# A UDP checksum that computes to 0 is sent as 0xffff (RFC 768). Some payload gives it: it is looked for here.
row = Row("fou6-checksum-ffff", base() + tunnel(encap="ip", local=BOX6, remote=PEER6, ttl=64, dscp=0,
                                                udp={"port": 5556, "source_port": 49152}) + far(),
          tunnels={"t": 1452}, mask=[LABEL])
PSEUDO = ip6(BOX6, PEER6, 17, b"")[8:40]
sample = hop(ip4(HOST, FAR, 253, b"\0\0"))
for word in range(0x10000):
    sent = sample[:20] + word.to_bytes(2, "big")
    inner = hop(sent, -1)
    header = bytes([0xC0, 0, 0x15, 0xB4, 0, 8 + len(sent)])
    if internet_checksum(PSEUDO + bytes([0, 8 + len(sent), 0, 17]) + header + sent) == 0:
        frame = to_peer(outer(sent, "fou-ip", True))
        assert frame[60:62] == b"\xff\xff", "scapy sends 0xffff, too"
        row.send("lan", from_host(inner)).out("wan", frame, tx={"t": inner})
        row.send("wan", from_peer(received(ip4(FAR, HOST, 253, b""), "fou-ip", True))).out(
            "lan", to_host(hop(ip4(FAR, HOST, 253, b""))), rx={"t": ip4(FAR, HOST, 253, b"")})
        break
else:
    raise AssertionError("no payload gives a zero checksum")

# Source ports and flow labels from the inner flow: in range, one per flow, spread over flows.
row = Row("fou6-entropy", base() + tunnel(encap="ip", local=BOX6, remote=PEER6, udp={"port": 5556}) + far(),
          tunnels={"t": 1452}, mask=[LABEL, PORT], distinct=96)
for again in range(2):
    for flow in range(64):
        inner = datagram(sport=3000 + flow, payload=bytes([again] * 9)) if flow % 2 else \
            datagram(HOST6, FAR6, sport=3000 + flow, payload=bytes([again] * 9))
        row.send("lan", from_host(inner)).out("wan", to_peer(outer(hop(inner), "fou-ip", True)), tx={"t": inner})

# Stacks. The colo's FOU tunnel carries the customer's GRE packets; both are laid on in one pass and taken off in one.
CUSTOMER, EDGE = "198.51.100.7", "203.0.113.1"
STACK = (tunnel("acme", local=EDGE, remote=CUSTOMER)
         + tunnel("haul", "ip", BOX6, PEER6, udp={"port": 5556, "source_port": 49152})
         + route(f"{CUSTOMER}/32", tunnel="haul"))
row = Row("stack-gre4-fou6", base() + STACK + far("acme"), tunnels={"acme": 1428, "haul": 1452}, mask=[ID, LABEL])
for inner in INNER_OUT:
    middle = outer(hop(inner), "gre", source=EDGE, target=CUSTOMER)
    row.send("lan", from_host(inner)).out(
        "wan", to_peer(outer(middle, "fou-ip", True)), tx={"acme": inner, "haul": middle})
for inner in INNER_IN:
    middle = outer(inner, "gre", source=CUSTOMER, target=EDGE)
    row.send("wan", from_peer(received(middle, "fou-ip", True))).out(
        "lan", to_host(hop(inner)), rx={"acme": inner, "haul": middle})

# The same with GRE in FOU, over IPv4, keys on both.
row = Row("stack-gre6-fou4", base() + tunnel("acme", local="2001:db8:e::1", remote="2001:db8:c::7", key=5)
          + tunnel("haul", "gre", key=6, udp={"port": 5555, "source_port": 49152, "checksum": "full"})
          + route("2001:db8:c::7/128", tunnel="haul") + far("acme"),
          tunnels={"acme": 1500 - 48 - 36, "haul": 1464}, mask=[ID, LABEL])
for inner in INNER_OUT:
    middle = outer(hop(inner), "gre", True, "2001:db8:e::1", "2001:db8:c::7", key=5)
    row.send("lan", from_host(inner)).out(
        "wan", to_peer(outer(middle, "fou-gre", key=6)), tx={"acme": inner, "haul": middle})
for inner in INNER_IN:
    middle = outer(inner, "gre", True, "2001:db8:c::7", "2001:db8:e::1", key=5)
    row.send("wan", from_peer(received(middle, "fou-gre", key=6))).out(
        "lan", to_host(hop(inner)), rx={"acme": inner, "haul": middle})

# Four layers are taken off; the fifth is one too many.
row = Row("four-layers", base() + tunnel(), tunnels={"t": 1476})
layers = [datagram(FAR, HOST)]
for _ in range(4):
    layers.append(received(layers[-1], "gre"))
row.send("wan", from_peer(layers[4])).out("lan", to_host(hop(layers[0])), rx={"t": layers[:4]})

# The colo: FOU stripped, the GRE inside is not for this box and is forwarded by its own destination.
row = Row("colo-transit", base(lan_vlans=vlan("cni", 120, "198.51.100.6/31"))
          + tunnel("haul", "ip", BOX6, PEER6, udp={"port": 5556}) + neighbor("cni", CUSTOMER, HOST_MAC),
          tunnels={"haul": 1452})
for inner in (datagram("8.8.8.8", "203.0.113.80"), syn("8.8.8.8", "203.0.113.80", size=1460)):
    middle = outer(inner, "gre", source=EDGE, target=CUSTOMER, ttl=64)
    row.send("wan", from_peer(received(middle, "fou-ip", True))).out(
        "lan", to_host(hop(middle), tag=120), rx={"haul": middle})

# Out of one tunnel, into another: the TTL is lowered once.
row = Row("tunnel-to-tunnel", base() + tunnel("a") + tunnel("b", "ip", BOX6, PEER6) + route("10.2.0.0/16", tunnel="b"),
          tunnels={"a": 1476, "b": 1460}, mask=[LABEL])
inner = datagram("10.9.0.9", FAR)
row.send("wan", from_peer(received(inner, "gre"))).out(
    "wan", to_peer(outer(hop(inner), "ip", True)), rx={"a": inner}, tx={"b": inner})

# Several tunnels between the same two addresses, told apart by key and by UDP port; each answers in its own way.
PAIR = {"plain": {}, "key-0": {"key": 0}, "key-7": {"key": 7}, "ipip": {"encap": "ip"},
        "udp": {"udp": {"port": 5555, "source_port": 49152}}, "udp-key": {"udp": {"port": 5555, "source_port": 49152}, "key": 7},
        "other-port": {"encap": "ip", "udp": {"port": 5556, "source_port": 49152}}}
MTUS = {"plain": 1476, "key-0": 1472, "key-7": 1472, "ipip": 1480, "udp": 1468, "udp-key": 1464, "other-port": 1472}
config = base()
for number, (name, keys) in enumerate(PAIR.items()):
    config += tunnel(name, **keys) + route(f"10.{20 + number}.0.0/16", tunnel=name)
row = Row("same-pair", config, tunnels=MTUS, mask=[ID])
for number, (name, keys) in enumerate(PAIR.items()):
    kind = ("fou-" if "udp" in keys else "") + keys.get("encap", "gre")
    more = {"key": keys["key"]} if "key" in keys else {}
    inner = datagram(HOST, f"10.{20 + number}.0.1")
    row.send("lan", from_host(inner)).out(
        "wan", to_peer(outer(hop(inner), kind, checksum=0, **more)), tx={name: inner})
    inner = datagram(f"10.{20 + number}.0.1", HOST)
    row.send("wan", from_peer(received(inner, kind, **more))).out("lan", to_host(hop(inner)), rx={name: inner})

# Senders: the longest prefix that holds the sender, "any" last.
row = Row("remote-senders", base() + tunnel("anyone", remote="any") + tunnel("net", remote="198.51.100.0/24")
          + tunnel("list", remote=["198.51.100.7", "198.51.100.128/25", "203.0.113.9"])
          + tunnel("any6", local=BOX6, remote="any") + tunnel("net6", local=BOX6, remote="2001:db8:5::/48")
          + tunnel("one", key=5) + tunnel("any-key", remote="any", key=5),
          tunnels={"anyone": ("*", "*", "*"), "net": ("*", "*", "*"), "list": ("*", "*", "*"), "any6": ("*", "*", "*"),
                   "net6": ("*", "*", "*"), "one": 1472, "any-key": ("*", "*", "*")})
for sender, name in {"198.51.100.6": "net", "198.51.100.7": "list", "198.51.100.127": "net", "198.51.100.128": "list",
                     "203.0.113.9": "list", "203.0.113.10": "anyone", "9.9.9.9": "anyone", PEER: "anyone"}.items():
    inner = datagram(FAR, HOST)
    row.send("wan", from_peer(received(inner, "gre", source=sender))).out("lan", to_host(hop(inner)), rx={name: inner})
for sender, name in {"2001:db8:5::1": "net6", "2001:db8:6::1": "any6", PEER6: "any6"}.items():
    row.send("wan", from_peer(received(inner, "gre", True, source=sender))).out(
        "lan", to_host(hop(inner)), rx={name: inner})
for sender, name in {PEER: "one", "9.9.9.9": "any-key"}.items():
    row.send("wan", from_peer(received(inner, "gre", source=sender, key=5))).out(
        "lan", to_host(hop(inner)), rx={name: inner})

# What may come out of a tunnel.
row = Row("inner-source", base() + tunnel(inner_source=["10.7.0.0/16", "10.8.1.0/24", "2001:db8:7::/48"]),
          tunnels={"t": 1476})
for source, target in {"10.7.0.0": HOST, "10.7.255.255": HOST, "10.8.1.77": HOST, "2001:db8:7:ffff::1": HOST6}.items():
    inner = datagram(source, target)
    row.send("wan", from_peer(received(inner, "gre"))).out("lan", to_host(hop(inner)), rx={"t": inner})
for source, target in {"10.8.2.1": HOST, "10.6.255.255": HOST, "2001:db8:8::1": HOST6, BOX: HOST}.items():
    inner = datagram(source, target)
    row.send("wan", from_peer(received(inner, "gre"))).drop("inner_source", "t", loose=["t"])

# Outer IPv4 options are skipped, outer hop-by-hop and destination options too (RFC 2473 §5.1: Linux sends the
# encapsulation limit by default); so is a routing header that has nothing left to do. GRE: a checksum is verified, a
# sequence number skipped, bits 6 to 12 ignored, in all combinations.
row = Row("outer-options", base() + tunnel() + tunnel("k", key=7) + tunnel("t6", local=BOX6, remote=PEER6)
          + tunnel("f6", "ip", BOX6, PEER6, udp={"port": 5556}),
          tunnels={"t": 1476, "k": 1472, "t6": 1456, "f6": 1452})
inner = datagram(FAR, HOST)


def taken(packet, name):
    row.send("wan", from_peer(packet)).out("lan", to_host(hop(inner)), rx={name: inner})


for options in (b"\x01" * 4, b"\x94\x04\x00\x00", b"\x44\x24\x05\x00" + b"\0" * 36, b"\x00" * 8):
    taken(ip4(PEER, BOX, 47, gre(inner), options=options), "t")
LIMIT = b"\x00\x04\x01\x04\x01\x01\x00"
DONE = b"\x00\x00\x00\x00\x00\x00\x00"
for first, chain in ((60, bytes([47]) + LIMIT), (0, bytes([60]) + b"\x00\x01\x04\0\0\0\0" + bytes([47]) + LIMIT),
                     (43, bytes([47]) + DONE), (60, bytes([60]) + LIMIT + bytes([47]) + b"\x01\x01\x0c" + b"\0" * 12)):
    taken(ip6(PEER6, BOX6, first, chain + gre(inner)), "t6")
taken(ip6(PEER6, BOX6, 60, bytes([17]) + LIMIT + udp(PEER6, BOX6, inner, 50000, 5556)), "f6")
for checksum in (False, True):
    for sequence in (None, 0, 0xFFFFFFFF):
        for name, key in (("t", None), ("k", 7)):
            taken(ip4(PEER, BOX, 47, gre(inner, key, checksum, sequence)), name)
            taken(ip4(PEER, BOX, 47, gre(inner, key, checksum, sequence, flags=0x03F8)), name)
