"""How much load until a budget breaks: a bracket closed by bisection, every load under the same chance.

The answer is two loads: the largest at which every budget was found to hold, and the smallest above it at which one
was found violated. Between them the replications do not decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from scenarios.files.loading import Scenario, load
from scenarios.files.schema import Poisson
from scenarios.plans.questions import frozen
from scenarios.story.answer import Answer
from scenarios.sweeps.backends import Task
from scenarios.sweeps.cache import Cache, digest
from scenarios.sweeps.question import Question, Tables
from scenarios.sweeps.sweeping import Backend, Point, Sweep, collect
from scenarios.sweeps.variations import Variation

if TYPE_CHECKING:
    import pandas as pd

    from scenarios.figures import Figure, Vector
    from twin.world import Engine

__all__ = ["Capacity", "LoadSearch", "bracket", "find_capacity", "prepare_capacity"]

Statuses = Callable[[Sequence[float]], Sequence[str]]
"""What becomes of some loads: holds, violated, undecided or infeasible."""

DOUBLINGS = 8
FEWEST = 30  # requests in a run, expected: with fewer a percentile says little


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSearch:
    """A scenario whose load is to be found, checked: nothing in it can be wrong any more."""

    scenario: str | Path
    fixed: tuple[str, ...]  # the changes that keep the experts that the scenario keeps
    base: Scenario
    key: str
    start: float
    tolerance: float
    engine: Engine

    def point(self, at: float) -> Point:
        """Return the scenario under a load."""
        text = str(int(at)) if self.key == "users.count" else repr(float(at))
        changed = load(self.scenario, [*self.fixed, f"{self.key}={text}"])
        return Point(index=0, values=(text,), scenario=changed, digest=digest(changed, self.engine))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The loads between which a budget breaks: `holds` is None when none holds, `breaks` when none breaks."""

    key: str
    tolerance: float
    holds: float | None
    breaks: float | None
    sweep: Sweep  # every load that was tried, in order

    @property
    def unit(self) -> str:
        """What the loads count."""
        return "users" if self.key == "users.count" else "requests/s"

    @property
    def question(self) -> Question:
        """How the sweep's tables become the answer and its picture."""
        return Question(
            name="capacity",
            answered=self._answer,
            drawn=self._draw,
            settings={"tolerance": self.tolerance},
        )

    def _answer(self, tables: Tables) -> Answer:
        from scenarios.plans.capacity_answer import capacity_answer  # noqa: PLC0415 - loads pandas

        return capacity_answer(self, tables)

    def _draw(self, points: pd.DataFrame, folder: Path, vector: Vector | None) -> list[Figure]:
        from scenarios.figures.questions import draw_capacity  # noqa: PLC0415 - drawing takes seconds to load

        ends = {"holds": self.holds, "breaks": self.breaks}
        return [draw_capacity(points, self.key, unit=self.unit, **ends, folder=folder, vector=vector)]


def prepare_capacity(scenario: str | Path, changes: Sequence[str], *, tolerance: float, engine: Engine) -> LoadSearch:
    """Return the search for how much load the experts that the scenario keeps can take.

    Users are counted when the load is given per user, else requests per second. ValueError for a tolerance that is
    not above 0, a load from a file, and a scenario without budgets.
    """
    if not (isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"--tolerance {tolerance}: must be above 0, for example 0.05")
    base, fixed = frozen(scenario, changes, engine=engine)
    key, start = _load_of(base)
    return LoadSearch(
        scenario=scenario, fixed=tuple(fixed), base=base, key=key, start=start, tolerance=tolerance, engine=engine
    )


def find_capacity(search: LoadSearch, *, cache: Cache, backend: Backend, console: Console) -> Capacity:
    """Return the load at which a budget breaks, each edge to the search's relative tolerance."""
    found: dict[float, Point] = {}
    key, base = search.key, search.base

    def statuses(loads: Sequence[float]) -> list[str]:
        points = [search.point(at) for at in loads]
        found.update(zip(loads, points, strict=True))
        tasks = [
            Task(digest=p.digest, where=f"{key}={at:g}", scenario=p.scenario, engine=search.engine)
            for at, p in zip(loads, points, strict=True)
        ]
        results: Mapping[str, Mapping[str, Any]] = collect(tasks, cache=cache, backend=backend, console=console)
        return [results[p.digest]["status"] for p in points]

    least = FEWEST * search.start / (_rate(base) * base.file.duration_s)
    whole = key == "users.count"
    holds, breaks = bracket(statuses, search.start, tolerance=search.tolerance, whole=whole, least=least)
    sweep = _sweep(base, key, found, search.engine)
    return Capacity(key=key, tolerance=search.tolerance, holds=holds, breaks=breaks, sweep=sweep)


