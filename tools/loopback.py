"""A llama.cpp server on this machine: how it is set up and asked, and what it says of itself."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from calibration.session.plan import FIRST_LENGTHS, Plan
from tests.llama_server import llama_process, scheduled_ns

ALWAYS_ADD = 1e-6  # a precision that no fit has, so that lengths are added as long as there may be more


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form of the testbed: the model's size, the server's settings, the load and what is measured how often."""

    layers: int
    hidden: int
    feed_forward: int
    slots: int
    context_tokens: int
    token_budget: int
    prompt: tuple[int, int]
    output: tuple[int, int]
    duration_s: float
    rounds: int
    levels: tuple[float, ...]
    plan: Plan


def _plan(
    prompt: tuple[int, int], output: int, concurrency: tuple[int, ...], *, repeats: int, n_lengths: int = FIRST_LENGTHS
) -> Plan:
    """Return a short calibration: so many lengths, and every cell as often, whatever its interval."""
    lengths = {"least_prompt": prompt[0], "most_prompt": prompt[1], "output_tokens": (output,)}
    often = {"blocks": 1, "repeats": repeats, "most_repeats": repeats, "precision": ALWAYS_ADD}
    return Plan(**lengths, **often, concurrency=concurrency, most_lengths=n_lengths)


# Many short recordings, each between two short calibrations: the machine is another after a minute.
# Few layers, but wide between their two matrices: attention has as small a share of the work as in an LLM of billions
# of parameters. With one KV buffer a server attends over the tokens of all sequences, which is in no cost model; in a
# narrow model of many layers that was as much work as everything else.
LONG = Form(
    layers=2,
    hidden=256,
    feed_forward=4608,
    slots=4,
    context_tokens=8192,
    token_budget=256,
    prompt=(32, 400),
    output=(8, 64),
    duration_s=20.0,
    rounds=10,
    levels=(0.3, 0.55, 0.8),
    plan=_plan((32, 400), 32, (1, 2, 4), repeats=2, n_lengths=7),
)
SHORT = Form(
    layers=1,
    hidden=256,
    feed_forward=4352,
    slots=2,
    context_tokens=2048,
    token_budget=96,
    prompt=(32, 256),
    output=(4, 20),
    duration_s=4.0,
    rounds=3,
    levels=(0.5,),
    plan=_plan((32, 256), 10, (1, 2), repeats=2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loopback:
    """A running server: where it is, its process, and its parameters as it reports them."""

    address: str
    pid: int
    slots: int
    context_tokens: int  # of a slot
    token_budget: int
    one_kv_buffer: bool  # for all slots; with one each, an iteration is computed in parts, one after the other

    @property
    def kv_tokens(self) -> int:
        """Tokens that all slots together have memory for."""
        return self.context_tokens * (1 if self.one_kv_buffer else self.slots)

    @property
    def scheduled_ns(self) -> tuple[int, int]:
        """Nanoseconds that the computing thread has run, and has waited for its core."""
        return max(scheduled_ns(self.pid).values())


@contextmanager
def loopback(
    model: Path, *, slots: int, context_tokens: int, token_budget: int, core: int | None
) -> Iterator[Loopback]:
    """Start a server that computes on one core, yield it once its parameters are identified; it ends with the block."""
    settings = {"slots": slots, "context_tokens": context_tokens, "token_budget": token_budget, "core": core}
    with llama_process(model, **settings) as (address, pid):
        props = httpx.get(f"{address}/props", timeout=60.0).raise_for_status().json()
        context = int(props["default_generation_settings"]["n_ctx"])
        yield Loopback(
            address=address,
            pid=pid,
            slots=int(props["total_slots"]),
            context_tokens=context,
            token_budget=identified_budget(address, context - 1),
            one_kv_buffer="kv_unified = 'true'" in model.with_suffix(".log").read_text(encoding="utf-8"),
        )


def identified_budget(address: str, most: int) -> int:
    """Return the most prompt tokens that the server takes in one iteration, by its own count of iterations.

    A prompt is in one iteration as long as it is not longer than the budget; the length at which it takes two is
    found by bisection. `most` itself when that is still one iteration.
    """
    low, high = 1, most
    if _iterations(address, most) == 1:
        return most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _iterations(address, middle) == 1 else (low, middle)
    return low


def _iterations(address: str, prompt_tokens: int) -> int:
    prompt = np.random.default_rng().integers(100, 500, prompt_tokens).tolist()
    body = {"prompt": prompt, "max_tokens": 1, "ignore_eos": True, "cache_prompt": False}
    before = _decodes(address)
    httpx.post(f"{address}/v1/completions", json=body, timeout=60.0).raise_for_status()
    return _decodes(address) - before


def _decodes(address: str) -> int:
    text = httpx.get(f"{address}/metrics", timeout=60.0).raise_for_status().text
    found = re.search(r"^llamacpp:n_decode_total (\d+)", text, re.MULTILINE)
    assert found is not None, "the server counts its iterations"  # noqa: S101
    return int(found[1])
