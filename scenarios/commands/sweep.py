"""The commands that ask what if: `moe2 sweep`, `capacity`, `sensitivity`, `whatif`, `versus`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scenarios.commands.completing import complete_changes
from scenarios.commands.options import Asked, AskedBeside, ScenarioArg, taking
from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console

if TYPE_CHECKING:
    from scenarios.sweeps.cache import Cache
    from scenarios.sweeps.sweeping import Backend, Sweep

__all__ = ["register"]

BackendName = Annotated[str, typer.Option(help="Where points run: joblib (this machine) or dask.")]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="The Dask scheduler, with --backend dask.")]
Figures = Annotated[bool, typer.Option(help="Draw the figures.")]
Interactive = Annotated[
    bool, typer.Option("--interactive", help="Make the curves of sweep.html explorable; five megabytes more.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (sweep, capacity, sensitivity, whatif, versus):
        app.command()(command)


@taking(AskedBeside)
def sweep(
    scenario: ScenarioArg,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUES",
            help="Vary one key: k=1,2,3 or users.count=100..1000:100. May be repeated.",
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
    from scenarios.sweeps.sweeping import Pictures, check_out, perform_sweep, prepare_sweep
    from twin.world import engine_of

    pictures = Pictures(interactive=interactive, vector=asked.vector) if figures else None
    with bad_input():
        where = _backend(backend, scheduler, asked.jobs)
        plan = prepare_sweep(scenario, vary, asked.changes or [], engine=engine_of(asked.engine))
        check_out(asked.out)
        perform_sweep(
            plan, asked.out, cache=_cache(asked), backend=where, pictures=pictures, console=progress_console()
        )
    _print_points(plan.keys, asked)


@taking(Asked)
def capacity(
    scenario: ScenarioArg,
    tolerance: Annotated[float, typer.Option(help="How close the two edges are found, relative.")] = 0.05,
    *,
    asked: Asked,
) -> None:
    """Find how many users, or which rate, until a budget breaks.

    The experts that the scenario keeps stay; the load is doubled or halved, then bisected, under the same chance. The
    answer is the largest load at which every budget holds and the smallest at which one is violated. Users are counted
    when the load is given per user (requests_per_s_per_user). Exit status: 0 done, 2 bad input.

    Example: moe2 capacity testbed --set router.k=1 --out runs/capacity
    """
    from scenarios.plans.capacity import find_capacity, write_capacity
    from scenarios.sweeps.sweeping import Backend, check_out
    from twin.world import engine_of

    with bad_input():
        check_out(asked.out)
        found = find_capacity(
            scenario,
            asked.changes or [],
            tolerance=tolerance,
            engine=engine_of(asked.engine),
            cache=_cache(asked),
            backend=Backend(),
            console=progress_console(),
        )
        write_capacity(found, asked.out, cache=_cache(asked), console=progress_console(), vector=asked.vector)
    _print_points(found.sweep.keys, asked)
    if not asked.as_json:
        print(found.words)


@taking(AskedBeside)
def sensitivity(
    scenario: ScenarioArg,
    by: Annotated[float, typer.Option(help="How much looser each budget is made, as a share.")] = 0.05,
    *,
    asked: AskedBeside,
) -> None:
    """Ask which budget binds the choice of experts, and what a looser one buys.

    Each budget is relaxed in turn, the subset chosen anew and simulated; differences are paired. Exit status: 0 done,
    2 bad input.

    Example: moe2 sensitivity testbed --by 0.1 --out runs/sensitivity
    """
    from scenarios.plans.questions import relaxed
    from twin.world import engine_of

    with bad_input():
        plan = relaxed(scenario, asked.changes or [], by=by, engine=engine_of(asked.engine))
    _ask(plan, asked)
    if not asked.as_json:
        _print_binding(asked.out, plan)


def _print_binding(out: Path, plan: Sweep) -> None:
    """Print what the choice becomes under each looser budget, and what a joule or a second more buys."""
    import pandas as pd

    from scenarios.plans.questions import price

    points, table = (pd.read_parquet(out / f"{name}.parquet") for name in ("points", "sweep"))
    other = points["subset"] != points["subset"].iloc[0]
    for point, variant, subset in points.loc[other, ["point", "variant", "subset"]].itertuples(index=False):
        print(f"{variant}: the choice becomes {subset.replace('|', ', ') or 'none'}{price(plan, table, int(point))}")
    still = points.loc[~other, "variant"].tolist()[1:]
    if still:
        print(f"does not bind the choice, so more of it buys nothing: {', '.join(still)}")


@taking(AskedBeside)
def whatif(scenario: ScenarioArg, *, asked: AskedBeside) -> None:
    """Ask what if a device is lost or crashes, prompts grow twice as long, or the load doubles.

    Every variant keeps the experts that the scenario keeps, and pairs with the scenario as it is. Exit status: 0 done,
    2 bad input.

    Example: moe2 whatif testbed --set router.k=1 --out runs/whatif
    """
    from scenarios.plans.questions import what_ifs
    from twin.world import engine_of

    with bad_input():
        plan = what_ifs(scenario, asked.changes or [], engine=engine_of(asked.engine))
    _ask(plan, asked)


@taking(AskedBeside)
def versus(one: ScenarioArg, other: ScenarioArg, *, asked: AskedBeside) -> None:
    """Ask which of two scenarios is better, paired: both run under the first one's seeds.

    --set changes both. Exit status: 0 done, 2 bad input.

    Example: moe2 versus testbed orin-only --out runs/versus
    """
    from scenarios.plans.questions import versus as both
    from twin.world import engine_of

    with bad_input():
        plan = both(one, other, asked.changes or [], engine=engine_of(asked.engine))
    _ask(plan, asked)


def _ask(plan: Sweep, asked: AskedBeside) -> None:
    """Perform a sweep over variants and print the paired differences beside its points."""
    import pandas as pd

    from scenarios.commands.terminal_sweep import print_differences
    from scenarios.sweeps.sweeping import Backend, Pictures, check_out, perform_sweep

    pictures = Pictures(vector=asked.vector)
    with bad_input():
        check_out(asked.out)
        backend = Backend(n_jobs=asked.jobs)
        perform_sweep(
            plan, asked.out, cache=_cache(asked), backend=backend, pictures=pictures, console=progress_console()
        )
    _print_points(plan.keys, asked)
    if not asked.as_json:
        print_differences(pd.read_parquet(asked.out / "sweep.parquet"), plan.base.file.budgets.delay_statistic)


def _cache(asked: Asked) -> Cache:
    from scenarios.sweeps.cache import Cache

    return Cache(folder=asked.cache or asked.out / "cache")


def _backend(name: str, scheduler: str | None, jobs: int) -> Backend:
    from scenarios.sweeps.sweeping import Backend

    if name not in {"joblib", "dask"}:
        raise ValueError(f"--backend {name}: must be joblib or dask")
    if (name == "dask") != (scheduler is not None):
        raise ValueError("--backend dask and --scheduler ADDRESS belong together, for example tcp://10.0.0.5:8786")
    return Backend(n_jobs=jobs, scheduler=scheduler)


def _print_points(keys: tuple[str, ...], asked: Asked) -> None:
    import pandas as pd

    from scenarios.commands.terminal_sweep import print_points

    out, points = asked.out, pd.read_parquet(asked.out / "points.parquet")
    if asked.as_json:
        print(points.to_json(orient="records", double_precision=15))
    if not asked.as_json:
        print_points(points, keys)
        print(f"tables and figures in {out}: {', '.join(sorted(p.name for p in out.iterdir() if p.name != 'cache'))}")
