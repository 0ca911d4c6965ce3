"""The commands that ask one question each, answered by a sweep: `moe2 capacity`, `sensitivity`, `whatif`, `versus`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scenarios.commands.options import Asked, AskedBeside, ScenarioArg, taking
from scenarios.commands.refusal import bad_input
from scenarios.commands.sweep import cache_of, print_tables
from scenarios.commands.voice import progress_console

if TYPE_CHECKING:
    from scenarios.sweeps.question import Question
    from scenarios.sweeps.sweeping import Sweep

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (capacity, sensitivity, whatif, versus):
        app.command()(command)


@taking(Asked)
def capacity(
    scenario: ScenarioArg,
    tolerance: Annotated[float, typer.Option(help="How close the two edges are found, relative: 0.05 is 5 %.")] = 0.05,
    *,
    asked: Asked,
) -> None:
    """Find how many users, or which rate, until a budget breaks.

    The experts that the scenario keeps stay; the load is doubled or halved, then bisected, under the same chance. The
    answer is the largest load at which every budget holds and the smallest at which one is violated. Users are counted
    when the load is given per user (requests_per_s_per_user). Exit status: 0 done, 2 bad input.

    Example: moe2 capacity testbed --set router.k=1 --out runs/capacity
    """
    from scenarios.plans.capacity import find_capacity, prepare_capacity
    from scenarios.sweeps.sweeping import Backend, check_out
    from twin.world import engine_of

    with bad_input():
        search = prepare_capacity(scenario, asked.changes or [], tolerance=tolerance, engine=engine_of(asked.engine))
        check_out(asked.out)
        found = find_capacity(search, cache=cache_of(asked), backend=Backend(), console=progress_console())
    _answer(found.sweep, found.question, asked)


@taking(AskedBeside)
def sensitivity(
    scenario: ScenarioArg,
    by: Annotated[float, typer.Option(help="How much looser each budget is made, as a share: 0.05 is 5 %.")] = 0.05,
    *,
    asked: AskedBeside,
) -> None:
    """Ask which budget binds the choice of experts, and what a looser one buys.

    Each budget is relaxed in turn, the subset chosen anew and simulated; differences are paired. Exit status: 0 done,
    2 bad input.

    Example: moe2 sensitivity testbed --by 0.1 --out runs/sensitivity
    """
    from scenarios.plans.sensitivity import relaxed, sensitivity_answer
    from scenarios.sweeps.question import Question
    from twin.world import engine_of

    with bad_input():
        plan = relaxed(scenario, asked.changes or [], by=by, engine=engine_of(asked.engine))
    question = Question(
        name="sensitivity", answered=lambda tables: sensitivity_answer(plan, tables, by=by), settings={"by": by}
    )
    _answer(plan, question, asked)


@taking(AskedBeside)
def whatif(scenario: ScenarioArg, *, asked: AskedBeside) -> None:
    """Ask what if a device is lost or crashes, prompts grow twice as long, or the load doubles.

    Every variant keeps the experts that the scenario keeps, and pairs with the scenario as it is. Exit status: 0 done,
    2 bad input.

    Example: moe2 whatif testbed --set router.k=1 --out runs/whatif
    """
    from scenarios.plans.answers import what_if_answer
    from scenarios.plans.questions import what_ifs
    from scenarios.sweeps.question import Question
    from twin.world import engine_of

    with bad_input():
        plan = what_ifs(scenario, asked.changes or [], engine=engine_of(asked.engine))
    _answer(plan, Question(name="whatif", answered=what_if_answer), asked)


@taking(AskedBeside)
def versus(one: ScenarioArg, other: ScenarioArg, *, asked: AskedBeside) -> None:
    """Ask which of two scenarios is better, paired: both run under the first one's seeds.

    --set changes both. Exit status: 0 done, 2 bad input.

    Example: moe2 versus testbed orin-only --out runs/versus
    """
    from scenarios.plans.answers import versus_answer
    from scenarios.plans.questions import versus as both
    from scenarios.sweeps.question import Question
    from twin.world import engine_of

    with bad_input():
        plan = both(one, other, asked.changes or [], engine=engine_of(asked.engine))
    _answer(plan, Question(name="versus", answered=versus_answer), asked)


def _answer(plan: Sweep, question: Question, asked: Asked) -> None:
    """Perform a sweep and print the answer that its tables give, then the tables."""
    import pandas as pd

    from scenarios.commands.terminal_sweep import print_answer, print_differences
    from scenarios.sweeps.question import ANSWER
    from scenarios.sweeps.sweeping import Backend, Pictures, check_out, perform_sweep

    with bad_input():
        check_out(asked.out)
        perform_sweep(
            plan,
            asked.out,
            cache=cache_of(asked),
            backend=Backend(n_jobs=getattr(asked, "jobs", 1)),
            pictures=Pictures(vector=asked.vector),
            console=progress_console(),
            question=question,
        )
    answer: dict[str, Any] = json.loads((asked.out / ANSWER).read_bytes())
    if asked.as_json:
        points = pd.read_parquet(asked.out / "points.parquet").to_json(orient="records", double_precision=15)
        print(json.dumps({**answer, "points": json.loads(points)}, indent=2, ensure_ascii=False))
        return
    print_answer(answer)
    print_tables(plan.keys, asked)
    if plan.keys == ("variant",):
        print_differences(pd.read_parquet(asked.out / "sweep.parquet"), plan.base.file.budgets.delay_statistic)
