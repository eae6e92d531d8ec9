"""testpmd and culvert on the same devices: how many packets, and how many cycles they took.

Both are asked twice while they run, and a figure is what lies between two answers. Cycles are the time-stamp counter's, of
polls that found packets. testpmd's begin at a receive call and end behind the transmit call; culvert's polls follow each
other without a gap, so its figure has the loop around them as well, about a cycle.

While Linux has given a worker's core to somebody else the counter runs on, so what the scheduler says about the worker's
waiting is taken off the time and off the cycles, for both programs alike, and reported as `away`. On a machine that does
nothing else it is 0. What a hypervisor takes is not known here and is in the figures of both.
"""

import contextlib
import json
import queue
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

BURST = 64
# Seconds: from the start until a program answers (a million tunnels are read first), and for any one answer after it.
START, ANSWER = 300, 20
# Between the first packet and the first reading: caches and clocks are warm.
WARM_UP = 0.3

# Bytes for a buffer, of testpmd's and of culvert's, for a port of 1,500 bytes: DPDK lets none cross a page of 4 KiB where it
# has no larger ones.
BUFFER = 4096
MEBIBYTE = 1 << 20
HUGEPAGES = Path("/sys/kernel/mm/hugepages")


class BenchError(Exception):
    """What went wrong, for people."""


@dataclass(frozen=True)
class Reading:
    """What a program had done at a time."""

    at: float
    packets: int
    cycles: float
    waited: float  # seconds that its workers were kept from their cores, on average


@dataclass(frozen=True)
class Run:
    """What one run came to."""

    packets_per_second: float
    cycles_per_packet: float
    away: float  # the share of the time that the workers were kept from their cores


def buffers(scenario, workers):
    """How many buffers culvert makes for these devices: 1,024 for each queue, and what workers keep at hand."""
    return scenario.ports * (scenario.queues + workers) * 1024 + (workers + 1) * 704


def memory(scenario, workers):
    """Bytes of memory for both programs alike, with room for DPDK's own, and whether hugepages of so many are free."""
    needed = buffers(scenario, workers) * BUFFER + 128 * MEBIBYTE
    return needed, free_hugepages() >= needed


def free_hugepages(folder=HUGEPAGES):
    """Bytes in free hugepages of every size."""
    total = 0
    for size in folder.glob("hugepages-*kB"):
        with contextlib.suppress(OSError, ValueError):
            total += int((size / "free_hugepages").read_text()) * int(size.name[10:-2]) * 1024
    return total


@contextlib.contextmanager
def hugepages(needed, folder=HUGEPAGES):
    """Has hugepages of so many bytes free meanwhile, where the kernel can give them; those that were reserved before stay."""
    reserved = folder / "hugepages-2048kB" / "nr_hugepages"
    missing = -(-(needed - free_hugepages(folder)) // (2 * MEBIBYTE))
    before = None
    with contextlib.suppress(OSError, ValueError):
        if missing > 0:
            before = int(reserved.read_text())
            reserved.write_text(str(before + missing))
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError):
                reserved.write_text(str(before))


class Program:
    """A running program whose workers are pinned; a context manager that ends it."""

    def __init__(self, cores):
        self.cores = cores
        self.process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.stop()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(ANSWER)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def waited(self):
        """Seconds that the workers could have run and others did, on average over the workers."""
        total, found = 0, 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                if "worker" in (task / "comm").read_text():
                    total += int((task / "schedstat").read_text().split()[1])
                    found += 1
        if found != len(self.cores):
            raise BenchError(f"{found} worker threads found in {self.name}, expected {len(self.cores)}")
        return total / found / 1e9

    def run(self, seconds):
        """Lets it forward for so many seconds; the readings before and after."""
        time.sleep(WARM_UP)
        first = self.read()
        time.sleep(seconds)
        return first, self.read()


def between(first, last, hz, workers):
    """What was done between two readings, by a time-stamp counter of so many cycles a second."""
    packets, elapsed = last.packets - first.packets, last.at - first.at
    waited = last.waited - first.waited
    if packets <= 0 or elapsed <= waited:
        raise BenchError("no packets were forwarded")
    cycles = last.cycles - first.cycles - waited * workers * hz
    return Run(packets / (elapsed - waited), cycles / packets, waited / elapsed)


