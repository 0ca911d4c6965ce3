"""The answers table: what each expert's model answered to each prompt of the pool, and the prompt's embedding."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

SCHEMA = 1
SPLITS = ("train", "validation", "test")
# A prompt belongs to the first split whose bound exceeds its text key divided by 2^63.
SPLIT_BOUNDS = (0.5, 0.7, 1.0)
SPLIT_RULE = (
    "key = first 8 bytes of blake2b (digest 8) of the question text, case folded and white space collapsed, "
    "without the top bit; train below 0.5 * 2^63, validation below 0.7 * 2^63, test above"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Columns over n prompts and N models; a row is one prompt.

    `choice` is the 0-based option a model chose, -1 where no answer was found. `text_key` is a hash of the
    normalised question text: prompts that share their text share it, and it alone decides the split.
    """

    models: tuple[str, ...]
    question_id: NDArray[np.int64]  # (n,)
    text_key: NDArray[np.int64]  # (n,)
    category: NDArray[np.str_]  # (n,)
    split: NDArray[np.str_]  # (n,)
    prompt_tokens: NDArray[np.int64]  # (n,)
    n_options: NDArray[np.int8]  # (n,)
    gold: NDArray[np.int8]  # (n,)
    choice: NDArray[np.int8]  # (n, N)
    output_tokens: NDArray[np.int64]  # (n, N)
    embedding: NDArray[np.float32]  # (n, dimensions)
    encoder: str
    sources: Mapping[str, str]

    def __post_init__(self) -> None:
        n = len(self.question_id)
        for field in fields(self):
            column = getattr(self, field.name)
            if isinstance(column, np.ndarray) and len(column) != n:
                raise ValueError(f"answers: column {field.name} has {len(column)} rows, must have {n}")
        for name in ("choice", "output_tokens"):
            _check_all(getattr(self, name).shape == (n, len(self.models)), f"{name} needs a column per model")
        named = all(isinstance(model, str) for model in self.models)
        _check_all(named and len(set(self.models)) == len(self.models) > 0, "models must be named, each once")
        _check_all(self.embedding.ndim == 2 and self.embedding.shape[1] > 0, "embedding must be (prompts, dimensions)")
        _check_all(len(np.unique(self.question_id)) == n, "question_id must be unique")
        _check_all(np.isin(self.split, SPLITS), f"split must be one of {', '.join(SPLITS)}")
        _check_all(self.n_options >= 2, "n_options must be at least 2")
        _check_all((self.gold >= 0) & (self.gold < self.n_options), "gold must be one of the prompt's options")
        options = self.n_options[:, None]
        _check_all((self.choice >= -1) & (self.choice < options), "choice must be an option, or -1 for none")
        _check_all(self.prompt_tokens >= 1, "prompt_tokens must be at least 1")
        _check_all(self.output_tokens >= 1, "output_tokens must be at least 1")
        _check_all(np.isfinite(self.embedding), "embedding must be finite")

    def __len__(self) -> int:
        return len(self.question_id)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each model chose the right option, (n, N)."""
        return np.equal(self.choice, self.gold[:, None])

    @property
    def sha256(self) -> str:
        """Hash of what a gate is trained on: models, embeddings, options, choices, splits."""
        digest = hashlib.sha256(json.dumps([*self.models, self.encoder]).encode())
        for column in (self.question_id, self.n_options, self.gold, self.choice, self.embedding):
            digest.update(np.ascontiguousarray(column).tobytes())
        digest.update("".join(self.split.tolist()).encode())
        return digest.hexdigest()

    def rows(self, split: str) -> NDArray[np.intp]:
        """Return the rows of one split: 'train', 'validation' or 'test'."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        return np.flatnonzero(self.split == split)

    def of(self, rows: NDArray[np.intp]) -> "Answers":
        """Return the table with only these rows, in this order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _COLUMNS})

    def for_models(self, models: Sequence[str]) -> "Answers":
        """Return the table with only these models, in this order; ValueError for a model it does not hold."""
        columns = [find_model(model, self.models) for model in models]
        return replace(
            self,
            models=tuple(models),
            choice=self.choice[:, columns],
            output_tokens=self.output_tokens[:, columns],
        )


_COLUMNS = tuple(f.name for f in fields(Answers) if f.name not in {"models", "encoder", "sources"})


def find_model(model: str, models: Sequence[str], *, where: str = "this answers table") -> int:
    """Return the place of `model` in `models`; ValueError with a near match where it is missing."""
    if model in models:
        return list(models).index(model)
    near = get_close_matches(model, models, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"model {model!r} is not in {where}, which holds {', '.join(models)}{hint}")


def text_key_of(question: str) -> int:
    """Return the 63-bit key of a question's text: case folded, white space collapsed, hashed.

    >>> text_key_of("What is  2 + 2?") == text_key_of("what is 2 + 2?")
    True
    """
    text = " ".join(question.casefold().split())
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def split_of(text_key: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the split that each text key falls in: half train, a fifth validation, the rest test.

    >>> split_of(np.array([0, 2**62, 2**63 - 1])).tolist()
    ['train', 'validation', 'test']
    """
    share = np.asarray(text_key, dtype=np.int64) / 2.0**63
    return np.asarray(SPLITS)[np.searchsorted(SPLIT_BOUNDS[:-1], share, side="right")]


