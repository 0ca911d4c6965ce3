"""The course of a session: blocks of cells, lengths added where the fit is least certain, and how it ended."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calibration.session.measuring import Bench, Progress, measure
from calibration.session.plan import Cell, Plan, added_lengths, cells_of, first_lengths, widest_interval
from calibration.session.store import Store, fault_of, mark_row

MOST_FAULTY = 5
"""Cells in a row with faults after which a session ends: the endpoint is down, or will not do what is asked."""

Settle = Callable[[], Mapping[str, Any]]
"""Waits until the device's temperature is steady and returns what happened."""


@dataclass(slots=True, kw_only=True)
class Course:
    """Where a session stands: its lengths, its block, the cells of its blocks so far, and what became of cells.

    `states` has every cell tried so far with the fault of its latest attempt, '' where it is measured; `fresh` is how
    many this session tried, `in_a_row` the faults of its latest ones.
    """

    bench: Bench
    store: Store
    lengths: list[int]
    began_s: float
    states: dict[str, str]
    planned: list[Cell] = field(default_factory=list)
    block: int = 0
    fresh: int = 0
    in_a_row: list[str] = field(default_factory=list)

    def run(self, settle: Settle, progress: Progress) -> str:
        """Run blocks until the plan's are done and no length is wanted, or it cannot go on; returns why it ended.

        Cells that are measured are skipped, those with faults in an earlier session are measured again.
        """
        plan, wanted = self.bench.plan, True
        while self.block < plan.blocks or wanted:
            cells = cells_of(plan, self.lengths, self.block)
            self.planned += cells
            if any(self.states.get(cell.key) != "" for cell in cells):
                self._gate(settle)
            why = self._block(cells, progress)
            if why:
                return why
            added = _wanted(self.store, self.lengths, plan, self.block)
            self.lengths, wanted = sorted({*self.lengths, *added}), bool(added)
            self.block += 1
        faulty = sum(self.states[cell.key] != "" for cell in self.planned)
        if faulty:
            return f"every cell was tried and {faulty} of {len(self.planned)} had faults"
        return "every cell is measured and no further length is wanted"

    def ended(self, why: str) -> list[dict[str, Any]]:
        """Return a row for each planned cell that is not measured, and one that says why the session ended."""
        bench = self.bench
        later = [c for b in range(self.block + 1, bench.plan.blocks) for c in cells_of(bench.plan, self.lengths, b)]
        missing = [cell for cell in [*self.planned, *later] if self.states.get(cell.key) != ""]
        rows = [
            mark_row(c.key, bench.session, kind="missing", block=c.block, reason=self.states.get(c.key) or why)
            for c in missing
        ]
        end = f"{why}; {_certainty(self)}"
        return [*rows, mark_row("end", bench.session, kind="end", reason=end)]

    def _gate(self, settle: Settle) -> None:
        name, session = f"gate-{self.block:03}", self.bench.session
        row = mark_row(name, session, kind="gate", block=self.block, **settle())
        self.store.add(f"{name}-{session}", [row])

    def _block(self, cells: Sequence[Cell], progress: Progress) -> str:
        """Measure what is not measured of a block's cells; returns why the session cannot go on, '' when it can."""
        total = len(cells) * max(self.bench.plan.blocks, self.block + 1)
        for n, cell in enumerate(cells):
            if self.states.get(cell.key) != "":
                why = self._cannot_go_on()
                if why:
                    return why
                self._measure(cell)
            done = self.block * len(cells) + n + 1
            progress(done, total, self._left_s(total - done))
        return ""

    def _measure(self, cell: Cell) -> None:
        rows = measure(self.bench, cell)
        self.store.add(cell.key, rows)
        fault = fault_of(rows)
        self.states[cell.key] = fault
        self.fresh += 1
        self.in_a_row = [*self.in_a_row, fault] if fault else []

    def _cannot_go_on(self) -> str:
        budget_s = self.bench.plan.budget_s
        if time.monotonic() - self.began_s > budget_s:
            return f"the budget of {budget_s:g} s is spent"
        if len(self.in_a_row) >= MOST_FAULTY:
            return f"{len(self.in_a_row)} cells in a row had faults, the last {self.in_a_row[-1]!r}"
        return ""

    def _left_s(self, n: int) -> float:
        """Return the estimated seconds that `n` more cells take."""
        return n * (time.monotonic() - self.began_s) / max(self.fresh, 1)


def course_of(bench: Bench, store: Store) -> Course:
    """Return the course of a session that begins now, or goes on with what is recorded."""
    lengths = list(first_lengths(bench.plan))
    return Course(bench=bench, store=store, lengths=lengths, began_s=time.monotonic(), states=store.states())


def faults_of(states: Mapping[str, str]) -> dict[str, int]:
    """Return how many cells each fault cost, most first.

    >>> faults_of({"a": "", "b": "cut: x", "c": "cut: x"})
    {'cut: x': 2}
    """
    return dict(Counter(fault for fault in states.values() if fault).most_common())


def _certainty(course: Course) -> str:
    """Return in words how certain the prefill is."""
    try:
        width = widest_interval(*_first_tokens(course.store, course.lengths, course.block))
    except ValueError as error:
        return f"how certain the prefill is cannot be said ({error})"
    asked = course.bench.plan.precision
    return f"the least certain prefill is known within {width:.1%}, asked for {asked:.1%}"


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
