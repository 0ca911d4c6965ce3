"""What `moe2 fit` prints: each profile's coefficients, how certain they are, and what was refused for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from calibration.profile import Profile
from scenarios.commands.terminal import plain_table
from scenarios.story.numbers import DASH, percent

__all__ = ["print_fit"]


def print_fit(profile: Profile, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a profile's fit, `rows` by quantity, and below it whatever else is to be known, each line with its name."""
    console = Console(highlight=False, emoji=False)
    table = plain_table("quantity", numbers=("coefficients", "rows", "refused", "error", "90 %", "covered"))
    table.title, table.title_justify = escape(profile.name), "left"
    for row in rows:
        certain = (_percent(row["error"]), "±" + _percent(row["half_width"]), _percent(row["coverage"]))
        if row["half_width"] is None:
            certain = (certain[0], DASH, DASH)
        table.add_row(row["quantity"], _coefficients(row), str(row["n"]), str(row["refused"]), *certain)
    console.print(table)
    for line in (*_certainties(rows), *_refusals(profile, rows), *_recorded(profile)):
        print(f"{profile.name}: {line}")


def _certainties(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return by which method the 90 % intervals are, or why there is none."""
    by_method: dict[str, list[str]] = {}
    for row in rows:
        if row["interval"] is not None:
            by_method.setdefault(row["interval"], []).append(row["quantity"])
    return [f"90 % interval of {', '.join(quantities)}: {method}" for method, quantities in by_method.items()]


def _refusals(profile: Profile, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"refused for {row['quantity']}: {refused['n']} rows, {refused['reason']}"
        for row in rows
        for refused in profile.evidence.get(row["quantity"], {}).get("refused", ())
    ]


def _recorded(profile: Profile) -> list[str]:
    """Return what the recording says of itself: its refused rows, its end, the client's overhead, the precision."""
    evidence = profile.evidence
    lines = [f"refused: {row['n']} rows, {row['reason']}" for row in evidence.get("refused_rows", ())]
    if missing := evidence.get("missing_cells", ()):
        lines.append(f"missing, as the session ended before: {', '.join(missing)}")
    lines += [f"session: {why}" for why in evidence.get("ended", ())]
    if overhead := evidence.get("client_overhead_s"):
        lines.append(f"client overhead: {_overhead(overhead)}")
    if profile.quantization is None:
        lines.append("the precision of its weights is told nowhere: unknown (null); state it with --quantization")
    if profile.provenance.energy is None:
        lines.append("no joules are known: its energy is unknown (null)")
    return [*lines, *_tile(profile)]


def _overhead(found: Mapping[str, Any]) -> str:
    if "unknown" in found:
        return f"unknown, {found['unknown']}"
    return f"{1000 * found['median']:.3g} ms, median of TTFT less the server's own prompt time in {found['n']} requests"


def _tile(profile: Profile) -> list[str]:
    """Return that cross-validation prefers a tile which the profile does not have, and how much it would gain."""
    tile = profile.evidence.get("prefill_s", {}).get("tile", {"chosen": 1})
    if tile["chosen"] <= profile.seconds.tile_tokens:
        return []
    error, smooth = tile["errors"][str(tile["chosen"])], tile["errors"]["1"]
    return [
        f"on lengths left out, prefill in tiles of {tile['chosen']} tokens is off by {error:.1%}, the smooth form by "
        f"{smooth:.1%}; --tiles takes them, for the scheduler prefill_first"
    ]


def _coefficients(row: Mapping[str, Any]) -> str:
    found = row["coefficients"]
    return "not known" if found is None else "  ".join(DASH if c is None else f"{c:.3g}" for c in found)


def _percent(share: float | None) -> str:
    return DASH if share is None else percent(share)
