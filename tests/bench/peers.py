"""The programs that stand at the other end of culvert's port: testpmd and pktgen, each on a virtio_user device.

culvert's port is a `net_vhost`: the two share the peer's packet memory over a Unix socket, whether there are hugepages or not, and
culvert copies every packet out of it and back into it. The peer has core 0, where culvert's control thread is, too, and culvert's
worker has core 1.

testpmd has no pacing. Its forward mode `noisy` does a number of random reads and writes for each packet before it sends a burst
on, which is meant to stand for the work of a network function; here it is the brake. What a read and a write cost is measured
first, then the numbers are chosen that come closest to the rate asked for. Packets that come back pay the same toll. What was
offered in fact is counted. A full ring refuses packets, and testpmd drops these.

pktgen paces each burst by the time-stamp counter, and sends those that are late at once. It tries again for as long as the ring is
full, so too high a rate shows in no lost packet but in packets that go out later than they should: `held_back` where culvert's
worker was busy, `peer_slow` where it had time and pktgen itself could do no more.
"""

import contextlib
import os
import queue
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from measure import ANSWER, MEBIBYTE, START, BenchError, Culvert, Program, Testpmd, free_hugepages, tail

# Packets on the way to culvert, as many as its queues of other devices have, and on the way back: more, so that the peer may be late.
RING, BACK = 1024, 4096
# Mbufs of testpmd's: its capture, both rings, what is kept at hand.
MBUFS = 16384
# MiB of memory. pktgen makes five pools of 24,576 buffers; Linux gives pages only as they are used.
TESTPMD_MEMORY, PKTGEN_MEMORY = 256, 4096
# Seconds: of traffic before what counts, of a trial that calibrates, for what is under way after the end.
WARM_UP, CALIBRATION, DRAIN = 0.3, 0.3, 0.05
# Reads and writes a packet at which their costs are measured; low rates, at which nothing is lost.
FEW, MANY = 40, 160
# testpmd's numbers are of 16 bits.
MOST_LOOKUPS = 65535
# The share of the packets that may be late before pktgen counts as held back: its start and stop are known no better.
PACE = 0.02
# The share of the time that culvert's worker is busy where it is what holds pktgen back.
BUSY = 0.9
# How often pktgen's page is looked at again where it differs from culvert's counters: it may be a second or two late.
LATE_PAGES = 3
# Mbit/s that pktgen's rate, in hundredths of a percent and finer, is a share of.
SPEED = 100_000
# Bytes on the wire beside a frame without checksum: preamble, gap, checksum.
WIRE_BYTES = 24

PKTGEN_HELP = (
    "no pktgen: expected a program of that name on PATH or its path in PKTGEN_BIN. Debian has no package of it: its source and how to"
    " build it against the installed DPDK are at https://github.com/pktgen/Pktgen-DPDK, INSTALL.md; its release has to be of about"
    " the age of DPDK's (23.03 for DPDK 22.11)"
)


@dataclass(frozen=True)
class Trial:
    """What became of the packets of one trial."""

    asked: float  # packets a second
    offered: float
    seconds: float
    sent: int  # by the peer, those that were refused or held back included
    returned: int  # counted by the peer
    places: dict  # packets lost, by where
    away: float  # the share of the time that culvert's worker was kept from its core

    @property
    def lost(self):
        """The share of the packets that was lost."""
        return sum(self.places.values()) / self.sent if self.sent else 1.0


class Gateway(Culvert):
    """culvert on a vhost-user port, whose socket it makes."""

    def __init__(self, wire, folder, binary):
        super().__init__(wire, [1], folder, binary)
        self.vhost = folder / "vhost.sock"

    def devices(self):
        return [f"net_vhost0,iface={self.vhost},queues=1"]

    def counts(self):
        """The counters, once they stand still."""
        before = None
        deadline = time.monotonic() + ANSWER
        while time.monotonic() < deadline:
            counts = self.now()
            if counts == before:
                return counts
            before = counts
        raise BenchError("culvert's counters do not come to rest")

    def now(self):
        answer = self._ask("drops")
        if answer is None:
            raise BenchError(f"culvert does not answer; it said:\n{tail(self.log)}")
        return answer

    def busy_cycles(self):
        """Cycles that the worker spent on packets."""
        return sum(worker["packets"] * (worker["cycles_per_packet"] or 0) for worker in self._ask("workers") or [])

    def latency(self):
        """The worker's histogram of the last whole second."""
        for entry in self._ask("latency") or []:
            if entry["scope"].startswith("worker:"):
                return entry["interval"]
        raise BenchError("culvert has no histogram of its worker")


