"""A plan in one sentence, with the numbers behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scenarios.story.answer import Answer
from scenarios.story.numbers import MINUS, percent
from scenarios.verdicts.estimate import estimate_share
from scenarios.verdicts.judging import per_replication
from scenarios.verdicts.verdict import Verdict, reason
from twin.records.metrics import request_metrics

if TYPE_CHECKING:
    from scenarios.plans.planning import Plan
    from scenarios.plans.proposing import Proposal

__all__ = ["plan_answer", "words"]


def words(found: Plan, proposal: Proposal) -> str:
    """Return a proposal's experts, k, and what is set otherwise than given."""
    settings = "; ".join(["", *proposal.set_otherwise(found.plant.given)])
    return f"k = {proposal.k}, {', '.join(proposal.names)}{settings}"


def plan_answer(found: Plan) -> Answer:
    """Return which experts to keep, how many to ask and how to set each device, and what leaves least room."""
    tightest = _tightest(found)
    notes = []
    if found.best is not None:
        notes += [f"Runner-up: {words(found, p)}." for p in found.runners_up]
        if found.doubtful is not None:
            notes.append(f"Better if it holds, but undecided: {words(found, found.doubtful)}.")
        notes.append(_proof(found, found.best))
    spent = f"{found.n_runs} runs of the twin, {found.n_proposals} proposals that promised to fit without a queue"
    return Answer(
        question="Which experts to keep, how many to ask and how to set each device?",
        sentence=_sentence(found, tightest),
        numbers={
            "status": found.status,
            "k": None if found.best is None else found.best.k,
            "experts": None if found.best is None else found.best.names,
            "accuracy": _accuracy(found),
            "tightest_budget": None if tightest is None else _use(tightest),
            "runs": found.n_runs,
            "proposals": found.n_proposals,
        },
        notes=(*notes, f"{spent}."),
    )


def _sentence(found: Plan, tightest: Verdict | None) -> str:
    if found.best is None or found.result is None:
        none = f"No plan holds: of {found.n_proposals} proposals that promised to fit, none does under load"
        return f"{none}; relax a budget, lower the load, or add a device."
    names = found.best.names
    settings = "".join(f"; {told}" for told in found.best.set_otherwise(found.plant.given))
    kept = f"{names[0]} alone" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    asked = "" if len(names) == 1 else f", ask {found.best.k} of them per request" if found.best.k < len(names) else (
        ", ask all of them"
    )  # fmt: skip
    if found.status != "holds":
        judged = ((v.label, v.status, v.note) for v in found.result.verdicts)
        return (
            f"No plan is sure to hold; the best that may: keep {kept}{asked}{settings} ({reason('undecided', judged)})."
        )
    room = (
        "" if tightest is None else f"; the tightest, {tightest.label.replace(', ', ' of ')}, uses {_share(tightest)}"
    )
    return f"Keep {kept}{asked}{settings}: every budget holds under load{room}."


def _tightest(found: Plan) -> Verdict | None:
    """Return the budget whose interval comes nearest to it."""
    judged = [] if found.result is None else [v for v in found.result.verdicts if v.high is not None and v.budget > 0]
    return max(judged, key=lambda v: (v.high or 0.0) / v.budget, default=None)


def _share(verdict: Verdict) -> str:
    use, low, high = _use(verdict)["use"], _use(verdict)["low"], _use(verdict)["high"]
    return f"{percent(use)} of it ({percent(low)} to {percent(high)})"


def _use(verdict: Verdict) -> dict[str, Any]:
    ends = {"use": verdict.estimate, "low": verdict.low, "high": verdict.high}
    return {"label": verdict.label, **{k: None if v is None else v / verdict.budget for k, v in ends.items()}}


def _accuracy(found: Plan) -> dict[str, float | None] | None:
    if found.result is None:
        return None
    each = per_replication(found.result.evidence.requests(), lambda rows: request_metrics(rows).get("accuracy"))
    whole = estimate_share(each, random=found.result.evidence.random)
    return {"value": whole.value, "low": whole.low, "high": whole.high}


def _proof(found: Plan, best: Proposal) -> str:
    own, *others = found.certificates
    anyhow = "".join(f", in any modes than {c.upper_bound:.3f}" for c in others if c.modes is None)
    modes = " in these power modes" if anyhow else ""
    return (
        f"Worth {best.value:.3f} nats per prompt; proven: without load nothing that fits is worth more than "
        f"{own.upper_bound:.3f}{modes}{anyhow}."
    ).replace("-", MINUS)
