"""The page of the loopback testbed: the twin against a real server, beside the machine's own drift."""

import json
from collections.abc import Iterable
from statistics import median
from typing import Any

from tools.testbed import METRICS, ROOT

TARGETS = {"E2E, mean": 0.05, "E2E, p95": 0.12, "throughput": 0.03}
"""How far the twin may be off, beyond the drift; the other figures are reported without one."""
UNITS = {"throughput": ("1/s", 1.0), "utilisation": ("%", 100.0)}
"""And how many make one of the table's; other figures are milliseconds."""
CONTENDED = 0.9
"""A server that had its core for less of what it could use was disturbed by something else on the machine."""


def sections() -> Iterable[str]:
    """Yield the page's parts from what `make testbed` recorded; nothing where it did not run."""
    path = ROOT / "runs" / "loopback" / "figures.json"
    if path.is_file():
        yield from sections_of(json.loads(path.read_text(encoding="utf-8")))


def sections_of(figures: dict[str, Any]) -> Iterable[str]:
    server, load, rows = figures["server"], figures["load"], figures["rows"]
    yield (
        f"A llama.cpp server with a random model ({figures['model']['layers']} layers, {figures['model']['hidden']} "
        f"wide, {figures['model']['feed_forward']} between their matrices, float32): it computes in one thread on one "
        "core, its threads that speak HTTP are on another, beside its client, and it keeps no prompts "
        f"(--cache-ram 0), as none comes twice; {figures['machine']}. The server's own report "
        f"gives {server['slots']} slots, {server['context_tokens']} tokens of context, "
        f"{'one KV buffer for all' if server['one_kv_buffer'] else 'a KV buffer for each'}, and "
        f"{server['token_budget']} tokens an iteration (by its count of iterations for prompts of growing length); "
        "nothing was tuned: prefill, decode and what they cost more side by side are fitted as one to the calibrations "
        "(`moe2 fit --token-budget`). "
        f"What a request takes around the server's work, {1000 * median(row['around_s'] for row in rows):.1f} ms by "
        "that fit, is added to the twin's times, as its requests come without a network. Prompts of "
        f"{load['prompt'][0]} to {load['prompt'][1]} tokens, outputs of {load['output'][0]} to {load['output'][1]}, "
        f"Poisson arrivals for {load['duration_s']:g} s, at the rate at which the twin's server, by the calibration "
        "right before, is busy for the share of the time that a load is called by."
    )
    yield (
        "Errors are the twin's figure over the recorded one, less 1: medians over the recordings of a level (range in "
        "brackets). The twin of each recording is calibrated on the short sessions right before and right after it. "
        "Between sessions is how far two twins are apart of which one is calibrated before and one after: median, and "
        "largest. How fast the server's core was within a recording is measured beside it, by a small fixed piece of "
        "work every 50 ms (`tools/speedometer.py`): at its own pace is the twin that takes, second by second, as many "
        "times as long as that work took over what it took in the two sessions. It knows nothing of queues and "
        "batches, which stay the twin's. A target is met by the median error, or beyond drift: by the median error at "
        "the machine's own pace. Within drift, which says less, is an error that is over what is allowed by no more "
        "than the median between sessions. Utilisation is the share of the time in which the server had a request."
    )
    yield table(rows)
    yield from honest(rows)


def _paces(rows: list[dict[str, Any]]) -> str:
    """Return how fast the server's core was within the recordings; nothing where it was not watched."""
    if not (paces := [row["paces"] for row in rows if row["paces"]]):
        return ""
    means = [sum(found) / len(found) for found in paces]
    return (
        f"Within a recording the server's core was {min(means):.2f} to {max(means):.2f} times as slow as in the "
        f"sessions around it, and {min(map(min, paces)):.2f} to {max(map(max, paces)):.2f} times in single seconds. "
    )


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| load | figure | recorded | twin | error | between sessions | at its own pace | allowed | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for level in sorted({row["level"] for row in rows}):
        mine = [row["metrics"] for row in rows if row["level"] == level]
        lines += [line(level, metric, [found[metric] for found in mine]) for metric in METRICS]
    return "\n".join(lines)


def line(level: float, metric: str, found: list[dict[str, float]]) -> str:
    errors, drifts, own = ([f[key] for f in found] for key in ("error", "drift", "error_at_pace"))
    unit, scale = UNITS.get(metric, ("ms", 1000.0))
    real, twin = (median(scale * f[side] for f in found) for side in ("real", "twin"))
    allowed = TARGETS.get(metric)
    cells = [
        f"{level:.0%}",
        metric,
        f"{real:.3g} {unit}",
        f"{twin:.3g} {unit}",
        f"{median(errors):+.1%} ({min(errors):+.1%} to {max(errors):+.1%})",
        f"{median(drifts):.1%} ({max(drifts):.1%})",
        f"{median(own):+.1%} ({min(own):+.1%} to {max(own):+.1%})",
        "" if allowed is None else f"{allowed:.0%}",
        "" if allowed is None else verdict(errors, own, drifts, allowed),
    ]
    return f"| {' | '.join(cells)} |"


def verdict(errors: list[float], at_pace: list[float], drifts: list[float], allowed: float) -> str:
    """Return whether the twin is as near as it should be: as it is, once it knows how fast the machine was, or at all.

    >>> verdict([0.04], [0.3], [0.0], 0.05), verdict([-0.2], [-0.04], [0.0], 0.05)
    ('met', 'met beyond drift')
    >>> verdict([-0.2], [-0.1], [0.16], 0.05), verdict([-0.2], [-0.1], [0.14], 0.05)
    ('MISSED, within drift', 'MISSED')
    """
    if abs(median(errors)) <= allowed:
        return "met"
    if abs(median(at_pace)) <= allowed:
        return "met beyond drift"
    return "MISSED, within drift" if abs(median(errors)) <= allowed + median(drifts) else "MISSED"


def honest(rows: list[dict[str, Any]]) -> Iterable[str]:
    """Yield what stands in the way of believing the figures, and what was counted."""
    n, same = sum(row["n"] for row in rows), sum(row["statuses"]["real"] == row["statuses"]["twin"] for row in rows)
    yield (
        f"{n} requests in {len(rows)} recordings; in {same} of them every status has as many requests as in the twin. "
        f"The latest send was {1000 * max(row['late_max_s'] for row in rows):.0f} ms late. {_paces(rows)}The server "
        f"had its core for {min(row['cpu_share'] for row in rows):.0%} to "
        f"{max(row['cpu_share'] for row in rows):.0%} of the time in which it had something to compute."
    )
    if contended := [row for row in rows if row["cpu_share"] < CONTENDED]:
        yield (
            f"In {len(contended)} of the recordings something else took the server's core for more than "
            f"{1 - CONTENDED:.0%} of what it could use: their errors are of a disturbed machine, which is in no model."
        )
    yield (
        "Several servers at once contend for the cores, which the twin does not model: they test routing, counts "
        "and conservation only (`tests/scenarios/test_record_servers.py`)."
    )
