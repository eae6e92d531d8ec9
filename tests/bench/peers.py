"""The programs that may stand at the other end of culvert's port, and what they need of the machine."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import braked
import paced
from braked import TestpmdPeer
from paced import PktgenPeer, pktgen

PEERS = {peer.name: peer for peer in (TestpmdPeer, PktgenPeer)}

PKTGEN_HELP = (
    "no pktgen: expected a program of that name on PATH or its path in PKTGEN_BIN. Debian has no package of it: its source and how to"
    " build it against the installed DPDK are at https://github.com/pktgen/Pktgen-DPDK, INSTALL.md; its release has to be of about"
    " the age of DPDK's (23.03 for DPDK 22.11)"
)


def missing(peer):
    """What this machine lacks to run the peer, with what to do; `None`: nothing."""
    if (cores := os.cpu_count()) < 2:
        return f"two cores expected, one for the peer and one for culvert's worker; found {cores}"
    if peer == "pktgen" and not (pktgen() and os.access(pktgen(), os.X_OK)):
        named = os.environ.get("PKTGEN_BIN")
        return f"{PKTGEN_HELP}; found {f'no program at {named}' if named else 'neither'}"
    if peer == "testpmd" and not shutil.which("dpdk-testpmd"):
        return "no dpdk-testpmd on PATH: install the package dpdk, or DPDK's tools where it was built by hand"
    drivers = ("net_vhost", "net_virtio", "net_pcap") if peer == "testpmd" else ("net_vhost", "net_virtio")
    for driver in drivers:
        if not has_driver(driver):
            package = "librte-" + driver.replace("_", "-") + "*"
            return f"DPDK's driver {driver} is not among its plugins in {plugins()}: install the package {package}, or build DPDK with it"
    needed = paced.MEMORY // 4 if peer == "pktgen" else 2 * braked.MEMORY
    if (available := available_memory()) < needed:
        return f"{needed} MiB of memory expected for the peer and culvert, {available} MiB are available: end other programs"
    return None


def plugins():
    """Where DPDK's drivers lie."""
    with contextlib.suppress(OSError):
        done = subprocess.run(["pkg-config", "--variable=libdir", "libdpdk"], capture_output=True, text=True)
        if done.stdout.strip():
            return Path(done.stdout.strip()) / "dpdk"
    return Path("/usr/lib/x86_64-linux-gnu/dpdk")


def has_driver(name):
    return any(plugins().glob(f"pmds-*/librte_{name}.so*"))


def available_memory():
    """MiB."""
    with contextlib.suppress(OSError):
        for line in open("/proc/meminfo"):
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    return 1 << 30
