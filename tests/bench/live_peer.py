"""Tests of `scripts/bench --peer` with testpmd and culvert themselves: CULVERT_BIN=… python3 -B -m unittest tests/bench/live_peer.py.

Of counts only, which are right on a busy machine, too.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from braked import TestpmdPeer  # noqa: E402
from peers import missing  # noqa: E402
from rows import ROWS  # noqa: E402
from trials import Gateway  # noqa: E402

CULVERT = os.environ.get("CULVERT_BIN")
SECONDS = 0.5


@unittest.skipUnless(CULVERT, "CULVERT_BIN is not set")
class LiveTest(unittest.TestCase):
    def setUp(self):
        if lack := missing("testpmd"):
            self.skipTest(lack)

    def test_every_packet_returns_or_is_lost_at_a_named_place(self):
        [row] = [row for row in ROWS if row.name == "stack-decap"]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            wire = row.scenario.write(folder, 1)
            with Gateway(wire, folder, CULVERT) as gateway, TestpmdPeer(wire, gateway, folder, 32) as peer:
                # Another testpmd for each, which connects anew.
                for rate in (100_000, peer.highest):
                    trial = peer.trial(rate, SECONDS)
                    self.assertEqual(trial.sent, trial.returned + sum(trial.places.values()), trial)
                    self.assertTrue(all(count > 0 for count in trial.places.values()), trial)
                taken, tunnelled = gateway.tunnelled()
                self.assertGreater(taken, 0)
                self.assertEqual(tunnelled, row.scenario.headers * taken)

    def test_an_interrupt_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as name:
            command = [sys.executable, "-B", HERE / "peer.py", "--peer", "testpmd", "--culvert", CULVERT, "gre4-decap"]
            bench = subprocess.Popen(command, env={**os.environ, "TMPDIR": name}, stderr=subprocess.PIPE, text=True)
            for line in bench.stderr:
                if "Mpps offered" in line:
                    break
            bench.send_signal(signal.SIGINT)
            bench.stderr.read()
            self.assertEqual(bench.wait(), 130)
            self.assertEqual(list(Path(name).iterdir()), [])
            self.assertEqual(users(name), [])


def users(folder):
    """The processes that name this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if re.search(re.escape(folder) + r"\b", words):
            found.append(words)
    return found


if __name__ == "__main__":
    unittest.main(verbosity=2)
