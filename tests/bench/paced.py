"""pktgen as a peer.

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

from measure import ANSWER, START, BenchError, Program, tail
from trials import BACK, RING, Trial, environment_of, places

# MiB of memory: pktgen makes five pools of 24,576 buffers. Linux gives pages only as they are used.
MEMORY = 4096
# Seconds and packets a second of traffic before what counts.
WARM_UP, WARM_UP_RATE = 0.3, 100_000
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
    # As much as its rate is known by: it waits while the ring is full, so that the worker's absence costs no packets.
    disturbed = PACE
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
        environment = [*environment_of(MEMORY), "--vdev", vdev]
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
        self.trial(WARM_UP_RATE, WARM_UP)

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
        if lost.get("to_culvert", 0) == -lost.get("way_back", 0):
            # Its page is a burst late, in both directions alike.
            lost.pop("to_culvert", None), lost.pop("way_back", None)
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


def pktgen():
    """The program."""
    return os.environ.get("PKTGEN_BIN") or shutil.which("pktgen")


def frame_bytes(capture):
    """The length of a capture's first frame."""
    return int.from_bytes(capture.read_bytes()[32:36], "little")
