"""The report's tables: cells that are already text, so that the template only places them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from scenarios.figures.views import delay_table, device_table, time_table
from scenarios.report.sentences import in_some_runs, percentile
from scenarios.story.numbers import (
    DASH,
    MINUS,
    THIN,
    UNBOUNDED,
    Cell,
    bound,
    count,
    given,
    interval,
    known,
    missing,
    percent,
    quantity,
    unanswered,
)
from scenarios.story.story import Story, Subset
from scenarios.verdicts.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of a page; the first `n_text` columns are set left, the others as numbers, right; `note` goes below."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_text: int = 1
    note: str = ""


def estimate_cell(verdict: Verdict) -> Cell:
    """Return a verdict's estimate; +inf in words, nothing with the verdict's reason."""
    if verdict.estimate is not None and math.isinf(verdict.estimate):
        where = "in some runs " if in_some_runs(verdict) else ""
        return Cell(text=f"{where}{unanswered(percentile(verdict))}", style="words")
    return known(verdict.estimate, verdict.unit, verdict.note)


def interval_cell(verdict: Verdict) -> Cell:
    """Return a verdict's interval; a dash with the reason where there is none."""
    low, high = verdict.low, verdict.high
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return missing(verdict.note or "one run gives no interval")
    if math.isinf(low):
        return Cell(text="in every run", style="words")
    if math.isinf(high):
        return Cell(text=f"above {quantity(low, verdict.unit)}", style="number")
    if low == high:
        return Cell(text="exact", why="no randomness in this scenario", style="words")
    return Cell(text=interval(low, high, verdict.unit), below=_parts(verdict), style="number")


def _parts(verdict: Verdict) -> str:
    """Return how far up chance and the profiles' errors reach; nothing where only one of them was counted."""
    if verdict.chance is None or verdict.inputs is None:
        return ""
    return f"chance +{quantity(verdict.chance, verdict.unit)}, profiles +{quantity(verdict.inputs, verdict.unit)}"


def delays(story: Story) -> Table:
    """Return delay by category, tightest first."""
    rows = []
    for row in delay_table(story).to_dict("records"):
        budget_s = row["budget_s"]
        rows.append(
            (
                Cell(text=str(row["category"])),
                Cell(text=count(int(row["n"])), style="number"),
                Cell(text=percent(row["unanswered"]), style="number"),
                *(known(row[f"p{q}"], "s", "no request was answered") for q in (50, 95, 99)),
                known(row["mean"], "s", "no request was answered"),
                missing("none") if math.isnan(budget_s) else Cell(text=bound(budget_s, "s"), style="number"),
            )
        )
    columns = ("Category", "Requests", "Unanswered", "Median", "p95", "p99", "Mean", "Budget")
    caption = "Delay by category, the one that uses most of its budget first"
    note = "All runs together; the mean is over answered requests. A verdict takes each run by itself."
    if any(cell.text == UNBOUNDED for row in rows for cell in row):
        note += f" {UNBOUNDED}: more requests stay unanswered than the percentile leaves out."
    return Table(caption=caption, columns=columns, rows=tuple(rows), note=note)


def times(story: Story) -> Table:
    """Return the mean seconds of each part, for the slowest leg and for every expert."""
    rows = []
    for row in time_table(story).to_dict("records"):
        whole = not row["expert"]
        name = Cell(text="A request’s slowest leg", style="strong") if whole else _name(row["expert"])
        network = known(row["network"], "s", "not known") if whole else Cell(text=DASH)
        parts = [known(row[part], "s", "not known") for part in ("wait", "prefill", "decode")]
        rows.append((name, network, *parts, Cell(text=DASH) if whole else Cell(text=percent(row["slowest"]))))
    columns = ("Leg", "Network", "Wait", "Prefill", "Decode", "Was the slowest")
    note = f"{DASH} Network time is counted once per request, and being the slowest once per expert."
    return Table(caption="Mean seconds of each part", columns=columns, rows=tuple(rows), note=note)