def places(before, after, sent, refused, returned):
    """Packets lost between two of culvert's counts, by where. The peer put `sent` into the ring, which refused others before."""
    received = after["received"] - before["received"]
    found = {"peer_tx": refused, "to_culvert": sent - received}
    for reason, count in after["dropped"].items():
        found[f"culvert_{reason}"] = count - before["dropped"].get(reason, 0)
    found["way_back"] = after["transmitted"] - before["transmitted"] - returned
    return {place: count for place, count in found.items() if count}


class Braked(Testpmd):
    """testpmd in its mode `noisy`: plays the capture into culvert's port as fast as so many reads and writes a packet allow."""

    def __init__(self, wire, vhost, folder, brake, burst):
        super().__init__(wire, [0], folder)
        self.vhost, self.brake, self.burst = vhost, brake, burst

    def start(self):
        reads, writes = self.brake
        environment = [*environment_of(TESTPMD_MEMORY), "--vdev", self.wire.devices()[0]]
        environment += ["--vdev", f"virtio_user0,path={self.vhost},queue_size={BACK}"]
        options = ["--interactive", "--forward-mode=noisy", "--no-lsc-interrupt", "--no-flush-rx", "--nb-cores=1", f"--burst={self.burst}"]
        options += [f"--rxd={BACK}", f"--txd={RING}", f"--total-num-mbufs={MBUFS}", "--noisy-lkup-memory=1"]
        options += [f"--noisy-lkup-num-reads={reads}", f"--noisy-lkup-num-writes={writes}"]
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", "dpdk-testpmd", *environment, "--", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        # This mode tries again of itself where the ring is full, 64 times with a pause each: it is told not to.
        self._say("set burst tx delay 0 retry 0")
        self._mode("noisy", START)
        self.forward(WARM_UP)
        self.drain()

    def forward(self, seconds):
        """Lets it forward for so long, and returns the seconds and what both of its ports counted."""
        self._say("start")
        self._answer(re.compile("packet forwarding packets/burst"), ANSWER)
        began = time.monotonic()
        time.sleep(seconds)
        self._say("stop")
        elapsed = time.monotonic() - began
        lines = []
        self._answer(re.compile("^Done"), ANSWER, lines)
        return elapsed, forwarded("".join(lines))

    def drain(self):
        """Takes what is left in the ring, and returns how many packets that were."""
        self._mode("rxonly", ANSWER)
        _, ports = self.forward(DRAIN)
        self._mode("noisy", ANSWER)
        return ports[1]["RX-packets"]

    def _mode(self, name, seconds):
        self._say(f"set fwd {name}")
        self._answer(re.compile(f"Set {name} packet forwarding mode"), seconds)

    def _say(self, words):
        with contextlib.suppress(OSError):
            self.process.stdin.write(words + "\n")
            self.process.stdin.flush()


def forwarded(text):
    """What testpmd counted, by port, from what it prints when it stops."""
    ports = {}
    for number, block in re.findall(r"Forward statistics for port (\d+)\s+-+\n(.*?)\n\s*-{20}", text, re.DOTALL):
        ports[int(number)] = {name: int(count) for name, count in re.findall(r"([RT]X-\w+): (\d+)", block)}
    if sorted(ports) != [0, 1]:
        raise BenchError(f"testpmd's counters of ports 0 and 1 expected, found:\n{text}")
    return ports


