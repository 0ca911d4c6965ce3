"""A whole session: preflight, warm-up, blocks of cells, lengths added where the fit is least certain."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from calibration.meters.protocol import Meter
from calibration.meters.selftest import SelfTest
from calibration.runtimes.generation import FORMULAS, Runtime
from calibration.session.conditions import host, preflight, thermometer, wait_until_settled
from calibration.session.measuring import Bench, Progress, idle_row, measure
from calibration.session.plan import Cell, Plan, cells_of, first_lengths, next_length
from calibration.session.store import Store

_IDLE_S = 5.0


def calibrate(
    runtime: Runtime,
    meter: Meter,
    folder: Path,
    plan: Plan,
    *,
    self_test: SelfTest,
    model_file: Path | None = None,
    allowed: frozenset[str] = frozenset(),
    described: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Store:
    """Record a session into `folder`, or go on with the one there; returns the recording.

    Cells already recorded are skipped, so that a killed session loses at most the cell in flight. `described` adds
    to the manifest (device, quantization, power mode). Raises ValueError for conditions that preflight refuses, a
    runtime that is not ready, and a recording of something else in `folder`.
    """
    found = host()
    preflight(found, allowed=allowed)
    report = runtime.report()
    most = report.get("context_tokens")
    if most and plan.most_prompt + max(plan.output_tokens) > most:
        raise ValueError(
            f"most_prompt {plan.most_prompt} + output {max(plan.output_tokens)} tokens: the server's context is {most}"
        )
    store = Store(folder=folder)
    metered = {"name": meter.name, "scope": meter.scope, "covers": meter.covers, "self_test": self_test.as_json()}
    known = {"host": found, "runtime": report, "meter": metered, "allowed": sorted(allowed), **(described or {})}
    store.begin(_manifest(plan, known, model_file))
    session = f"{time.time_ns()}"
    bench = Bench(runtime=runtime, meter=meter, refresh_s=self_test.refresh_s, plan=plan, session=session)
    _warm_up(bench)
    _idle(bench, store, "before")
    _blocks(bench, store, progress or (lambda *_: None))
    _idle(bench, store, "after")
    return store


def _blocks(bench: Bench, store: Store, progress: Progress) -> None:
    """Run the blocks; after each, a length is added where the fit is least certain."""
    plan, began_s, fresh = bench.plan, time.monotonic(), 0
    lengths = list(first_lengths(plan))
    gate = thermometer()
    for block in range(plan.blocks):
        cells = cells_of(plan, lengths, block)
        wait_until_settled(gate)
        for n, cell in enumerate(cells):
            if not store.has(cell):
                if time.monotonic() - began_s > plan.budget_s:
                    return
                store.add(cell.key, measure(bench, cell))
                fresh += 1
            left = len(cells) * (plan.blocks - block) - n - 1
            progress(
                block * len(cells) + n + 1,
                plan.blocks * len(cells),
                left * (time.monotonic() - began_s) / max(fresh, 1),
            )
        added = _wanted(store, lengths, plan, block)
        lengths = sorted({*lengths, *added})


def _wanted(store: Store, lengths: list[int], plan: Plan, block: int) -> tuple[int, ...]:
    """Return the length to add after a block; none when the fit is good enough or impossible.

    Only blocks up to that one are looked at, so that a resumed session decides as the first did.
    """
    rows = store.read()
    good = rows[(rows["kind"] == "request") & (rows["fault"] == "") & (rows["concurrency"] == 1)]
    good = good[good["asked_prompt_tokens"].isin(lengths) & (good["block"] <= block)]
    if good["asked_prompt_tokens"].nunique() < len(lengths):
        return ()
    try:
        ttft_s = (good["first_token_s"] - good["sent_s"]).to_numpy(dtype=np.float64)
        found = next_length(good["asked_prompt_tokens"].to_list(), ttft_s.tolist(), plan.precision)
    except ValueError:
        return ()
    return () if found is None else (found,)


def _warm_up(bench: Bench) -> None:
    """Ask a few requests that are not recorded; a fault here is an error, as nothing could be measured."""
    rng = np.random.default_rng()
    high = bench.runtime.vocabulary
    for P in (bench.plan.least_prompt, bench.plan.most_prompt):
        generation = bench.runtime.generate(rng.integers(high // 4, high, P).tolist(), 2)
        if generation.fault:
            raise ValueError(f"the runtime does not do as asked in the warm-up, {generation.fault}")


def _idle(bench: Bench, store: Store, when: str) -> None:
    key = f"idle-{when}-{bench.session}"
    if bench.meter.scope is not None:
        cell = Cell(block=-1 if when == "before" else 999, prompt_tokens=0, output_tokens=0, concurrency=0)
        store.add(key, [idle_row(bench, cell, max(_IDLE_S, 50 * (bench.refresh_s or 0.0)))])


def _manifest(plan: Plan, known: Mapping[str, Any], model_file: Path | None) -> dict[str, Any]:
    found, report = known["host"], known["runtime"]
    return {
        "began_unix_s": time.time(),
        "device": (found["gpu"] or {}).get("name") or found["board"] or found["processor"] or "not told",
        "model": report.get("model"),
        "model_sha256": None if model_file is None else hashlib.sha256(model_file.read_bytes()).hexdigest(),
        "runtime_build": report.get("build"),
        "formulas": FORMULAS,
        "plan": {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(plan).items()},
        **known,
    }