def radio(story: Story) -> Table:
    """Return what the access points carried, the busiest first."""
    busiest = story.cells.sort_values("n_prompts", ascending=False, kind="stable").head(_MOST_SITES)
    rows = tuple(
        (
            _name(str(row["site"]), below=f"{row['x_m']:.0f} m east, {row['y_m']:.0f} m north"),
            *(Cell(text=count(int(row[name])), style="number") for name in ("n_prompts", "n_handovers_in")),
            known(row["uplink_mean_s"], "s", "carried no prompt"),
            known(row["downlink_mean_s"], "s", "carried no answer"),
            *(Cell(text=count(int(row[name])), style="number") for name in ("n_waited", "n_never_carried")),
        )
        for row in busiest.to_dict("records")
    )
    columns = ("Access point", "Prompts", "Handovers to it", "Prompt up, mean", "Answer down, mean", "Waited", "Lost")
    others = (
        f" The {len(story.cells) - len(busiest)} others are in cells.parquet."
        if len(story.cells) > len(busiest)
        else ""
    )
    note = (
        f"All runs together, warm-up included. Waited: no coverage at first. Lost: none until the run stopped.{others}"
    )
    return Table(caption="What access points carried", columns=columns, rows=rows, note=note)


_MOST_SITES = 25


def energies(story: Story) -> Table:
    """Return joules per served request of every device; overhead only where there is any."""
    table = device_table(story)
    kinds = {"busy_j": "Busy", "idle_j": "Idle", "overhead_j": "Overhead", "all_j": "All"}
    if not table["overhead_j"].any():
        del kinds["overhead_j"]
    rows = []
    for row in table.to_dict("records"):
        joules = [known(row[name], "J", "not known") for name in kinds]
        if not isinstance(row["hardware"], str):
            rows.append((_name(row["device"]), missing("no profile"), *joules))
            continue
        rows.append((_name(row["device"], below=row["hardware"]), _energy_origin(row), *joules))
    columns = ("Device", "Energy is", *kinds.values())
    return Table(caption="Joules per served request", columns=columns, rows=tuple(rows), n_text=2)


def utilisations(story: Story) -> Table:
    """Return how busy every device is."""
    rows = tuple(
        (
            _name(row["device"]),
            known(row["utilisation"], "share", "not known"),
            known(row["lowest"], "share", "not known"),
            known(row["highest"], "share", "not known"),
            known(row["busy_s"], "s", "not known"),
        )
        for row in device_table(story).to_dict("records")
    )
    columns = ("Device", "Utilisation, mean", "Lowest run", "Highest run", "Busy in a run, mean")
    return Table(caption="Utilisation by device", columns=columns, rows=rows)


def accuracies(story: Story) -> Table:
    """Return the accuracy of every method, best first, with its difference to the best single expert."""
    table = story.accuracy.sort_values("accuracy", ascending=False, kind="stable")
    sizes = table["n"].dropna().unique()
    questions = f", on {count(int(sizes[0]))} questions" if len(sizes) == 1 else ""
    rows = tuple(_accuracy_row(row, say_n=len(sizes) != 1) for row in table.to_dict("records"))
    columns = ("Method", "Accuracy", "Points above the best single")
    caption = f"Accuracy on the test split{questions}, best first, with 95{THIN}% intervals"
    return Table(caption=caption, columns=columns, rows=rows)


_KINDS = {"router": "this scenario’s router", "unreachable": "unreachable bound"}


def _accuracy_row(row: Mapping[Any, Any], *, say_n: bool) -> tuple[Cell, ...]:
    kind, note = str(row["kind"]), str(row["note"] or "")
    n = f"{count(int(row['n']))} questions" if say_n and not math.isnan(row["n"]) else ""
    below = "; ".join(part for part in (_KINDS.get(kind, kind), n, note) if part)
    accuracy = known(row["accuracy"], "share", note or "not evaluated")
    interval_known = not math.isnan(row["low"]) and not math.isnan(row["high"])
    span = interval(row["low"], row["high"], "share") if interval_known else "no interval"
    return (
        Cell(text=str(row["method"]), below=below, style="strong" if kind == "router" else "name"),
        accuracy if accuracy.why else replace(accuracy, below=span),
        _points(row["diff_vs_best_single"], row["diff_low"], row["diff_high"]),
    )


def _name(text: str, below: str = "") -> Cell:
    return Cell(text=str(text), below=below, style="name")


def _points(diff: float, low: float, high: float) -> Cell:
    """Return a difference in percentage points with its interval below."""
    if math.isnan(diff) or diff == low == high == 0:
        return missing("the reference")
    below = "no interval" if math.isnan(low) or math.isnan(high) else f"{_signed(low)} to {_signed(high)}"
    return Cell(text=_signed(diff), below=below, style="number")


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", MINUS)


