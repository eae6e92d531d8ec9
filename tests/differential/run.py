"""A differential test: random gateways and random packets, through `culvert replay` and through a model made of scapy's layers.

Each seed gives one configuration and some dozens of packets both ways. Where culvert's packets or counters are not the model's,
the seed, the configuration, the packet in hexadecimal and both versions taken apart by scapy are printed, and the exit code is
1. `--prove` spoils one bit of a packet, one packet or one counter of each run behind culvert's back and fails where that is
not noticed.

Example: run.py --culvert target/debug/culvert --seed 1 --count 8
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent / "golden"))
sys.dont_write_bytecode = True

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import RawPcapReader

import traffic
from compare import Comparison, Ledger
from errors import Complaints, refusal
from model import Sequences, arrival, departures, joined, steered
from oracle import START, write_pcap
from topology import Gateway, Interface, Tunnel

PORTS = ("lan", "wan")


class Case:
    """One configuration, its packets, and what must become of them."""

    def __init__(self, seed, packets):
        self.seed, self.random = seed, Random(seed)
        self.gateway = Gateway(self.random)
        self.ledger = Ledger(self.gateway)
        self.sent = {name: [] for name in PORTS}
        self.awaited = {}  # lists by port and time of the packet that causes them
        self.causes = {}
        self.sequences = Sequences()
        self.complaints = Complaints(self.sequences)
        talks = self.talks()
        for number in range(packets):
            self.add(START + number, *self.random.choice(talks))

    def talks(self):
        """Flows, each with the ways by which its packets come and go, which mostly are tunnels."""
        ways, found = self.gateway.ways, []
        while len(found) < 20:
            source, target = self.random.choice(ways), self.random.choice(ways)
            if isinstance(source, Tunnel) or isinstance(target, Tunnel) or self.random.random() < 0.3:
                found.append((source, target, traffic.talk(self.random, source, target, self.random.choice((4, 6)))))
        return found

    def add(self, time, source, target, flow):
        def make(room):
            inner = traffic.packet(self.random, flow, min(room, target.mtu), room)
            is_steered = flow.kind == "other" and isinstance(source, Interface) and isinstance(target, Tunnel)
            return steered(target, self.sequences, inner) if is_steered and self.random.random() < 0.5 else inner

        came = arrival(self.random, self.gateway, source, flow.version, make)
        self.ledger.arrived(came)
        self.sent[came.port].append((time, came.frame))
        self.causes[time] = came.frame
        if came.reason:
            return
        reason = refusal(came.inner, target)
        if reason is None:
            goes = departures(self.gateway, self.sequences, source, target, came.inner)
            self.ledger.departed(goes)
            self.awaited[goes[0].port, time] = goes
            return
        self.ledger.died(reason, came.rx, [target.name] if reason == "too_big" else [])
        error = self.complaints.about(source, target, came.inner, reason)
        if error:
            self.ledger.told(error)
            self.awaited[error.port, time] = [error]

    def met(self):
        """How often this case came to what the test is about."""
        tunnels = self.gateway.tunnels
        found = Counter(forwarded=self.ledger.transmitted - self.ledger.originated, originated=self.ledger.originated)
        found.update(self.ledger.dropped)
        found.update(["stacked tunnels" for each in tunnels if each.depth > 1])
        found["MSS lowered for a tunnel"] = sum(each["mss_clamped"] for each in self.ledger.tunnels.values())
        return found

    def replay(self, culvert, folder):
        """Runs culvert; gives its counters, and its packets by port and time."""
        (folder / "config.toml").write_text(self.gateway.text())
        command = [culvert, "replay", "--config", folder / "config.toml", "--out", folder / "out"]
        for name, packets in self.sent.items():
            write_pcap(folder / f"{name}.pcap", packets, 1)
            command += ["--in", f"{name}={folder / name}.pcap"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            said = f"seed {self.seed}: culvert replay ends with {ran.returncode}:\n{ran.stderr}"
            raise RuntimeError(said + self.gateway.text())
        found = []
        for path in sorted((folder / "out").glob("*.pcap")):
            found += [(path.stem, stamp.sec * 1_000_000 + stamp.usec, frame) for frame, stamp in RawPcapReader(str(path))]
        return json.loads(ran.stdout), found

    def compare(self, counters, found):
        comparison = Comparison(self.gateway.own())
        rest = {place: list(goes) for place, goes in self.awaited.items()}
        for port, time, frame in found:
            goes = rest.get((port, time))
            if not goes:
                comparison.differences.append(
                    f"nothing expected by {port}, found: {frame.hex()}\nreceived: {self.causes.get(time, b'').hex()}")
            else:
                comparison.packet(goes.pop(0), frame, self.causes[time])
        for (port, time), lost in rest.items():
            for goes in lost:
                comparison.differences.append(f"nothing found by {port}, expected: {joined(goes.layers, goes.rest()).hex()}\n"
                                              f"received: {self.causes[time].hex()}")
        comparison.spread()
        self.ledger.compare(counters, comparison)
        return comparison

    def spoil(self, counters, found):
        """Changes something that culvert may not choose, and says what."""
        choice = self.random.choice(("bit", "bit", "bit", "lost", "twice", "counter"))
        place = self.random.randrange(len(found))
        port, time, frame = found[place]
        if choice == "lost":
            found.pop(place)
            return f"packet {time - START} taken away"
        if choice == "twice":
            found.insert(place, found[place])
            return f"packet {time - START} twice"
        if choice == "counter":
            tunnel = self.random.choice(self.gateway.tunnels).name
            name = self.random.choice(("tx_packets", "tx_bytes", "mss_clamped", "mtu"))
            counters["tunnels"][tunnel][name] += 1
            return f"{tunnel}.{name} counted once more"
        free, offset = set(), 0
        for layer in self.awaited[port, time][0].layers:
            if isinstance(layer, IPv6):
                free.update(range(offset + 1, offset + 4))
            elif isinstance(layer, UDP):
                free.update(range(offset, offset + 2))
            offset += len(layer)
        byte = self.random.choice([each for each in range(len(frame)) if each not in free])
        spoiled = bytearray(frame)
        spoiled[byte] ^= 1 << self.random.randrange(8)
        found[place] = port, time, bytes(spoiled)
        return f"a bit of byte {byte} of packet {time - START} turned"


def check(case, culvert, prove):
    """Runs a case; gives what is to be said about it, None where all is as it must be."""
    with tempfile.TemporaryDirectory(prefix="culvert-differential-") as folder:
        counters, found = case.replay(culvert, Path(folder))
    if prove:
        unspoiled = case.compare(counters, list(found)).differences
        what = case.spoil(counters, found)
        noticed = case.compare(counters, found).differences
        return None if len(noticed) > len(unspoiled) else f"not noticed: {what}"
    differences = case.compare(counters, found).differences
    if not differences:
        return None
    shown = "\n\n".join(differences[:3])
    return f"{len(differences)} differences, of which the first:\n{shown}\n\nconfiguration:\n{case.gateway.text()}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--culvert", required=True, help="the binary")
    arguments.add_argument("--seed", type=int, default=1, help="the first configuration's; each further one's is one more")
    arguments.add_argument("--count", type=int, default=8, help="how many configurations")
    arguments.add_argument("--packets", type=int, default=64, help="how many packets for each")
    arguments.add_argument("--prove", action="store_true", help="show that differences are found")
    asked = arguments.parse_args()
    failures, total = 0, Counter()
    for seed in range(asked.seed, asked.seed + asked.count):
        case = Case(seed, asked.packets)
        said = check(case, asked.culvert, asked.prove)
        if said:
            failures += 1
            print(f"seed {seed}: {said}\nagain: --seed {seed} --count 1 --packets {asked.packets}\n")
        total.update(case.met())
    met = ", ".join(f"{count} {name}" for name, count in sorted(total.items()))
    print(f"seeds {asked.seed} to {asked.seed + asked.count - 1}: {met}; {failures} of {asked.count} configurations differ")
    return 1 if failures or not total["forwarded"] else 0


if __name__ == "__main__":
    sys.exit(main())
