"""Every expert of a scenario in every setting that a plan may propose, and what its legs cost without load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moe2.selection import Problem
from scenarios.plans.modes import Mode, modes_of, started_in
from scenarios.plans.settings import alternatives
from scenarios.runs.replicating import Assembly
from scenarios.runs.routing import idle_joules, unloaded
from twin.servers.expert import Expert

__all__ = ["Plant", "Setting"]

Setting = tuple[int, Mode]
"""An expert, by its index, and the power mode of its device."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plant:
    """What may be set, and the legs of validation prompts, n of them, for N experts.

    Attributes:
        problem: the selection problem in the modes that the scenario starts its devices in.
        modes: device to the modes it may start in, the scenario's own first.
        options: an expert in a mode to the servers it may be given, the scenario's own first.
        delay_s: an expert in a mode to the seconds of its legs alone, shape (n,).
        energy_j: likewise their joules; NaN where they are not known.
        idle_j: an expert in a mode to its idle joules per request.
        prompt_tokens: shape (n,).
        output_tokens: shape (n, N).
        requests_per_s: planned.
    """

    problem: Problem
    modes: Mapping[str, tuple[Mode, ...]]
    options: Mapping[Setting, tuple[Expert, ...]]
    delay_s: Mapping[Setting, NDArray[np.float64]]
    energy_j: Mapping[Setting, NDArray[np.float64]]
    idle_j: Mapping[Setting, float]
    prompt_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    requests_per_s: float

    @classmethod
    def of(cls, whole: Assembly, max_batches: Sequence[int] | None = None, *, tuned: bool = True) -> Plant:
        """Return what may be set in a scenario that keeps all its experts; without `tuned` only what it sets."""
        assert whole.routing is not None, "the caller checked that there is a router"  # noqa: S101
        given, file = whole.all_experts, whole.file
        switched = {s.device for s in file.power_switches}
        modes = modes_of(given, switched) if tuned else {e.device: (None,) for e in given}
        answers = whole.routing.answers
        here = answers.for_models([e.profile.model for e in given]).of(answers.rows("validation"))
        options, delay_s, energy_j, idle_j = {}, {}, {}, {}
        for layer in range(max(len(names) for names in modes.values())):
            named = [modes[e.device][min(layer, len(modes[e.device]) - 1)] for e in given]
            experts = [started_in(e, mode) for e, mode in zip(given, named, strict=True)]
            costs, idle = unloaded(file, experts, here), idle_joules(experts, whole.requests_per_s)
            for i, at in enumerate(zip(range(len(given)), named, strict=True)):
                options[at] = alternatives(experts[i], max_batches) if tuned else (experts[i],)
                delay_s[at], energy_j[at], idle_j[at] = costs.delay_s[:, i], costs.energy_j[:, i], float(idle[i])
        prefix = getattr(file.load, "prompt_prefix_tokens", 0)
        return cls(
            problem=whole.routing.problem,
            modes=modes,
            options=options,
            delay_s=delay_s,
            energy_j=energy_j,
            idle_j=idle_j,
            prompt_tokens=(here.prompt_tokens + prefix).astype(np.float64),
            output_tokens=here.output_tokens.astype(np.float64),
            requests_per_s=whole.requests_per_s,
        )

    @property
    def given(self) -> tuple[Expert, ...]:
        """The experts as the scenario sets them."""
        return tuple(self.options[i, None][0] for i in range(len(self.problem.experts)))

    def mode_names(self, modes: Mapping[str, Mode]) -> dict[str, str]:
        """Return what the modes of devices that have a choice are called; that at the start as its profile says."""
        starts = {e.device: e.profile.power_mode for e in self.given}
        return {d: starts[d] if m is None else m for d, m in modes.items() if len(self.modes[d]) > 1}

    def unloaded_problem(self, modes: Mapping[str, Mode] | None, k: int) -> Problem:
        """Return the selection problem of a k with devices in these modes, its costs those of what the gate asks for.

        Without `modes` every prompt costs what it costs in the quickest and in the thriftiest mode of each device at
        once: no assignment of modes costs less, so nothing that fits in any is worth more than the best of this.
        """
        devices = [e.device for e in self.given]
        at = [[(i, m) for m in (self.modes[d] if modes is None else [modes[d]])] for i, d in enumerate(devices)]
        return replace(
            self.problem,
            k=k,
            costs="expected",
            delay_s=np.stack([np.min([self.delay_s[s] for s in own], axis=0) for own in at], axis=1),
            energy_j=np.stack([np.min([self.energy_j[s] for s in own], axis=0) for own in at], axis=1),
            idle_j_per_request=np.array([min(self.idle_j[s] for s in own) for own in at]),
        )
