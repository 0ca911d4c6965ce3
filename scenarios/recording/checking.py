"""Whether the servers of a recording are ready: each is there, serves its model, and answers one request as asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calibration.runtimes.endpoint import Endpoint
from scenarios.recording.endpoints import EndpointSpec
from scenarios.runs.replicating import Load
from twin.servers.expert import Expert

__all__ = ["checked_servers", "slots_apart"]

_WARM_UP_TOKENS = 16


def checked_servers(
    specs: Sequence[EndpointSpec], experts: Sequence[Expert], loads: Sequence[Load]
) -> list[dict[str, Any]]:
    """Return what each server reports, with `vocabulary`; ValueError naming the expert whose server is not ready.

    A leg that is longer than a server's context is found here, and not in the middle of a recording.
    """
    reports = []
    for i, (spec, expert) in enumerate(zip(specs, experts, strict=True)):
        endpoint = Endpoint(spec.url, spec.model, stall_s=spec.timeout_s, key=spec.key)
        try:
            report = {**endpoint.report(), "vocabulary": endpoint.vocabulary}
            _check_context(expert, report.get("context_tokens"), [_longest(drawn, i) for drawn in loads])
            _warm_up(endpoint)
        except ValueError as error:
            raise ValueError(f"endpoint of {spec.expert!r}: {error}") from None
        finally:
            endpoint.close()
        reports.append(report)
    return reports


def slots_apart(experts: Sequence[Expert], reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each expert whose server has other slots than the scenario says; none where none are told.

    A recording with other slots is a good one, of another scenario: it is told, and not refused.
    """
    found = []
    for expert, report in zip(experts, reports, strict=True):
        slots = report.get("slots")
        if isinstance(slots, int) and slots > 0 and slots != expert.max_batch:
            found.append(
                f"{expert.name}: the server says that it has {slots} slots, max_batch is {expert.max_batch}: the twin "
                f"serves other numbers of legs side by side; set max_batch = {slots}, or start the server with "
                f"{expert.max_batch}"
            )
    return found


def _warm_up(endpoint: Endpoint) -> None:
    chance = np.random.default_rng()
    prompt = chance.integers(endpoint.vocabulary // 4, endpoint.vocabulary, _WARM_UP_TOKENS).tolist()
    if fault := endpoint.generate(prompt, 2).fault:
        raise ValueError(f"{endpoint.url}: does not do as asked in the warm-up, {fault}")


def _check_context(expert: Expert, context_tokens: int | None, longest: Sequence[int]) -> None:
    if context_tokens is not None and max(longest) > context_tokens:
        raise ValueError(
            f"a leg on {expert.name!r} has {max(longest)} tokens of prompt and output, the server's context "
            f"is {context_tokens}"
        )


def _longest(drawn: Load, expert: int) -> int:
    mine = drawn.legs.expert == expert
    tokens = drawn.legs.prompt_tokens[mine] + drawn.legs.output_tokens[mine]
    return int(tokens.max(initial=0))
