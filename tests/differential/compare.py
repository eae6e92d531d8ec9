"""What culvert did beside what it must do: packets field by field, and counters."""

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.packet import Padding, Raw

from model import GUE, joined

LONGEST = {Ether: 14, Dot1Q: 4, IP: 60, IPv6: 40, UDP: 8, GRE: 16, GUE: 128, ICMP: 8, ICMPv6PacketTooBig: 8,
           ICMPv6TimeExceeded: 8}
FLOW_PORTS = range(49152, 65536)


def dissected(frame, kinds):
    """Headers of these kinds from the frame's beginning, taken apart by scapy, and the bytes behind them."""
    layers = []
    for kind in kinds:
        layer = kind(frame[:LONGEST.get(kind)])
        layer.remove_payload()
        layers.append(layer)
        frame = frame[len(layer):]
    return layers, frame


def described(frame, kinds):
    """Every field, for people."""
    try:
        layers, rest = dissected(frame, kinds)
        return "".join(layer.show(dump=True) for layer in layers + [network_layer(rest)])
    except Exception as error:  # scapy raises many kinds at what is no packet
        return f"scapy cannot take this apart ({error})\n"


def inside(packet):
    """What scapy sees in an inner packet, as far as it has headers."""
    layers = network_layer(packet).layers()
    return [kind for kind in layers if kind not in (Raw, Padding)]


def network_layer(packet):
    return (IP if packet[:1] and packet[0] >> 4 == 4 else IPv6)(packet)


def unlike(expected, found, kinds):
    """The fields that differ, by name."""
    kinds = kinds + inside(dissected(expected, kinds)[1])
    (want, want_rest), (got, got_rest) = dissected(expected, kinds), dissected(found, kinds)
    lines = []
    for place, (one, other) in enumerate(zip(want, got)):
        for each in one.fields_desc:
            values = getattr(one, each.name), getattr(other, each.name)
            if values[0] != values[1]:
                lines.append(f"header {place} {one.name}.{each.name}: expected {values[0]!r}, found {values[1]!r}")
    if want_rest != got_rest:
        lines.append(f"payload: expected {len(want_rest)} bytes {want_rest.hex()}, found {len(got_rest)} {got_rest.hex()}")
    return lines or ["the same fields, in other bytes"]


class Comparison:
    """The differences of one run."""

    def __init__(self, own):
        self.own = own  # the box's addresses
        self.differences = []
        self.ports, self.labels = {}, {}  # by flow
        self.identifications = set()

    def packet(self, departure, frame, cause):
        """One packet that left, `frame`, beside what had to leave for `cause`."""
        layers = [layer.copy() for layer in departure.layers]
        kinds = [type(layer) for layer in layers]
        try:
            strange = self.adopt(departure, layers, dissected(frame, kinds)[0])
        except Exception as error:
            strange = [f"scapy cannot take it apart: {error}"]
        expected = joined(layers, departure.rest())
        if expected != frame and not strange:
            try:
                strange = unlike(expected, frame, kinds)
            except Exception as error:  # where found is no such packet at all
                strange = [f"other headers ({error})"]
        if strange:
            self.differences.append("\n".join(strange + [
                f"received: {cause.hex()}", f"expected: {expected.hex()}", f"found: {frame.hex()}",
                "expected, by scapy:", described(expected, kinds), "found, by scapy:", described(frame, kinds)]))

    def adopt(self, departure, layers, found):
        """Takes over what culvert may choose, and says where it chose badly."""
        strange, flow = [], departure.inner.flow_key()
        for layer, seen, original in zip(layers, found, departure.layers):
            if original is departure.made and departure.is_from_any:
                layer.src = seen.src
                flow = layer.src, *flow[1:]
                if layer.src not in self.own:
                    strange.append(f"source {layer.src}: one of the box's addresses expected")
        for layer, seen, original in zip(layers, found, departure.layers):
            if isinstance(layer, IP):
                layer.id = seen.id
                sent = layer.src, layer.dst, layer.proto, layer.id
                if not layer.flags.DF and sent in self.identifications:
                    strange.append(f"identification {layer.id} a second time between {layer.src} and {layer.dst}")
                if not layer.flags.DF:
                    self.identifications.add(sent)
            elif original is departure.made:
                layer.fl = seen.fl
            elif isinstance(layer, IPv6):
                layer.fl = seen.fl
                first = self.labels.setdefault(flow, layer.fl)
                if layer.fl == 0 or layer.fl != first:
                    strange.append(f"flow label {layer.fl:#x}: never 0 expected, and {first:#x} as before in flow {flow}")
            elif isinstance(layer, UDP) and layer.sport == 0:
                layer.sport = seen.sport
                first = self.ports.setdefault(flow, layer.sport)
                if layer.sport not in FLOW_PORTS or layer.sport != first:
                    strange.append(f"source port {layer.sport}: 49152 to 65535 expected, and {first} as before in flow {flow}")
        return strange

    def spread(self):
        """That flows differ in their source ports and labels."""
        for name, chosen in (("source ports", self.ports), ("flow labels", self.labels)):
            if len(chosen) >= 8 and len(set(chosen.values())) * 2 < len(chosen):
                self.differences.append(f"{len(chosen)} flows have only {len(set(chosen.values()))} {name}")

    def number(self, path, expected, found):
        if expected != found:
            self.differences.append(f"counter {path}: expected {expected}, found {found}")


