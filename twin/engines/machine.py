"""The records that the compiled engine works on: a server's settings, its state, its slots and its legs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.servers.expert import Expert, coefficients

Record = Any
"""A row of SETTINGS, STATE, SLOT or LEG: compiled code reads its fields as attributes."""
IDLE, BOUNDARY, PROMPT, RUN, STOPPED = range(5)
"""What a server is at: its `phase`."""
NONE, ALL = -1, -2
"""No leg, and all that run, where a leg may be named."""

_COEFFICIENTS = tuple("abcdefg")

SETTINGS = np.dtype(
    [(x, np.float64) for x in _COEFFICIENTS]
    + [(f"{x}_j", np.float64) for x in _COEFFICIENTS]
    + [("stop_s", np.float64), ("chunked", np.bool_), ("paged", np.bool_)]
    + [(x, np.int64) for x in ("max_batch", "capacity", "token_budget", "block_tokens", "knee_tokens", "tile_tokens")]
)
"""prefill a + bP + cP² and decode d + eB + fC, g in place of f beside prompts, in seconds and in joules (`_j`).

The capacity is in tokens or blocks.
"""

STATE = np.dtype(
    [
        ("phase", np.int64),  # IDLE …
        ("now_s", np.float64),  # the last boundary
        ("end_s", np.float64),  # of the iteration that carries a prompt
        ("spent_j", np.float64),  # of that iteration
        ("decode_j", np.float64),  # of its decode part
        ("run_s", np.float64),  # when the run of decode iterations began
        ("run_first_s", np.float64),  # D of the run
        ("run_growth_s", np.float64),  # f·B of the run
        ("run_k", np.int64),  # iterations of the run that are done
        ("run_on", np.bool_),  # whether the run goes on at this boundary
        ("next", np.int64),  # the next leg to come from the queue
        ("n_running", np.int64),
        ("n_prefilling", np.int64),
        ("n_preempted", np.int64),
        ("n_chunks", np.int64),
        ("n_admitted", np.int64),  # ever
        ("n_finished", np.int64),  # ever
        ("free", np.int64),  # tokens or blocks
        ("unclaimed", np.int64),  # the leg whose newest token has no block yet, NONE or ALL
        ("n_iterations", np.int64),
        ("context_tokens", np.int64),
        ("decode_factors", np.float64),
        ("each_j", np.float64),
        ("busy_s", np.float64),
        ("busy_j", np.float64),
        ("last_s", np.float64),
    ]
)
"""What a server of the `simpy` engine keeps in its attributes, of the same meaning."""


SLOT = np.dtype(
    [
        ("last", np.int64),  # heap of the running legs: their last iteration
        ("running", np.int64),  # the same heap: the leg
        ("prefilling", np.int64),  # a list, in the order of admission
        ("chunk", np.int64),  # tokens of each of these that the iteration carries
        ("preempted", np.int64),  # a stack
        ("ordered", np.int64),  # room to sort in
        ("phase", np.int64),  # running legs by (tokens - iterations) modulo the size of a block
    ]
)
"""The legs that are admitted or preempted, as rows of the queue; the counts are in the state."""

LEG = np.dtype(
    [(x, np.float64) for x in ("arrived_s", "prefill_factor", "decode_factor")]
    + [(x, np.float64) for x in ("started_s", "first_token_s", "finished_s", "energy_j", "joined_j")]
    + [(x, np.int64) for x in ("prompt_tokens", "output_tokens", "generated", "prefilled")]
    + [("last", np.int64), ("admission", np.int64), ("finished", np.int64)]
)
"""A leg in the queue: what it brings, and what becomes of it.

`last` is its last iteration, -1 while it does not decode; `admission` its place in the order of admissions. Row i's
`finished` is the row that finished as the i-th.
"""


def settings_of(expert: Expert, stop_s: float, *, mode: str | None = None, pace: float = 1.0) -> NDArray[np.void]:
    """Return the settings of an expert's server in a power mode, iterations `pace` times as long; shape (1,)."""
    settings, profile = np.zeros(1, dtype=SETTINGS), expert.profile_in(mode)
    for costs, suffix in ((profile.seconds, ""), (profile.joules, "_j")):
        for name, value in zip(_COEFFICIENTS, coefficients(costs, pace), strict=True):
            settings[name + suffix] = value
    settings["stop_s"] = stop_s
    settings["chunked"], settings["paged"] = expert.scheduler == "chunked", expert.kv == "paged"
    settings["capacity"] = expert.n_blocks if expert.kv == "paged" else expert.kv_capacity_tokens
    settings["knee_tokens"], settings["tile_tokens"] = profile.knee_tokens, profile.seconds.tile_tokens
    for name in ("max_batch", "token_budget", "block_tokens"):
        settings[name] = getattr(expert, name)
    return settings


def state_of(settings: NDArray[np.void]) -> NDArray[np.void]:
    """Return the state of an empty server at time 0, shape (1,)."""
    state = np.zeros(1, dtype=STATE)
    state["free"] = settings["capacity"]
    state["unclaimed"] = NONE
    return state


def slots_of(settings: NDArray[np.void], n_legs: int) -> NDArray[np.void]:
    """Return empty slots for at most `n_legs`."""
    n = min(int(settings["max_batch"][0]), n_legs)
    return np.zeros(max(1, n, int(settings["block_tokens"][0])), dtype=SLOT)
