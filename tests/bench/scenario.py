"""What a row runs: culvert's configuration, and the captures that its ports play.

One box, whose ports are all alike: each plays its captures for ever, one for each of its queues, and everything leaves by
the first. Received packets are for tunnels of the box, for a prefix that is routed into a tunnel, or for one that is routed
to a gateway. Addresses:

    the box                 192.0.2.1, 2001:db8::1; its tunnels' ends 203.0.113.1, 2001:db8:f::1
    gateways                192.0.2.2 to .9, 2001:db8::2 to ::9
    tunnels' remote ends    172.16.0.0/12 and 2001:db8:1::/64, tunnel n has address n
    inside, from            198.18.0.0/15, 2001:db8:a::/48
    inside, to              10.0.0.0/8 and 2001:db8:b::/48, or the prefixes of the routes that are hit at random
"""

import ipaddress
import random
import struct
from dataclasses import dataclass, field

import packets

# net_pcap reads a capture into buffers when its queue is set up and copies from these for ever; the buffers come out of the
# same pool as those that packets are received in. culvert's pool has 1,024 for each receive queue, so that is what a
# capture may have, less one, for which net_pcap's ring needs 1,024 places. net_pcap has 16 queues at most.
CAPTURE, QUEUES, MOST_PORTS = 1023, 16, 8
MOST_PACKETS = CAPTURE * QUEUES * MOST_PORTS

# IP bytes: a 64-byte frame holds 46; the middle one of the "simple IMIX" is 576 bytes; the largest is 1,500 on the wire.
SMALL, MIDDLE, LARGE = 46, 576, 1500
IMIX = (SMALL,) * 7 + (MIDDLE,) * 4 + (LARGE,)

GATEWAYS = 8
OWN_MAC, OTHER_MAC = "02:00:00:00:01:{:02x}", "02:00:00:00:02:{:02x}"


def address(text):
    return ipaddress.ip_address(text).packed


def plus(base, number):
    """The address that many behind `base`."""
    return (int.from_bytes(base, "big") + number).to_bytes(len(base), "big")


BOX = {4: address("203.0.113.1"), 6: address("2001:db8:f::1")}
REMOTE = {4: address("172.16.0.0"), 6: address("2001:db8:1::")}
INSIDE_FROM = {4: address("198.18.0.0"), 6: address("2001:db8:a::")}
INSIDE_TO = {4: address("10.0.0.0"), 6: address("2001:db8:b::")}
INSIDE_PREFIX = {4: "10.0.0.0/8", 6: "2001:db8:b::/48"}


@dataclass(frozen=True)
class Layer:
    """One kind of tunnel: what it puts in front."""

    encap: str
    outside: int
    port: int = 0
    checksum: str = "full"

    def overhead(self):
        return (packets.IPV4 if self.outside == 4 else packets.IPV6) + (packets.UDP if self.port else 0) + (
            4 if self.encap == "gre" else 0
        )

    def around(self, inner, inside, number, entropy):
        """The packet as the other end sends it; `inside` is the family of `inner`."""
        source, destination = plus(REMOTE[self.outside], number), BOX[self.outside]
        protocol = packets.PROTOCOLS["ip4" if inside == 4 else "ip6"]
        if self.encap == "gre":
            protocol, inner = packets.PROTOCOLS["gre"], struct.pack("!HH", 0, packets.TYPES[inside]) + inner
        if self.port:
            ports = (49152 + entropy % 16384, self.port)
            inner = packets.udp(source, destination, ports, inner, self.checksum == "full")
            protocol = packets.PROTOCOLS["udp"]
        return packets.ip(source, destination, protocol, inner, entropy)


GRE4, GRE6 = Layer("gre", 4), Layer("gre", 6)
FOU6, FOU6_GRE = Layer("ip", 6, 5556), Layer("gre", 6, 5555)
FOU6_GRE_ZERO = Layer("gre", 6, 5555, "zero")


