"""testpmd as a peer.

testpmd has no pacing. Its forward mode `noisy` does a number of random reads and writes for each packet before it sends a burst
on, which is meant to stand for the work of a network function; here it is the brake. What a read and a write cost is measured
first, then the numbers are chosen that come closest to the rate asked for. Packets that come back pay the same toll. What was
offered in fact is counted. A full ring refuses packets, and testpmd drops these.
"""

import contextlib
import re
import subprocess
import threading
import time
from dataclasses import dataclass

from measure import ANSWER, START, BenchError, Testpmd
from trials import BACK, RING, Trial, environment_of, places

# Mbufs: the capture, both rings, what is kept at hand.
MBUFS = 16384
# MiB of memory; Linux gives pages only as they are used.
MEMORY = 256
# Seconds: of traffic before what counts, of a trial that calibrates, for what is under way after the end.
WARM_UP, CALIBRATION, DRAIN = 0.3, 0.3, 0.05
# How often it is tried to measure the brake.
CALIBRATIONS = 5
# Reads and writes a packet at which their costs are measured; low rates, at which nothing is lost.
FEW, MANY = 40, 160
# testpmd's numbers are of 16 bits.
MOST_LOOKUPS = 65535


class Braked(Testpmd):
    """testpmd in its mode `noisy`: plays the capture into culvert's port as fast as so many reads and writes a packet allow."""

    def __init__(self, wire, vhost, folder, brake, burst):
        super().__init__(wire, [0], folder)
        self.vhost, self.brake, self.burst = vhost, brake, burst

    def start(self):
        reads, writes = self.brake
        environment = [*environment_of(MEMORY), "--vdev", self.wire.devices()[0]]
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
    # A trial is set aside where the worker was kept from its core for more than this share of it: that is another program, and not the
    # kernel at its housekeeping.
    disturbed = 0.01
    said = "testpmd has no pacing: its noisy mode's reads and writes for each packet are the brake, and the rate that came of it is counted"

    def __init__(self, wire, gateway, folder, burst):
        self.wire, self.gateway, self.folder, self.burst = wire, gateway, folder, burst
        self.running = self.brakes = None

    def __enter__(self):
        try:
            self.brakes = self._calibrated()
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

    def _calibrated(self):
        for _ in range(CALIBRATIONS):
            trials = [self._trial(brake, 0, CALIBRATION) for brake in ((FEW, 0), (MANY, 0), (0, FEW))]
            brakes = Brakes.measured(*(trial.seconds / max(1, trial.sent) for trial in trials))
            if min(brakes.read, brakes.write) > 0:
                return brakes
        raise BenchError("testpmd's reads and writes seem to cost nothing: others have core 0, end them")

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
