"""What a run against a peer found: a table for people, and what programs read."""

import datetime
import json
from pathlib import Path

# How each percentile is named in culvert's JSON and in the table.
PERCENTILES = {"p50_ns": "p50", "p90_ns": "p90", "p99_ns": "p99", "p999_ns": "p99.9", "max_ns": "max"}

# Where packets get lost, for people; culvert's own drops have the names of its reasons.
PLACES = {
    "peer_tx": "refused to the peer by the full ring to culvert",
    "held_back": "sent too late by the peer, which waits while the ring to culvert is full",
    "peer_slow": "sent too late by the peer, although culvert's worker had time",
    "to_culvert": "taken by the ring to culvert, not received by it",
    "culvert_tx_full": "dropped by culvert, as the ring back to the peer is full",
    "way_back": "transmitted by culvert, not received by the peer",
}


def summary(row, ndr, pdr, trials, latency, aside):
    """One row's results; trials that were set `aside` count for nothing."""
    return {
        "name": row.name,
        "shows": row.shows,
        "ndr": rate(ndr, trials),
        "pdr": rate(pdr, trials),
        "latency": latency,
        "trials": [trial_row(trial) for trial in trials],
        "set_aside": [trial_row(trial) for trial in aside],
    }


def rate(found, trials):
    """A rate that was found, the lowest at which more was lost, and the rates asked for in both, in packets a second."""
    at_bad = [trial for trial in trials if trial.asked == found.bad and trial.lost > found.tolerance]
    is_slow = bool(at_bad) and all(2 * trial.places.get("peer_slow", 0) > trial.sent * trial.lost for trial in at_bad)
    return {
        "packets_per_second": rounded(found.offered),
        "lossy_packets_per_second": rounded(found.refused),
        "asked": rounded(found.good),
        "lossy_asked": rounded(found.bad),
        "limited_by": "peer" if found.good and is_slow else found.limited,
    }


def rounded(value):
    return None if value is None else round(value)


def trial_row(trial):
    return {
        "asked": round(trial.asked),
        "offered": round(trial.offered),
        "seconds": round(trial.seconds, 3),
        "sent": trial.sent,
        "returned": trial.returned,
        "lost": trial.places,
        "lost_share": trial.lost,
        "away": round(trial.away, 4),
    }


def latency_row(load, trial, interval):
    """The latency at so many percent of the loss-free rate."""
    return {"load": load, **trial_row(trial), **{name: interval[name] for name in PERCENTILES}}


def lost_at(trials, tolerance=0.0):
    """Where packets were lost in the lossy trial of the lowest rate: what gives way first."""
    lossy = [trial for trial in trials if trial["lost_share"] > tolerance]
    return min(lossy, key=lambda trial: trial["offered"], default=None)


def table(document):
    """The table."""
    lines = [f"{key}: {value}" for key, value in document["machine"].items()]
    lines += [f"{key}: {value}" for key, value in document["settings"].items()]
    tolerance = document["settings"]["tolerance"]
    lines += ["", f"NDR: the highest rate that was offered without loss. LOSSY: the lowest that was not. PDR: at most {tolerance:.2%} lost.", ""]
    lines += columns(
        ("ROW", "NDR Mpps", "PDR Mpps", "LOSSY Mpps", "WHAT IT SHOWS"),
        [
            (row["name"], mpps(row["ndr"]), mpps(row["pdr"]), bound(row["ndr"]), row["shows"])
            for row in document["rows"]
        ],
        (1, 2, 3),
    )
    lines += ["", "Latency in microseconds, culvert's clock, at a share of the NDR:", ""]
    lines += columns(
        ("ROW", "LOAD", "OFFERED Mpps", *PERCENTILES.values(), "LOST"),
        [
            (
                row["name"],
                f"{at['load']} %",
                f"{at['offered'] / 1e6:.3f}",
                *(microseconds(at[name]) for name in PERCENTILES),
                str(sum(at["lost"].values())),
            )
            for row in document["rows"]
            for at in row["latency"]
        ],
        range(1, 4 + len(PERCENTILES)),
    )
    return "\n".join(lines + notes(document["rows"])) + "\n"


def columns(head, body, right):
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    pad = [str.rjust if column in right else str.ljust for column in range(len(head))]
    return ["  ".join(pad[at](row[at], widths[at]) for at in range(len(head))).rstrip() for row in [head, *body]]


def mpps(found):
    if found["packets_per_second"] is None:
        return "none"
    return (">= " if found["limited_by"] == "peer" else "") + f"{found['packets_per_second'] / 1e6:.2f}"


def bound(found):
    lossy = found["lossy_packets_per_second"]
    return "" if lossy is None else f"{lossy / 1e6:.2f}"


def microseconds(nanoseconds):
    return "-" if nanoseconds is None else f"{nanoseconds / 1000:.1f}"


def notes(results):
    """What has to be known to read the figures."""
    lines, named = [""], set()
    for row in results:
        if row["ndr"]["limited_by"] == "peer":
            lines.append(f"{row['name']}: the peer offers no more; culvert's own limit is above.")
        if row["ndr"]["packets_per_second"] is None:
            lines.append(f"{row['name']}: packets were lost at every rate: is this machine doing something else?")
        if lowest := lost_at(row["trials"]):
            lost = ", ".join(f"{place} {count}" for place, count in lowest["lost"].items())
            named |= set(lowest["lost"])
            lines.append(f"{row['name']}: the lowest rate with losses was {lowest['offered'] / 1e6:.2f} Mpps, where {lost} were lost.")
        if aside := row["set_aside"]:
            worst = max(trial["away"] for trial in aside)
            lines.append(f"{row['name']}: {len(aside)} trials are set aside, in which others had the worker's core for up to {worst:.1%}.")
    lines += [f"{place}: {words}" for place, words in PLACES.items() if place in named]
    return lines


def keep(document, folder):
    """Writes the results, and returns where."""
    folder = folder or Path(__file__).resolve().parents[2] / "results" / f"peer-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / "table.txt").write_text(table(document))
    return folder
