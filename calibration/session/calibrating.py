"""A whole session: preflight, idle baselines, the course of its cells, and what is noted of it at its end."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calibration.meters.corrections import Correction
from calibration.meters.protocol import Meter
from calibration.meters.selftest import QUICK_S, self_test
from calibration.runtimes.generation import Runtime
from calibration.session.claiming import claimed
from calibration.session.conditions import elsewhere, host, preflight, thermometer, wait_until_settled
from calibration.session.course import Settle, course_of
from calibration.session.manifest import identity_of, manifest_of
from calibration.session.measuring import Bench, Progress, idle_row
from calibration.session.notes import notes_of
from calibration.session.plan import Plan
from calibration.session.store import Store
from calibration.session.watching import watch

_IDLE_S = 5.0
_WARM_TOKENS = 2


def calibrate(
    runtime: Runtime,
    meter: Meter,
    folder: Path,
    plan: Plan,
    *,
    self_test_s: float = QUICK_S,
    model_file: Path | None = None,
    allowed: frozenset[str] = frozenset(),
    correction: Correction | None = None,
    settle: Settle | None = None,
    progress: Progress | None = None,
) -> Store:
    """Record a session into `folder`, or go on with the one there; returns the recording.

    Cells already measured are skipped, so that a killed session loses at most the cell in flight; cells with faults
    are measured again. The device's power is read idle before the runtime gets ready (a model in this process is not
    loaded then), idle with the model loaded and warm, and idle after. `correction` is recorded, and applied by the
    fit. Raises ValueError, and leaves nothing behind, for conditions that preflight refuses, a runtime that is not
    ready, a folder where another process records, and a recording of something else in `folder`.
    """
    if model_file is not None and not model_file.is_file():
        raise ValueError(f"{model_file}: there is no such file of weights, whose hash the recording keeps")
    found = {**host(), "elsewhere": elsewhere(runtime)}
    preflight(found, allowed=allowed)
    words = _metered(meter, correction, found["elsewhere"])
    with claimed(folder) as store:
        known = identity_of(plan, found, words, model_file)
        store.check_same(known)
        known["allowed"] = sorted(allowed)
        looks = watch(found["elsewhere"], allowed="throttled" in allowed)
        name = f"{time.time_ns()}"
        bench = Bench(runtime=runtime, meter=meter, refresh_s=meter.refresh_s, plan=plan, session=name, watch=looks)
        settle = settle or partial(wait_until_settled, thermometer())
        idle, bench = _prepared(bench, store, known, settle, self_test_s)
        if idle:
            store.add(f"idle-{bench.session}", idle)
        _run(bench, store, settle, progress or (lambda *_: None), allowed)
    return store


def _metered(meter: Meter, correction: Correction | None, server: str | None) -> dict[str, Any]:
    """Return what the manifest says of the meter; ValueError where it cannot be that of what is measured."""
    if server and meter.scope is not None:
        raise ValueError(
            f"{server} is on another machine, and {meter.name} reads this one; run moe2 calibrate there, or without "
            "a meter (--meter none)"
        )
    if correction is not None:
        correction.check(meter.name)
    told = None if correction is None else correction.as_json()
    return {"name": meter.name, "scope": meter.scope, "covers": meter.covers, "correction": told}


def _prepared(
    bench: Bench, store: Store, known: dict[str, Any], settle: Settle, self_test_s: float
) -> tuple[list[dict[str, Any]], Bench]:
    """Get the runtime and the meter ready and begin the recording; returns the idle rows and the bench as it is now."""
    before = _idle(bench, "before", settle)
    report = bench.runtime.report()
    _check_report(report, bench.plan)
    store.check_same(manifest_of(known, report))
    _warm_up(bench)
    tested = self_test(bench.meter, seconds=self_test_s, load=partial(_load, bench.runtime))
    known["meter"] = {**known["meter"], "self_test": tested.as_json()}
    store.begin(manifest_of(known, report, throttling=bench.watch.covers))
    bench = replace(bench, refresh_s=tested.refresh_s)
    loaded = _idle(bench, "loaded", settle)
    return [*before, *loaded], replace(bench, idle_w=_watts(loaded))


def _run(bench: Bench, store: Store, settle: Settle, progress: Progress, allowed: frozenset[str]) -> None:
    """Measure what is not measured, then idle power once more, and record why it ended, an interruption too."""
    course, after = course_of(bench, store), list[dict[str, Any]]()
    why = ""
    try:
        why = course.run(settle, progress)
        after = _idle(bench, "after", settle)
    except BaseException as error:
        why = str(error) or "it was interrupted"
        raise
    finally:
        store.add(f"end-{bench.session}", [*after, *course.ended(why)])
        store.note(bench.session, {"ended": why, "allowed": sorted(allowed), **notes_of(store, bench.session)})


def _warm_up(bench: Bench) -> None:
    """Ask a few requests that are not recorded; a fault here is an error, as nothing could be measured."""
    rng = np.random.default_rng()
    high = bench.runtime.vocabulary
    for P in (bench.plan.least_prompt, bench.plan.most_prompt):
        generation = bench.runtime.generate(rng.integers(high // 4, high, P).tolist(), _WARM_TOKENS)
        if generation.fault:
            raise ValueError(f"the runtime does not do as asked in the warm-up, {generation.fault}")


def _load(runtime: Runtime) -> None:
    """Keep the device that is measured busy for a moment."""
    rng = np.random.default_rng()
    runtime.generate(rng.integers(runtime.vocabulary // 4, runtime.vocabulary, 32).tolist(), 16)


def _idle(bench: Bench, when: str, settle: Settle) -> list[dict[str, Any]]:
    """Return the row of an idle window once the device is settled; no row without a meter."""
    if bench.meter.scope is None:
        return []
    settle()
    return [idle_row(bench, f"idle-{when}", max(_IDLE_S, 50 * (bench.refresh_s or 0.0)))]


def _watts(idle: Sequence[Mapping[str, Any]]) -> float | None:
    if not idle or idle[0]["energy_j"] is None:
        return None
    return float(idle[0]["energy_j"] / (idle[0]["finished_s"] - idle[0]["sent_s"]))


def _check_report(report: Mapping[str, Any], plan: Plan) -> None:
    most, slots = report.get("context_tokens"), report.get("slots")
    if most and plan.most_prompt + max(plan.output_tokens) > most:
        raise ValueError(
            f"most_prompt {plan.most_prompt} + output {max(plan.output_tokens)} tokens: the server's context is {most}"
        )
    if slots and max(plan.concurrency) > slots:
        raise ValueError(
            f"concurrency {max(plan.concurrency)}: the server has {slots} slots, so requests would wait for each "
            "other; ask for fewer, or start it with more"
        )
