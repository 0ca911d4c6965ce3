"""Recordings: raw measured generations as columns, in SI units, whatever file they came from."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Recording = TypeVar("Recording", "Prefills", "Decodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The file that a recording was read from."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefills:
    """Prompts processed alone up to their first token; every column has shape (n,)."""

    source: Source
    device: NDArray[np.str_]
    model: NDArray[np.str_]
    prompt_tokens: NDArray[np.int64]
    seconds: NDArray[np.float64]
    mean_power_w: NDArray[np.float64]
    energy_j: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decodes:
    """Generations of lone sequences; every column has shape (n,).

    `seconds` is the decoding alone; `energy_j` was taken over the longer `window_s`, which also covers the
    prefill and some idling. Unknown powers are NaN.
    """

    source: Source
    device: NDArray[np.str_]
    model: NDArray[np.str_]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    seconds: NDArray[np.float64]
    window_s: NDArray[np.float64]
    initial_power_w: NDArray[np.float64]
    final_power_w: NDArray[np.float64]
    energy_j: NDArray[np.float64]


def rows(recording: Recording, keep: NDArray[np.bool_]) -> Recording:
    """Return the recording with only the rows where `keep`, shape (n,), is true."""
    columns = (f.name for f in fields(recording) if f.name != "source")
    return replace(recording, **{name: getattr(recording, name)[keep] for name in columns})
