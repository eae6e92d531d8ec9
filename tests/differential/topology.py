"""Random gateways: two ports with VLANs, tunnels and stacks of them, MSS clamps, and the networks behind each.

A gateway is what the configuration file says and nothing else; MTU and MSS follow from it by the contract's arithmetic. Every
interface and every tunnel has a network of each family behind it, so that a packet's addresses say where it comes from and
where it must go.
"""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from oracle import clamp, neighbor, port, route, tunnel, vlan

# The room in front of a packet, which bounds what a stack may add; Ethernet and a tag are part of it.
ROOM = 142 - 14 - 4
DEEPEST = 3
KEYS = (0, 1, 7, 0x01020304, 0x80000000, 0xFFFFFFFF)
MTUS = (1500, 1500, 1500, 1501, 1600, 2000, 4000)
USUAL_PORTS = {"fou": 5555, "gue": 6080, "gue1": 6080, "gre-in-udp": 4754}
PROFILES = {"gre-internet": (1476, 1436, 1416), "cni-legacy-fou": (1372, 1332, 1312), "cni-v2": (1500, None, None)}


def family(address):
    return ip_address(address).version


class Way:
    """Where packets come from and go to: an interface, or a tunnel."""

    def network(self, version):
        """The network that is reached by it."""
        return ip_network(f"10.{self.number}.0.0/16" if version == 4 else f"2001:db8:{self.number:x}::/48")

    def routes(self):
        return "".join(route(str(self.network(version)), **self.target(version)) for version in (4, 6))


@dataclass(eq=False)
class Interface(Way):
    """A port without tag, or a VLAN of it."""

    name: str
    port: str
    number: int
    tag: int | None
    mac: str
    mtu: int
    beside: str  # the MAC of the router that is reached by it

    depth, overhead = 0, 0

    def addresses(self):
        return [f"192.0.{self.number}.1/24", f"2001:db8:f:{self.number:x}::1/64"]

    def router(self, version, host=9):
        return f"192.0.{self.number}.{host}" if version == 4 else f"2001:db8:f:{self.number:x}::{host}"

    def target(self, version):
        return {"gateway": self.router(version)}

    def neighbors(self):
        return "".join(neighbor(self.name, self.router(version, host), self.beside)
                       for version in (4, 6) for host in (9, 10))

    def bottom(self):
        return self


@dataclass(eq=False)
class Tunnel(Way):
    """A tunnel, and the way that its outer packets take: `under` is an interface or another tunnel."""

    name: str
    number: int
    under: Way
    local: str
    remote: str
    encap: str
    kind: str | None
    port: int | None
    keys: dict = field(default_factory=dict)  # the keys of [[tunnel]] that are written down
    udp_keys: dict = field(default_factory=dict)

    def __post_init__(self):
        self.version = family(self.local)
        self.key = self.keys.get("key")
        self.checksum, self.sequence = self.keys.get("checksum", False), self.keys.get("sequence", False)
        self.ttl, self.dscp = self.keys.get("ttl", 64), self.keys.get("dscp", "inherit")
        self.ecn, self.df = self.keys.get("ecn", "rfc6040"), self.keys.get("df", "set")
        self.is_zero = self.udp_keys.get("checksum", "full" if self.version == 6 else "zero") == "zero"
        self.source_port = self.udp_keys.get("source_port", "flow")
        self.depth = self.under.depth + 1
        self.own = 20 if self.version == 4 else 40
        if self.kind:
            self.own += 12 if self.kind == "gue" else 8
        if self.encap == "gre":
            self.own += 4 + 4 * (self.key is not None) + 4 * self.checksum + 4 * self.sequence
        self.overhead = self.under.overhead + self.own
        self.limit()

    def limit(self):
        """MTU and MSS; to be called again after a change of the keys."""
        room = self.under.mtu - self.own
        profile = PROFILES.get(self.keys.get("profile"))
        self.mtu = self.keys.get("mtu", profile[0] if profile else "auto")
        self.mtu = room if self.mtu == "auto" else self.mtu
        mss = self.keys.get("mss", "auto")
        if mss == "off":
            self.mss = {4: None, 6: None}
        elif isinstance(mss, dict):
            self.mss = {4: mss.get("ipv4"), 6: mss.get("ipv6")}
        elif "mss" not in self.keys and profile:
            self.mss = {4: profile[1], 6: profile[2]}
        else:
            self.mss = {4: self.mtu - 40, 6: self.mtu - 60}
        return self.mtu <= room

    def target(self, version):
        return {"tunnel": self.name}

    def addresses(self):
        return self.keys.get("addresses", [])

    def bottom(self):
        return self.under.bottom()

    def stack(self):
        """The tunnels that its packets enter, this one first and the one that meets the wire last."""
        return [self] + (self.under.stack() if isinstance(self.under, Tunnel) else [])

    def clashes(self, other):
        """Whether both cannot be in one file: the same packets would be theirs, or one UDP port had two meanings."""
        if self.local != other.local or self.port != other.port:
            return False
        if {self.kind, other.kind} == {"gue", "gue1"}:
            return False
        if self.kind != other.kind or (self.kind == "fou" and self.encap != other.encap):
            return self.port is not None
        return (self.remote, self.encap, self.key) == (other.remote, other.encap, other.key)

    def text(self):
        around = {"kind": self.kind, **self.udp_keys} if self.kind else None
        return tunnel(self.name, self.encap, self.local, self.remote, udp=around, **self.keys)


