"""What `moe2 calibrate` says at its end: what is measured, what is not and why, and what to do next."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from scenarios.commands.output import say
from scenarios.interrupting import INTERRUPTED

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["tell_recording"]

INCOMPLETE = 1
_NAMED = 8


def tell_recording(out: Path, *, interrupted: bool, as_json: bool) -> None:
    """Print what the recording in `out` holds, and leave with a status that says whether all is measured."""
    from calibration.session.store import Store

    store = Store(folder=out)
    if interrupted and not store.keys():
        told_none = "interrupted before the first cell; the same command begins again"
        say({"interrupted": True, "cells": 0}, [told_none], as_json=as_json)
        raise typer.Exit(INTERRUPTED)
    told = {"interrupted": interrupted, **_told(store)}
    say(told, _lines(told, out), as_json=as_json)
    whole = not (told["missing"] or told["faulty"])
    raise typer.Exit(INTERRUPTED if interrupted else 0 if whole else INCOMPLETE)


def _told(store: Any) -> dict[str, Any]:
    """Return what a recording holds, as plain JSON."""
    rows, states, notes = store.read(), store.states(), store.manifest().get("sessions", {})
    asked = rows[rows["kind"] == "request"]
    last = rows[rows["session"] == rows["session"].max()]
    planned = set(last.loc[last["kind"] == "missing", "cell"])
    measuring = [note for note in notes.values() if note["client_overhead_s"] or note["steal_share"]]
    latest = measuring[-1] if measuring else {"client_overhead_s": None, "steal_share": None}
    return {
        "cells": len(states),
        "measured": sum(fault == "" for fault in states.values()),
        "faulty": {cell: fault for cell, fault in states.items() if fault},
        "missing": sorted(planned - set(states)),
        "requests": len(asked),
        "faults": int((asked["fault"] != "").sum()),
        "ended": last.loc[last["kind"] == "end", "reason"].astype(str).tolist(),
        "throttling": store.manifest().get("throttling"),
        "client_overhead_s": latest["client_overhead_s"],
        "steal_share": latest["steal_share"],
    }


def _lines(told: dict[str, Any], out: Path) -> Iterator[str]:
    """Yield what is said to people."""
    from calibration.session.course import faults_of

    n = told["measured"] + len(told["faulty"]) + len(told["missing"])
    yield f"{told['measured']} of {n} cells are measured, {len(told['faulty'])} have faults, in {out}"
    yield f"{told['requests']} requests, {told['faults']} with faults"
    for fault, cells in faults_of(told["faulty"]).items():
        yield f"  {cells} cell{'s' if cells > 1 else ''}: {fault}"
    yield from (f"it ended as {reason}" for reason in told["ended"])
    yield from _disturbances(told)
    if told["missing"]:
        named, more = told["missing"][:_NAMED], len(told["missing"]) - _NAMED
        yield f"missing are {', '.join(named)}{f' and {more} more' if more > 0 else ''}"
    if told["interrupted"] or told["missing"] or told["faulty"]:
        yield "the same command goes on: it measures what is missing, and again what had faults"
    if told["measured"]:
        yield f"next: moe2 fit {out} --out profiles"


def _disturbances(told: dict[str, Any]) -> Iterator[str]:
    overhead, steal = told["client_overhead_s"], told["steal_share"]
    if overhead is not None:
        yield (
            f"client overhead (TTFT less the server's own prompt time): median {1000 * overhead['median']:.2f} ms of "
            f"{overhead['n']} requests"
        )
    elif told["requests"] > told["faults"]:
        yield "client overhead is not known: the server does not tell its own prompt time"
    if steal is not None:
        yield (
            f"taken from this machine by its host (steal): {steal['median']:.1%} of the processors' time in the median "
            f"cell, at most {steal['most']:.1%}"
        )
    yield f"throttling: {told['throttling']}"
