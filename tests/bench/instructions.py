#!/usr/bin/python3
"""Instructions a packet, which are the same on every run: `scripts/bench instructions`.

`culvert replay` runs under callgrind, once with a capture and once with the capture twice; the difference, by the packets
of one, is a row's figure, so what is done once is not in it. Counted is `forward_burst` with all that it calls, and nothing
else: reading and writing captures is as much again and no part of what a worker does. The figures to compare with are in
instructions.toml; they hold for the compiler that is named there.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from packets import repeat_capture  # noqa: E402
from rows import ROWS, by_name, unknown  # noqa: E402

KEPT = HERE / "instructions.toml"
COUNTED = "*::forward_burst"
SEED = 1
SKIPPED = 77
KEEP = "`scripts/bench instructions --write` keeps these figures"

HEADER = """\
# Instructions a packet inside forward_burst, by row. Written by `scripts/bench instructions --write`, checked by
# `scripts/bench instructions`, which fails where a figure is more than margin_percent above the one here.
"""


def main():
    asked = arguments()
    rows = [row for row in (by_name(asked.rows) if asked.rows else ROWS) if row.counted]
    if asked.list:
        print("\n".join(f"{row.name:20}  {row.shows}" for row in rows))
        return
    kept = tomllib.loads(KEPT.read_text())
    margin, old = kept["margin_percent"], kept["instructions"]
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    fresh = {}
    print(f"{'ROW':20}  {'INSTRUCTIONS':>12}  {'KEPT':>8}  CHANGE")
    for row in rows:
        figure = fresh[row.name] = count(row, asked.culvert)
        before = old.get(row.name)
        change = f"{figure / before - 1:+.1%}" if before else ""
        print(f"{row.name:20}  {figure:12.1f}  {before or '-':>8}  {change}", flush=True)
    if asked.write:
        write(compiler, margin, {**old, **fresh})
    else:
        judge(compiler, kept, fresh)


def judge(compiler, kept, fresh):
    """Ends with 1 where a row needs more than it may, with 77 where there is nothing to compare with."""
    old, margin = kept["instructions"], kept["margin_percent"]
    factor = 1 + margin / 100
    missing = [name for name in fresh if name not in old]
    over = [name for name, figure in fresh.items() if name in old and figure > old[name] * factor]
    under = [name for name, figure in fresh.items() if name in old and figure * factor < old[name]]
    if compiler != kept["compiler"]:
        print(f"skipped: instruction counts are kept for {kept['compiler']}, this is {compiler}")
        sys.exit(SKIPPED)
    if under:
        print(f"less than is kept, and free to rise again: {', '.join(under)}; {KEEP}")
    if missing:
        print(f"FAILED: nothing is kept for {', '.join(missing)}; {KEEP}")
    if over:
        print(f"FAILED: more than {margin} % above what is kept: {', '.join(over)}; where that is meant, {KEEP}")
    sys.exit(1 if over or missing else 0)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench instructions", description="Instructions a packet, by callgrind.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows of the table; all that are counted where none is named")
    parser.add_argument("--list", action="store_true", help="print the rows that are counted and end")
    parser.add_argument("--write", action="store_true", help="keep the figures of this build in place of those kept so far")
    parser.add_argument("--culvert", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if names := unknown(asked.rows):
        parser.error(f"no such row: {', '.join(names)}")
    return asked


def count(row, culvert):
    """Instructions a packet."""
    with tempfile.TemporaryDirectory(prefix="culvert-bench-") as name:
        folder = Path(name)
        wire = row.scenario.write(folder, SEED)
        config = folder / "culvert.toml"
        config.write_text("".join(wire.configuration(folder / "unused.sock", [1], 'hugepages = "off"', wire.devices())))
        once, packets = wire.captures[0][0], row.scenario.count
        twice = folder / "twice.pcap"
        repeat_capture(once, twice, 2)
        return round((collected(culvert, config, twice, folder) - collected(culvert, config, once, folder)) / packets, 1)


def collected(culvert, config, capture, folder):
    """Instructions inside `forward_burst` while a capture is replayed."""
    command = ["valgrind", "--tool=callgrind", f"--toggle-collect={COUNTED}", f"--callgrind-out-file={folder}/callgrind.out"]
    command += [culvert, "replay", "--config", config, "--in", f"wire0={capture}", "--out", folder / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"error: culvert replay does not run under callgrind:\n{done.stderr[-2000:]}")
    if found[1] == "0":
        sys.exit(f"error: callgrind saw no function {COUNTED}: it was renamed, or the compiler made it part of its caller")
    return int(found[1])


def write(compiler, margin, figures):
    """Keeps the figures of all rows that are still counted, in the table's order."""
    order = [row.name for row in ROWS if row.counted and row.name in figures]
    lines = [HEADER, f'compiler = "{compiler}"\n', f"margin_percent = {margin}\n", "\n[instructions]\n"]
    lines += [f"{name} = {figures[name]}\n" for name in order]
    KEPT.write_text("".join(lines))
    print(f"{len(order)} figures kept in {KEPT.relative_to(HERE.parents[1])}")


if __name__ == "__main__":
    main()
