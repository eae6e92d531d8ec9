"""Packets by the hundred thousand: headers laid together with struct, and the capture files that hold them.

A million packets take seconds here and would take an hour with a packet library. That the bytes are right is shown by the
runs: culvert verifies every checksum, and a row in which it drops a packet fails.
"""

import struct

IPV4, IPV6, UDP, TCP = 20, 40, 8, 20
TYPES = {4: 0x0800, 6: 0x86DD}
PROTOCOLS = {"tcp": 6, "udp": 17, "gre": 47, "ip4": 4, "ip6": 41}

SYN_OPTIONS = struct.pack("!BBHBBBB", 2, 4, 1460, 1, 3, 3, 7)  # MSS 1460, no operation, window scale 7


def checksum(data):
    """The ones' complement of the ones' complement sum: what is left of the number when 65,535 is cast out."""
    if len(data) % 2:
        data += b"\0"
    return 0xFFFF - int.from_bytes(data, "big") % 0xFFFF


def family(address):
    return 4 if len(address) == 4 else 6


def pseudo(source, destination, protocol, length):
    """What an upper layer's checksum covers beside itself; the sum is the same in the forms of both families."""
    return source + destination + struct.pack("!HH", protocol, length)


def ip(source, destination, protocol, payload, mark):
    """An IP packet; `mark` is the identification, or the flow label."""
    if family(source) == 6:
        head = struct.pack("!IHBB", 6 << 28 | mark & 0xFFFFF, len(payload), protocol, 64)
        return head + source + destination + payload
    head = struct.pack("!BBHHHBB", 0x45, 0, IPV4 + len(payload), mark & 0xFFFF, 0x4000, 64, protocol)
    addresses = source + destination
    return head + struct.pack("!H", checksum(head + addresses)) + addresses + payload


def udp(source, destination, ports, payload, covered=True):
    """A UDP datagram between two addresses; `covered`: with a checksum."""
    length = UDP + len(payload)
    head = struct.pack("!HHH", *ports, length)
    total = checksum(pseudo(source, destination, PROTOCOLS["udp"], length) + head + payload) if covered else 0
    return head + struct.pack("!H", (total or 0xFFFF) if covered else 0) + payload


def tcp(source, destination, ports, payload, syn):
    """A TCP segment: a SYN with an MSS option of 1,460, or one that has data."""
    options = SYN_OPTIONS if syn else b""
    offset, flags = (TCP + len(options)) // 4, 0x02 if syn else 0x10
    head = struct.pack("!HHIIBBH", *ports, 1, 0 if syn else 1, offset << 4, flags, 0xFFFF)
    body = options + payload
    covered = pseudo(source, destination, PROTOCOLS["tcp"], TCP + len(body)) + head + body
    return head + struct.pack("!HH", checksum(covered), 0) + body


def write_capture(path, frames):
    """A classic pcap file; the packets are a microsecond apart."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        file.writelines(
            struct.pack("<IIII", number // 1_000_000, number % 1_000_000, len(frame), len(frame)) + frame
            for number, frame in enumerate(frames)
        )


def repeat_capture(path, to, times):
    """A capture's packets several times over."""
    header, records = path.read_bytes()[:24], path.read_bytes()[24:]
    to.write_bytes(header + records * times)
