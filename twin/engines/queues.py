"""The queue of a compiled server: legs gathered from their columns, and what became of them given back."""
# ruff: noqa: PLR0917 - compiled functions take their arguments by place

from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.compiling import compiled
from twin.engines.machine import LEG

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Record = Any  # of machine.LEG: compiled code reads its fields as attributes


def queue_of(
    rows: Whole,
    arrived_s: Floats,
    prompt_tokens: Whole,
    output_tokens: Whole,
    prefill_factor: Floats,
    decode_factor: Floats,
) -> NDArray[np.void]:
    """Return the queue of the legs in these rows (n,) of the columns; their order is that of (arrival, rank)."""
    queue = np.empty(len(rows), dtype=LEG)
    _gather(rows, arrived_s, prompt_tokens, output_tokens, prefill_factor, decode_factor, queue)
    return queue


@compiled
def _gather(
    rows: Whole,
    arrived_s: Floats,
    prompt_tokens: Whole,
    output_tokens: Whole,
    prefill_factor: Floats,
    decode_factor: Floats,
    queue: NDArray[Record],
) -> None:
    for i in range(len(rows)):
        leg, row = queue[i], rows[i]
        leg.arrived_s = arrived_s[row]
        leg.prompt_tokens, leg.output_tokens = prompt_tokens[row], output_tokens[row]
        leg.prefill_factor, leg.decode_factor = prefill_factor[row], decode_factor[row]
        leg.started_s, leg.first_token_s, leg.finished_s = nan, nan, nan
        leg.energy_j, leg.joined_j = 0.0, 0.0
        leg.generated, leg.prefilled = 0, 0
        leg.last, leg.admission, leg.finished = -1, 0, 0


@compiled
def give_back(
    rows: Whole,
    queue: NDArray[Record],
    served: int,
    started_s: Floats,
    first_token_s: Floats,
    finished_s: Floats,
    energy_j: Floats,
    status_code: NDArray[np.int8],
) -> None:
    """Note what became of the legs of a queue in these rows (n,) of the columns; those that finished are `served`."""
    for i in range(len(rows)):
        leg, row = queue[i], rows[i]
        started_s[row], first_token_s[row], finished_s[row] = leg.started_s, leg.first_token_s, leg.finished_s
        energy_j[row] = leg.energy_j
        if leg.finished_s == leg.finished_s:  # no NaN
            status_code[row] = served
