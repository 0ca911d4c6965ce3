"""The notebook says what it said: run again, every cell prints the same."""

import sys
import tempfile

import nbformat
import pytest

from tools.notebook import NOTEBOOKS, ROOT, executed, told


@pytest.mark.filterwarnings("ignore")  # those of the notebook's own machinery
def test_the_notebook_says_what_it_said():
    """Outputs are those of the code as it is, to the letter; no cell failed, and no path of a machine is in them."""
    for path in NOTEBOOKS:
        kept = nbformat.read(path, as_version=4)
        assert told(executed(path)) == told(kept)
        text = path.read_text(encoding="utf-8")
        assert "Traceback" not in text
        here = (ROOT, sys.prefix, tempfile.gettempdir())
        assert not any(str(folder) in text for folder in here)
        assert "site-packages" not in text
        assert len(text) < 100_000


def test_what_is_told_of_a_notebook_is_not_empty():
    """The comparison above has something to compare: every kind of output is in it."""
    outputs = [o for path in NOTEBOOKS for cell in told(nbformat.read(path, as_version=4)) for o in cell[2]]
    assert any("a picture" in str(o) for o in outputs)
    assert sum("text/html" in str(o) for o in outputs) >= 5
    assert ROOT.joinpath("docs", "planning.ipynb") in NOTEBOOKS
