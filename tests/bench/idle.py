#!/usr/bin/python3
"""What silence costs: `scripts/bench idle`, once everything is installed and built.

culvert runs with one worker and two ports of a kind, first with `idle = "poll"` and then with `idle = "sleep"`, run after run. Without
packets: how much of its core the worker takes, by the time that the kernel keeps for its thread. Then single packets with
silence between them, each sent into one port and awaited behind the other: how long they are on their way. What sleeping adds
is the difference of the two.

All of it happens in a network namespace without a name, which goes with the last process in it.
"""

import argparse
import json
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import positive
from packets import PROTOCOLS, TYPES, ip, udp
from reload import Culvert

RUNS, SECONDS, PACKETS = 3, 5, 200
# Seconds between two packets: many times what a worker polls on for after the last.
SILENCE = (0.02, 0.05)
# Seconds that a packet may take; reached only by a failure.
PATIENCE = 5
# The targets: a share of a core, and microseconds.
SHARE, ADDED = 5, 100
WORKER, CONTROL = 1, 0
MACS = ("02:00:00:00:01:01", "02:00:00:00:02:02")
MODES = ("poll", "sleep")
# By kind of device: what the two are to DPDK, the interfaces to send and receive by, how these are made, and whether packets
# are announced by receive interrupts.
DEVICES = {
    "net_tap": (("net_tap0,iface=idle0", "net_tap1,iface=idle1"), ("idle0", "idle1"), None, True),
    "net_af_packet": (
        ("net_af_packet0,iface=inside0", "net_af_packet1,iface=inside1"),
        ("idle0", "idle1"),
        "ip link add idle{0} type veth peer name inside{0} && ip link set idle{0} up && ip link set inside{0} up",
        False,
    ),
    "net_null": (("net_null0,no-rx=1", "net_null1,no-rx=1"), None, None, False),
}

CONFIG = """\
[system]
worker_cores = [{worker}]
control_core = {control}
hugepages = "off"
idle = "{mode}"

[control]
socket = "{socket}"

[[port]]
name = "in"
device = "{devices[0]}"
mac = "{macs[0]}"
addresses = ["192.0.2.1/24"]

[[port]]
name = "out"
device = "{devices[1]}"
addresses = ["198.51.100.1/24"]

[[neighbor]]
interface = "out"
address = "198.51.100.2"
mac = "{macs[1]}"
"""


def main():
    asked = arguments()
    if asked.list:
        print("\n".join(asked.devices))
        return
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        sys.exit("error: network namespaces and TAP devices need root and /dev/net/tun")
    if not asked.inside:
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv, "--inside"])
    # Nothing of Linux's own is to break the silence.
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    with tempfile.TemporaryDirectory(prefix="culvert-idle-") as name:
        rows = [measure(asked, Path(name), kind) for kind in asked.devices]
    print(json.dumps(rows, indent=2) if asked.json else table(rows))


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench idle",
        description="What silence costs: a sleeping worker's share of its core, and what the first packet waits.",
        epilog="Example: scripts/bench idle net_tap --runs 1",
    )
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help=f"kinds of device (default {' '.join(DEVICES)})")
    parser.add_argument("--runs", type=positive(int), default=RUNS, help=f"runs of each, in turn (default {RUNS})")
    parser.add_argument("--seconds", type=positive(int), default=SECONDS, help=f"of silence in each run (default {SECONDS})")
    parser.add_argument("--packets", type=positive(int), default=PACKETS, help=f"in each run (default {PACKETS})")
    parser.add_argument("--list", action="store_true", help="print the kinds of device and end")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--culvert", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.devices = asked.devices or list(DEVICES)
    for kind in asked.devices:
        if kind not in DEVICES:
            parser.error(f"no device {kind!r} (expected {', '.join(DEVICES)})")
    return asked


