"""The Linux kernel's own packets: taken off, and made again.

Where culvert's encapsulation is meant to differ from the kernel's:
- ECN: the kernel turns inner CE into outer ECT(0) (RFC 3168's limited functionality) and ip6gre leaves the field 0;
  culvert copies (RFC 6040 §4.1).
- Identification with DF, UDP source port, flow label: free choices of either, held to their rules by the runner.
- The encapsulation limit (RFC 2473 §4.1.1) is taken, not sent: no encap row.
Where its MSS rewriting is: the rows `mss-*` hold the segments after the kernel's rewriting, some of it wrong. They serve as
odd input; what comes out is what the RFCs say about it.
"""

import struct
from pathlib import Path

from scapy.utils import RawPcapReader

from oracle import *

HERE = Path(__file__).resolve().parent.parent / "linux" / "captures"
LEFT, RIGHT = "02:00:00:00:00:0a", "02:00:00:00:00:0b"  # the two ends, by the captures
INSIDE = "02:00:00:00:00:03"
ENDS = {1: "02:00:00:00:0d:01", 2: "02:00:00:00:0d:02"}
RESULT = {(0, 3): None, (2, 1): 1, (2, 3): 3, (1, 3): 3}  # RFC 6040 figure 4 where it is not the inner field


class Linux(Row):
    """A row that keeps the capture's times."""

    def at(self, stamp):
        self.time = stamp
        return self

    def send(self, port_name, frame):
        stamp = self.time
        super().send(port_name, frame)
        self.time = stamp
        self.files[f"in-{port_name}"][-1] = (stamp, frame)
        return self


def packets(name):
    for data, meta in RawPcapReader(str(HERE / f"{name}.pcap")):
        yield meta.sec * 1_000_000 + meta.usec, data


def config(v6, keys, udp_keys, inside_too):
    """Culvert at both ends. `inside_too`: with routes of the inner addresses to hosts, else into the tunnels."""
    at = "2001:db8::{}".format if v6 else "192.0.2.{}".format
    bits = 128 if v6 else 32
    text = (port("left", 0, mac=LEFT) + port("right", 1, mac=RIGHT)
            + port("inside", 2, "10.0.0.254/24", "fd00::ff/64", mac=INSIDE)
            + neighbor("left", at(2), RIGHT) + neighbor("right", at(1), LEFT)
            + route(f"{at(2)}/{bits}", interface="left") + route(f"{at(1)}/{bits}", interface="right"))
    for end, far_end in ((1, 2), (2, 1)):
        text += neighbor("inside", f"10.0.0.{end}", ENDS[end]) + neighbor("inside", f"fd00::{end}", ENDS[end])
        text += tunnel(f"end-{end}", local=at(end), remote=at(far_end), udp=udp_keys, **keys)
        if not inside_too:
            text += route(f"10.0.0.{far_end}/32", tunnel=f"end-{end}") + route(f"fd00::{far_end}/128", tunnel=f"end-{end}")
    return text


def cut(frame, gre_inside, udp_inside, gue_inside=False):
    """The outer header's type of service, and the inner packet of a frame; None for a fragment."""
    packet = frame[14:]
    if packet[0] >> 4 == 4:
        tos, at, end = packet[1], (packet[0] & 15) * 4, struct.unpack("!H", packet[2:4])[0]
        if struct.unpack("!H", packet[6:8])[0] & 0x3FFF:
            return None
    else:
        tos = struct.unpack("!H", packet[:2])[0] >> 4 & 0xFF
        at, end, following = 40, 40 + struct.unpack("!H", packet[4:6])[0], packet[6]
        while following in (60, 44):
            if following == 44:
                return None
            following, at = packet[at], at + 8 + packet[at + 1] * 8
    at += 8 if udp_inside else 0
    at += 4 if gue_inside else 0
    if gre_inside:
        flags = packet[at] << 8
        at += 4 + 4 * sum(1 for bit in (0x8000, 0x2000, 0x1000) if flags & bit)
    return tos, packet[at:end]


