#!/usr/bin/python3
"""Numbered datagrams over several flows: none may be lost, and none may overtake another of its flow.

`send ADDRESS RATE` sends until its standard input closes, then prints how many each flow sent. `receive ADDRESS` prints
"ready", counts until its standard input closes and nothing has come for a second, then prints what came: by flow the number
of datagrams, and how often the number was not the one after the last.
"""

import contextlib
import json
import select
import socket
import struct
import sys
import time

PORT, FLOWS = 7777, 4
# Deep enough for seconds of traffic: what is lost is to be lost on the way, not here.
BUFFER = 32 << 20
# Linux's SO_SNDBUFFORCE and SO_RCVBUFFORCE, which Python does not name.
SEND_BUFFER, RECEIVE_BUFFER = 32, 33


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def asked_to_stop(wait):
    return bool(select.select([sys.stdin], [], [], wait)[0])


def send(address, rate):
    flows = []
    for _ in range(FLOWS):
        flow = socket.socket(family(address), socket.SOCK_DGRAM)
        flow.setsockopt(socket.SOL_SOCKET, SEND_BUFFER, BUFFER)
        flow.connect((address, PORT))
        flows.append(flow)
    number, begun = 0, time.monotonic()
    while not asked_to_stop(0.002):
        due = int((time.monotonic() - begun) * rate / FLOWS)
        # What could not be sent in time is not caught up at once: a burst is no part of this test.
        for _ in range(min(due - number, 32)):
            for flow in flows:
                with contextlib.suppress(ConnectionRefusedError):  # nobody receives: not the sender's affair
                    flow.send(struct.pack("!Q", number) + bytes(200))
            number += 1
        begun += max(0, due - number - 32) * FLOWS / rate
    print(json.dumps({str(flow.getsockname()[1]): number for flow in flows}), flush=True)


def receive(address):
    inbox = socket.socket(family(address), socket.SOCK_DGRAM)
    inbox.setsockopt(socket.SOL_SOCKET, RECEIVE_BUFFER, BUFFER)
    inbox.bind((address, PORT))
    inbox.settimeout(0.05)
    print("ready", flush=True)
    flows, stopping, quiet = {}, False, 0.0
    while not stopping or time.monotonic() - quiet < 1:
        try:
            data, sender = inbox.recvfrom(2048)
        except socket.timeout:
            if not stopping and asked_to_stop(0):
                stopping, quiet = True, time.monotonic()
            continue
        quiet = time.monotonic()
        flow = flows.setdefault(str(sender[1]), {"count": 0, "last": -1, "jumps": 0})
        number = struct.unpack("!Q", data[:8])[0]
        flow["jumps"] += number != flow["last"] + 1
        flow["last"] = number
        flow["count"] += 1
        if not stopping and flow["count"] % 64 == 0 and asked_to_stop(0):
            stopping = True
    print(json.dumps(flows), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]))
    else:
        receive(sys.argv[2])