def measure(asked, folder, kind):
    devices, ends, made, has_interrupts = DEVICES[kind]
    row = {"device": kind, "interrupts": has_interrupts, **{mode: [] for mode in MODES}}
    for number in range(asked.runs):
        print(f"{kind}, run {number + 1} of {asked.runs}", file=sys.stderr, flush=True)
        for index in range(2 if made else 0):
            subprocess.run(made.format(index), shell=True, check=True)
        for mode in MODES:
            file = folder / "idle.toml"
            file.write_text(CONFIG.format(
                worker=WORKER, control=CONTROL, mode=mode, socket=folder / "control.sock", devices=devices, macs=MACS
            ))
            with Culvert(asked.culvert, folder, file) as culvert:
                run = {"share": share(culvert.process.pid, asked.seconds)}
                if ends:
                    run.update(delays(ends, asked.packets))
                row[mode].append(run)
        for index in range(2 if made else 0):
            subprocess.run(["ip", "link", "delete", f"idle{index}"], check=True)
    return row


def share(process, seconds):
    """The worker's share of its core over so many seconds, in percent."""
    [thread] = (
        task for task in Path(f"/proc/{process}/task").iterdir() if (task / "comm").read_text().strip() == f"worker-{WORKER}"
    )

    def busy():
        return int((thread / "schedstat").read_text().split()[0]), time.monotonic_ns()

    # What starting stirred up is over.
    time.sleep(0.5)
    before, began = busy()
    time.sleep(seconds)
    after, ended = busy()
    return 100 * (after - before) / (ended - began)


def delays(ends, count):
    """Microseconds that packets take from one end to the other, each after a silence."""
    found = []
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CONTROL})
    with endpoint(ends[0]) as sender, endpoint(ends[1]) as receiver:
        for number in range(count + 1):
            time.sleep(random.uniform(*SILENCE))
            mark = struct.pack("!I", number)
            frame = packet(mark)
            began = time.perf_counter_ns()
            sender.send(frame)
            try:
                while mark != receiver.recv(2048)[42:46]:
                    pass
            except TimeoutError:
                sys.exit(f"error: packet {number} into {ends[0]} did not leave by {ends[1]}")
            # The first one finds nothing in any cache, whatever the worker did.
            if number:
                found.append((time.perf_counter_ns() - began) / 1e3)
    os.sched_setaffinity(0, cores)
    found.sort()
    return {"median": statistics.median(found), "p99": found[(len(found) * 99 - 1) // 100]}


def endpoint(interface):
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    end.bind((interface, 0x0800))
    end.settimeout(PATIENCE)
    return end


def packet(mark):
    """A UDP datagram from 192.0.2.2 to 198.51.100.2, without checksum of its own."""
    ends = socket.inet_aton("192.0.2.2"), socket.inet_aton("198.51.100.2")
    datagram = udp(*ends, (1024, 1024), mark + bytes(14), covered=False)
    return 2 * bytes.fromhex(MACS[0].replace(":", "")) + TYPES[4].to_bytes(2, "big") + ip(*ends, PROTOCOLS["udp"], datagram, 0)


def table(rows):
    lines = [
        f"SHARE of a core without packets, in percent (target: less than {SHARE}); time of single packets from port to port in",
        f"microseconds, median and 99th percentile, and what sleeping adds to both (target: {ADDED} at most); medians of runs, and",
        "their range",
        "",
        f"{'DEVICE':13}  {'INTERRUPTS':10}  {'SHARE':>15}  {'POLL':>11}  {'SLEEP':>11}  {'ADDED, MEDIAN':>17}  {'ADDED, 99 %':>21}",
    ]
    for row in rows:
        line = f"{row['device']:13}  {'yes' if row['interrupts'] else 'no':10}  {told([run['share'] for run in row['sleep']], 1):>15}"
        if "median" in row["sleep"][0]:
            for mode in MODES:
                middle = (statistics.median(run[key] for run in row[mode]) for key in ("median", "p99"))
                line += "  " + " ".join(f"{value:5.0f}" for value in middle)
            for key, width in (("median", 17), ("p99", 21)):
                added = [sleep[key] - poll[key] for poll, sleep in zip(row["poll"], row["sleep"])]
                line += f"  {told(added, 0):>{width}}"
        lines.append(line)
    return "\n".join(lines)


def told(values, places):
    return f"{statistics.median(values):.{places}f} ({min(values):.{places}f} to {max(values):.{places}f})"


if __name__ == "__main__":
    main()
