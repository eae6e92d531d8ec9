"""What a bench run found: a table for people, JSON for programs, a plot."""

from html import escape
from statistics import median

# A share of the time without its core from which on a figure is not to be trusted.
DISTURBED = 0.05


def summary(row, pairs):
    """One row's results from its runs, each a pair of testpmd's and culvert's."""
    scenario = row.scenario
    testpmd, culvert = (side(runs) for runs in zip(*pairs, strict=True))
    return {
        "name": row.name,
        "shows": row.shows,
        "workers": scenario.workers,
        "tunnels": scenario.tunnels if scenario.stack else 0,
        "routes": scenario.routes,
        "distinct_packets": scenario.workers * scenario.count,
        "devices": scenario.ports,
        "queues": scenario.queues,
        "testpmd": testpmd,
        "culvert": culvert,
        "cost": round(culvert["cycles_per_packet"]["median"] - testpmd["cycles_per_packet"]["median"], 2),
        "away": max(run.away for pair in pairs for run in pair),
    }


def side(runs):
    """One program's figures over its runs."""

    def spread(values):
        rounded = [round(value, 2) for value in values]
        return {"median": round(median(rounded), 2), "min": min(rounded), "max": max(rounded), "runs": rounded}

    return {
        "packets_per_second": spread([run.packets_per_second for run in runs]),
        "cycles_per_packet": spread([run.cycles_per_packet for run in runs]),
        "away": [round(run.away, 4) for run in runs],
    }


def judge(rows, results):
    """Writes each result's target, the limit that it comes to, and whether it is kept."""
    by_name = {result["name"]: result for result in results}
    for row in rows:
        result, target = by_name.get(row.name), row.target
        if result is None or target is None:
            continue
        result["target"], result["of"] = str(target), "packets_per_second" if target.times else "cost"
        other = by_name.get(target.row)
        if target.row and other is None:
            continue
        if target.times:
            result["limit"] = round(target.times * rate(other), 2)
            result["met"] = rate(result) >= result["limit"]
            continue
        base = other["cost"] if other else 0
        result["limit"] = round(base * (1 + target.percent / 100) + target.cycles, 2)
        result["met"] = result["cost"] <= result["limit"]


def rate(result):
    return result["culvert"]["packets_per_second"]["median"]


def coverage(result):
    """Which part of the tunnels and routes the packets reach, where it is not all."""
    parts = []
    for what in ("tunnels", "routes"):
        if result[what] > result["distinct_packets"]:
            share = result["distinct_packets"] / result[what]
            parts.append(f"{result['distinct_packets']:,} of {result[what]:,} {what} ({share:.0%})")
    return ", ".join(parts)


def table(document):
    """The table."""
    lines = [f"{key}: {value}" for key, value in document["machine"].items()]
    lines += [f"{key}: {value}" for key, value in document["settings"].items()]
    lines += ["", "Mpps: million packets a second. Cycles: of the time-stamp counter, a packet, median (min..max of the runs)."]
    lines += ["COST: culvert's cycles less testpmd's, which is what the target is for.", ""]
    head = ("ROW", "TESTPMD Mpps", "CYCLES", "CULVERT Mpps", "CYCLES", "COST", "TARGET", "MET", "WHAT IT SHOWS")
    body = [cells(result) for result in document["rows"]]
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    for row in [head, *body]:
        # Numbers to the right, words to the left.
        padded = [
            cell.rjust(width) if column in (1, 2, 3, 4, 5) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    lines += notes(document["rows"])
    return "\n".join(lines) + "\n"


def cells(result):
    def cycles(program):
        figures = result[program]["cycles_per_packet"]
        return f"{figures['median']:.1f} ({figures['min']:.1f}..{figures['max']:.1f})"

    met = {True: "yes", False: "NO", None: ""}[result.get("met")]
    return (
        result["name"],
        f"{result['testpmd']['packets_per_second']['median'] / 1e6:.2f}",
        cycles("testpmd"),
        f"{rate(result) / 1e6:.2f}",
        cycles("culvert"),
        f"{result['cost']:.1f}",
        result.get("target", ""),
        met + ("?" if result["away"] > DISTURBED else ""),
        result["shows"],
    )


def notes(results):
    """What has to be known to read some of the rows."""
    lines = []
    for result in results:
        if part := coverage(result):
            lines.append(f"{result['name']}: as many packets as fit into the devices, so {part} are hit.")
        if result["workers"] > 1:
            lines.append(
                f"{result['name']}: one of the workers has core 0, where the control thread and the main thread of testpmd are."
            )
    disturbed = [result for result in results if result["away"] > DISTURBED]
    if disturbed:
        worst = max(result["away"] for result in disturbed)
        lines.append(
            f"?: the worker's core was somebody else's for up to {worst:.0%} of the time. That time is taken off, but not"
            " what it does to the caches: run it again on a machine that does nothing else."
        )
    return ["", *lines] if lines else []


BAR, GAP, LEFT, RIGHT, TOP = 22, 8, 190, 150, 64


def plot(document):
    """Bars of cycles a packet: testpmd's part, culvert's beyond it, and the limit that the target comes to."""
    results = document["rows"]
    most = max(end(result) for result in results) or 1
    width, height = 960, TOP + len(results) * (BAR + GAP) + 24
    scale = (width - LEFT - RIGHT) / most
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="16" y="24" font-size="16">Cycles a packet</text>',
        f'<text x="16" y="44" fill="#555">{escape(str(document["machine"]["processor"]))}; '
        "grey: testpmd io, blue: culvert beyond it, red line: target</text>",
    ]
    for number, result in enumerate(results):
        y = TOP + number * (BAR + GAP)
        base = result["testpmd"]["cycles_per_packet"]["median"]
        cost = max(0, result["cost"])
        parts.append(f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(result["name"])}</text>')
        parts.append(bar(LEFT, y, base * scale, "#b8bec6"))
        parts.append(bar(LEFT + base * scale, y, cost * scale, "#2f6fb3"))
        label = f"{base + result['cost']:.0f} = {base:.0f} + {result['cost']:.0f}"
        parts.append(f'<text x="{LEFT + end(result) * scale + 8:.1f}" y="{y + 16}">{label}</text>')
        if (limit := limit_of_cost(result)) is not None:
            x = LEFT + (base + limit) * scale
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2}" y2="{y + BAR + 2}" stroke="#c22" stroke-width="2"/>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def limit_of_cost(result):
    """The limit in cycles; `None` where the target is for the rate, or there is none."""
    return result.get("limit") if result.get("of") == "cost" else None


def end(result):
    """How far to the right something of the row is drawn."""
    base = result["testpmd"]["cycles_per_packet"]["median"]
    return base + max(0, result["cost"], limit_of_cost(result) or 0)


def bar(x, y, width, fill):
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{fill}"/>'
