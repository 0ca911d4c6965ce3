"""`moe2 sweep`: a scenario at every point of a grid, under common random numbers, cached by content.

Every point has the same seeds, so its replications pair with those of the base point, which is the first.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from calibration.whole_file import write_whole
from scenarios.files.changes import keys_set
from scenarios.files.loading import Scenario, changed, unread, whole_changes
from scenarios.interrupting import kept
from scenarios.runs.folder import check_writable
from scenarios.steps import step
from scenarios.sweeps.backends import Task, measured_here, measured_on_dask
from scenarios.sweeps.cache import Cache, digest
from scenarios.sweeps.question import ANSWER, Question
from scenarios.sweeps.question import PAGE as ANSWER_PAGE
from scenarios.sweeps.variations import Variation, grid, read_variations, variations_of

if TYPE_CHECKING:
    import pandas as pd

    from scenarios.figures import Figure, Vector
    from twin.world import Engine

__all__ = ["Backend", "Pictures", "Point", "Sweep", "collect", "measured", "perform_sweep", "prepare_sweep"]

log = logging.getLogger(__name__)

TABLES = ("sweep", "points", "replications", "verdicts")
PAGE = "sweep.html"
_PAGES = {PAGE, ANSWER_PAGE, ANSWER, "capacity.json"}  # the last of earlier versions
_WRITTEN = {*(f"{name}.parquet" for name in TABLES), "sweep.json", *_PAGES, "figures", "cache"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What is drawn of a sweep beside its tables, and whether to explore, or in a format for papers too."""

    interactive: bool = False
    vector: Vector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the grid: its values, in the order of the variations, and the scenario they make."""

    index: int
    values: tuple[str, ...]
    scenario: Scenario
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A scenario and its grid; every point is a valid scenario."""

    base: Scenario
    variations: tuple[Variation, ...]
    points: tuple[Point, ...]
    engine: Engine

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that vary."""
        return tuple(v.key for v in self.variations)

    @property
    def digest(self) -> str:
        """A hash of everything that the sweep's tables depend on."""
        what = [self.base.file.name, [[v.key, v.values] for v in self.variations], [p.digest for p in self.points]]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Where points are measured: in `n_jobs` processes here, or by a Dask scheduler."""

    n_jobs: int = 1
    scheduler: str | None = None

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield digest and result of each task, as they come."""
        if self.scheduler is not None:
            return measured_on_dask(tasks, self.scheduler)
        return measured_here(tasks, self.n_jobs)


def prepare_sweep(
    scenario: str | Path | Scenario,
    vary: Sequence[str] | Mapping[str, Iterable[Any]],
    changes: Sequence[str] = (),
    *,
    engine: Engine,
) -> Sweep:
    """Return the sweep with every point checked; ValueError for a wrong `--vary`, `--set` or scenario.

    Wrong is also a key that is varied or set and that no point reads.
    """
    changes = whole_changes(scenario, changes)
    base = changed(scenario, changes)
    read = variations_of(vary, base.file) if isinstance(vary, Mapping) else read_variations(vary, base.file)
    sweep = sweep_over(base, read, engine=engine)
    asked = [(f"--set {change}", key) for change in changes for key in keys_set(change)]
    asked += [(f"--vary {v.key}", key) for v in read for value in v.values for key in keys_set(f"{v.key}={value}")]
    for option, key in dict.fromkeys(asked):
        why = ""  # that of the first point
        if all(why := unread(point.scenario, key) for point in reversed(sweep.points)):
            raise ValueError(f"{option}: nothing in {base.file.name!r} reads {key}: {why}")
    return sweep


def sweep_over(base: Scenario, variations: tuple[Variation, ...], *, engine: Engine) -> Sweep:
    """Return the sweep of a scenario over the grid of its variations, every point checked."""
    points = []
    for index, values in enumerate(grid(variations)):
        extra = [f"{v.key}={value}" for v, value in zip(variations, values, strict=True)]
        at = changed(base, extra, blamed=f"--vary, at {', '.join(extra)}")
        points.append(Point(index=index, values=values, scenario=at, digest=digest(at, engine)))
    return Sweep(base=base, variations=variations, points=tuple(points), engine=engine)


def perform_sweep(
    sweep: Sweep,
    out: Path,
    *,
    cache: Cache,
    backend: Backend,
    pictures: Pictures | None,
    console: Console,
    question: Question | None = None,
) -> None:
    """Measure what the cache does not hold and write tables, and pictures if wanted, to `out`.

    With a question its answer heads the page. `out`/sweep.json is written last: without it a sweep is not complete. A
    complete one is left as it is.
    """
    record = _record(sweep, pictures, question)
    if _complete(record, out):
        return
    check_writable(cache.folder, option="--cache")
    ordered = measured(sweep, cache=cache, backend=backend, console=console)
    out.mkdir(parents=True, exist_ok=True)
    (out / "sweep.json").unlink(missing_ok=True)
    with step(console, "writing tables and figures"):
        _write(sweep, ordered, out, pictures, question)
    write_whole(out / "sweep.json", (json.dumps(record, indent=2) + "\n").encode())


