#!/usr/bin/python3
"""What a change costs: `scripts/bench reload`, once everything is installed and built.

culvert runs with one worker, on a net_null of DPDK's that never has packets, and a file of so many tunnels with a route each. How
long it takes from its start until it is ready; how long a reload of the same file takes, and one from none of the tunnels to
all of them, by stage, as culvert itself says; how much memory is resident beyond what it has without tunnels, after the
start and after all reloads. Tunnels keep no histograms of latency.
"""

import argparse
import ipaddress
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import positive

TUNNELS = (1000, 10_000, 100_000)
RELOADS = 10
STAGES = ("read", "compile", "compare", "publish")
# Seconds that culvert may take for anything; reached only by a failure.
PATIENCE = 300

HEAD = """\
[system]
worker_cores = [1]
control_core = 0
hugepages = "off"
idle = "sleep"

[control]
socket = "{socket}"

[[port]]
name = "wan"
device = "net_null0,no-rx=1"
addresses = ["192.0.2.1/24"]

[[neighbor]]
interface = "wan"
address = "192.0.2.2"
mac = "02:00:00:00:02:02"

[[route]]
prefix = "172.16.0.0/12"
gateway = "192.0.2.2"
"""

TUNNEL = """
[[tunnel]]
name = "customer-{number:06}"
encap = "gre"
local = "203.0.113.1"
remote = "{remote}"
latency = false

[[route]]
prefix = "{prefix}/30"
tunnel = "customer-{number:06}"
"""


def main():
    asked = arguments()
    if asked.list:
        print("\n".join(f"{count} tunnels" for count in asked.tunnels))
        return
    with tempfile.TemporaryDirectory(prefix="culvert-reload-") as name:
        folder = Path(name)
        with Culvert(asked.culvert, folder, write(folder, 0)) as culvert:
            empty = culvert.resident()
        rows = [measure(asked.culvert, folder, count, asked.reloads, empty) for count in asked.tunnels]
    print(json.dumps({"empty_bytes": empty, "rows": rows}, indent=2) if asked.json else table(empty, rows))


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench reload",
        description="What a change costs: time until ready, time of a reload by stage, memory of a tunnel.",
        epilog="Example: scripts/bench reload 1000 100000 --reloads 5",
    )
    parser.add_argument("tunnels", nargs="*", type=positive(int), default=TUNNELS, metavar="TUNNELS", help="sizes (default 1000 10000 100000)")
    parser.add_argument("--reloads", type=positive(int), default=RELOADS, help=f"reloads of the same file (default {RELOADS})")
    parser.add_argument("--list", action="store_true", help="print the sizes and end")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--culvert", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def write(folder, count):
    """Writes a file of so many tunnels."""
    remote, prefix = (int(ipaddress.ip_address(address)) for address in ("172.16.0.1", "10.0.0.0"))
    tunnels = (
        TUNNEL.format(number=number, remote=ipaddress.ip_address(remote + number), prefix=ipaddress.ip_address(prefix + 4 * number))
        for number in range(count)
    )
    path = folder / f"{count}.toml"
    path.write_text(HEAD.format(socket=folder / "control.sock") + "".join(tunnels))
    return path


def measure(binary, folder, count, reloads, empty):
    print(f"{count} tunnels", file=sys.stderr, flush=True)
    file, none = write(folder, count), folder / "0.toml"
    with Culvert(binary, folder, file) as culvert:
        row = {"tunnels": count, "start": culvert.ready}
        row["bytes_after_start"] = (culvert.resident() - empty) / count
        same = [culvert.reload(file) for _ in range(reloads)]
        row["same"] = {stage: statistics.median(run[stage] for run in same) for stage in (*STAGES, "all")}
        row["bytes_after_reloads"] = (culvert.resident() - empty) / count
        culvert.reload(none)
        row["added"] = culvert.reload(file)
    return row


class Culvert:
    """A running culvert."""

    def __init__(self, binary, folder, file):
        self.binary, self.socket = binary, folder / "control.sock"
        # There is a service manager until it is ready; later notices reach nobody, and a line of the log says so.
        notices = folder / "notify"
        notices.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(notices))
            manager.settimeout(PATIENCE)
            began = time.monotonic()
            self.process = subprocess.Popen(
                [binary, "run", "--config", file],
                env={"NOTIFY_SOCKET": str(notices)},
                stderr=(folder / "log").open("w"),
            )
            try:
                while b"READY=1" not in manager.recv(4096):
                    pass
            except TimeoutError:
                self.process.kill()
                sys.exit(f"error: culvert is not ready:\n{(folder / 'log').read_text()}")
            self.ready = time.monotonic() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)

    def resident(self):
        """Bytes that the process has in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    def reload(self, file):
        """Seconds of a reload: all of it as its caller sees it, and by stage."""
        began = time.monotonic()
        answer = subprocess.run(
            [self.binary, "reload", file, "--json", "--socket", self.socket],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )
        whole = time.monotonic() - began
        if answer.returncode:
            sys.exit(f"error: the reload failed: {answer.stderr}")
        return {**json.loads(answer.stdout)["seconds"], "all": whole}


def table(empty, rows):
    lines = [
        f"resident without tunnels: {empty / (1 << 20):.0f} MiB; times in milliseconds, memory in bytes a tunnel beyond that",
        "",
        f"{'TUNNELS':>8}  {'START':>7}  {'RELOAD':14} {'READ':>7} {'COMPILE':>8} {'COMPARE':>8} {'PUBLISH':>8} {'ALL':>7}"
        f"  {'MEMORY':>7}  {'LATER':>7}",
    ]
    for row in rows:
        for name, times in (("same file", row["same"]), ("all are new", row["added"])):
            first = name == "same file"
            head = f"{row['tunnels']:8}  {row['start'] * 1e3:7.0f}" if first else " " * 17
            memory = f"  {row['bytes_after_start']:7.0f}  {row['bytes_after_reloads']:7.0f}" if first else ""
            figures = " ".join(f"{times[stage] * 1e3:{width}.0f}" for stage, width in zip((*STAGES, "all"), (7, 8, 8, 8, 7)))
            lines.append(f"{head}  {name:14} {figures}{memory}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