def bracket(
    statuses: Statuses, start: float, *, tolerance: float, whole: bool = False, least: float = 0.0
) -> tuple[float | None, float | None]:
    """Return the largest load found to hold and the smallest one above it found to break, by doubling and bisection.

    With `whole` the loads are whole numbers of at least 1 and edges next to each other are close enough. No load
    below `least` is tried unless it is the start.

    >>> def plant(loads): return ["holds" if x <= 5.3 else "undecided" if x < 6.1 else "violated" for x in loads]
    >>> holds, breaks = bracket(plant, 1.0, tolerance=0.01)
    >>> 5.24 < holds <= 5.3, 6.1 <= breaks < 6.17
    (True, True)
    >>> bracket(plant, 100, tolerance=0.001, whole=True)
    (5, 7)
    """
    known: dict[float, str] = {}

    def ask(at: float) -> str:
        at = max(1, round(at)) if whole else at
        if at not in known:
            known[at] = statuses([at])[0]
        return known[at]

    at = start
    while ask(at) != "holds" and at / 2 >= max(least, start / 2**DOUBLINGS):
        at /= 2
    for _ in range(DOUBLINGS):
        if any(s in _BROKEN for x, s in known.items() if x > _floor(known)):
            break
        ask(2 * max(known))
    for beyond in (_NOT_HOLDING, _BROKEN):
        _narrow(known, ask, beyond, tolerance=tolerance, whole=whole)
    return _edges(known)


_BROKEN = frozenset({"violated", "infeasible"})
_NOT_HOLDING = _BROKEN | {"undecided"}


def _narrow(
    known: dict[float, str], ask: Callable[[float], str], beyond: frozenset[str], *, tolerance: float, whole: bool
) -> None:
    """Bisect between the loads below and at the first status of `beyond`, until they are close."""
    floor = _floor(known)
    while True:
        above = [x for x, s in known.items() if s in beyond and x > floor]
        if not above:
            return
        high = min(above)
        low = max(x for x in known if floor <= x < high)
        middle = float(round(sqrt(low * high)) if whole else f"{sqrt(low * high):.6g}")
        if high <= low * (1 + tolerance) or not low < middle < high:
            return
        ask(middle)


def _floor(known: Mapping[float, str]) -> float:
    """Return the load to look above: the least that holds, else the least that is not broken, else the least."""
    for good in ({"holds"}, {"holds", "undecided"}):
        if fitting := [x for x, s in known.items() if s in good]:
            return min(fitting)
    return min(known)


def _edges(known: Mapping[float, str]) -> tuple[float | None, float | None]:
    floor = _floor(known)
    first_other = min((x for x, s in known.items() if s != "holds" and x >= floor), default=float("inf"))
    holds = max((x for x, s in known.items() if s == "holds" and x < first_other), default=None)
    broken = [x for x, s in known.items() if s in _BROKEN and x >= floor]
    return holds, min(broken, default=None)


def _load_of(base: Scenario) -> tuple[str, float]:
    arrivals = base.file.load
    if not isinstance(arrivals, Poisson):
        raise ValueError(f'{base.source}: load.process = "{arrivals.process}": capacity needs a poisson load')
    budgets = base.file.budgets
    if budgets.delay_s is None and budgets.energy_j_per_request is None:
        raise ValueError(f"{base.source}: there is no budget to break; give budgets.delay_s or energy_j_per_request")
    if arrivals.requests_per_s is not None:
        return "load.requests_per_s", arrivals.requests_per_s
    return "users.count", float(base.file.users.count)


def _rate(base: Scenario) -> float:
    arrivals = base.file.load
    if isinstance(arrivals, Poisson) and arrivals.requests_per_s_per_user is not None:
        return arrivals.requests_per_s_per_user * base.file.users.count
    return getattr(arrivals, "requests_per_s", None) or 1.0


def _sweep(base: Scenario, key: str, found: Mapping[float, Point], engine: Engine) -> Sweep:
    ordered = [found[at] for at in sorted(found)]
    points = tuple(Point(index=i, values=p.values, scenario=p.scenario, digest=p.digest) for i, p in enumerate(ordered))
    variation = Variation(key=key, values=tuple(p.values[0] for p in points))
    return Sweep(base=base, variations=(variation,), points=points, engine=engine)