def write_answers(answers: Answers, path: Path) -> None:
    """Write the table as Parquet: embeddings as int8 with one scale for all, which the metadata states."""
    scale = float(np.abs(answers.embedding).max(initial=0.0)) / 127 or 1.0
    metadata = {
        "schema": SCHEMA,
        "models": answers.models,
        "encoder": answers.encoder,
        "embedding": f"int8 times embedding_scale, {answers.embedding.shape[1]} values per row",
        "embedding_scale": scale,
        "split_rule": SPLIT_RULE,
        "sources": dict(answers.sources),
    }
    text = {"moe2_answers": json.dumps(metadata, ensure_ascii=False)}
    table = _to_table(answers, np.float32(scale)).replace_schema_metadata(text)
    pq.write_table(table, path, compression="zstd", compression_level=9)


def read_answers(path: Path) -> Answers:
    """Return the table in a Parquet file; ValueError naming the file and what is wrong with it."""
    try:
        table = pq.ParquetFile(path).read()  # read_table loads what reads folders of files
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: not a readable answers table (Parquet): {error}") from error
    metadata = _metadata(table)
    if metadata.get("schema") != SCHEMA:
        raise ValueError(
            f"{path}: answers schema is {metadata.get('schema')}, must be {SCHEMA}; "
            "write a table with: moe2 answers collect --endpoints FILE --questions FILE"
        )
    try:
        return _from_table(table, metadata)
    except (ValueError, pa.ArrowException) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


def bundled_answers() -> Answers:
    """Return the bundled table: 8 models of edge size on MMLU-Pro, derived by tools/derive_answers.py."""
    with as_file(files("moe2") / "data" / "answers.parquet") as path:
        return read_answers(path)


def _to_table(answers: Answers, scale: np.float32) -> pa.Table:
    levels = np.rint(answers.embedding / scale).astype(np.int8)  # (n, dimensions)
    columns: dict[str, Any] = {
        "question_id": answers.question_id,
        "text_key": answers.text_key,
        "category": answers.category.tolist(),
        "split": answers.split.tolist(),
        "prompt_tokens": answers.prompt_tokens.astype(np.int32),
        "n_options": answers.n_options,
        "gold": answers.gold,
    }
    for i, model in enumerate(answers.models):
        columns[f"choice/{model}"] = answers.choice[:, i]
        columns[f"output_tokens/{model}"] = answers.output_tokens[:, i].astype(np.int32)
    columns["embedding"] = pa.array([row.tobytes() for row in levels], pa.binary(levels.shape[1]))
    return pa.table(columns)


# what the metadata holds beside the columns, and as which kind of JSON
_DESCRIBED: dict[str, type | tuple[type, ...]] = {
    "models": list,
    "encoder": str,
    "embedding_scale": (int, float),
    "sources": dict,
}


def _metadata(table: pa.Table) -> dict[str, Any]:
    """Return what the file says of itself; empty where it is no answers table."""
    try:
        found = json.loads((table.schema.metadata or {}).get(b"moe2_answers", b"{}"))
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _from_table(table: pa.Table, metadata: Mapping[str, Any]) -> Answers:
    _check_described(table, metadata)

    def per_model(name: str, kind: pa.DataType) -> NDArray[Any]:
        return np.stack([_column(table, f"{name}/{model}", kind) for model in metadata["models"]], axis=1)

    return Answers(
        models=tuple(metadata["models"]),
        question_id=_column(table, "question_id", pa.int64()),
        text_key=_column(table, "text_key", pa.int64()),
        category=_column(table, "category", pa.string()).astype(np.str_),
        split=_column(table, "split", pa.string()).astype(np.str_),
        prompt_tokens=_column(table, "prompt_tokens", pa.int64()),
        n_options=_column(table, "n_options", pa.int8()),
        gold=_column(table, "gold", pa.int8()),
        choice=per_model("choice", pa.int8()),
        output_tokens=per_model("output_tokens", pa.int64()),
        embedding=_levels(table) * np.float32(metadata["embedding_scale"]),
        encoder=metadata["encoder"],
        sources=metadata["sources"],
    )


def _check_described(table: pa.Table, metadata: Mapping[str, Any]) -> None:
    for name, kind in _DESCRIBED.items():
        if not isinstance(metadata.get(name), kind):
            raise ValueError(f"not an answers table: {name} is {metadata.get(name)!r} in its metadata")
    if not metadata["models"]:
        raise ValueError("it holds no model")
    if not table.num_rows:
        raise ValueError("it holds no prompt")


def _levels(table: pa.Table) -> NDArray[np.int8]:
    """Return (n, dimensions) the embeddings in steps of their scale."""
    rows = _column(table, "embedding", pa.binary()).tolist()
    if len({len(row) for row in rows}) > 1:
        raise ValueError("column 'embedding': rows differ in length")
    return np.frombuffer(b"".join(rows), dtype=np.int8).reshape(len(rows), len(rows[0]))


def _column(table: pa.Table, name: str, kind: pa.DataType) -> NDArray[Any]:
    """Return a column as numbers or texts of a kind; ValueError where it is missing, of another kind, or has gaps."""
    if name not in table.column_names:
        raise ValueError(f"column {name!r} is missing")
    try:
        found = table.column(name).cast(kind)  # refuses fractions, words and numbers that are too large
    except pa.ArrowException as error:
        raise ValueError(f"column {name!r}: not {kind}: {error}") from error
    if found.null_count:
        raise ValueError(f"column {name!r}: {found.null_count} cells are empty, none may be; no answer is -1")
    return np.asarray(found.to_numpy())


def _check_all(holds: Any, rule: str) -> None:
    """Raise ValueError naming the first row that breaks the rule."""
    if not np.all(holds):
        broken = np.argwhere(~np.atleast_1d(holds))[0].tolist() if np.ndim(holds) else []
        where = f"row {broken[0]}: " if broken else ""
        raise ValueError(f"answers: {where}{rule}")