class Testpmd(Program):
    """`testpmd --forward-mode=io`: what receiving and sending alone cost."""

    name = "testpmd"
    CYCLES = re.compile(r"total cycles=(\d+) / total io packets=(\d+)\) at (\d+) MHz")

    def __init__(self, wire, cores, folder):
        super().__init__(cores)
        self.wire = wire
        self.log = folder / "testpmd.log"
        self.lines = queue.Queue()
        self.hz = 0

    def start(self):
        needed, hugepages = memory(self.wire.scenario, len(self.cores))
        # The main thread shares core 0; threads number 1 and up are the workers.
        threads = [f"{number + 1}@{core}" for number, core in enumerate(self.cores)]
        pages = ["--in-memory"] if hugepages else ["--no-huge", "--no-shconf", "-m", str(needed // MEBIBYTE)]
        environment = ["--lcores", ",".join(["0@0", *threads]), "--no-pci", "--no-telemetry", *pages]
        for device in self.wire.devices():
            environment += ["--vdev", device]
        queues = "1" if self.wire.scenario.spread else str(self.wire.scenario.queues)
        options = ["--interactive", "--auto-start", "--forward-mode=io", "--record-core-cycles", "--no-lsc-interrupt"]
        options += [f"--burst={BURST}", f"--nb-cores={len(self.cores)}", f"--rxq={queues}", f"--txq={queues}"]
        options += [f"--total-num-mbufs={buffers(self.wire.scenario, len(self.cores))}"]
        # Its output is whole lines, not blocks, so that an answer is here when it was given.
        command = ["stdbuf", "-oL", "dpdk-testpmd", *environment, "--", *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._answer(re.compile("packet forwarding packets/burst"), START)

    def stop(self):
        with contextlib.suppress(OSError):
            self.process.stdin.write("quit\n")
            self.process.stdin.flush()
        try:
            self.process.wait(ANSWER)
        except subprocess.TimeoutExpired:
            super().stop()

    def read(self):
        asked = time.monotonic()
        self.process.stdin.write("show fwd stats all\n")
        self.process.stdin.flush()
        cycles, packets, megahertz = (int(number) for number in self._answer(self.CYCLES, ANSWER).groups())
        self.hz = megahertz * 1e6
        return Reading((asked + time.monotonic()) / 2, packets, cycles, self.waited())

    def _listen(self):
        with open(self.log, "w") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                self.lines.put(line)
        self.lines.put(None)

    def _answer(self, pattern, seconds, passed=None):
        """The first line that the pattern is in; those before it are added to `passed`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise BenchError(f"testpmd did not answer; it said:\n{tail(self.log)}")
            if found := pattern.search(line):
                return found
            if passed is not None:
                passed.append(line)


class Culvert(Program):
    """`culvert run`, asked by `culvert show`."""

    name = "culvert"

    def __init__(self, wire, cores, folder, binary):
        super().__init__(cores)
        self.wire, self.binary = wire, binary
        self.log, self.socket, self.config = (folder / f"culvert.{name}" for name in ("log", "sock", "toml"))

    def start(self):
        needed, hugepages = memory(self.wire.scenario, len(self.cores))
        pages = 'hugepages = "required"' if hugepages else f'hugepages = "off"\neal_args = ["-m", "{needed // MEBIBYTE}"]'
        with open(self.config, "w") as file:
            file.writelines(self.wire.configuration(self.socket, self.cores, pages, self.devices()))
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([self.binary, "run", "--config", self.config], stdout=log, stderr=log)
        deadline = time.monotonic() + START
        while self._ask("workers") is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"culvert does not forward; it said:\n{tail(self.log)}")
            time.sleep(0.02)

    def read(self):
        asked = time.monotonic()
        workers = self._ask("workers")
        answered = time.monotonic()
        if workers is None:
            raise BenchError(f"culvert does not answer; it said:\n{tail(self.log)}")
        if drops := sum(worker["drops"] for worker in workers):
            raise BenchError(f"culvert dropped {drops} packets: {self._ask('drops')}")
        packets = sum(worker["packets"] for worker in workers)
        cycles = sum(worker["packets"] * (worker["cycles_per_packet"] or 0) for worker in workers)
        return Reading((asked + answered) / 2, packets, cycles, self.waited())

    def devices(self):
        """What its ports are to DPDK."""
        return self.wire.devices()

    def tunnelled(self):
        """Packets that were received, and how often one of them went through a tunnel."""
        drops = self._ask("drops")
        tunnels = drops["tunnels"].values()
        return drops["received"], sum(tunnel["rx_packets"] + tunnel["tx_packets"] for tunnel in tunnels)

    def _ask(self, what):
        command = [self.binary, "show", what, "--json", "--socket", self.socket]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER)
        except subprocess.TimeoutExpired:
            return None
        return json.loads(answer.stdout) if answer.returncode == 0 else None


def tail(path):
    return "\n".join(path.read_text().splitlines()[-15:])
