"""Measuring one cell: requests one after another or side by side, and windows of them for energy."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calibration.meters.protocol import Meter
from calibration.meters.sampling import Sampling
from calibration.runtimes.generation import Generation, Runtime
from calibration.session.plan import Cell, Plan
from calibration.session.store import fault_of, mark_row, request_row, window_row
from calibration.session.watching import Watch, share

LEAST_UPDATES = 50
"""Sensor updates that an energy window must hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What measures: a runtime, a meter with its refresh period, the plan, and the name of this session.

    `idle_w` is the power of the loaded device before the first cell; None where it is not known. `watch` looks at
    what disturbs, by default at nothing.
    """

    runtime: Runtime
    meter: Meter
    refresh_s: float | None
    plan: Plan
    session: str
    idle_w: float | None = None
    watch: Watch = field(default_factory=Watch)


def measure(bench: Bench, cell: Cell) -> list[dict[str, Any]]:
    """Return the rows of one cell: requests until their interval is tight, then an energy window if there is a meter.

    Side by side only generations have a window: their prefills cost what lone ones do. A fault ends the cell; its row
    says what happened, throttling too.
    """
    before = bench.watch.ticks()
    bench.watch.throttled_by()  # what was before is not of this cell
    prompts = fresh_prompts(bench, cell)
    rows = _requests(bench, cell, prompts)
    if bench.meter.scope is not None and not fault_of(rows):
        rows.append(_window(bench, cell, prompts))
    stolen = share(before, bench.watch.ticks())
    return [{**row, "steal_share": stolen} for row in rows]


def _requests(bench: Bench, cell: Cell, prompts: Iterator[list[int]]) -> list[dict[str, Any]]:
    """Return the rows of requests until the interval of their seconds is tight, or up to the first fault."""
    rows: list[dict[str, Any]] = []
    seconds: list[float] = []
    for repeat in range(bench.plan.most_repeats):
        batch = side_by_side(bench.runtime, prompts, cell)
        slowed = bench.watch.throttled_by()
        rows += [_watched(bench, request_row(cell, bench.session, repeat, g), slowed) for g in batch]
        if fault_of(rows):
            break
        seconds.append(float(np.median([g.finished_s - g.sent_s for g in batch if g.finished_s is not None])))
        if repeat + 1 >= bench.plan.repeats and tight(seconds, bench.plan.precision):
            break
    return rows


def _watched(bench: Bench, row: dict[str, Any], slowed: str | None) -> dict[str, Any]:
    """Return a row with what slowed the device meanwhile, which is a fault unless there is one or it is allowed."""
    return {**row, "throttled_by": slowed, "fault": row["fault"] or bench.watch.fault_of(slowed)}


def idle_row(bench: Bench, name: str, seconds: float) -> dict[str, Any]:
    """Return a window in which nothing is asked."""
    with Sampling(bench.meter, refresh_s=bench.refresh_s) as sampling:
        begin_s = time.monotonic()
        time.sleep(seconds)
        end_s = time.monotonic()
    found = sampling.energy_of(begin_s, end_s)
    energy: dict[str, Any] = {"energy_j": found.joules, "energy_source": found.source, "reason": found.reason}
    return mark_row(name, bench.session, kind="idle", sent_s=begin_s, finished_s=end_s, n_requests=0, **energy)


def tight(seconds: list[float], precision: float) -> bool:
    """Return whether the median's 90 % interval (1.645 x 1.2533 x the robust spread / root n) is within precision."""
    middle = float(np.median(seconds))
    spread = 1.4826 * float(np.median(np.abs(np.array(seconds) - middle)))
    return bool(1.645 * 1.2533 * spread / np.sqrt(len(seconds)) <= precision * middle)


def side_by_side(runtime: Runtime, prompts: Iterator[list[int]], cell: Cell) -> list[Generation]:
    """Return generations of `concurrency` fresh prompts that were sent at once."""
    batch = [next(prompts) for _ in range(cell.concurrency)]
    if cell.concurrency == 1:
        return [runtime.generate(batch[0], cell.output_tokens)]
    with ThreadPoolExecutor(cell.concurrency) as pool:
        return list(pool.map(lambda prompt: runtime.generate(prompt, cell.output_tokens), batch))


def fresh_prompts(bench: Bench, cell: Cell) -> Iterator[list[int]]:
    """Yield prompts of the cell's exact length that no earlier request shares: random ids, new for each process."""
    words = [bench.plan.seed, cell.block, cell.prompt_tokens, cell.output_tokens, cell.concurrency]
    rng = np.random.default_rng([*words, *bench.session.encode()])
    low = min(100, bench.runtime.vocabulary // 4)  # the first ids are control tokens in many vocabularies
    while True:
        yield rng.integers(low, bench.runtime.vocabulary, cell.prompt_tokens).tolist()


def _window(bench: Bench, cell: Cell, prompts: Iterator[list[int]]) -> dict[str, Any]:
    """Run distinct requests of one length back to back for at least 5 s and 50 updates of the sensor.

    A meter that goes is a fault, so that the cell is measured again; its row keeps how.
    """
    least_s = max(bench.plan.window_s, LEAST_UPDATES * (bench.refresh_s or bench.meter.poll_s))
    n, fault = 0, ""
    with Sampling(bench.meter, refresh_s=bench.refresh_s) as sampling:
        begin_s = time.monotonic()
        while time.monotonic() < begin_s + least_s and not fault:
            batch = side_by_side(bench.runtime, prompts, cell)
            fault = next((generation.fault for generation in batch if generation.fault), "")
            n += len(batch)
        end_s = time.monotonic()
    found = sampling.energy_of(begin_s, end_s)
    known = found.joules is not None and bench.idle_w is not None
    row = window_row(
        cell,
        bench.session,
        kind="window",
        begin_s=begin_s,
        end_s=end_s,
        n_requests=n,
        energy_j=found.joules,
        net_energy_j=(found.joules or 0.0) - (bench.idle_w or 0.0) * (end_s - begin_s) if known else None,
        energy_source=found.source,
        reason=found.reason,
        fault=fault or sampling.failure,
    )
    return _watched(bench, row, bench.watch.throttled_by())


Progress = Callable[[int, int, float], None]
"""Called with cells done, cells planned and the estimated seconds left."""
