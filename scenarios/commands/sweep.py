"""The commands that ask what if: `moe2 sweep`, `capacity`, `sensitivity`, `whatif`, `versus`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from scenarios.commands.refusal import bad_input

if TYPE_CHECKING:
    from scenarios.figures import Vector
    from scenarios.sweeps.sweeping import Backend, Sweep

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
Interactive = Annotated[
    bool, typer.Option("--interactive", help="Make the curves of sweep.html explorable; five megabytes more.")
]
VectorFormat = Annotated[
    Literal["svg", "pdf"] | None, typer.Option("--vector", help="Draw every figure in this format too, for papers.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (sweep, capacity, sensitivity, whatif, versus):
        app.command()(command)


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
    interactive: Interactive = False,
    vector: VectorFormat = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a scenario at every point of a grid, under the same chance, and show what changes.

    The first value of every key makes the base point; differences to it are paired. Results are kept by content in a
    cache: a killed sweep resumes and a repeated one costs nothing. A short key such as k stands for the one key of
    the scenario that ends in it, router.k. Exit status: 0 done, 2 bad input.

    Example: moe2 sweep testbed --vary k=1,2,3 --vary load.requests_per_s=0.05..0.2:0.05 --out runs/sweep
    """
    from scenarios.sweeps.cache import Cache
    from scenarios.sweeps.sweeping import Pictures, check_out, perform_sweep, prepare_sweep
    from twin.world import engine_of

    console = Console(stderr=True, quiet=quiet)
    pictures = Pictures(interactive=interactive, vector=vector) if figures else None
    with bad_input():
        where = _backend(backend, scheduler, jobs)
        plan = prepare_sweep(scenario, vary, changes or [], engine=engine_of(engine))
        check_out(out)
        kept = Cache(folder=cache or out / "cache")
        perform_sweep(plan, out, cache=kept, backend=where, pictures=pictures, console=console)
    _print_points(out, plan.keys, as_json=as_json, quiet=quiet)


