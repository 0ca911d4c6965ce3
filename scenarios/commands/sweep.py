"""The command `moe2 sweep`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scenarios.commands.completing import complete_changes
from scenarios.commands.options import Asked, AskedBeside, ScenarioArg, taking
from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console

if TYPE_CHECKING:
    from scenarios.sweeps.cache import Cache
    from scenarios.sweeps.sweeping import Backend

__all__ = ["cache_of", "print_tables", "register"]

BackendName = Annotated[str, typer.Option(help="Where points run: joblib (this machine) or dask.")]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="The Dask scheduler, with --backend dask.")]
Figures = Annotated[bool, typer.Option(help="Draw the figures.")]
Interactive = Annotated[
    bool, typer.Option("--interactive", help="Make the curves of sweep.html explorable; five megabytes more.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(sweep)


@taking(AskedBeside)
def sweep(
    scenario: ScenarioArg,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUES",
            help="Vary one key: k=1,2,3 or load.requests_per_s=0.1..0.5:0.1. May be repeated.",
            autocompletion=complete_changes,
        ),
    ],
    *,
    backend: BackendName = "joblib",
    scheduler: Scheduler = None,
    figures: Figures = True,
    interactive: Interactive = False,
    asked: AskedBeside,
) -> None:
    """Run a scenario at every point of a grid, under the same chance, and show what changes.

    The first value of every key makes the base point; differences to it are paired. Results are kept by content in a
    cache: a killed sweep resumes and a repeated one costs nothing. A short key such as k stands for the one key of
    the scenario that ends in it, router.k. Exit status: 0 done, 2 bad input.

    Example: moe2 sweep testbed --vary k=1,2,3 --vary load.requests_per_s=0.05..0.2:0.05 --out runs/sweep
    """
    import pandas as pd

    from scenarios.sweeps.sweeping import Pictures, check_out, perform_sweep, prepare_sweep
    from twin.world import engine_of

    pictures = Pictures(interactive=interactive, vector=asked.vector) if figures else None
    with bad_input():
        where = _backend(backend, scheduler, asked.jobs)
        plan = prepare_sweep(scenario, vary, asked.changes or [], engine=engine_of(asked.engine))
        check_out(asked.out)
        perform_sweep(
            plan, asked.out, cache=cache_of(asked), backend=where, pictures=pictures, console=progress_console()
        )
    if asked.as_json:
        print(pd.read_parquet(asked.out / "points.parquet").to_json(orient="records", double_precision=15))
    else:
        print_tables(plan.keys, asked)


def cache_of(asked: Asked) -> Cache:
    """Return the cache that is asked for, by default in the folder of the results."""
    from scenarios.sweeps.cache import Cache

    return Cache(folder=asked.cache or asked.out / "cache")


def _backend(name: str, scheduler: str | None, jobs: int) -> Backend:
    from scenarios.sweeps.sweeping import Backend

    if name not in {"joblib", "dask"}:
        raise ValueError(f"--backend {name}: must be joblib or dask")
    if (name == "dask") != (scheduler is not None):
        raise ValueError("--backend dask and --scheduler ADDRESS belong together, for example tcp://10.0.0.5:8786")
    return Backend(n_jobs=jobs, scheduler=scheduler)


def print_tables(keys: tuple[str, ...], asked: Asked) -> None:
    """Print the points of a finished sweep, and where its tables and figures are."""
    import pandas as pd

    from scenarios.commands.terminal_sweep import print_points

    out = asked.out
    print_points(pd.read_parquet(out / "points.parquet"), keys)
    print(f"tables and figures in {out}: {', '.join(sorted(p.name for p in out.iterdir() if p.name != 'cache'))}")
