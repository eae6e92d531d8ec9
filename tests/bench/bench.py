#!/usr/bin/python3
"""How fast culvert is: `scripts/bench`, once everything is installed and built."""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import report  # noqa: E402
from measure import BURST, BenchError, Culvert, Testpmd, between, free_hugepages, hugepages, memory  # noqa: E402
from rows import ROWS, by_name, unknown  # noqa: E402

# All captures are made from it, so two runs see the same packets.
SEED = 1
RUNS, SECONDS, QUICK_RUNS, QUICK_SECONDS = 5, 2.0, 3, 1.0
# The tunnels of a row are looked at one by one up to so many.
LOOKED_AT = 1000


def main():
    asked = arguments()
    if asked.list:
        listing()
        return
    rows = by_name(asked.rows) if asked.rows else [row for row in ROWS if row.quick or not asked.quick]
    runs = asked.runs or (QUICK_RUNS if asked.quick else RUNS)
    seconds = asked.seconds or (QUICK_SECONDS if asked.quick else SECONDS)
    with hugepages(max(memory(row.scenario, row.scenario.workers)[0] for row in rows)):
        document = {"machine": machine(), "settings": settings(runs, seconds), "rows": []}
        failures = measure_all(rows, runs, seconds, asked.culvert, document["rows"])
    report.judge(rows, document["rows"])
    if document["rows"]:
        keep(document, asked.out)
        print(json.dumps(document, indent=2) if asked.json else report.table(document), end="\n" if asked.json else "")
    if failures:
        sys.exit(f"error: no figures for {', '.join(failures)}")


def measure_all(rows, runs, seconds, binary, summaries):
    """Adds a summary for each row, and returns the names of those for which there is none."""
    failures = []
    for number, row in enumerate(rows, 1):
        say(f"[{number}/{len(rows)}] {row.name}: {row.shows}")
        if (needed := max(2, row.scenario.workers)) > os.cpu_count():
            say(f"skipped: {row.name}: needs {needed} cores, this machine has {os.cpu_count()}")
            continue
        try:
            summaries.append(measure(row, runs, seconds, binary))
        except BenchError as error:
            failures.append(row.name)
            say(f"FAILED {row.name}: {error}")
    return failures


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="What culvert costs beyond testpmd on the same devices, in cycles a packet.",
        epilog="Example: scripts/bench gre4-decap stack-encap --runs 9. Rates without loss, by another program at the other end:"
        " scripts/bench --peer testpmd --help.",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows of the table; all of them where none is named")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--quick", action="store_true", help="the rows that matter most, in less than three minutes")
    parser.add_argument("--runs", type=positive(int), help=f"runs of each program and row, in turn (default {RUNS})")
    parser.add_argument("--seconds", type=positive(float), help=f"length of a run (default {SECONDS:g})")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--out", type=Path, help="folder for results.json, table.txt and plot.svg (default results/bench-TIME)")
    parser.add_argument("--culvert", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rows and asked.quick:
        parser.error("--quick names its rows itself")
    if names := unknown(asked.rows):
        parser.error(f"no such row: {', '.join(names)} (--list prints them)")
    return asked


def positive(kind):
    def convert(text):
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("more than 0 expected")
        return value

    convert.__name__ = "number"
    return convert


def listing():
    print(f"{'ROW':20}  {'QUICK':5}  {'TARGET':24}  WHAT IT SHOWS")
    for row in ROWS:
        print(f"{row.name:20}  {'yes' if row.quick else '':5}  {str(row.target or ''):24}  {row.shows}")


def measure(row, runs, seconds, binary):
    """Both programs in turn, so that a change of the machine's mood is in the figures of both."""
    scenario = row.scenario
    with tempfile.TemporaryDirectory(prefix="culvert-bench-") as name:
        folder = Path(name)
        wire = scenario.write(folder, SEED)
        cores = [1] if scenario.workers == 1 else list(range(scenario.workers))
        # Packets of one queue are one core's of testpmd.
        alone = cores[-1:] if scenario.spread else cores
        pairs = []
        for number in range(1, runs + 1):
            with Testpmd(wire, alone, folder) as testpmd:
                readings = testpmd.run(seconds)
                idle = between(*readings, testpmd.hz, len(alone))
            with Culvert(wire, cores, folder, binary) as culvert:
                readings = culvert.run(seconds)
                busy = between(*readings, testpmd.hz, len(cores))
                if number == 1 and scenario.tunnels <= LOOKED_AT:
                    proven(scenario, *culvert.tunnelled())
            pairs.append((idle, busy))
            say(f"  run {number}: testpmd {told(idle)}, culvert {told(busy)}")
    return report.summary(row, pairs)


def proven(scenario, received, tunnelled):
    """Refuses figures of packets that went another way than the row says."""
    expected = scenario.headers * received
    # The counters of a running worker are read one after the other.
    if abs(tunnelled - expected) > expected * 0.01 + 10_000:
        raise BenchError(f"{received} packets went through tunnels {tunnelled} times, expected {expected}")


def told(run):
    away = f" ({run.away:.0%} away)" if run.away >= 0.01 else ""
    return f"{run.packets_per_second / 1e6:.2f} Mpps {run.cycles_per_packet:.1f} cycles{away}"


def machine():
    """What has to be known of the machine to compare figures."""
    processor = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": processor[0] if processor else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "hugepages": f"{free_hugepages() >> 20} MiB free, transparent ones: {transparent_hugepages()}",
        "dpdk": output("pkg-config", "--modversion", "libdpdk"),
        "culvert": output("git", "describe", "--always", "--dirty"),
    }


def transparent_hugepages():
    """What Linux's setting says, which decides what a look-up in a large table costs."""
    try:
        text = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return "none"
    return text.partition("[")[2].partition("]")[0]


def settings(runs, seconds):
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "runs": f"{runs} of each program in turn, {seconds:g} s each",
        "burst": BURST,
        "seed": SEED,
    }


def output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def keep(document, folder):
    folder = folder or HERE.parents[1] / "results" / f"bench-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / "table.txt").write_text(report.table(document))
    (folder / "plot.svg").write_text(report.plot(document))
    say(f"results are in {folder}")


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # By way of an exception, so that the programs that were started are ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
