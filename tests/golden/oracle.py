"""What a golden row is made of, and packets built from first principles.

A row is a configuration and, for each packet sent, what must become of it, written down by the row's author. Packets are
laid together here header by header, the innermost first, as bytes; lengths and checksums are scapy's. Nothing here
knows how culvert works.

Addresses: the box has a `lan` and a `wan` port. HOST is on the lan, PEER on the wan, FAR behind the PEER.
"""

import json
import struct
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import checksum as internet_checksum

LAN_MAC, WAN_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
HOST_MAC, PEER_MAC = "02:00:00:00:0a:09", "02:00:00:00:0b:01"
HOST, FAR = "10.1.0.9", "10.2.0.9"
HOST6, FAR6 = "2001:db8:1::9", "2001:db8:2::9"
BOX, PEER = "192.0.2.2", "192.0.2.1"
BOX6, PEER6 = "2001:db8::2", "2001:db8::1"
START = 1_700_000_000_000_000  # microseconds since the epoch
ID, PORT, LABEL = "ipv4.identification", "udp.source_port", "ipv6.flow_label"
OWN_ID = "ipv4.own_identification"


# Configuration

def value(item):
    if isinstance(item, dict):
        return "{ " + ", ".join(f"{key} = {value(inner)}" for key, inner in item.items()) + " }"
    return json.dumps(item)


def table(header, **keys):
    lines = [header] + [f"{key} = {value(item)}" for key, item in keys.items() if item is not None]
    return "\n".join(lines) + "\n\n"


def port(name, number, *addresses, **keys):
    return table("[[port]]", name=name, device=f"net_null{number}", addresses=list(addresses), **keys)


def vlan(name, tag, *addresses):
    return table("  [[port.vlan]]", id=tag, name=name, addresses=list(addresses))


def neighbor(interface, address, mac):
    return table("[[neighbor]]", interface=interface, address=address, mac=mac)


def route(prefix, **keys):
    return table("[[route]]", prefix=prefix, **keys)


def clamp(on, direction, **keys):
    return table("[[mss_clamp]]", on=on, direction=direction, **keys)


def tunnel(name="t", encap="gre", local=BOX, remote=PEER, udp=None, **keys):
    text = table("[[tunnel]]", name=name, encap=encap, local=local, remote=remote, **keys)
    return text + (table("  [tunnel.udp]", **{"kind": "fou", **udp}) if udp is not None else "")


def base(lan_vlans="", wan_vlans="", mtu=None):
    """The two ports and the neighbours on them."""
    return (port("lan", 0, "10.1.0.1/24", "2001:db8:1::1/64", mtu=mtu) + lan_vlans
            + port("wan", 1, "192.0.2.2/24", "2001:db8::2/64", mtu=mtu) + wan_vlans
            + neighbor("lan", HOST, HOST_MAC) + neighbor("lan", HOST6, HOST_MAC)
            + neighbor("wan", PEER, PEER_MAC) + neighbor("wan", PEER6, PEER_MAC))


def far(name="t"):
    """Both families' FAR networks behind a tunnel."""
    return route("10.2.0.0/16", tunnel=name) + route("2001:db8:2::/48", tunnel=name)


# Packets, as bytes