@dataclass(eq=False)
class Clamp:
    """One [[mss_clamp]]."""

    on: Way
    direction: str
    prefix: str | None
    limits: dict  # by IP version

    def holds(self, direction, addresses):
        """Whether it looks at a packet between these addresses that crosses in this direction."""
        if self.direction not in (direction, "both"):
            return False
        return self.prefix is None or any(ip_address(each) in ip_network(self.prefix) for each in addresses)

    def text(self):
        return clamp(self.on.name, self.direction, prefix=self.prefix, ipv4=self.limits.get(4), ipv6=self.limits.get(6))


class Gateway:
    """One configuration."""

    def __init__(self, random):
        self.random = random
        self.macs, self.interfaces, self.tunnels, self.clamps = {}, [], [], []
        self.remotes = []  # each with the way that leads to it
        self.words = []  # the text of ports
        for name, first in (("lan", 16), ("wan", 24)):
            self.add_port(name, first)
        for _ in range(random.randint(3, 7)):
            self.add_tunnel()
        for _ in range(random.choice((0, 1, 2, 3))):
            self.add_clamp()
        # The deeper a tunnel, the more can be wrong with it.
        self.ways = self.interfaces + [each for each in self.tunnels for _ in range(2 * each.depth)]

    def add_port(self, name, number):
        random = self.random
        given = f"02:00:5e:{random.randrange(256):02x}:00:{number:02x}" if random.random() < 0.5 else None
        mac = given or f"02:00:00:00:00:{len(self.macs) + 1:02x}"
        mtu = random.choice(MTUS)
        self.macs[name] = mac
        tags = random.sample(range(1, 4095), random.choice((0, 1, 1, 2)))
        made = [Interface(name, name, number, None, mac, mtu, f"02:00:00:00:{number:02x}:00")]
        for more, tag in enumerate(tags, 1):
            made.append(Interface(f"{name}-{more}", name, number + more, tag, mac, mtu, f"02:00:00:00:{number:02x}:{more:02x}"))
        self.words.append(port(name, len(self.macs) - 1, *made[0].addresses(), mac=given, mtu=None if mtu == 1500 else mtu))
        self.words += [vlan(each.name, each.tag, *each.addresses()) for each in made[1:]]
        self.interfaces += made

    def place(self, version):
        """A remote address and the way to it: one that there is, or another."""
        random = self.random
        known = [each for each in self.remotes if family(each[0]) == version]
        if known and random.random() < 0.3:
            return random.choice(known)
        carriers = [each for each in self.tunnels if each.depth < DEEPEST]
        if carriers and random.random() < 0.75:
            under = random.choice(carriers)
        else:
            under = random.choice([each for each in self.interfaces if each.port == "wan"])
        if isinstance(under, Interface) and random.random() < 0.4:
            return under.router(version, 10), under  # a neighbour
        number = len(self.remotes) + 1
        return f"198.51.100.{number}" if version == 4 else f"2001:db8:c::{number:x}", under

    def add_tunnel(self):
        """Another tunnel; what the contract refuses beside those that there are is thrown again."""
        random = self.random
        while True:
            version = random.choice((4, 6))
            remote, under = self.place(version)
            locals_of = [f"203.0.113.{host}" if version == 4 else f"2001:db8:e::{host}" for host in (1, 2)]
            local = random.choice(locals_of + [str(under.bottom().addresses()[version == 6]).split("/")[0]])
            kind = random.choice((None, None, "fou", "gue", "gue1", "gre-in-udp"))
            encap = {"gue1": "ip", "gre-in-udp": "gre"}.get(kind) or random.choice(("gre", "gre", "ip"))
            udp_keys, keys = self.udp_keys(kind), self.keys(encap)
            number = len(self.tunnels) + 64
            keys.update(addresses=self.inside(number))
            new = Tunnel(f"t{len(self.tunnels)}", number, under, local, remote, encap, kind,
                         udp_keys.get("port", USUAL_PORTS.get(kind)), keys, udp_keys)
            if new.overhead <= ROOM and self.lower(new) and not any(map(new.clashes, self.tunnels)):
                break
        if (remote, under) not in self.remotes:
            self.remotes.append((remote, under))
        self.tunnels.append(new)

    def udp_keys(self, kind):
        random, keys = self.random, {}
        if not kind:
            return keys
        if random.random() < 0.5:
            keys["port"] = random.choice((USUAL_PORTS[kind], 5556, 19523, random.randint(10000, 60000)))
        if random.random() < 0.5:
            keys["source_port"] = random.choice(("flow", 49152, random.randint(1, 65535)))
        if random.random() < 0.6:
            keys["checksum"] = random.choice(("full", "zero"))
        return keys

    def keys(self, encap):
        random = self.random
        choices = {"ttl": (64, "inherit", 1, 255, random.randint(2, 254)),
                   "dscp": ("inherit", "uniform", 0, 63, random.randrange(64)), "ecn": ("rfc6040", "off"),
                   "df": ("set", "inherit", "inherit", "clear")}
        if encap == "gre":
            choices.update(key=KEYS + (random.getrandbits(32),), checksum=(True, False), sequence=(True, False))
        return {name: random.choice(values) for name, values in choices.items() if random.random() < 0.6}

    def inside(self, number):
        """The box's own addresses in a tunnel: of both families, of one, or none."""
        both = [f"10.255.{number}.1/31", f"2001:db8:ff:{number:x}::1/127"]
        return self.random.choice(([], both, both[:1], both[1:]))

    def lower(self, new):
        """Sometimes an MTU or MSS of the tunnel's own. False where it is more than its way allows."""
        random = self.random
        if new.mtu < 1280:
            return False
        choice = random.randrange(6)
        if choice == 0:
            new.keys["mtu"] = random.randint(1280, new.mtu)
        elif choice == 1:
            new.keys["profile"] = random.choice(list(PROFILES))
        choice = random.randrange(6)
        if choice == 0:
            new.keys["mss"] = "off"
        elif choice == 1:
            both = {"ipv4": random.randint(536, 1500), "ipv6": random.randint(536, 1500)}
            new.keys["mss"] = random.choice((both, both, {"ipv4": both["ipv4"]}, {"ipv6": both["ipv6"]}))
        return new.limit()

    def add_clamp(self):
        random = self.random
        limits = {version: random.randint(536, 1500) for version in random.choice(((4,), (6,), (4, 6), (4, 6)))}
        prefix = None
        if random.random() < 0.5:
            behind = random.choice(self.interfaces + self.tunnels).network(random.choice(list(limits)))
            prefix = str(random.choice(list(behind.subnets(random.choice((0, 1))))))
        direction = random.choice(("in", "out", "both"))
        self.clamps.append(Clamp(random.choice(self.interfaces + self.tunnels), direction, prefix, limits))

    def own(self):
        """All addresses of the box."""
        return {each.split("/")[0] for way in self.interfaces + self.tunnels for each in way.addresses()} | {
            each.local for each in self.tunnels}

    def text(self):
        """The file."""
        parts = list(self.words) + [each.neighbors() for each in self.interfaces]
        parts += [each.text() for each in self.tunnels] + [each.routes() for each in self.interfaces + self.tunnels]
        for remote, under in self.remotes:
            if not (isinstance(under, Interface) and remote == under.router(family(remote), 10)):
                parts.append(route(f"{remote}/{32 if family(remote) == 4 else 128}", **under.target(family(remote))))
        return "".join(parts + [each.text() for each in self.clamps])
