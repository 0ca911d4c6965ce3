"""The gate h(x): one logit per model of the answers table, from the prompt's embedding alone.

It was trained in torch (`moe2.training`); here it is three matrix products in NumPy, so that routing needs no torch.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from moe2.answers import Answers, find_model
from moe2.votes import odds_votes

SCHEMA = 4
BLOCK = 512  # prompts per matrix product: their hidden layer stays in a core's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A perceptron with one hidden layer behind a linear one, and what it was trained on.

    logits = (relu(x P W1 + b1) W2 + b2) / temperature, where the bracket is the log-odds that each model is right.
    """

    models: tuple[str, ...]  # (N,)
    projection: NDArray[np.float32]  # (dimensions, R) P, see moe2.narrowing
    hidden_weight: NDArray[np.float32]  # (R, H) W1
    hidden_bias: NDArray[np.float32]  # (H,) b1
    output_weight: NDArray[np.float32]  # (H, N) W2
    output_bias: NDArray[np.float32]  # (N,) b2
    option_ratio: NDArray[np.float32]  # (N, options) what naming an option does to the odds; see moe2.votes
    temperature: float  # chosen on validation
    smoothing: float  # of the experts' answers, chosen on validation
    k: int  # experts per request, chosen on validation
    encoder: str  # identity of the encoder whose embeddings it takes
    evidence: Mapping[str, Any]  # seed, hash of the answers, versions, validation figures

    def __post_init__(self) -> None:
        N = len(self.models)
        if not N or len(set(self.models)) != N or not all(isinstance(model, str) for model in self.models):
            raise ValueError(f"gate: models are {list(self.models)}, must be names, at least one, each once")
        if not 0 < self.temperature < inf or not 0 < self.smoothing <= 1 or not 1 <= self.k <= N:
            raise ValueError(
                f"gate: temperature {self.temperature} must be above 0 and finite, smoothing {self.smoothing} in "
                f"(0, 1], k {self.k} from 1 to {N}, the number of models"
            )
        for name, shape in self._layers().items():
            found = getattr(self, name)
            if 0 in shape or found.shape != shape or found.dtype != np.float32 or not np.isfinite(found).all():
                raise ValueError(f"gate: {name} is {found.dtype} {found.shape}, must be float32 {shape}, finite")
        if not (self.option_ratio > 0).all():
            raise ValueError(f"gate: option_ratio is {self.option_ratio.min()} somewhere, must be above 0")

    def _layers(self) -> dict[str, tuple[int, ...]]:
        """Return the shape that each array must have, by the size of the projection, the bias and the models."""
        (D, R), H, N = (*self.projection.shape, 0, 0)[:2], self.hidden_bias.size, len(self.models)
        options = (*self.option_ratio.shape, 0, 0)[1]
        shapes = ((D, R), (R, H), (H,), (H, N), (N,), (N, options))
        return dict(zip(_ARRAYS, shapes, strict=True))

    def log_odds(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-odds (n, N) that each model answers rightly, from embeddings (n, dimensions)."""
        if embedding.ndim != 2 or embedding.shape[1] != len(self.projection):
            raise ValueError(
                f"gate: embeddings are {embedding.shape}, must be (prompts, {len(self.projection)}), made by "
                f"{self.encoder}"
            )
        with np.errstate(invalid="ignore"):  # told below
            odds = self._through(np.asarray(embedding, dtype=np.float32))
        if not np.isfinite(odds).all():  # NaN goes through to the end, where there are few numbers to look at
            where = int(np.flatnonzero(~np.isfinite(odds).all(axis=1))[0])
            raise ValueError(f"gate: prompt {where} has no log-odds; its embedding must be finite")
        return odds

    def _through(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        odds = np.empty((len(embedding), len(self.models)), dtype=np.float32)
        n, (rank, hidden_units) = min(BLOCK, len(embedding)), self.hidden_weight.shape
        narrow, wide = np.empty((n, rank), dtype=np.float32), np.empty((n, hidden_units), dtype=np.float32)
        # relu(h + b) = max(h, -b) + b: one pass over the hidden layer, its b W2 is the same for every prompt
        floor, constant = -self.hidden_bias, self.hidden_bias @ self.output_weight + self.output_bias
        for start in range(0, len(embedding), BLOCK):
            block = embedding[start : start + BLOCK]
            read = np.matmul(block, self.projection, out=narrow[: len(block)])  # (block, R)
            hidden = np.matmul(read, self.hidden_weight, out=wide[: len(block)])  # (block, H)
            np.maximum(hidden, floor, out=hidden)
            np.matmul(hidden, self.output_weight, out=odds[start : start + BLOCK])
        odds += constant
        return odds

    def logits(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return h(x), (n, N): softmax over the experts asked gives their weights in the mixture."""
        logits = self.log_odds(embedding)
        logits /= np.float32(self.temperature)
        return logits

    def logits_of(self, embedding: NDArray[np.float32], models: Sequence[str]) -> NDArray[np.float32]:
        """Return h(x) with a column for each of `models`, (n, E); ValueError for a model it was not trained for."""
        return self.logits(embedding)[:, self._columns(models)]

    def logits_and_votes(
        self, embedding: NDArray[np.float32], models: Sequence[str], choice: NDArray[np.int8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return h(x) of each of `models`, and what each counts for the option it names, (n, E) both.

        No temperature plays a part in the votes, see moe2.votes.
        """
        columns = self._columns(models)
        log_odds = self.log_odds(embedding)[:, columns]
        return log_odds / np.float32(self.temperature), odds_votes(log_odds, self.option_ratio[columns], choice)

    def _columns(self, models: Sequence[str]) -> list[int]:
        try:
            return [find_model(model, self.models, where="this gate") for model in models]
        except ValueError as error:
            raise ValueError(f"{error}; train one for its answers: moe2 train --answers FILE --out FILE") from None

    def check_encoder(self, answers: Answers) -> None:
        """Raise ValueError when the table's embeddings are of another encoder than the gate's."""
        if answers.encoder != self.encoder:
            raise ValueError(
                f"the gate takes embeddings of {self.encoder}; the answers table holds those of {answers.encoder}; "
                "train a gate for it: moe2 train --answers FILE --out FILE"
            )


_ARRAYS = ("projection", "hidden_weight", "hidden_bias", "output_weight", "output_bias", "option_ratio")
# what the metadata holds beside the arrays, and as which kind of JSON
_FIGURES: dict[str, type | tuple[type, ...]] = {
    "models": list,
    "temperature": (int, float),
    "smoothing": (int, float),
    "k": int,
    "encoder": str,
    "evidence": dict,
}


def write_gate(gate: Gate, path: Path) -> None:
    """Write the checkpoint (safetensors); the same gate gives the same bytes."""
    record = {"schema": SCHEMA, **{name: getattr(gate, name) for name in _FIGURES}}
    # one key only: safetensors keeps its metadata in no particular order
    metadata = {"moe2_gate": json.dumps(record, sort_keys=True, default=dict)}
    arrays = {name: np.ascontiguousarray(getattr(gate, name)) for name in _ARRAYS}
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


def read_gate(path: Path) -> Gate:
    """Return the gate in a checkpoint; ValueError naming the file and what is wrong with it.

    Nothing in the file is ever executed: it holds numbers and JSON, no pickle.
    """
    arrays, record = _arrays_and_record(path)
    if record.get("schema") != SCHEMA or set(arrays) != set(_ARRAYS):
        raise ValueError(
            f"{path}: gate schema is {record.get('schema')}, must be {SCHEMA}; train one with: moe2 train --out FILE"
        )
    figures: dict[str, Any] = {name: record.get(name) for name in _FIGURES}
    for name, kind in _FIGURES.items():
        if not isinstance(figures[name], kind):
            raise ValueError(f"{path}: not a gate: {name} is {figures[name]!r}; train one with: moe2 train --out FILE")
    try:
        return Gate(**{**figures, "models": tuple(figures["models"])}, **arrays)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _arrays_and_record(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        data = path.read_bytes()
        arrays = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        record = json.loads(header.get("__metadata__", {}).get("moe2_gate", "{}"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # safetensors has its own exception type, bad JSON another
        raise ValueError(f"{path}: not a readable gate checkpoint (safetensors): {error}") from error
    return arrays, record if isinstance(record, dict) else {}


def bundled_gate() -> Gate:
    """Return the bundled gate, trained on the bundled answers by `moe2 train`."""
    with as_file(files("moe2") / "data" / "gate.safetensors") as path:
        return read_gate(path)
