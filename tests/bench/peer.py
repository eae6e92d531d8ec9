#!/usr/bin/python3
"""What culvert forwards without loss, driven from outside: `scripts/bench --peer testpmd|pktgen`.

For each row: the loss-free rate (NDR) and the rate at which at most a tolerated share is lost (PDR), by a binary search
(search.py) over trials against another program (peers.py), and the latency at 10, 50 and 90 % of the loss-free rate.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from bench import SEED, machine, positive, proven, say, settings  # noqa: E402
from loss import keep, latency_row, summary, table  # noqa: E402
from measure import BenchError  # noqa: E402
from peers import PEERS, missing  # noqa: E402
from rows import ROWS, unknown  # noqa: E402
from search import Search, aim  # noqa: E402
from trials import BACK, RING, Gateway  # noqa: E402

DEFAULT_ROWS = ("gre4-decap", "gre4-encap", "stack-decap", "stack-encap")
SECONDS, REPEATS, WIDTH, TOLERANCE, BURST = 1.0, 2, 2.0, 0.5, 32
# Shares of the loss-free rate at which latency is looked at, in percent.
LOADS = (10, 50, 90)
# culvert keeps the histogram of each whole second: a trial of so many seconds has one inside.
LATENCY_SECONDS = 2.5
# Length of the trials by which the rate for it is found.
AIM_SECONDS = 0.3
# So many trials in a row that others disturbed end a row.
PATIENCE = 30


def main():
    asked = arguments()
    if asked.list:
        print("\n".join(f"{row.name:20}  {row.shows}" for row in ROWS if is_playable(row)))
        return
    if lack := missing(asked.peer):
        sys.exit(f"error: {lack}")
    rows = [row for row in ROWS if row.name in (asked.rows or DEFAULT_ROWS)]
    # The second core is the worker's alone; whatever this program starts begins on the first.
    os.sched_setaffinity(0, {0})
    document = {"machine": machine(), "settings": told_settings(asked), "rows": []}
    failures = []
    for number, row in enumerate(rows, 1):
        say(f"[{number}/{len(rows)}] {row.name}: {row.shows}")
        try:
            document["rows"].append(measure(row, asked))
        except BenchError as error:
            failures.append(row.name)
            say(f"FAILED {row.name}: {error}")
    if document["rows"]:
        say(f"results are in {keep(document, asked.out)}")
        print(json.dumps(document, indent=2) if asked.json else table(document), end="\n" if asked.json else "")
    if failures:
        sys.exit(f"error: no figures for {', '.join(failures)}")


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench --peer PEER",
        description="The rate that culvert forwards without loss, and its latency below, with another program at the other end of a"
        " vhost-user port. The peer has core 0 and culvert's worker core 1.",
        epilog="Example: scripts/bench --peer testpmd gre4-decap --seconds 2",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"rows of the table (default {' '.join(DEFAULT_ROWS)})")
    parser.add_argument("--peer", required=True, metavar="testpmd|pktgen", help="the other program; pktgen: PKTGEN_BIN, or on PATH")
    parser.add_argument("--list", action="store_true", help="print the rows that a peer can play and end")
    parser.add_argument("--seconds", type=positive(float), default=SECONDS, help=f"length of a trial (default {SECONDS:g})")
    parser.add_argument("--repeats", type=positive(int), default=REPEATS, help=f"trials that must agree on a rate (default {REPEATS})")
    parser.add_argument("--width", type=positive(float), default=WIDTH, help=f"percent between the good and the bad rate (default {WIDTH:g})")
    parser.add_argument("--tolerance", type=positive(float), default=TOLERANCE, help=f"percent that the PDR may lose (default {TOLERANCE:g})")
    parser.add_argument("--burst", type=positive(int), default=BURST, help=f"packets that the peer sends at once, at most {BURST} (default {BURST})")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--out", type=Path, help="folder for results.json and table.txt (default results/peer-TIME)")
    parser.add_argument("--culvert", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peer not in PEERS:
        parser.error(f"no such peer: {asked.peer} (expected {' or '.join(PEERS)})")
    if asked.burst > BURST:
        # It also takes back no more in each round, and culvert sends so many at a time.
        parser.error(f"--burst: at most {BURST} expected, found {asked.burst}")
    if names := unknown(asked.rows):
        parser.error(f"no such row: {', '.join(names)} (--list prints them)")
    if names := [row.name for row in ROWS if row.name in asked.rows and not is_playable(row)]:
        parser.error(f"a peer plays one capture into one queue; more of them are needed by {', '.join(names)} (--list prints the others)")
    return asked


def is_playable(row):
    """Whether one capture has all its packets and one worker takes them."""
    return row.scenario.workers == row.scenario.queues == row.scenario.ports == 1


def told_settings(asked):
    peer = PEERS[asked.peer]
    return {
        **settings(1, asked.seconds),
        "runs": f"trials of {asked.seconds:g} s, {asked.repeats} of which must agree; interval of {asked.width:g} %",
        "burst": asked.burst,
        "peer": peer.said,
        "cores": "the peer on core 0, with culvert's control thread; culvert's worker on core 1; no more are used",
        "wire": f"vhost-user, {RING} packets to culvert and {BACK} back; culvert is the net_vhost side, which copies every packet twice",
        "latency": "culvert's clock: from its receive burst to its transmit call, one second; time in the rings is not in it",
        "tolerance": asked.tolerance / 100,
    }


def measure(row, asked):
    with tempfile.TemporaryDirectory(prefix="culvert-peer-") as name:
        folder, aside = Path(name), []
        wire = row.scenario.write(folder, SEED)
        with Gateway(wire, folder, asked.culvert) as gateway, PEERS[asked.peer](wire, gateway, folder, asked.burst) as peer:

            def trial(rate, seconds=asked.seconds, watch=None):
                for _ in range(PATIENCE):
                    done = peer.trial(rate, seconds, watch)
                    say(f"  {told(done, peer.disturbed)}")
                    if done.away <= peer.disturbed:
                        return done
                    aside.append(done)
                raise BenchError(f"in {PATIENCE} trials in a row others had core 1 for more than {peer.disturbed:.1%} of the time: end them")

            search = Search(trial, peer.highest, asked.width / 100, asked.repeats)
            ndr, pdr = search.rate(0), search.rate(asked.tolerance / 100)
            latency = []
            for load in LOADS if ndr.good else ():
                intervals = []
                wanted = ndr.offered * load / 100
                rate = aim(lambda rate: trial(rate, AIM_SECONDS).offered, ndr.good * load / 100, wanted)
                done = trial(rate, LATENCY_SECONDS, lambda: intervals.append(gateway.latency()))
                latency.append(latency_row(load, done, intervals[-1]))
            proven(row.scenario, *gateway.tunnelled())
            trials = [done for repeated in search.trials.values() for done in repeated]
            return summary(row, ndr, pdr, trials, latency, aside)


def told(trial, disturbed):
    lost = ", ".join(f"{place} {count}" for place, count in trial.places.items())
    away = f" (set aside: {trial.away:.1%} away)" if trial.away > disturbed else ""
    return f"{trial.offered / 1e6:.3f} Mpps offered, " + (f"lost {trial.lost:.3%}: {lost}" if lost else "none lost") + away


def end(number, _frame):
    """Ends by way of an exception, so that what was started is ended, and what is left is not interrupted again."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    main()
