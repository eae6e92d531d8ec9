"""The rows of the table: what each shows, what it runs, and what it is to cost.

A row costs what culvert takes beyond `testpmd --forward-mode=io` on the same devices, in cycles a packet.
"""

from dataclasses import dataclass

from scenario import FOU6, FOU6_GRE, FOU6_GRE_ZERO, GRE4, GRE6, IMIX, LARGE, MOST_PACKETS, Scenario

HUNDRED_THOUSAND, MILLION = 100_000, 1_000_000


@dataclass(frozen=True)
class Target:
    """A limit of a row's cost: a number of cycles, or what another row costs and a margin."""

    cycles: float = 0.0
    row: str = ""
    percent: float = 0.0  # of the other row's cost
    times: float = 0.0  # of the other row's packets a second, at least: this is no limit of the cost

    def __str__(self):
        if self.times:
            return f">= {self.times:g} x {self.row}"
        if self.percent:
            return f"<= {self.row} + {self.percent:g} %"
        return f"<= {self.row} + {self.cycles:g}" if self.row else f"<= {self.cycles:g}"


def most(cycles):
    return Target(cycles=cycles)


def above(row, cycles):
    return Target(cycles=cycles, row=row)


def like(row, percent=10):
    return Target(percent=percent, row=row)


def faster(row, times):
    return Target(times=times, row=row)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    shows: str
    scenario: Scenario
    target: Target | None = None
    quick: bool = False
    counted: bool = False  # `scripts/bench instructions` counts it


def decap(*stack, **more):
    return Scenario(stack, "decap", **more)


def encap(*stack, **more):
    return Scenario(stack, "encap", **more)


def many(**more):
    return {"count": MOST_PACKETS, **more}


STACK = (GRE4, FOU6)
MSS_OFF, LATENCY_OFF, LATENCY_ON = ('mss = "off"',), ("latency = false",), ("latency = true",)
TUNNELS_100K, TUNNELS_1M = many(tunnels=HUNDRED_THOUSAND), many(tunnels=MILLION)