@dataclass(frozen=True)
class Brakes:
    """Seconds that testpmd takes for a packet: without lookups, and more for each read and each write."""

    base: float
    read: float
    write: float

    @classmethod
    def measured(cls, few_reads, many_reads, few_writes):
        """From the times with `FEW` and `MANY` reads and with `FEW` writes a packet."""
        read = (many_reads - few_reads) / (MANY - FEW)
        base = max(few_reads - FEW * read, 1e-9)
        return cls(base, read, (few_writes - base) / FEW)

    def rate(self, brake):
        """Packets a second."""
        reads, writes = brake
        return 1 / (self.base + reads * self.read + writes * self.write)

    def nearest(self, rate):
        """The (reads, writes) whose rate is closest: writes cost more than reads, so few of them fill the gaps."""
        extra = max(0, 1 / rate - self.base)
        choices = []
        for writes in range(min(16, int(extra / self.write) + 1)):
            reads = round((extra - writes * self.write) / self.read)
            if 0 <= reads <= MOST_LOOKUPS:
                choices.append((reads, writes))
        if not choices:
            raise BenchError(f"testpmd's brake does not reach as low as {rate:.0f} packets a second")
        return min(choices, key=lambda brake: abs(self.rate(brake) - rate))


class TestpmdPeer:
    """Offers rates by testpmd, which is started anew for each."""

    name = "testpmd"
    said = "testpmd has no pacing: its noisy mode's reads and writes for each packet are the brake, and the rate that came of it is counted"

    def __init__(self, wire, gateway, folder, burst):
        self.wire, self.gateway, self.folder, self.burst = wire, gateway, folder, burst
        self.running = self.brakes = None

    def __enter__(self):
        try:
            few, many, writes = (self._calibrate(brake) for brake in ((FEW, 0), (MANY, 0), (0, FEW)))
            self.brakes = Brakes.measured(few, many, writes)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.running:
            self.running.__exit__()
            self.running = None

    @property
    def highest(self):
        """The highest rate that can be asked for."""
        return self.brakes.rate((0, 0))

    def trial(self, rate, seconds, watch=None):
        """Offers about that rate for so long; `watch` is called when the time is over and packets no longer come."""
        brake = self.brakes.nearest(rate)
        return self._trial(brake, self.brakes.rate(brake), seconds, watch)

    def _calibrate(self, brake):
        return 1 / self._trial(brake, 0, CALIBRATION).offered

    def _trial(self, brake, asked, seconds, watch=None):
        testpmd = self._with(brake)
        before, waited = self.gateway.counts(), self.gateway.waited()
        elapsed, ports = testpmd.forward(seconds)
        waited = self.gateway.waited() - waited
        if watch:
            watch()
        returned = ports[1]["RX-packets"] + testpmd.drain()
        # This mode does not count what it drops.
        sent = ports[1]["TX-packets"]
        refused = ports[0]["RX-packets"] - sent
        lost = places(before, self.gateway.counts(), sent, refused, returned)
        offered = (sent + refused) / elapsed
        return Trial(asked, offered, elapsed, sent + refused, returned, lost, waited / elapsed)

    def _with(self, brake):
        if self.running and self.running.brake == brake:
            return self.running
        self.__exit__()
        testpmd = Braked(self.wire, self.gateway.vhost, self.folder, brake, self.burst)
        self.running = testpmd
        return testpmd.__enter__()


class Page:
    """pktgen's main page as it comes out where there is no terminal: all labels below each other at times, and each second the port's
    values below each other in the same order."""

    LABELS, VALUES = "Link State", re.compile(r"<(UP|Down|--)\S*>")

    def __init__(self):
        self.labels, self.values, self.into, self.rest, self.fresh = [], [], None, "", 0

    def take(self, text):
        *lines, self.rest = re.split(r"\r?\n", self.rest + text)
        for line in lines:
            words = line.strip()
            if words.startswith(self.LABELS):
                self.labels = self.into = []
            elif self.VALUES.match(words):
                self.values = self.into = []
                self.fresh += 1
            elif not words:
                self.into = None
            if self.into is not None:
                self.into.append(words)

    def totals(self):
        """Packets sent and received since the start; `None` where they are not shown yet."""
        shown = dict(zip(self.labels, self.values))
        with contextlib.suppress(LookupError, ValueError):
            # The first line of this name is a rate, the second the total.
            sent = self.labels.index("Tx Pkts", self.labels.index("Total Rx Pkts"))
            return int(self.values[sent]), int(shown["Total Rx Pkts"])
        return None


