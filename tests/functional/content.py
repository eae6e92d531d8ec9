#!/usr/bin/python3
"""A TCP transfer whose content is compared: `serve ADDRESS PORT` answers each connection with as many bytes as it asks
for, `fetch ADDRESS PORT MEGABYTES` asks and prints both digests, the time, and the segment size that was agreed."""

import hashlib
import json
import socket
import struct
import sys
import time

PIECE = 1 << 20


def pieces(count):
    """The same bytes at both ends, no two pieces alike."""
    for number in range(count):
        yield hashlib.sha256(struct.pack("!Q", number)).digest() * (PIECE // 32)


def serve(address, port):
    listener = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            count = struct.unpack("!Q", connection.recv(8, socket.MSG_WAITALL))[0]
            for piece in pieces(count):
                connection.sendall(piece)


def fetch(address, port, megabytes):
    expected, found, length, begun = hashlib.sha256(), hashlib.sha256(), 0, time.monotonic()
    with socket.create_connection((address, port), timeout=20) as connection:
        connection.sendall(struct.pack("!Q", megabytes))
        size = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        while data := connection.recv(PIECE):
            found.update(data)
            length += len(data)
    seconds = time.monotonic() - begun
    for piece in pieces(megabytes):
        expected.update(piece)
    same = found.digest() == expected.digest() and length == megabytes * PIECE
    print(json.dumps({"bytes": length, "expected": expected.hexdigest(), "found": found.hexdigest(), "same": same,
                      "seconds": round(seconds, 2), "megabits_per_second": round(length * 8 / seconds / 1e6),
                      "maximum_segment": size}), flush=True)
    return 0 if same else 1


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    sys.exit(fetch(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
