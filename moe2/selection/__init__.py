"""The coarse level: which experts to keep, under budgets that bound the worst case the gate could choose.

Objective and budgets are DESIGN's "Selection objective" and "Budgets bound the worst case". Every subset of a
feasible subset is feasible (both costs grow with the subset), so the best feasible F is also the best feasible
F_bar(S) = max over T within S of F(T): to maximise F over feasible subsets is enough.
"""

from moe2.selection.auto import Method, select
from moe2.selection.branch_and_bound import branch_and_bound
from moe2.selection.exhaustive import exhaustive
from moe2.selection.greedy import greedy
from moe2.selection.milp import milp
from moe2.selection.polyblock import polyblock
from moe2.selection.problem import Objective, Problem
from moe2.selection.result import Candidate, Certificate, Selection

__all__ = [
    "Candidate",
    "Certificate",
    "Method",
    "Objective",
    "Problem",
    "Selection",
    "branch_and_bound",
    "exhaustive",
    "greedy",
    "milp",
    "polyblock",
    "select",
]
