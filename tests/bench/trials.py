"""What all peers share: culvert at their other end, and what became of the packets of a trial.

culvert's port is a `net_vhost`, the peer's a virtio_user: the two share the peer's packet memory over a Unix socket, whether there
are hugepages or not, and culvert copies every packet out of it and back into it. The peer has core 0, where culvert's control
thread is, too, and culvert's worker has core 1.
"""

import time
from dataclasses import dataclass

from measure import ANSWER, MEBIBYTE, BenchError, Culvert, free_hugepages, tail

# Packets on the way to culvert, as many as its queues of other devices have, and on the way back: more, so that the peer may be
# late.
RING, BACK = 1024, 4096


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


def environment_of(mebibytes):
    """EAL's arguments of a peer: its own memory, which the socket hands to culvert, and no files."""
    hugepages = free_hugepages() >= 2 * mebibytes * MEBIBYTE
    # The socket hands over a few pieces of memory at most, not one for each page.
    pages = ["--in-memory", "--single-file-segments"] if hugepages else ["--no-huge", "--no-shconf"]
    return ["--lcores", "0@0,1@0", "--no-pci", "--no-telemetry", *pages, "-m", str(mebibytes)]