def worst_cases(subset: Subset) -> Table:
    """Return each category's delay without load when the slowest kept experts answer, beside its budget."""
    rows = []
    for row in subset.worst_case.to_dict("records"):
        budget_s, delay_s = row["budget_s"], row["delay_s"]
        share = missing("no budget") if math.isnan(budget_s) else known(delay_s / budget_s, "share", "not known")
        budget = missing("none") if math.isnan(budget_s) else Cell(text=f"{given(budget_s)}{THIN}s", style="number")
        rows.append((Cell(text=row["category"]), known(delay_s, "s", "not computed"), budget, share))
    columns = ("Category", "Worst case", "Budget", "Used")
    return Table(
        caption="Delay without load, in the worst case the gate could choose", columns=columns, rows=tuple(rows)
    )


def runners_up(subset: Subset) -> Table:
    """Return the other subsets as differences from the chosen one."""
    rows = []
    for row in subset.runners_up.to_dict("records"):
        experts = [name.strip() for name in str(row["experts"]).split(",") if name.strip()]
        why = str(row["why"] or "")
        within = Cell(text="yes" if row["feasible"] else "no", below=why, style="prose")
        value = known(row["value"], "", "not computed") if math.isnan(row["value"]) else _value(row["value"])
        rows.append((_difference(experts, subset.experts), within, value, known(row["energy_j"], "J", "not known")))
    columns = ("Other subset", "Within budgets", "Objective", "Energy, worst case")
    caption = "Other subsets, by what they have more or less"
    return Table(caption=caption, columns=columns, rows=tuple(rows), n_text=2)


def _value(value: float) -> Cell:
    return Cell(text=f"{value:.4f}".replace("-", MINUS), style="number")


def _difference(experts: Iterable[str], chosen: Iterable[str]) -> Cell:
    here, there = set(experts), set(chosen)
    added = [f"+ {name}" for name in experts if name not in there]
    taken = [f"{MINUS} {name}" for name in chosen if name not in here]
    return Cell(text="\n".join([*added, *taken]) or "the same experts", style="lines")


def left_out(subset: Subset) -> Table:
    """Return the experts that were not kept, with the reason."""
    rows = tuple((_name(row["expert"]), Cell(text=row["why"], style="prose")) for row in _records(subset.left_out))
    return Table(caption="Experts left out", columns=("Expert", "Why"), rows=rows, n_text=2)


def _energy_origin(row: Mapping[Any, Any]) -> Cell:
    """Return where a profile's joules come from and what they cover; a profile without joules says so."""
    if not isinstance(row["energy"], str) or not row["energy"]:
        return missing("not known")
    return Cell(text=row["energy"], below=f"{row['energy_scope']} scope", style="tag")


def profiles(story: Story) -> Table:
    """Return where the figures of every expert come from."""
    rows = tuple(
        (
            _name(row["expert"], below=row["profile"]),
            _name(row["device"], below=row["hardware"]),
            Cell(text=row["latency"], style="tag"),
            _energy_origin(row),
            Cell(text=row["source"] or DASH, why="" if row["source"] else "not stated", style="prose"),
            Cell(text=row["errors"] or DASH, why="" if row["errors"] else "not known", style="prose"),
        )
        for row in _records(story.profiles)
    )
    columns = ("Expert and profile", "Device", "Latency is", "Energy is", "Source", "Errors")
    return Table(caption="Provenance of every profile", columns=columns, rows=rows, n_text=len(columns))


def profile_notes(story: Story) -> list[tuple[tuple[str, ...], str]]:
    """Return what else must be known of the profiles: (experts that share the note, note)."""
    experts: dict[str, list[str]] = {}
    for row in _records(story.profiles):
        if row["notes"]:
            experts.setdefault(row["notes"], []).append(row["expert"])
    return [(tuple(names), note) for note, names in experts.items()]


def _records(frame: pd.DataFrame) -> list[dict[str, str]]:
    """Return the rows as text, nothing as an empty string."""
    rows = frame.astype("object").where(frame.notna(), "").to_dict("records")
    return [{str(key): str(value) for key, value in row.items()} for row in rows]
