#!/usr/bin/python3
"""Writes the golden rows: inputs and what must come of them.

An oracle independent of culvert: packets are laid together by scapy (Debian's python3-scapy), the fates are written
down by hand in `rows/`. Run it after changing a row; the results are checked in.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import oracle  # noqa: E402
from rows import drops, errors, forwarding, headers, keepalives, linux, mss, reassembly, shims, tunnels  # noqa: E402, F401

names = [row.name for row in oracle.ROWS]
assert len(names) == len(set(names)), "two rows have the same name"
for row in oracle.ROWS:
    row.write(HERE)
print(f"{len(names)} rows written")