def ip4(src, dst, proto, payload, ttl=64, tos=0, df=False, ident=0, options=b"", frag=0, more=False):
    flags = (2 if df else 0) | (1 if more else 0)
    header = IP(src=src, dst=dst, proto=proto, ttl=ttl, tos=tos, flags=flags, id=ident, frag=frag,
                ihl=5 + len(options) // 4, len=20 + len(options) + len(payload), chksum=0)
    raw = bytes(header)[:20] + options
    return raw[:10] + struct.pack("!H", internet_checksum(raw)) + raw[12:] + payload


def ip6(src, dst, proto, payload, hlim=64, tc=0, label=0):
    return bytes(IPv6(src=src, dst=dst, nh=proto, hlim=hlim, tc=tc, fl=label, plen=len(payload)))[:40] + payload


def ip(src, dst, proto, payload, ttl=64, tos=0, **keys):
    """Either family, by the source's."""
    if ":" in src:
        return ip6(src, dst, proto, payload, hlim=ttl, tc=tos, **keys)
    return ip4(src, dst, proto, payload, ttl=ttl, tos=tos, **keys)


def transport(src, dst, proto, layer):
    """A transport header with scapy's checksum over scapy's pseudo header."""
    network = IPv6(src=src, dst=dst, nh=proto) if ":" in src else IP(src=src, dst=dst, proto=proto)
    return bytes(network / layer)[40 if ":" in src else 20:]


def udp(src, dst, payload=b"data of no importance", sport=1000, dport=2000, checksum=None, length=None):
    return transport(src, dst, 17, UDP(sport=sport, dport=dport, chksum=checksum, len=length) / Raw(payload))


def datagram(src=HOST, dst=FAR, ttl=64, tos=0, payload=b"data of no importance", sport=1000, dport=2000, **keys):
    return ip(src, dst, 17, udp(src, dst, payload, sport, dport), ttl=ttl, tos=tos, **keys)


def tcp(src, dst, options=b"", flags="S", payload=b"", sport=1000, dport=80):
    """TCP with its options as bytes, so that they may be as wrong as can be."""
    assert len(options) % 4 == 0
    layer = TCP(sport=sport, dport=dport, flags=flags, seq=0x01020304, window=8192, dataofs=5 + len(options) // 4)
    return transport(src, dst, 6, layer / Raw(options + payload))


def mss(size):
    return b"\x02\x04" + struct.pack("!H", size)


def syn(src=HOST, dst=FAR, size=1460, flags="S", ttl=64, before=b"", after=b"", **keys):
    options = before + mss(size) + after
    options += b"\x01" * (-len(options) % 4)
    return ip(src, dst, 6, tcp(src, dst, options, flags, **keys), ttl=ttl)


def complaint(speaker, kind, code, word, cause):
    """An ICMP error about `cause`, which is quoted as far as 576 or 1,280 bytes allow."""
    v6 = ":" in speaker
    sender = (IPv6(cause[:40]) if v6 else IP(cause[:20])).src
    message = struct.pack("!BBHI", kind, code, 0, word) + cause[:1232 if v6 else 548]
    if v6:
        pseudo = bytes(IPv6(src=speaker, dst=sender))[8:40] + struct.pack("!II", len(message), 58)
    else:
        pseudo = b""
    message = message[:2] + struct.pack("!H", internet_checksum(pseudo + message)) + message[4:]
    return ip(speaker, sender, 58 if v6 else 1, message, tos=0xC0)


def echo(src, dst, ttl=64):
    return ip4(src, dst, 1, bytes(ICMP(type=8, id=7, seq=1) / Raw(b"ping")), ttl=ttl)


def gre(inner, key=None, checksum=False, sequence=None, protocol=None, flags=0):
    if protocol is None:
        protocol = 0x0800 if inner[0] >> 4 == 4 else 0x86DD
    flags |= (0x8000 if checksum else 0) | (0x2000 if key is not None else 0) | (0x1000 if sequence is not None else 0)
    tail = b"" if key is None else struct.pack("!I", key)
    tail += b"" if sequence is None else struct.pack("!I", sequence)
    head = struct.pack("!HH", flags, protocol)
    if not checksum:
        return head + tail + inner
    summed = internet_checksum(head + b"\0\0\0\0" + tail + inner)
    return head + struct.pack("!HH", summed, 0) + tail + inner


def gue(payload, protocol=None, private=b"", first=0, flags=0):
    """GUE. `first` holds the variant and the control bit; the length is that of `private`."""
    assert len(private) % 4 == 0
    protocol = family(payload) if protocol is None else protocol
    return struct.pack("!BBH", first | len(private) // 4, protocol, flags) + private + payload


def family(inner):
    """The IP protocol number of a packet that rides directly on IP."""
    return 4 if inner[0] >> 4 == 4 else 41


def class_of(packet):
    """Type of service or traffic class."""
    return packet[1] if packet[0] >> 4 == 4 else (packet[0] << 4 | packet[1] >> 4) & 0xFF


def hop(packet, count=1):
    """The packet after so many routers."""
    raw = bytearray(packet)
    if raw[0] >> 4 == 6:
        raw[7] -= count
        return bytes(raw)
    raw[8] -= count
    return rechecked(raw)


def marked(packet, tos):
    """The packet with another type of service or traffic class."""
    raw = bytearray(packet)
    if raw[0] >> 4 == 6:
        raw[0] = 0x60 | tos >> 4
        raw[1] = (tos & 15) << 4 | raw[1] & 15
        return bytes(raw)
    raw[1] = tos
    return rechecked(raw)


def rechecked(raw):
    """An IPv4 packet with its header checksum made right."""
    raw = bytearray(raw)
    end = (raw[0] & 15) * 4
    raw[10:12] = b"\0\0"
    raw[10:12] = struct.pack("!H", internet_checksum(bytes(raw[:end])))
    return bytes(raw)


def ethernet(dst, src, packet, tag=None, ethertype=None):
    if ethertype is None:
        ethertype = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    head = bytes(Ether(dst=dst, src=src, type=0x8100 if tag is not None else ethertype))
    return head + (b"" if tag is None else struct.pack("!HH", tag, ethertype)) + packet


def from_host(packet, **keys):
    return ethernet(LAN_MAC, HOST_MAC, packet, **keys)


def to_host(packet, **keys):
    return ethernet(HOST_MAC, LAN_MAC, packet, **keys)


def from_peer(packet, **keys):
    return ethernet(WAN_MAC, PEER_MAC, packet, **keys)


def to_peer(packet, **keys):
    return ethernet(PEER_MAC, WAN_MAC, packet, **keys)


# Rows

ROWS = []


class Row:
    """One row. After each `send` says one of `out`, `kernel`, `drop` what becomes of the packet."""

    def __init__(self, name, config, tunnels=None, mask=(), **marks):
        self.name, self.config, self.marks = name, config, dict(marks)
        if mask:
            self.marks["mask"] = list(mask)
        self.time = START
        self.files = {}
        self.links = {}
        self.counts = {"received": 0, "originated": 0, "transmitted": 0, "kernel": 0, "consumed": 0}
        self.dropped, self.tunnels, self.open, self.loose = {}, {}, False, {}
        for tunnel_name, derived in (tunnels or {}).items():
            if isinstance(derived, int):
                derived = (derived, derived - 40, derived - 60)
            mtu, ipv4, ipv6 = derived
            self.tunnels[tunnel_name] = {
                "state": "up", "mtu": mtu, "mss_ipv4": ipv4, "mss_ipv6": ipv6, "rx_packets": 0, "rx_bytes": 0,
                "tx_packets": 0, "tx_bytes": 0, "dropped": {}, "mss_clamped": 0}
        ROWS.append(self)

    def send(self, port_name, frame):
        assert not self.open, f"{self.name}: the last packet's fate was not told"
        self.time += 1
        self.open = True
        self.files.setdefault(f"in-{port_name}", []).append((self.time, frame))
        self.counts["received"] += 1
        return self

    def _crossed(self, rx, tx, clamped=None):
        assert self.open, f"{self.name}: a fate without a packet"
        self.open = False
        for direction, crossed in (("rx", rx), ("tx", tx)):
            for tunnel_name, packet in (crossed or {}).items():
                counts = self.tunnels[tunnel_name]
                for inner in packet if isinstance(packet, list) else [packet]:
                    counts[f"{direction}_packets"] += 1
                    counts[f"{direction}_bytes"] += len(inner)
        if clamped:
            self.tunnels[clamped]["mss_clamped"] += 1

    def out(self, port_name, frame, rx=None, tx=None, clamped=None):
        """Leaves by a port. `rx` and `tx` give for each tunnel crossed the inner packet (several: a list)."""
        self._crossed(rx, tx, clamped)
        self.files.setdefault(f"out-{port_name}", []).append((self.time, frame))
        self.counts["transmitted"] += 1

    def kernel(self, name, packet, rx=None):
        """The host's. `packet` is a frame, or an IP packet where `rx` says that it came out of a tunnel."""
        self._crossed(rx, None)
        self.files.setdefault(f"kernel-{name}", []).append((self.time, packet))
        self.links[f"kernel-{name}"] = 101 if rx else 1
        self.counts["kernel"] += 1

    def answer(self, port_name, frame, rx=None, tx=None):
        """Consumed, and answered by a packet of culvert's own."""
        self._crossed(rx, tx)
        self.files.setdefault(f"out-{port_name}", []).append((self.time, frame))
        self.counts["consumed"] += 1
        self.counts["originated"] += 1
        self.counts["transmitted"] += 1

    def pieces(self, port_name, frames, rx=None, tx=None):
        """Leaves by a port in fragments, the first of which counts as the packet itself."""
        self._crossed(rx, tx)
        self.files.setdefault(f"out-{port_name}", []).extend((self.time, frame) for frame in frames)
        self.counts["originated"] += len(frames) - 1
        self.counts["transmitted"] += len(frames)

    def error(self, reason, port_name, frame, tx=None, **keys):
        """Dropped, and its sender told by this frame. `tx`: the tunnels that the error enters."""
        self.drop(reason, tx=tx, **keys)
        self.files.setdefault(f"out-{port_name}", []).append((self.time, frame))
        self.counts["originated"] += 1
        self.counts["transmitted"] += 1

    def drop(self, reason, tunnel_name=None, rx=None, tx=None, loose=(), lost=None):
        """Dropped. `loose` names tunnels whose own counters the contract leaves open for such a packet; `lost` is the
        reason for which the ICMP error about it finds no way either."""
        self._crossed(rx, tx)
        if lost:
            self.counts["originated"] += 1
            self.dropped[lost] = self.dropped.get(lost, 0) + 1
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if tunnel_name:
            drops = self.tunnels[tunnel_name]["dropped"]
            drops[reason] = drops.get(reason, 0) + 1
        for name in loose:
            self.loose.setdefault(name, set()).update({"rx_packets", "rx_bytes"} if tunnel_name else
                                                      {"rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "dropped"})

    def hold(self, rx=None):
        """A fragment that is kept; `joined` or `given_up` tell its end."""
        self._crossed(rx, None)

    def joined(self, count):
        """So many that were kept went on as part of the packet that the last one sent completes."""
        self.counts["consumed"] += count

    def given_up(self, reason, count):
        """So many that were kept are dropped."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def write(self, parent):
        assert not self.open, f"{self.name}: the last packet's fate was not told"
        folder = Path(parent) / self.name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.pcap"):
            old.unlink()
        (folder / "config.toml").write_text(self.config.rstrip() + "\n")
        marks = "".join(f"{key} = {value(item)}\n" for key, item in self.marks.items())
        if marks:
            (folder / "row.toml").write_text(marks)
        elif (folder / "row.toml").exists():
            (folder / "row.toml").unlink()
        for name, packets in self.files.items():
            if packets:
                write_pcap(folder / f"{name}.pcap", packets, self.links.get(name, 1))
        for name, fields in self.loose.items():
            self.tunnels[name].update({field: "*" for field in fields})
        counters = {**self.counts, "dropped": self.dropped, "unaccounted": 0, "tunnels": self.tunnels}
        (folder / "counters.json").write_text(json.dumps(counters, indent=2) + "\n")


def write_pcap(path, packets, link):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link))
        for time, frame in packets:
            seconds, micros = divmod(time, 1_000_000)
            file.write(struct.pack("<IIII", seconds, micros, len(frame), len(frame)) + frame)