@dataclass(frozen=True)
class Scenario:
    """A configuration and its traffic."""

    stack: tuple = ()  # layers, innermost first
    way: str = "forward"  # forward | decap | encap | transit: the outermost layer off, the others forwarded
    inside: int = 4
    sizes: tuple = (SMALL,)  # IP bytes of the inner packet; LARGE: as many as make 1,500 on the wire
    traffic: str = "udp"  # udp | data | syn: the inner packets
    tunnels: int = 1
    routes: int = 0  # random ones; 0: the one that is needed
    count: int = CAPTURE  # distinct packets
    workers: int = 1
    spread: bool = False  # all workers share one receive queue, in place of one for each
    keys: tuple = field(default=())  # further keys of every innermost tunnel

    @property
    def queues(self):
        """Queues of one port."""
        return max(self.workers, min(QUEUES, -(-self.count // CAPTURE)))

    @property
    def ports(self):
        return -(-self.count // (CAPTURE * QUEUES))

    @property
    def headers(self):
        """Layers that each packet goes through."""
        return {"forward": 0, "transit": 1}.get(self.way, len(self.stack))

    def write(self, folder, seed):
        """Writes the captures and remembers the routes that the configuration needs."""
        chance = random.Random(seed)
        routes = prefixes(self.inside, self.routes, chance) if self.routes else []
        frames = self._frames(routes, chance)
        names = []
        for port in range(self.ports):
            ethernet = mac(OWN_MAC.format(port + 1)) + mac(OTHER_MAC.format(0))
            names.append([])
            for queue in range(self.queues):
                share = frames[port * self.queues + queue :: self.queues * self.ports]
                name = folder / f"in-{port}-{queue}.pcap"
                packets.write_capture(name, [ethernet + frame for frame in share])
                names[-1].append(name)
        return Wire(self, names, routes)

    def _frames(self, routes, chance):
        """All distinct packets, from the Ethernet type on: every tunnel and route once before any comes again."""
        count = self.workers * self.count
        tunnels = hits(self.tunnels, count, chance)
        targets = hits(len(routes), count, chance) if routes else None
        overhead = sum(layer.overhead() for layer in self.stack)
        source, to = INSIDE_FROM[self.inside], INSIDE_TO[self.inside]
        frames = []
        for number in range(count):
            entropy = chance.getrandbits(32)
            if targets:
                start, length = routes[targets[number]]
                bits = 8 * len(start) - length
                destination = plus(start, 1 + chance.randrange((1 << bits) - 2))
            elif self.way == "encap" and self.tunnels > 1:
                destination = plus(to, tunnels[number])
            else:
                destination = plus(to, 1 + entropy % 0xFFFFFE)
            size = self.sizes[number % len(self.sizes)]
            size = size - overhead if size == LARGE else size
            packet = self._inner(plus(source, entropy >> 8 & 0x1FFFF), destination, size, entropy)
            at = self.inside
            if self.way in ("decap", "transit"):
                for level, layer in enumerate(self.stack):
                    packet = self._around(layer, packet, at, 0 if level else tunnels[number], entropy)
                    at = layer.outside
            frames.append(struct.pack("!H", packets.TYPES[at]) + packet)
        return frames

    def _around(self, layer, packet, at, number, entropy):
        """The layers of a transit packet that stay on are for somebody else."""
        if self.way == "transit" and layer is not self.stack[-1]:
            header = struct.pack("!HH", 0, packets.TYPES[at])
            target = plus(INSIDE_TO[layer.outside], 1 + entropy % 0xFFFFFE)
            protocol = packets.PROTOCOLS["gre"]
            return packets.ip(plus(INSIDE_FROM[layer.outside], 1), target, protocol, header + packet, entropy)
        return layer.around(packet, at, number, entropy)

    def _inner(self, source, destination, size, entropy):
        ports = (1024 + entropy % 50000, 443)
        head = packets.IPV4 if self.inside == 4 else packets.IPV6
        if self.traffic == "udp":
            payload = packets.udp(source, destination, ports, bytes(max(0, size - head - packets.UDP)))
            protocol = packets.PROTOCOLS["udp"]
        else:
            syn = self.traffic == "syn"
            room = max(0, size - head - packets.TCP - (len(packets.SYN_OPTIONS) if syn else 0))
            payload = packets.tcp(source, destination, ports, bytes(room), syn)
            protocol = packets.PROTOCOLS["tcp"]
        return packets.ip(source, destination, protocol, payload, entropy)


@dataclass(frozen=True)
class Wire:
    """A scenario whose captures are written."""

    scenario: Scenario
    captures: list
    routes: list

    def devices(self):
        """The virtual devices, the same for culvert and for testpmd."""
        return [
            f"net_pcap{port}," + "".join(f"rx_pcap={name}," for name in names) + "infinite_rx=1"
            for port, names in enumerate(self.captures)
        ]

    def configuration(self, socket, cores, pages, devices):
        """culvert's file, in pieces; `pages` are the lines that say where packet memory comes from, `devices` the ports."""
        scenario = self.scenario
        yield f"[system]\nworker_cores = {cores}\ncontrol_core = 0\n{pages}\n"
        yield f'\n[control]\nsocket = "{socket}"\n'
        for port, device in enumerate(devices):
            yield f'\n[[port]]\nname = "wire{port}"\ndevice = "{device}"\nmac = "{OWN_MAC.format(port + 1)}"\n'
            # A transmit queue for each worker takes as many captures; of a port that is spread the first is played.
            yield "rx_queues = 1\n" if scenario.spread else f'rx_queues = {scenario.queues}\nrss = "off"\n'
            if port == 0:
                yield 'addresses = ["192.0.2.1/24", "2001:db8::1/64"]\n'
        for number in range(GATEWAYS):
            yield neighbor(gateway(4, number), number) + neighbor(gateway(6, number), number)
        yield from self._tunnels()
        yield from self._routes()

    def _tunnels(self):
        scenario = self.scenario
        if scenario.way == "forward":
            return
        # The outer layer of a stack carries all tunnels of the inner one; its remote end is number 0.
        terminated = scenario.stack if scenario.way != "transit" else scenario.stack[-1:]
        for level, layer in enumerate(terminated):
            many = scenario.tunnels if level == 0 else 1
            more = "".join(f"{key}\n" for key in scenario.keys) if level == 0 else ""
            local = text(BOX[layer.outside])
            udp = f'udp = {{ kind = "fou", port = {layer.port}, checksum = "{layer.checksum}" }}\n' if layer.port else ""
            for number in range(many):
                remote = text(plus(REMOTE[layer.outside], number))
                yield f'\n[[tunnel]]\nname = "t{level}-{number}"\nencap = "{layer.encap}"\nlocal = "{local}"\n'
                yield f'remote = "{remote}"\n{more}{udp}'

    def _routes(self):
        scenario = self.scenario
        for level, layer in enumerate(scenario.stack):
            prefix = str(ipaddress.ip_network((REMOTE[layer.outside], 12 if layer.outside == 4 else 64)))
            if level + 1 < len(scenario.stack):
                # Whose packets stay wrapped in transit has its remote end elsewhere.
                yield "" if scenario.way == "transit" else tunnel_route(prefix, f"t{level + 1}-0")
            else:
                yield route(prefix, layer.outside, 0)
        if scenario.way == "encap":
            for number in range(scenario.tunnels):
                host = f"{text(plus(INSIDE_TO[scenario.inside], number))}/{32 if scenario.inside == 4 else 128}"
                prefix = host if scenario.tunnels > 1 else INSIDE_PREFIX[scenario.inside]
                yield tunnel_route(prefix, f"t0-{number}")
        elif self.routes:
            for number, (start, length) in enumerate(self.routes):
                yield route(f"{text(start)}/{length}", scenario.inside, number)
        else:
            yield route(INSIDE_PREFIX[scenario.inside], scenario.inside, 0)


def hits(choices, count, chance):
    """`count` of so many choices, at random: all of them before one comes again."""
    found = []
    while len(found) < count:
        found += chance.sample(range(choices), min(choices, count - len(found)))
    return found


def prefixes(inside, count, chance):
    """Different prefixes with about the lengths of the internet's table, as (address, length)."""
    if inside == 4:
        lengths, weights, whole = (16, 19, 20, 21, 22, 23, 24), (1, 3, 5, 5, 12, 11, 63), 32
        # 11.0.0.0 to 126.255.255.255: nothing in it is special.
        low, high = 11 << 24, 127 << 24
    else:
        lengths, weights, whole = (29, 32, 36, 40, 44, 48), (3, 14, 5, 12, 14, 52), 128
        low, high = 0x2A << 120, 0x2B << 120
    found = {}
    while len(found) < count:
        for length in chance.choices(lengths, weights, k=count - len(found)):
            free = whole - length
            found[chance.randrange(low >> free, high >> free) << free, length] = None
    return [(start.to_bytes(whole // 8, "big"), length) for start, length in found]


def gateway(inside, number):
    return f"192.0.2.{2 + number}" if inside == 4 else f"2001:db8::{2 + number}"


def neighbor(host, number):
    return f'\n[[neighbor]]\ninterface = "wire0"\naddress = "{host}"\nmac = "{OTHER_MAC.format(2 + number)}"\n'


def route(prefix, inside, number):
    return f'\n[[route]]\nprefix = "{prefix}"\ngateway = "{gateway(inside, number % GATEWAYS)}"\n'


def tunnel_route(prefix, name):
    return f'\n[[route]]\nprefix = "{prefix}"\ntunnel = "{name}"\n'


def text(packed):
    return str(ipaddress.ip_address(packed))


def mac(words):
    return bytes.fromhex(words.replace(":", ""))