class PktgenPeer(Program):
    """Offers rates by pktgen, told by its command line."""

    name = "pktgen"
    said = "pktgen paces bursts by the time-stamp counter and waits where the ring is full: lost are packets that went out too late, too"

    RATE = re.compile(r"rate [\d.]+, tx_cycles (\d+), tx_pps (\d+)")

    def __init__(self, wire, gateway, folder, burst):
        super().__init__([0])
        self.wire, self.gateway, self.burst = wire, gateway, burst
        self.log = folder / "pktgen.log"
        self.pieces = queue.Queue()
        self.page = Page()
        self.hz = 0

    @property
    def highest(self):
        """The highest rate that can be asked for."""
        return self.hz / 16

    def start(self):
        vdev = f"virtio_user0,path={self.gateway.vhost},queue_size={BACK},speed={SPEED}"
        environment = [*environment_of(PKTGEN_MEMORY), "--vdev", vdev]
        options = [f"--rxd={BACK}", f"--txd={RING}", "-m", "1.0", "-s", f"0:{self.wire.captures[0][0]}"]
        self.process = subprocess.Popen(
            ["stdbuf", "-o0", pktgen(), *environment, "--", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._answer(re.compile("Pktgen:/>"), START)
        self._say(f"set 0 burst {self.burst}")
        # At a low rate the cycles of a packet are known to many digits.
        cycles, rate = self._set(10_000)
        self.hz = cycles / self.burst * rate
        self.trial(100_000, WARM_UP)

    def stop(self):
        with contextlib.suppress(OSError):
            self._say("quit")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(ANSWER)
        if self.process.poll() is None:
            super().stop()

    def trial(self, rate, seconds, watch=None):
        """Offers that rate for so long; `watch` is called when the time is over and packets no longer come."""
        cycles, _ = self._set(rate)
        asked = self.hz * self.burst / cycles
        before, totals_before = self.gateway.counts(), self._totals()
        # Drawing takes core 0 from the packets for milliseconds.
        self._say("disable screen")
        busy, waited, began = self.gateway.busy_cycles(), self.gateway.waited(), time.monotonic()
        self._say("start 0")
        time.sleep(seconds)
        self._say("stop 0")
        elapsed = time.monotonic() - began
        waited = self.gateway.waited() - waited
        if watch:
            watch()
        after = self.gateway.counts()
        busy = (self.gateway.busy_cycles() - busy) / (elapsed * self.hz)
        self._say("enable screen")
        for _ in range(LATE_PAGES):
            sent, returned = (now - then for now, then in zip(self._totals(), totals_before, strict=True))
            if sent == after["received"] - before["received"] and returned == after["transmitted"] - before["transmitted"]:
                break
        lost = places(before, after, sent, 0, returned)
        late = round(asked * elapsed) - sent
        if late <= asked * elapsed * PACE:
            late = 0
        if late:
            lost["held_back" if busy > BUSY else "peer_slow"] = late
        return Trial(asked, (sent + late) / elapsed, elapsed, sent + late, returned, lost, waited / elapsed)

    def _set(self, rate):
        """Sets a rate, and returns what pktgen makes of it: cycles of a burst, packets a second."""
        bits = 8 * (frame_bytes(self.wire.captures[0][0]) + WIRE_BYTES)
        self._say(f"set 0 rate {min(100.0, rate * bits / SPEED / 1e4):.6f}")
        self._say("dbg tx_rate 0")
        cycles, found = (int(number) for number in self._answer(self.RATE, ANSWER).groups())
        return cycles, found

    def _totals(self):
        """Packets sent and received since the start, once two pages in a row, one a second, say the same."""
        deadline, before = time.monotonic() + ANSWER, None
        self._take()
        while time.monotonic() < deadline:
            seen = self.page.fresh
            while self.page.fresh == seen and time.monotonic() < deadline:
                if self._take(0.1) is None:
                    break
            totals = self.page.totals()
            if totals and totals == before:
                return totals
            before = totals
        raise BenchError(f"pktgen's totals expected on its main page, not found; it said:\n{tail(self.log)}")

    def _say(self, words):
        try:
            self.process.stdin.write(words.encode() + b"\n")
        except OSError as error:
            raise BenchError(f"pktgen is gone; it said:\n{tail(self.log)}") from error

    def _listen(self):
        with open(self.log, "wb", buffering=0) as log:
            while piece := self.process.stdout.read(65536):
                log.write(piece)
                self.pieces.put(piece.decode("latin-1"))
        self.pieces.put(None)

    def _take(self, seconds=0.0):
        """Shows what has come; the new text, or `None` where no more will come."""
        text = ""
        with contextlib.suppress(queue.Empty):
            piece = self.pieces.get(timeout=seconds) if seconds else self.pieces.get_nowait()
            while piece is not None:
                text += piece
                self.page.take(piece)
                piece = self.pieces.get_nowait()
            self.pieces.put(None)
            return text or None
        return text

    def _answer(self, pattern, seconds):
        deadline, text = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            new = self._take(0.1)
            if new is None:
                break
            text += new
            if found := pattern.search(text):
                return found
        raise BenchError(f"pktgen did not answer; it said:\n{tail(self.log)}")


PEERS = {peer.name: peer for peer in (TestpmdPeer, PktgenPeer)}


def environment_of(mebibytes):
    """EAL's arguments of a peer: its own memory, which the socket hands to culvert, and no files."""
    hugepages = free_hugepages() >= 2 * mebibytes * MEBIBYTE
    # The socket hands over a few pieces of memory at most, not one for each page.
    pages = ["--in-memory", "--single-file-segments"] if hugepages else ["--no-huge", "--no-shconf"]
    return ["--lcores", "0@0,1@0", "--no-pci", "--no-telemetry", *pages, "-m", str(mebibytes)]


def pktgen():
    """The program."""
    return os.environ.get("PKTGEN_BIN") or shutil.which("pktgen")


def frame_bytes(capture):
    """The length of a capture's first frame."""
    return int.from_bytes(capture.read_bytes()[32:36], "little")


def missing(peer):
    """What this machine lacks to run the peer, with what to do; `None`: nothing."""
    if (cores := os.cpu_count()) < 2:
        return f"two cores expected, one for the peer and one for culvert's worker; found {cores}"
    if peer == "pktgen" and not (pktgen() and os.access(pktgen(), os.X_OK)):
        named = os.environ.get("PKTGEN_BIN")
        return f"{PKTGEN_HELP}; found {f'no program at {named}' if named else 'neither'}"
    if peer == "testpmd" and not shutil.which("dpdk-testpmd"):
        return "no dpdk-testpmd on PATH: install the package dpdk, or DPDK's tools where it was built by hand"
    drivers = ("net_vhost", "net_virtio", "net_pcap") if peer == "testpmd" else ("net_vhost", "net_virtio")
    for driver in drivers:
        if not has_driver(driver):
            package = "librte-" + driver.replace("_", "-") + "*"
            return f"DPDK's driver {driver} is not among its plugins in {plugins()}: install the package {package}, or build DPDK with it"
    needed = PKTGEN_MEMORY // 4 if peer == "pktgen" else 2 * TESTPMD_MEMORY
    if (available := available_memory()) < needed:
        return f"{needed} MiB of memory expected for the peer and culvert, {available} MiB are available: end other programs"
    return None


def plugins():
    """Where DPDK's drivers lie."""
    with contextlib.suppress(OSError):
        done = subprocess.run(["pkg-config", "--variable=libdir", "libdpdk"], capture_output=True, text=True)
        if done.stdout.strip():
            return Path(done.stdout.strip()) / "dpdk"
    return Path("/usr/lib/x86_64-linux-gnu/dpdk")


def has_driver(name):
    return any(plugins().glob(f"pmds-*/librte_{name}.so*"))


def available_memory():
    """MiB."""
    with contextlib.suppress(OSError):
        for line in open("/proc/meminfo"):
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    return 1 << 30
