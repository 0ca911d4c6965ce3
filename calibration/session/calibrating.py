"""A whole session: preflight, idle baselines, blocks of cells, lengths added where the fit is least certain."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calibration.meters.corrections import Correction
from calibration.meters.protocol import Meter
from calibration.meters.selftest import QUICK_S, self_test
from calibration.runtimes.generation import FORMULAS, Runtime
from calibration.session.conditions import elsewhere, host, preflight, thermometer, wait_until_settled
from calibration.session.measuring import Bench, Progress, idle_row, measure
from calibration.session.plan import Cell, Plan, added_lengths, cells_of, first_lengths, widest_interval
from calibration.session.store import Store, mark_row

_IDLE_S = 5.0
_WARM_TOKENS = 2

Settle = Callable[[], Mapping[str, Any]]
"""Waits until the device's temperature is steady and returns what happened."""


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

    Cells already recorded are skipped, so that a killed session loses at most the cell in flight. The device's power
    is read idle before the runtime gets ready (a model in this process is not loaded then), idle with the model
    loaded and warm, and idle after. `correction` is recorded, and applied by the fit. Raises ValueError for
    conditions that preflight refuses, a runtime that is not ready, and a recording of something else in `folder`.
    """
    if model_file is not None and not model_file.is_file():
        raise ValueError(f"{model_file}: there is no such file of weights, whose hash the recording keeps")
    found = {**host(), "elsewhere": elsewhere(runtime)}
    preflight(found, allowed=allowed)
    if found["elsewhere"] and meter.scope is not None:
        raise ValueError(
            f"{found['elsewhere']} is on another machine, and {meter.name} reads this one; run moe2 calibrate there, "
            "or without a meter (--meter none)"
        )
    if correction is not None:
        correction.check(meter.name)
    settle = settle or partial(wait_until_settled, thermometer())
    bench = Bench(runtime=runtime, meter=meter, refresh_s=meter.refresh_s, plan=plan, session=f"{time.time_ns()}")
    before = _idle(bench, "before", settle)
    report = runtime.report()
    _check_report(report, plan)
    _warm_up(bench)
    tested = self_test(meter, seconds=self_test_s, load=partial(_load, runtime))
    metered = {"name": meter.name, "scope": meter.scope, "covers": meter.covers, "self_test": tested.as_json()}
    metered["correction"] = None if correction is None else correction.as_json()
    known = {"host": found, "runtime": report, "meter": metered, "allowed": sorted(allowed)}
    store = Store(folder=folder)
    store.begin(_manifest(plan, known, model_file))
    bench = replace(bench, refresh_s=tested.refresh_s)
    loaded = _idle(bench, "loaded", settle)
    if before:
        store.add(f"idle-{bench.session}", [*before, *loaded])
    ended = _blocks(replace(bench, idle_w=_watts(loaded)), store, settle, progress or (lambda *_: None))
    store.add(f"end-{bench.session}", [*_idle(bench, "after", settle), *ended])
    return store


@dataclass(slots=True, kw_only=True)
class _Course:
    """Where a session stands: its lengths, the cells of its blocks so far, how many it measured since it began."""

    lengths: list[int]
    began_s: float
    planned: list[Cell]
    fresh: int = 0

    def left_s(self, n: int) -> float:
        """Return the estimated seconds that `n` more cells take."""
        return n * (time.monotonic() - self.began_s) / max(self.fresh, 1)


def _blocks(bench: Bench, store: Store, settle: Settle, progress: Progress) -> list[dict[str, Any]]:
    """Run blocks until the plan's are done and no length is wanted; returns the rows that say why it ended."""
    plan = bench.plan
    course = _Course(lengths=list(first_lengths(plan)), began_s=time.monotonic(), planned=[])
    block, wanted = 0, True
    while block < plan.blocks or wanted:
        cells = cells_of(plan, course.lengths, block)
        course.planned += cells
        if not all(store.has(cell) for cell in cells):
            gate = settle()
            row = mark_row(f"gate-{block:03}", bench.session, kind="gate", block=block, **gate)
            store.add(f"gate-{block:03}-{bench.session}", [row])
        for n, cell in enumerate(cells):
            if not store.has(cell):
                if time.monotonic() - course.began_s > plan.budget_s:
                    return _ended(bench, store, course, f"the budget of {plan.budget_s:g} s is spent", block)
                store.add(cell.key, measure(bench, cell))
                course.fresh += 1
            total = len(cells) * max(plan.blocks, block + 1)
            done = block * len(cells) + n + 1
            progress(done, total, course.left_s(total - done))
        added = _wanted(store, course.lengths, plan, block)
        course.lengths, wanted = sorted({*course.lengths, *added}), bool(added)
        block += 1
    return _ended(bench, store, course, "every cell is measured and no further length is wanted", block)


