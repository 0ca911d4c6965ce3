"""Small plants that the tests of the twin share: profiles, experts, requests and legs by hand."""

from collections.abc import Sequence

import numpy as np

from calibration.costs import Costs
from calibration.profile import Profile, Provenance
from twin.network import Network
from twin.servers.expert import Expert
from twin.users.load import Legs, Requests, ranks
from twin.users.prompts import PromptPool
from twin.world import Run, simulate

PREFILL_S, DECODE_S = (0.125, 0.0, 0.0), (0.125, 0.0, 0.0)


def profile(
    prefill_s=PREFILL_S,
    decode_s=DECODE_S,
    *,
    prefill_j=(1.0, 0.0, 0.0),
    decode_j=(1.0, 0.0, 0.0),
    idle_w=2.0,
    residuals=((), ()),
    knee_tokens=0,
    tile_tokens=1,
    mixed_s=0.0,
    mixed_j=0.0,
) -> Profile:
    base, per_sequence, per_context_token = decode_s
    return Profile(
        name="by hand",
        device="any",
        model="any",
        quantization="none",
        runtime="none",
        power_mode="none",
        provenance=Provenance(latency="assumed", energy="assumed"),
        energy_scope="wall",
        context_tokens=8192,
        seconds=Costs(
            prefill=prefill_s,
            base=base,
            per_sequence=per_sequence,
            per_context_token=per_context_token,
            tile_tokens=tile_tokens,
            mixed_per_context_token=mixed_s,
        ),
        knee_tokens=knee_tokens,
        prefill_j=prefill_j,
        decode_j=decode_j,
        idle_w=idle_w,
        residuals_prefill=residuals[0],
        residuals_decode=residuals[1],
        evidence={},
        mixed_j=mixed_j if mixed_s or mixed_j else None,
    )


def expert(
    profile: Profile, *, name="a", device=None, max_batch=1, kv_capacity_tokens=10**6, noise=False, **rest
) -> Expert:
    return Expert(
        name=name,
        device=device or f"device of {name}",
        profile=profile,
        max_batch=max_batch,
        kv_capacity_tokens=kv_capacity_tokens,
        noise=noise,
        **rest,
    )


def requests_at(
    arrived_s: Sequence[float], prompt_tokens: Sequence[int], output_tokens: Sequence[int], ids=None
) -> Requests:
    """Return requests at the given instants, in their order, whatever order they are given in."""
    n = len(arrived_s)
    request_id = np.arange(n) if ids is None else np.asarray(ids)
    order = np.lexsort((ranks(request_id), arrived_s))
    return Requests(
        request_id=request_id[order],
        user_id=np.full(n, -1),
        prompt=np.full(n, -1, dtype=np.intp),
        category=np.full(n, "any", dtype=object),
        arrived_s=np.asarray(arrived_s, dtype=np.float64)[order],
        prompt_tokens=np.asarray(prompt_tokens)[order],
        output_tokens=np.asarray(output_tokens)[order],
    )


def legs_to_all(requests: Requests, n_experts: int = 1) -> Legs:
    """Return one leg of every request on each expert."""
    n = len(requests)
    request = np.repeat(np.arange(n), n_experts)
    return Legs(
        request=request,
        expert=np.tile(np.arange(n_experts), n),
        weight=np.full(n * n_experts, 1 / n_experts),
        prompt_tokens=requests.prompt_tokens[request],
        output_tokens=requests.output_tokens[request],
    )


def run_all(requests: Requests, *experts: Expert, duration_s=1e6, drain_cap_s=1e9, seed=0, network=None) -> Run:
    """Run every request on all of the experts."""
    return simulate(
        experts=experts,
        requests=requests,
        legs=legs_to_all(requests, len(experts)),
        network=network or Network(),
        duration_s=duration_s,
        drain_cap_s=drain_cap_s,
        seed=seed,
    )


def prompt_pool(n: int = 40, n_experts: int = 2) -> PromptPool:
    return PromptPool(
        question_id=np.arange(n) + 1000,
        category=np.array(["law", "maths"] * (n // 2)),
        prompt_tokens=np.arange(n) % 7 + 1,
        output_tokens=np.arange(n * n_experts).reshape(n, n_experts) % 5 + 1,
    )


class FixedRouter:
    """Sends every prompt to the experts given, with equal weights; answers option `prompt % 4`, right when even."""

    def __init__(self, *experts: int) -> None:
        self.experts = experts

    def route(self, prompt):
        shape = (len(prompt), len(self.experts))
        return np.broadcast_to(np.array(self.experts, dtype=np.intp), shape), np.full(shape, 1 / shape[1])

    def answer(self, prompt, experts, weights, served):
        assert served.shape == experts.shape == weights.shape
        return np.where(served.any(axis=1), prompt % 4, -1).astype(np.int64), prompt % 2 == 0
