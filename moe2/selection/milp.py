"""The facility-location program of coverage, solved by HiGHS over whole experts, cuts added where it cheats.

The assignment variables of facility location are projected out (Benders): what remains has one binary variable per
expert. Written out, 256 prompts and 16 experts have 12,000 rows, which HiGHS does not close in a minute.
"""

from collections.abc import Callable
from math import inf
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from moe2.selection.branch_and_bound import Search
from moe2.selection.cuts import Cuts
from moe2.selection.growth import Floats
from moe2.selection.problem import Problem
from moe2.selection.relaxation import Relaxation
from moe2.selection.result import Selection

CLOSED = 1e-9  # nats


def milp(problem: Problem, *, time_limit_s: float = inf) -> Selection:
    """Return the subset of best coverage by HiGHS; the bound is proven afterwards by a search tree of its cuts.

    HiGHS gives no proof that could be checked, so its own bound is used to stop and never reported. At the time limit
    the best subset found is returned, with what was proven. Raises ValueError for expected costs: their budgets are no
    linear cuts.
    """
    search = Search.of(problem, "coverage", started_s=perf_counter(), time_limit_s=time_limit_s)
    single = search.growth.addable(())
    rounds = 0
    if single.any():
        relaxation = search.relaxation
        relaxed = _tighten(relaxation, single, search.late)
        if search.late():
            search.offer(search.growth.packed(relaxed))
        bound = inf
        while bound > search.best + CLOSED and not search.late():
            rounds += 1
            y, bound = _solve(relaxation.cuts, single, time_limit_s - (perf_counter() - search.started_s))
            if y is None:
                break
            search.offer(search.growth.improved(search.growth.packed(y), search.late))
            if not relaxation.separate(y, np.full(len(relaxation.cuts.weights), inf)):
                break
        search.run()
    return search.result("milp", rounds)


def _tighten(relaxation: Relaxation, single: NDArray[np.bool_], late: Callable[[], bool]) -> Floats:
    """Make the cuts of the linear program first: they are cheap there. Return its last y."""
    y: Floats = 0.3 * single.astype(float)
    theta: Floats | None = None
    for _ in range(30):
        if late() or not relaxation.separate(y, theta):
            break
        solved = relaxation.solve(np.zeros_like(single), single)
        y, theta = solved.y, solved.theta
    return y


def _solve(cuts: Cuts, single: NDArray[np.bool_], seconds: float) -> tuple[Floats | None, float]:
    """Return HiGHS's best y over all cuts and its bound."""
    from scipy.optimize import Bounds, LinearConstraint  # noqa: PLC0415 - half a second to load
    from scipy.optimize import milp as highs  # noqa: PLC0415

    M, groups = len(single), len(cuts.weights)
    rows = np.array(cuts.rows)[:, :-1]  # without the price of breaking a budget
    found = highs(
        np.concatenate([np.zeros(M), -cuts.weights]),
        constraints=LinearConstraint(rows, -np.inf, np.array(cuts.limits)),
        integrality=np.concatenate([np.ones(M), np.zeros(groups)]),
        bounds=Bounds(
            np.concatenate([np.zeros(M), cuts.lowest]),
            np.concatenate([single.astype(float), cuts.highest]),
        ),
        options={"mip_rel_gap": 1e-9, "time_limit": min(max(seconds, 0.1), 1e6)},
    )
    bound = inf if found.mip_dual_bound is None else -float(found.mip_dual_bound)
    return (None if found.x is None else np.round(found.x[:M])), bound