def _ended(bench: Bench, store: Store, course: _Course, why: str, block: int) -> list[dict[str, Any]]:
    """Return a row for each planned cell that is missing, and one that says why the session ended and how certain."""
    later = [cell for b in range(block + 1, bench.plan.blocks) for cell in cells_of(bench.plan, course.lengths, b)]
    missing = [cell for cell in [*course.planned, *later] if not store.has(cell)]
    try:
        P, seconds = _first_tokens(store, course.lengths, block)
        width = widest_interval(P, seconds)
        certain = f"the least certain prefill is known within {width:.1%}, asked for {bench.plan.precision:.1%}"
    except ValueError as error:
        certain = f"how certain the prefill is cannot be said ({error})"
    rows = [mark_row(c.key, bench.session, kind="missing", block=c.block, reason=why) for c in missing]
    return [*rows, mark_row("end", bench.session, kind="end", reason=f"{why}; {certain}")]


def _first_tokens(store: Store, lengths: Sequence[int], block: int) -> tuple[list[int], list[float]]:
    """Return prompt lengths and TTFTs of good lone requests in blocks up to one; all of `lengths` are there."""
    rows = store.read()
    good = rows[(rows["kind"] == "request") & (rows["fault"] == "") & (rows["concurrency"] == 1)]
    good = good[good["asked_prompt_tokens"].isin(lengths) & (good["block"] <= block)]
    if good["asked_prompt_tokens"].nunique() < len(lengths):
        raise ValueError("a length has no good request")
    ttft_s = (good["first_token_s"] - good["sent_s"]).to_numpy(dtype=np.float64)
    return good["asked_prompt_tokens"].to_list(), ttft_s.tolist()


def _wanted(store: Store, lengths: list[int], plan: Plan, block: int) -> tuple[int, ...]:
    """Return the lengths to add after a block; none when the fit is good enough or impossible.

    Only blocks up to that one are looked at, so that a resumed session decides as the first did.
    """
    try:
        return added_lengths(*_first_tokens(store, lengths, block), plan.precision, plan.most_lengths)
    except ValueError:
        return ()


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


def _manifest(plan: Plan, known: Mapping[str, Any], model_file: Path | None) -> dict[str, Any]:
    found, report = known["host"], known["runtime"]
    return {
        "began_unix_s": time.time(),
        "device": _device(found),
        "model": report.get("model"),
        "model_sha256": None if model_file is None else _sha256(model_file),
        "tokenizer_sha256": None if model_file is None else _tokenizer_sha256(model_file),
        "runtime_build": report.get("build"),
        "formulas": FORMULAS,
        "plan": {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(plan).items()},
        **known,
    }


def _device(found: Mapping[str, Any]) -> str:
    if found["elsewhere"]:
        return "not told"
    return (found["gpu"] or {}).get("name") or found["board"] or found["processor"] or "not told"


def _sha256(path: Path) -> str:
    """Return the file's SHA-256, read in parts: weights may be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _tokenizer_sha256(model_file: Path) -> str | None:
    """Return the hash of the tokenizer beside the weights; a GGUF file holds its own. None where there is none."""
    if model_file.suffix == ".gguf":
        return _sha256(model_file)
    beside = (model_file.parent / name for name in ("tokenizer.json", "tokenizer.model"))
    return next((_sha256(path) for path in beside if path.is_file()), None)
