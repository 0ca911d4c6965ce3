"""The commands that ask what if: `moe2 sweep`, `moe2 capacity`, `moe2 sensitivity`, `moe2 whatif`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from scenarios.sweeping import Backend

__all__ = ["register"]

ScenarioArg = Annotated[str, typer.Argument(help="A scenario file, or the name of a bundled one (`moe2 scenarios`).")]
Out = Annotated[Path, typer.Option(help="Folder to write to; what an earlier sweep in it measured is used again.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key at every point. May be repeated."),
]
Jobs = Annotated[int, typer.Option(min=1, help="Processes to run beside each other.")]
CacheDir = Annotated[Path | None, typer.Option("--cache", help="Folder of the cache; by default `cache` in --out.")]
BackendName = Annotated[str, typer.Option(help="Where points run: joblib (this machine) or dask.")]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="The Dask scheduler, with --backend dask.")]
EngineName = Annotated[str, typer.Option(help="compiled, or simpy: the same in plain Python, slower.")]
Figures = Annotated[bool, typer.Option(help="Draw the figures.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(sweep)


def sweep(  # noqa: PLR0917 - the command line's options
    scenario: ScenarioArg,
    vary: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUES", help="Vary one key: k=1,2,3 or users.count=100..1000:100. May be repeated."),
    ],
    out: Out,
    changes: Changes = None,
    jobs: Jobs = 2,
    cache: CacheDir = None,
    backend: BackendName = "joblib",
    scheduler: Scheduler = None,
    engine: EngineName = "compiled",
    figures: Figures = True,
    as_json: AsJson = False,
) -> None:
    """Run a scenario at every point of a grid, under the same chance, and show what changes.

    The first value of every key makes the base point; differences to it are paired. Results are kept by content in a
    cache: a killed sweep resumes and a repeated one costs nothing. A short key such as k stands for the one key of
    the scenario that ends in it, router.k. Exit status: 0 done, 2 bad input.

    Example: moe2 sweep testbed --vary k=1,2,3 --vary load.requests_per_s=0.05..0.2:0.05 --out runs/sweep
    """
    from scenarios.cache import Cache
    from scenarios.cli import bad_input
    from scenarios.sweeping import check_out, perform_sweep, prepare_sweep
    from twin.world import engine_of

    console = Console(stderr=True)
    with bad_input():
        where = _backend(backend, scheduler, jobs)
        plan = prepare_sweep(scenario, vary, changes or [], engine=engine_of(engine))
        check_out(out)
        kept = Cache(folder=cache or out / "cache")
        perform_sweep(plan, out, cache=kept, backend=where, figures=figures, console=console)
    _print_points(out, plan.keys, as_json=as_json)


def _backend(name: str, scheduler: str | None, jobs: int) -> Backend:
    from scenarios.sweeping import Backend

    if name not in {"joblib", "dask"}:
        raise ValueError(f"--backend {name}: must be joblib or dask")
    if (name == "dask") != (scheduler is not None):
        raise ValueError("--backend dask and --scheduler ADDRESS belong together, for example tcp://10.0.0.5:8786")
    return Backend(n_jobs=jobs, scheduler=scheduler)


def _print_points(out: Path, keys: tuple[str, ...], *, as_json: bool) -> None:
    import pandas as pd

    from scenarios.terminal_sweep import print_points

    points = pd.read_parquet(out / "points.parquet")
    if as_json:
        print(points.to_json(orient="records", double_precision=15))
        return
    print_points(points, keys)
    print(f"tables and figures in {out}: {', '.join(sorted(p.name for p in out.iterdir() if p.name != 'cache'))}")