ROWS = [
    Row("plain-ip4", "IPv4 forwarding, no tunnel", Scenario(), most(25), quick=True, counted=True),
    Row("plain-ip6", "IPv6 forwarding, no tunnel", Scenario(inside=6), counted=True),
    Row("gre4-decap", "GRE/IPv4 off, one tunnel", decap(GRE4), most(35), quick=True, counted=True),
    Row("gre4-encap", "GRE/IPv4 on, one tunnel", encap(GRE4), most(35), quick=True, counted=True),
    Row("gre6-decap", "GRE/IPv6 off", decap(GRE6), most(35), counted=True),
    Row("gre6-encap", "GRE/IPv6 on", encap(GRE6), most(35), counted=True),
    Row("fou6-decap", "IP in FOU/IPv6 off, checksum verified", decap(FOU6), counted=True),
    Row("fou6-encap", "IP in FOU/IPv6 on, checksum written", encap(FOU6), counted=True),
    Row("fou6-gre-decap", "GRE in FOU/IPv6 off, checksum verified", decap(FOU6_GRE), most(35), quick=True, counted=True),
    Row("fou6-gre-encap", "GRE in FOU/IPv6 on, checksum written", encap(FOU6_GRE), most(35), quick=True, counted=True),
    Row("fou6-gre-zero-decap", "as fou6-gre-decap, UDP checksum zero", decap(FOU6_GRE_ZERO), counted=True),
    Row("fou6-gre-zero-encap", "as fou6-gre-encap, UDP checksum zero", encap(FOU6_GRE_ZERO), counted=True),
    Row("stack-decap", "GRE/IPv4 in FOU/IPv6 off, both layers", decap(*STACK), like("gre4-decap"), True, True),
    Row("stack-encap", "GRE/IPv4 in FOU/IPv6 on, both layers", encap(*STACK), like("gre4-encap"), True, True),
    Row("transit", "FOU/IPv6 off, the GRE/IPv4 in it forwarded", Scenario(STACK, "transit"), most(40), True, True),
    Row("gre4-decap-imix", "gre4-decap, IMIX", decap(GRE4, sizes=IMIX, count=1020)),
    Row("gre4-decap-1500", "gre4-decap, 1,500 bytes", decap(GRE4, sizes=(LARGE,)), like("gre4-decap")),
    Row("gre4-encap-imix", "gre4-encap, IMIX", encap(GRE4, sizes=IMIX, count=1020)),
    Row("gre4-encap-1500", "gre4-encap, 1,500 bytes", encap(GRE4, sizes=(LARGE,)), like("gre4-encap"), True),
    Row("stack-decap-1500", "stack-decap, 1,500 bytes: each is summed", decap(*STACK, sizes=(LARGE,))),
    Row("stack-encap-1500", "stack-encap, 1,500 bytes", encap(*STACK, sizes=(LARGE,)), like("stack-encap")),
    Row("mss-data-off", "gre4-encap of TCP data, MSS left alone", encap(GRE4, traffic="data", keys=MSS_OFF), counted=True),
    Row("mss-data", "gre4-encap of TCP data, MSS clamped", encap(GRE4, traffic="data"), above("mss-data-off", 3), counted=True),
    Row("mss-syn-off", "gre4-encap of SYNs, MSS left alone", encap(GRE4, traffic="syn", keys=MSS_OFF), counted=True),
    Row("mss-syn", "gre4-encap of SYNs, MSS clamped", encap(GRE4, traffic="syn"), above("mss-syn-off", 25), counted=True),
    Row("latency-off", "gre4-decap without histogram of the tunnel", decap(GRE4, keys=LATENCY_OFF)),
    Row("latency-on", "gre4-decap with histogram of the tunnel", decap(GRE4, keys=LATENCY_ON), above("latency-off", 2)),
    Row("tunnels-1", "gre4-decap, as many packets as the next rows", decap(GRE4, **many())),
    Row("tunnels-1k", "gre4-decap, 1,000 tunnels at random", decap(GRE4, **many(tunnels=1000))),
    Row("tunnels-100k", "gre4-decap, 100,000 tunnels at random", decap(GRE4, **TUNNELS_100K), most(90), True),
    Row("tunnels-1m", "gre4-decap, 1,000,000 tunnels at random", decap(GRE4, **TUNNELS_1M)),
    Row("tunnels-100k-encap", "gre4-encap, 100,000 tunnels at random", encap(GRE4, **TUNNELS_100K), most(90)),
    Row("tunnels-1m-encap", "gre4-encap, 1,000,000 tunnels at random", encap(GRE4, **TUNNELS_1M)),
    Row("routes-10", "plain-ip4, 10 routes at random", Scenario(**many(routes=10))),
    Row("routes-100k", "plain-ip4, 100,000 routes at random", Scenario(**many(routes=HUNDRED_THOUSAND))),
    Row("routes-1m", "plain-ip4, 1,000,000 routes at random", Scenario(**many(routes=MILLION))),
    Row("routes6-200k", "plain-ip6, 200,000 routes at random", Scenario(inside=6, **many(routes=200_000))),
    Row("tunnels-routes", "tunnels-100k, and 1,000,000 routes at random", decap(GRE4, routes=MILLION, **TUNNELS_100K), most(110)),
    Row("workers-2", "gre4-decap by two workers, a queue each", decap(GRE4, workers=2), faster("gre4-decap", 1.9)),
    Row("spread-2", "gre4-decap of one queue, spread over two workers", decap(GRE4, workers=2, spread=True), faster("gre4-decap", 1.5)),
]


def unknown(names):
    """Those of the names that no row has."""
    known = {row.name for row in ROWS}
    return [name for name in names if name not in known]


def by_name(names):
    """The rows of these names, and those that their targets are measured by, in the table's order."""
    others, wanted = set(names), set()
    while others:
        wanted |= others
        others = {row.target.row for row in ROWS if row.name in others and row.target} - wanted
    return [row for row in ROWS if row.name in wanted]
