"""Laws of files that appear whole or not at all."""

import os
import stat

import pytest

from calibration.whole_file import DRAFTS, whole_file, write_whole


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path, umask, mode):
    """Its mode is that of any file its owner makes: 0666 less the umask."""
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a", b"1", durable=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_block_that_fails_leaves_the_file_as_it_was_and_no_draft(tmp_path):
    """Neither a failure before the draft is made nor one in its middle changes anything."""
    path = tmp_path / "a"
    write_whole(path, b"old")
    for begun in (False, True):
        with pytest.raises(KeyError), whole_file(path) as draft:
            if begun:
                draft.write_bytes(b"ne")
                assert list(tmp_path.glob(DRAFTS)) == [draft]
            raise KeyError
        assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_of_two_writers_one_has_the_last_word(tmp_path):
    """Each writes to a draft of its own, so the file is one of the two and never a mixture."""
    path = tmp_path / "a"
    with whole_file(path) as one, whole_file(path) as two:
        assert one != two
        one.write_bytes(b"one")
        two.write_bytes(b"two")
    assert path.read_bytes() == b"one"
