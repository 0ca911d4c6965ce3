"""The gate h(x): one logit per model of the answers table, from the prompt's embedding alone.

It was trained in torch (`moe2.training`); here it is three matrix products in NumPy, so that routing needs no torch.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
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
        (rank, hidden), N = self.hidden_weight.shape, len(self.models)
        shapes = (self.hidden_bias.shape, self.output_weight.shape, self.output_bias.shape)
        if shapes != ((hidden,), (hidden, N), (N,)) or self.projection.shape != (len(self.projection), rank):
            raise ValueError(
                f"gate: layers {self.projection.shape}, {rank, hidden}, {shapes} do not fit each other and {N} models"
            )
        ratio = self.option_ratio
        if ratio.ndim != 2 or len(ratio) != N or not np.all((ratio > 0) & np.isfinite(ratio)):
            raise ValueError(
                f"gate: option_ratio is {ratio.shape}, must have a row per model ({N}), finite and above 0"
            )
        if not self.temperature > 0 or not 0 < self.smoothing <= 1 or self.k < 1:
            raise ValueError(
                f"gate: temperature {self.temperature} must be above 0, smoothing {self.smoothing} in (0, 1], "
                f"k {self.k} at least 1"
            )

    def log_odds(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-odds (n, N) that each model answers rightly, from embeddings (n, dimensions)."""
        if embedding.ndim != 2 or embedding.shape[1] != len(self.projection):
            raise ValueError(
                f"gate: embeddings are {embedding.shape}, must be (prompts, {len(self.projection)}), made by "
                f"{self.encoder}"
            )
        embedding = np.asarray(embedding, dtype=np.float32)
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

    def check_fits(self, answers: Answers) -> None:
        """Raise ValueError when the answers table has other models, or another encoder, than the gate."""
        if answers.models != self.models:
            raise ValueError(
                f"the gate was trained for the models {', '.join(self.models)}; the answers table holds "
                f"{', '.join(answers.models)}; train one for it: moe2 train --answers FILE --out FILE"
            )
        self.check_encoder(answers)

    def check_encoder(self, answers: Answers) -> None:
        """Raise ValueError when the table's embeddings are of another encoder than the gate's."""
        if answers.encoder != self.encoder:
            raise ValueError(
                f"the gate takes embeddings of {self.encoder}; the answers table holds those of {answers.encoder}; "
                "train a gate for it: moe2 train --answers FILE --out FILE"
            )


_ARRAYS = ("projection", "hidden_weight", "hidden_bias", "output_weight", "output_bias", "option_ratio")
_FIGURES = ("models", "temperature", "smoothing", "k", "encoder", "evidence")


def write_gate(gate: Gate, path: Path) -> None:
    """Write the checkpoint (safetensors); the same gate gives the same bytes."""
    record = {"schema": SCHEMA, **{name: getattr(gate, name) for name in _FIGURES}}
    # one key only: safetensors keeps its metadata in no particular order
    metadata = {"moe2_gate": json.dumps(record, sort_keys=True, default=dict)}
    arrays = {name: np.ascontiguousarray(getattr(gate, name)) for name in _ARRAYS}
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


def read_gate(path: Path) -> Gate:
    """Return the gate in a checkpoint; ValueError naming the file and what is wrong with it."""
    try:
        data = path.read_bytes()
        arrays: dict[str, Any] = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        record = json.loads(header.get("__metadata__", {}).get("moe2_gate", "{}"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # safetensors has its own exception type, bad JSON another
        raise ValueError(f"{path}: not a readable gate checkpoint (safetensors): {error}") from error
    if record.get("schema") != SCHEMA or set(arrays) != set(_ARRAYS):
        raise ValueError(
            f"{path}: gate schema is {record.get('schema')}, must be {SCHEMA}; train one with: moe2 train --out FILE"
        )
    try:
        figures = {name: record[name] for name in _FIGURES}
        return Gate(**{**figures, "models": tuple(record["models"])}, **arrays)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def bundled_gate() -> Gate:
    """Return the bundled gate, trained on the bundled answers by `moe2 train`."""
    with as_file(files("moe2") / "data" / "gate.safetensors") as path:
        return read_gate(path)