def measured(sweep: Sweep, *, cache: Cache | None, backend: Backend, console: Console) -> list[dict[str, Any]]:
    """Return what became of each point, in order."""
    results = collect([_task(sweep, p) for p in sweep.points], cache=cache, backend=backend, console=console)
    return [results[p.digest] for p in sweep.points]


def _write(
    sweep: Sweep,
    results: Sequence[Mapping[str, Any]],
    out: Path,
    pictures: Pictures | None,
    question: Question | None,
) -> None:
    # The libraries of tables and drawing take seconds to load: only a sweep that writes pays for them.
    from scenarios.sweeps.tables import tabulate_sweep, written  # noqa: PLC0415

    tables = tabulate_sweep(sweep, results)
    for name in TABLES:
        write_whole(out / f"{name}.parquet", written(tables[name]))
    for name in _PAGES:
        (out / name).unlink(missing_ok=True)  # what an earlier question left says nothing of these tables
    answer = None if question is None else question.answered(tables)
    if answer is not None:
        write_whole(out / ANSWER, (json.dumps(answer.plain(), indent=2, ensure_ascii=False) + "\n").encode())
    if pictures is not None:
        from scenarios.report.sweep_page import write_sweep_page  # noqa: PLC0415

        drawn = _drawn(tables["points"], sweep, out / "figures", pictures.vector, question)
        write_sweep_page(
            tables["points"],
            tables["sweep"],
            drawn,
            out / (PAGE if answer is None else ANSWER_PAGE),
            name=sweep.base.file.name,
            description=sweep.base.file.description,
            keys=sweep.keys,
            answer=answer,
            interactive=pictures.interactive,
        )


def _drawn(
    points: pd.DataFrame, sweep: Sweep, folder: Path, vector: Vector | None, question: Question | None
) -> list[Figure]:
    """Draw a question's own pictures, else those of every sweep."""
    from scenarios.figures.sweep import draw_sweep  # noqa: PLC0415

    if question is not None and question.drawn is not None:
        return question.drawn(points, folder, vector)
    return draw_sweep(points, sweep.keys, folder, vector=vector)


def check_out(out: Path) -> None:
    """Raise ValueError unless the folder is new, empty, or an earlier sweep's, and can be written to."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: this is not a folder; name a new one")
    found = [p.name for p in out.iterdir()] if out.exists() else []
    if others := [name for name in found if name not in _WRITTEN and not name.startswith(".")]:
        raise ValueError(
            f"--out {out}: a folder with other files in it ({others[0]}); name a new folder, or an earlier sweep's"
        )
    check_writable(out)


def collect(
    tasks: Sequence[Task], *, cache: Cache | None, backend: Backend, console: Console
) -> dict[str, dict[str, Any]]:
    """Return the result of every task by its digest: from the cache where it holds it, measured and kept else."""
    unique = {task.digest: task for task in tasks}
    found = {} if cache is None else {key: known for key in unique if (known := cache.get(key)) is not None}
    missing = [task for key, task in unique.items() if key not in found]
    log.info("%d points: %d are in the cache, %d are to be measured", len(unique), len(found), len(missing))
    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with _kept_in(cache), shown as progress:
        bar = progress.add_task("", total=len(missing))
        for key, result in backend.outcomes(missing) if missing else ():
            if cache is not None:
                cache.put(key, result)
            found[key] = result
            log.info("%s: %s", unique[key].where, result["status"])
            progress.advance(bar)
    return found


def _kept_in(cache: Cache | None) -> AbstractContextManager[None]:
    if cache is None:
        return nullcontext()
    return kept(f"what was measured is kept in {cache.folder}; the same command goes on from there")


def _task(sweep: Sweep, point: Point) -> Task:
    where = ", ".join(f"{k}={v}" for k, v in zip(sweep.keys, point.values, strict=True))
    return Task(digest=point.digest, where=where, scenario=point.scenario, engine=sweep.engine)


def _complete(record: Mapping[str, Any], out: Path) -> bool:
    """Whether `out` already holds what is to be written."""
    try:
        found = json.loads((out / "sweep.json").read_bytes())
    except (OSError, ValueError):
        return False
    files = record["files"]
    return bool(found == record) and all((out / name).exists() for name in files)


def _record(sweep: Sweep, pictures: Pictures | None, question: Question | None) -> dict[str, Any]:
    drawn = {} if pictures is None else {"interactive": pictures.interactive, "vector": pictures.vector}
    asked = {} if question is None else {"question": {"name": question.name, **question.settings}}
    page = [PAGE] if question is None else [ANSWER_PAGE, ANSWER]
    return {
        **asked,
        "scenario": sweep.base.file.name,
        "varied": {v.key: list(v.values) for v in sweep.variations},
        "points": len(sweep.points),
        "base": dict(zip(sweep.keys, sweep.points[0].values, strict=True)),
        "files": [*(f"{name}.parquet" for name in TABLES), *(["figures", *page] if drawn else [])],
        "drawn": drawn,
        "digest": sweep.digest,
    }