def part(frame):
    """What the fragment in a frame is a part of, where it belongs there, whether more follow, and its data."""
    packet = frame[14:]
    if packet[0] >> 4 == 4:
        end, ident, field = struct.unpack("!HHH", packet[2:8])
        return (packet[12:20], ident), (field & 0x1FFF) * 8, field & 0x2000, packet[20:end]
    field, ident = struct.unpack("!HI", packet[42:48])
    return (packet[8:40], ident), field & 0xFFF8, field & 1, packet[48:40 + struct.unpack("!H", packet[4:6])[0]]


def joined(frame, data):
    """The first fragment's frame with the payload of all."""
    packet = frame[14:]
    if packet[0] >> 4 == 4:
        header = packet[:2] + struct.pack("!H", 20 + len(data)) + packet[4:6] + b"\0\0" + packet[8:20]
        return frame[:14] + rechecked(header) + data
    return frame[:14] + packet[:4] + struct.pack("!H", len(data)) + packet[40:41] + packet[7:40] + data


def patched(frame, tos):
    """The kernel's frame with another outer type of service."""
    return frame[:14] + marked(frame[14:], tos)


def end_of(frame):
    """Which of the two ends a frame is addressed to."""
    return 1 if frame[:6] == bytes.fromhex(LEFT.replace(":", "")) else 2


def size(v6, encap, udp_keys, keys):
    overhead = (40 if v6 else 20) + (8 if udp_keys is not None else 0) + (4 if encap == "gre" else 0)
    overhead += 4 if udp_keys and udp_keys.get("kind") == "gue" else 0
    return 1500 - overhead - 4 * len({"key", "checksum", "sequence"} & keys.keys())


for line in (HERE / "manifest.tsv").read_text().splitlines():
    name, family_of, bound, words, *_ = line.split("\t") + ["", ""]
    if name.startswith("mss-"):
        continue
    v6 = family_of == "6"
    words = words.split()
    encap = "gre" if "gre" in words[0] else "ip"
    if name.startswith("gretap") or "gretap" in name:
        encap = "gre"
    keys = {"encap": encap, "mss": "off"}
    if "key" in words:
        keys["key"] = int(words[words.index("key") + 1], 16)
    if "csum" in words:
        keys["checksum"] = True
    if "seq" in words:
        keys["sequence"] = True
    udp_keys = None
    if bound != "-":
        udp_keys = {"port": 5555, "checksum": "full" if "encap-csum" in words or "encap-udp6-csum" in words else "zero"}
        if bound == "gue":
            udp_keys["kind"] = "gue"
        if "40000" in words:
            udp_keys["source_port"] = 40000
    keys["df"] = "clear" if "ignore-df" in words else "inherit" if "nopmtudisc" in words else "set"
    if v6:
        keys["ttl"], keys["dscp"] = 64, 0
    else:
        keys["ttl"], keys["dscp"] = "inherit", 0
    if "ttl" in words or "hoplimit" in words:
        keys["ttl"] = 200 if "hoplimit" in words else 64
    if "0xb8" in words:
        keys["dscp"] = 0xB8 >> 2
    derived = (size(v6, encap, udp_keys, keys), None, None)
    marks = {"tunnel_ports": [5555]}
    if v6 and udp_keys and udp_keys["checksum"] == "zero":
        marks["zero_udp"] = True

    row = Linux(f"linux/{name}-decap", config(v6, keys, udp_keys, True),
                tunnels={"end-1": derived, "end-2": derived}, **marks)
    for stamp, frame in packets(name):
        end = end_of(frame)
        row.at(stamp).send("left" if end == 1 else "right", frame)
        found = cut(frame, encap == "gre", udp_keys is not None, bound == "gue")
        if found is None:
            row.drop("outer_fragment", loose=["end-1", "end-2"])
        elif "gretap" in name:
            row.drop("gre_ethernet", loose=["end-1", "end-2"])
        else:
            tos, inner = found
            inner_tos = class_of(inner)
            ecn = RESULT.get((inner_tos & 3, tos & 3), inner_tos & 3)
            row.out("inside", ethernet(ENDS[end], INSIDE, hop(marked(inner, inner_tos & 0xFC | ecn))),
                    rx={f"end-{end}": inner})

    if name.startswith("frag-outer"):
        row = Linux(f"linux/{name}-reassembly", config(v6, {**keys, "reassembly": True}, udp_keys, True),
                    tunnels={"end-1": derived, "end-2": derived}, **marks)
        begun = {}
        for stamp, frame in packets(name):
            end = end_of(frame)
            row.at(stamp).send("left" if end == 1 else "right", frame)
            whole = frame
            if cut(frame, encap == "gre", udp_keys is not None) is None:
                of, start, more, data = part(frame)
                first, so_far, count = begun.pop(of, (frame, b"", 0))
                assert len(so_far) == start, "the kernel sends them in order"
                if more:
                    begun[of] = (first, so_far + data, count + 1)
                    row.hold()
                    continue
                row.joined(count)
                whole = joined(first, so_far + data)
            tos, inner = cut(whole, encap == "gre", udp_keys is not None)
            inner_tos = class_of(inner)
            ecn = RESULT.get((inner_tos & 3, tos & 3), inner_tos & 3)
            row.out("inside", ethernet(ENDS[end], INSIDE, hop(marked(inner, inner_tos & 0xFC | ecn))),
                    rx={f"end-{end}": inner})
        assert not begun

    if "gretap" in name or name.startswith("frag-outer") or (v6 and "encaplimit" not in words):
        continue
    mask = [LABEL] if v6 else [ID]
    if udp_keys and "source_port" not in udp_keys:
        mask.append(PORT)
    row = Linux(f"linux/{name}-encap", config(v6, keys, udp_keys, False),
                tunnels={"end-1": derived, "end-2": derived}, mask=mask, **marks)
    for stamp, frame in packets(name):
        end = end_of(frame)
        tos, inner = cut(frame, encap == "gre", udp_keys is not None, bound == "gue")
        inner_tos = class_of(inner)
        frame = patched(frame, tos & 0xFC | inner_tos & 3)  # ECN: copied
        sender = 3 - end
        packet = hop(inner, -1)
        row.at(stamp).send("inside", ethernet(INSIDE, ENDS[sender], packet))
        row.out("left" if end == 2 else "right", frame, tx={f"end-{sender}": packet})


