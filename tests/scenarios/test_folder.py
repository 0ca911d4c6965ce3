"""Laws of the output folder."""

import pytest

from scenarios.runs.folder import whole_folder


def test_a_failed_block_leaves_nothing(tmp_path):
    """An error inside leaves neither the folder nor a trace of the work."""
    with pytest.raises(KeyError), whole_folder(tmp_path / "run") as work:
        (work / "summary.json").write_text("{}")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_run_is_replaced_whole_or_kept(tmp_path):
    """A new run takes the place of an old one; a failed one leaves the old one as it was."""
    out = tmp_path / "run"
    for text in ("1", "2"):
        with whole_folder(out) as work:
            (work / "summary.json").write_text(text)
            (work / text).touch()
    with pytest.raises(KeyError), whole_folder(out) as work:
        (work / "summary.json").write_text("3")
        raise KeyError
    assert sorted(p.name for p in out.iterdir()) == ["2", "summary.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_folder_of_other_files_is_never_touched(tmp_path):
    """What no run wrote is refused before any work begins, and stays."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="other files in it"), whole_folder(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="not a folder"), whole_folder(tmp_path / "file"):
        pass
    with pytest.raises(ValueError, match="not a folder"), whole_folder(tmp_path / "file" / "run"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "thesis.tex"]
