"""Tests of what `scripts/bench --peer` reckons and reads, without DPDK: python3 -B -m unittest discover -s tests/bench."""

import math
import random
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import loss  # noqa: E402
import peers  # noqa: E402
from braked import FEW, MANY, Brakes, forwarded  # noqa: E402
from measure import BenchError  # noqa: E402
from packets import write_capture  # noqa: E402
from paced import Page, PktgenPeer, frame_bytes  # noqa: E402
from search import Search, aim  # noqa: E402
from trials import Trial, places  # noqa: E402

SEED = random.SystemRandom().getrandbits(32)


class Device:
    """A device that loses what comes faster than `limit`, and `noise` of all trials at any rate lose a packet."""

    def __init__(self, limit, noise=0.0, step=0.0, chance=None):
        self.limit, self.noise, self.step, self.chance = limit, noise, step, chance
        self.count = 0

    def trial(self, rate):
        self.count += 1
        asked = max(self.step, rate // self.step * self.step) if self.step else rate
        lost = max(0.0, 1 - self.limit / asked)
        if self.chance and self.chance.random() < self.noise:
            lost = max(lost, 1e-6)
        sent = 10_000_000
        return Trial(asked, asked, 1.0, sent, 0, {"peer_tx": math.ceil(lost * sent)} if lost else {}, 0.0)


class SearchTest(unittest.TestCase):
    def test_the_interval_holds_the_limit_and_is_as_narrow_as_asked(self):
        for limit in (0.2e6, 3.3e6, 7.1e6, 9.99e6):
            found = Search(Device(limit).trial, 10e6, 0.01).rate(0)
            self.assertLessEqual(found.good, limit)
            self.assertGreater(found.bad, limit)
            self.assertLessEqual(found.bad - found.good, 0.01 * found.bad)
            self.assertEqual(found.limited, "device")

    def test_a_tolerated_loss_moves_the_rate_by_as_much(self):
        search = Search(Device(5e6).trial, 10e6, 0.001)
        none, some = search.rate(0), search.rate(0.005)
        self.assertAlmostEqual(none.good / 5e6, 1, delta=0.002)
        self.assertAlmostEqual(some.good / (5e6 / 0.995), 1, delta=0.002)
        self.assertGreaterEqual(some.good, none.good)

    def test_the_second_search_uses_the_trials_of_the_first(self):
        device = Device(5e6)
        search = Search(device.trial, 10e6, 0.01)
        search.rate(0)
        first = device.count
        search.rate(0.001)
        self.assertLess(device.count - first, first / 2)

    def test_what_the_peer_cannot_overload_is_told_apart(self):
        found = Search(Device(20e6).trial, 10e6, 0.01).rate(0)
        self.assertEqual((found.good, found.bad, found.limited), (10e6, None, "peer"))

    def test_a_device_that_always_loses_has_no_rate(self):
        device = Device(0.0)
        found = Search(device.trial, 10e6, 0.01).rate(0)
        self.assertEqual((found.good, found.offered, found.limited), (None, None, None))
        self.assertLess(device.count, 50)

    def test_rates_that_come_in_steps_end_the_search(self):
        found = Search(Device(5.4e6, step=1e6).trial, 10e6, 0.001).rate(0)
        self.assertEqual((found.good, found.bad), (5e6, 6e6))

    def test_the_rate_is_the_highest_that_was_really_offered_without_loss(self):
        # A peer whose core becomes slower offers less for each further rate asked for.
        tried = []

        def trial(rate):
            tried.append(rate)
            offered = rate * (1 - 0.01 * len(tried))
            return Trial(rate, offered, 1.0, 10**7, 0, {} if rate <= 5e6 else {"peer_tx": 9}, 0.0)

        search = Search(trial, 10e6, 0.01)
        found = search.rate(0)
        good = [[trial.offered for trial in trials] for asked, trials in search.trials.items() if asked <= 5e6]
        self.assertEqual(found.offered, max(sum(offered) / 2 for offered in good))
        self.assertGreater(found.offered, found.good * 0.9)

    def test_a_loss_now_and_then_does_not_decide(self):
        chance, near = random.Random(SEED), 0
        for _ in range(100):
            found = Search(Device(5e6, 0.02, chance=chance).trial, 10e6, 0.02).rate(0)
            if found.good is not None:
                self.assertLessEqual(found.good, 5e6, f"seed {SEED}")
                near += found.good > 4.8e6
        # Two of three trials would have to lose a packet at one of some seven rates.
        self.assertGreater(near, 80, f"seed {SEED}")

    def test_a_rate_is_not_believed_before_trials_agree(self):
        outcomes = iter([0.0, 0.5, 0.0])
        tried = []

        def trial(rate):
            lost = next(outcomes)
            tried.append(lost)
            return Trial(rate, rate, 1.0, 100, 0, {"peer_tx": lost * 100} if lost else {}, 0.0)

        self.assertEqual(Search(trial, 10e6, 0.01).rate(0).good, 10e6)
        self.assertEqual(tried, [0.0, 0.5, 0.0])


class AimTest(unittest.TestCase):
    def test_a_peer_that_is_off_is_brought_near(self):
        def offered(asked):
            return asked * 1.4 + 0.1e6

        self.assertAlmostEqual(offered(aim(offered, 5e6, 5e6)) / 5e6, 1, delta=0.05)

    def test_a_peer_that_runs_away_is_left_at_a_lower_rate(self):
        def offered(asked):
            return asked if asked < 5e6 else asked * 4

        self.assertLess(offered(aim(offered, 6e6, 4.9e6)), 5e6)


class BrakesTest(unittest.TestCase):
    def test_costs_are_those_that_the_times_were_made_of(self):
        true = Brakes(100e-9, 9e-9, 13e-9)
        time = [1 / true.rate(brake) for brake in ((FEW, 0), (MANY, 0), (0, FEW))]
        measured = Brakes.measured(*time)
        for name in ("base", "read", "write"):
            self.assertAlmostEqual(getattr(measured, name) / getattr(true, name), 1)

    def test_the_nearest_rate_is_within_a_few_nanoseconds(self):
        brakes = Brakes(100e-9, 9e-9, 13e-9)
        for rate in (0.05e6, 0.5e6, 1e6, 3e6, 5e6, 7e6):
            self.assertAlmostEqual(1 / brakes.rate(brakes.nearest(rate)), 1 / rate, delta=9e-9)
        self.assertEqual(brakes.nearest(50e6), (0, 0))

    def test_a_rate_below_what_the_numbers_can_is_refused(self):
        with self.assertRaises(BenchError):
            Brakes(100e-9, 9e-9, 13e-9).nearest(100)


class CountsTest(unittest.TestCase):
    BEFORE = {"received": 1000, "transmitted": 900, "dropped": {"ttl": 100}}

    def test_every_lost_packet_has_one_place(self):
        after = {"received": 1990, "transmitted": 1860, "dropped": {"ttl": 105, "tx_full": 25}}
        found = places(self.BEFORE, after, sent=1000, refused=7, returned=950)
        self.assertEqual(found, {"peer_tx": 7, "to_culvert": 10, "culvert_ttl": 5, "culvert_tx_full": 25, "way_back": 10})
        self.assertEqual(sum(found.values()), 1000 + 7 - 950)

    def test_nothing_is_named_where_nothing_was_lost(self):
        after = {"received": 2000, "transmitted": 1900, "dropped": {"ttl": 100}}
        self.assertEqual(places(self.BEFORE, after, sent=1000, refused=0, returned=1000), {})

    def test_a_trial_without_packets_is_no_good_one(self):
        self.assertEqual(Trial(1e6, 0, 1.0, 0, 0, {}, 0.0).lost, 1.0)


TESTPMD = """\
testpmd> stop
Telling cores to stop...
Waiting for lcores to finish...

  ---------------------- Forward statistics for port 0  ----------------------
  RX-packets: 133186368      RX-dropped: 0             RX-total: 133186368
  TX-packets: 43658208       TX-dropped: 0             TX-total: 43658208
  ----------------------------------------------------------------------------

  ---------------------- Forward statistics for port 1  ----------------------
  RX-packets: 43658208       RX-dropped: 0             RX-total: 43658208
  TX-packets: 43659680       TX-dropped: 89526688      TX-total: 133186368
  ----------------------------------------------------------------------------

  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  RX-packets: 176844576      RX-dropped: 0             RX-total: 176844576
"""


class OutputTest(unittest.TestCase):
    def test_testpmds_counters_are_read_by_port(self):
        ports = forwarded(TESTPMD)
        self.assertEqual(ports[0]["RX-packets"], 133186368)
        self.assertEqual((ports[1]["TX-packets"], ports[1]["TX-dropped"]), (43659680, 89526688))

    def test_testpmds_output_without_a_port_is_refused_with_its_text(self):
        with self.assertRaisesRegex(BenchError, "ports 0 and 1 expected"):
            forwarded(TESTPMD[: TESTPMD.index("Forward statistics for port 1")])

    def test_pktgens_totals_are_those_of_the_last_page(self):
        page = Page()
        page.take("Ports 0-0 of 1\n  Port:Flags          \nLink State            \nPkts/s Rx             \n       Tx             \n")
        page.take("Total Rx Pkts         \n      Tx Pkts         \n\n 0:-------        PCAP\n        <UP-100000-FD>\n   9\n   8\n")
        self.assertIsNone(page.totals())
        page.take("   199744\n   2010")
        page.take("24\n\n")
        self.assertEqual(page.totals(), (201024, 199744))
        page.take("\r\n-\n 0:-------        PCAP\n        <UP-100000-FD>\n  0\n  0\n  7\n  9\n\n")
        self.assertEqual((page.totals(), page.fresh), ((9, 7), 2))

    def test_pktgens_rate_is_read(self):
        line = "  0: rate 1.24, tx_cycles 58112, tx_pps 1431712, link UP-100000-FD"
        self.assertEqual(PktgenPeer.RATE.search(line).groups(), ("58112", "1431712"))

    def test_the_length_of_a_captures_frame_is_read(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "one.pcap"
            write_capture(path, [bytes(84)])
            self.assertEqual(frame_bytes(path), 84)


class ReportTest(unittest.TestCase):
    def test_the_table_names_rates_percentiles_and_the_place_of_losses(self):
        class Row:
            name, shows = "gre4-decap", "GRE/IPv4 off"

        search = Search(Device(5e6).trial, 10e6, 0.01)
        ndr, pdr = search.rate(0), search.rate(0.005)
        trials = [trial for repeated in search.trials.values() for trial in repeated]
        interval = {"p50_ns": 1255, "p90_ns": 1351, "p99_ns": 1679, "p999_ns": 2543, "max_ns": 48127}
        latency = [loss.latency_row(50, trials[0], interval)]
        row = loss.summary(Row, ndr, pdr, trials, latency, [])
        text = loss.table({"machine": {}, "settings": {"tolerance": 0.005}, "rows": [row]})
        for part in (f"{ndr.offered / 1e6:.2f}", f"{pdr.offered / 1e6:.2f}", "1.3  1.4  1.7    2.5", "48.1", "peer_tx: refused"):
            self.assertIn(part, text)

    def test_a_peer_that_is_too_slow_itself_is_what_limits(self):
        def trial(rate):
            late = round(max(0.0, 1 - 3.8e6 / rate) * 1e7)
            return Trial(rate, rate, 1.0, 10**7, 0, {"peer_slow": late} if late else {}, 0.0)

        search = Search(trial, 10e6, 0.01)
        found = search.rate(0)
        trials = [trial for repeated in search.trials.values() for trial in repeated]
        self.assertEqual(loss.rate(found, trials)["limited_by"], "peer")

    def test_a_rate_that_only_the_peer_limits_is_marked(self):
        found = {"packets_per_second": 10e6, "lossy_packets_per_second": None, "limited_by": "peer"}
        self.assertEqual((loss.mpps(found), loss.bound(found)), (">= 10.00", ""))


class MissingTest(unittest.TestCase):
    def test_a_pktgen_that_is_not_there_is_told_with_what_to_do(self):
        with mock.patch.dict("os.environ", {"PKTGEN_BIN": "/nowhere/pktgen"}), mock.patch("os.cpu_count", return_value=2):
            words = peers.missing("pktgen")
        for part in ("PKTGEN_BIN", "no program at /nowhere/pktgen", "https://github.com/pktgen/Pktgen-DPDK"):
            self.assertIn(part, words)

    def test_a_driver_that_is_not_there_is_named_with_its_package(self):
        with mock.patch.object(peers, "has_driver", lambda name: name != "net_vhost"), mock.patch("os.cpu_count", return_value=2):
            with mock.patch("shutil.which", return_value="/usr/bin/dpdk-testpmd"):
                words = peers.missing("testpmd")
        self.assertIn("net_vhost", words)
        self.assertIn("librte-net-vhost", words)

    def test_one_core_is_too_few(self):
        with mock.patch("os.cpu_count", return_value=1):
            self.assertIn("two cores expected", peers.missing("testpmd"))


if __name__ == "__main__":
    unittest.main()