def lowered(packet, limit):
    """The segment with every well-formed MSS option before the end of options lowered; receivers differ in which of
    several they take."""
    raw = bytearray(packet)
    start = 40 if raw[0] >> 4 == 6 else (raw[0] & 15) * 4
    if not raw[start + 13] & 2:
        return packet
    at, end = start + 20, start + (raw[start + 12] >> 4) * 4
    while at < end and raw[at] != 0:
        if raw[at] == 1:
            at += 1
            continue
        if at + 1 >= end or raw[at + 1] < 2 or at + raw[at + 1] > end:
            break
        if raw[at] == 2 and raw[at + 1] == 4 and struct.unpack("!H", raw[at + 2:at + 4])[0] > limit:
            raw[at + 2:at + 4] = struct.pack("!H", limit)
        at += raw[at + 1]
    return summed(raw, start)


def summed(raw, start):
    """A segment with its checksum made right."""
    raw = bytearray(raw)
    addresses = raw[8:40] if raw[0] >> 4 == 6 else raw[12:20]
    raw[start + 16:start + 18] = b"\0\0"
    whole = bytes(addresses) + struct.pack("!II", len(raw) - start, 6) + bytes(raw[start:])
    raw[start + 16:start + 18] = struct.pack("!H", internet_checksum(whole))
    return bytes(raw)


for name in ("mss-ip4-set1300", "mss-ip6-set1300"):
    keys = {"encap": "gre", "mss": {"ipv4": 530, "ipv6": 1000}}
    derived = (1476, 530, 1000)
    row = Linux(f"linux/{name}", config(False, keys, None, True), tunnels={"end-1": derived, "end-2": derived})
    for stamp, frame in packets(name):
        end = end_of(frame)
        _, inner = cut(frame, True, False)
        start = 40 if inner[0] >> 4 == 6 else (inner[0] & 15) * 4
        inner = summed(inner, start)  # the kernel's checksum is wrong where the option is at an odd offset
        left = lowered(inner, 530 if inner[0] >> 4 == 4 else 1000)
        whole = from_peer(ip4("192.0.2.1", "192.0.2.2", 47, gre(inner), ttl=64))
        frame = bytes.fromhex((RIGHT + LEFT).replace(":", "")) + whole[12:]
        row.at(stamp).send("right", frame)
        row.out("inside", ethernet(ENDS[2], INSIDE, hop(left)), rx={"end-2": inner},
                clamped="end-2" if left != inner else None)