def capacity(  # noqa: PLR0917 - the command line's options
    scenario: ScenarioArg,
    out: Out,
    changes: Changes = None,
    tolerance: Annotated[float, typer.Option(help="How close the two edges are found, relative.")] = 0.05,
    cache: CacheDir = None,
    engine: EngineName = "compiled",
    vector: VectorFormat = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find how many users, or which rate, until a budget breaks.

    The experts that the scenario keeps stay; the load is doubled or halved, then bisected, under the same chance. The
    answer is the largest load at which every budget holds and the smallest at which one is violated. Users are counted
    when the load is given per user (requests_per_s_per_user). Exit status: 0 done, 2 bad input.

    Example: moe2 capacity testbed --set router.k=1 --out runs/capacity
    """
    from scenarios.plans.capacity import find_capacity, write_capacity
    from scenarios.sweeps.cache import Cache
    from scenarios.sweeps.sweeping import Backend, check_out
    from twin.world import engine_of

    console = Console(stderr=True, quiet=quiet)
    with bad_input():
        check_out(out)
        kept = Cache(folder=cache or out / "cache")
        found = find_capacity(
            scenario,
            changes or [],
            tolerance=tolerance,
            engine=engine_of(engine),
            cache=kept,
            backend=Backend(),
            console=console,
        )
        write_capacity(found, out, cache=kept, console=console, vector=vector)
    _print_points(out, found.sweep.keys, as_json=as_json, quiet=quiet)
    if not (as_json or quiet):
        print(found.words)


def sensitivity(  # noqa: PLR0917 - the command line's options
    scenario: ScenarioArg,
    out: Out,
    changes: Changes = None,
    by: Annotated[float, typer.Option(help="How much looser each budget is made, as a share.")] = 0.05,
    jobs: Jobs = 2,
    cache: CacheDir = None,
    engine: EngineName = "compiled",
    vector: VectorFormat = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Ask which budget binds the choice of experts, and what a looser one buys.

    Each budget is relaxed in turn, the subset chosen anew and simulated; differences are paired. Exit status: 0 done,
    2 bad input.

    Example: moe2 sensitivity testbed --by 0.1 --out runs/sensitivity
    """
    from scenarios.plans.questions import relaxed
    from twin.world import engine_of

    with bad_input():
        plan = relaxed(scenario, changes or [], by=by, engine=engine_of(engine))
    _ask(plan, out, jobs=jobs, cache=cache, vector=vector, as_json=as_json, quiet=quiet)
    if not (as_json or quiet):
        _print_binding(out, plan)


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


def whatif(  # noqa: PLR0917 - the command line's options
    scenario: ScenarioArg,
    out: Out,
    changes: Changes = None,
    jobs: Jobs = 2,
    cache: CacheDir = None,
    engine: EngineName = "compiled",
    vector: VectorFormat = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Ask what if a device is lost or crashes, prompts grow twice as long, or the load doubles.

    Every variant keeps the experts that the scenario keeps, and pairs with the scenario as it is. Exit status: 0 done,
    2 bad input.

    Example: moe2 whatif testbed --set router.k=1 --out runs/whatif
    """
    from scenarios.plans.questions import what_ifs
    from twin.world import engine_of

    with bad_input():
        plan = what_ifs(scenario, changes or [], engine=engine_of(engine))
    _ask(plan, out, jobs=jobs, cache=cache, vector=vector, as_json=as_json, quiet=quiet)


def versus(  # noqa: PLR0917 - the command line's options
    one: ScenarioArg,
    other: ScenarioArg,
    out: Out,
    changes: Changes = None,
    jobs: Jobs = 2,
    cache: CacheDir = None,
    engine: EngineName = "compiled",
    vector: VectorFormat = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Ask which of two scenarios is better, paired: both run under the first one's seeds.

    --set changes both. Exit status: 0 done, 2 bad input.

    Example: moe2 versus testbed orin-only --out runs/versus
    """
    from scenarios.plans.questions import versus as both
    from twin.world import engine_of

    with bad_input():
        plan = both(one, other, changes or [], engine=engine_of(engine))
    _ask(plan, out, jobs=jobs, cache=cache, vector=vector, as_json=as_json, quiet=quiet)


def _ask(
    plan: Sweep, out: Path, *, jobs: int, cache: Path | None, vector: Vector | None, as_json: bool, quiet: bool
) -> None:
    """Perform a sweep over variants and print the paired differences beside its points."""
    import pandas as pd

    from scenarios.commands.terminal_sweep import print_differences
    from scenarios.sweeps.cache import Cache
    from scenarios.sweeps.sweeping import Backend, Pictures, check_out, perform_sweep

    with bad_input():
        check_out(out)
        kept = Cache(folder=cache or out / "cache")
        pictures, console = Pictures(vector=vector), Console(stderr=True, quiet=quiet)
        perform_sweep(plan, out, cache=kept, backend=Backend(n_jobs=jobs), pictures=pictures, console=console)
    _print_points(out, plan.keys, as_json=as_json, quiet=quiet)
    if not (as_json or quiet):
        print_differences(pd.read_parquet(out / "sweep.parquet"), plan.base.file.budgets.delay_statistic)


def _backend(name: str, scheduler: str | None, jobs: int) -> Backend:
    from scenarios.sweeps.sweeping import Backend

    if name not in {"joblib", "dask"}:
        raise ValueError(f"--backend {name}: must be joblib or dask")
    if (name == "dask") != (scheduler is not None):
        raise ValueError("--backend dask and --scheduler ADDRESS belong together, for example tcp://10.0.0.5:8786")
    return Backend(n_jobs=jobs, scheduler=scheduler)


def _print_points(out: Path, keys: tuple[str, ...], *, as_json: bool, quiet: bool) -> None:
    import pandas as pd

    from scenarios.commands.terminal_sweep import print_points

    points = pd.read_parquet(out / "points.parquet")
    if as_json:
        print(points.to_json(orient="records", double_precision=15))
    if as_json or quiet:
        return
    print_points(points, keys)
    print(f"tables and figures in {out}: {', '.join(sorted(p.name for p in out.iterdir() if p.name != 'cache'))}")