class Ledger:
    """What culvert must have counted."""

    def __init__(self, gateway):
        self.gateway = gateway
        # For each packet that died: the reason, the tunnels that may have counted it, whether one of them must have.
        self.mourners = []
        self.received, self.originated, self.transmitted, self.dropped = 0, 0, 0, {}
        names = [each.name for each in gateway.tunnels]
        self.tunnels = {name: dict.fromkeys(("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "mss_clamped"), 0)
                        for name in names}
        self.perhaps = {name: [] for name in names}  # sizes of packets that may have been counted before they died

    def arrived(self, arrival):
        self.received += 1
        self.cross("rx", arrival.rx)
        for name, size in arrival.perhaps.items():
            self.perhaps[name].append(size)
        if arrival.reason:
            self.died(arrival.reason, arrival.rx, arrival.perhaps)

    def died(self, reason, reached, perhaps):
        """A packet that was in the tunnels `reached`, and may have been counted for one of `perhaps` as well."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self.mourners.append((reason, [*reached, *perhaps], bool(reached)))

    def told(self, error):
        """An ICMP error left."""
        self.departed([error])
        self.originated += 1

    def departed(self, departures):
        """What left for one packet. The first fragment is the packet itself."""
        self.transmitted += len(departures)
        self.originated += len(departures) - 1
        for departure in departures:
            self.cross("tx", departure.tx)
            if departure.clamped:
                self.tunnels[departure.clamped]["mss_clamped"] += 1

    def cross(self, direction, sizes):
        for name, size in sizes.items():
            self.tunnels[name][f"{direction}_packets"] += 1
            self.tunnels[name][f"{direction}_bytes"] += size

    def compare(self, found, comparison):
        """The law of conservation from culvert's own numbers, then each of them."""
        came = found["received"] + found["originated"]
        went = found["transmitted"] + found["kernel"] + found["consumed"] + sum(found["dropped"].values())
        comparison.number("law of conservation", came, went)
        expected = {"received": self.received, "transmitted": self.transmitted, "originated": self.originated, "kernel": 0,
                    "consumed": 0, "unaccounted": 0}
        for name, value in expected.items():
            comparison.number(name, value, found[name])
        comparison.number("dropped", self.dropped, {name: value for name, value in found["dropped"].items() if value})
        for tunnel in self.gateway.tunnels:
            self.compare_tunnel(tunnel, found["tunnels"][tunnel.name], comparison)
        for reason in self.dropped:
            least = sum(reason == why and is_counted for why, _, is_counted in self.mourners)
            count = sum(each["dropped"].get(reason, 0) for each in found["tunnels"].values())
            if count < least:
                comparison.differences.append(f"counter dropped.{reason} of all tunnels: {least} at least, found {count}")

    def compare_tunnel(self, tunnel, found, comparison):
        expected = {"state": "up", "mtu": tunnel.mtu, "mss_ipv4": tunnel.mss[4], "mss_ipv6": tunnel.mss[6],
                    **self.tunnels[tunnel.name]}
        sizes = self.perhaps[tunnel.name]
        # The contract leaves open whether a packet that is refused had been decapsulated before.
        more = found["rx_packets"] - expected["rx_packets"]
        if 0 < more <= len(sizes):
            expected["rx_packets"] += more
            if found["rx_bytes"] - expected["rx_bytes"] in sums(sizes, more):
                expected["rx_bytes"] = found["rx_bytes"]
        for name, value in expected.items():
            comparison.number(f"tunnels.{tunnel.name}.{name}", value, found[name])
        for reason, count in found["dropped"].items():
            most = sum(reason == why and tunnel.name in names for why, names, _ in self.mourners)
            if count > most:
                comparison.differences.append(f"counter tunnels.{tunnel.name}.dropped.{reason}: {most} at most, found {count}")


def sums(sizes, count):
    """All sums of so many of these numbers."""
    reached = {(0, 0)}
    for size in sizes:
        reached |= {(taken + 1, total + size) for taken, total in reached}
    return {total for taken, total in reached if taken == count}
