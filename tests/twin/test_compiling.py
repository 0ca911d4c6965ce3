"""Compiled functions: the machine code means what the Python means, and is kept for its source alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from twin.compiling import compiled, inlined

MODULE = """
from math import exp
import numpy as np
from twin.compiling import compiled, inlined

@inlined
def _grown(x, by):
    return exp(x) * by

@compiled
def grow(values: object, by: float, out: object) -> int:
    for i in range(len(values)):
        out[i] = _grown(values[i], by)
    return len(values)
"""

USE = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import growing
out = np.zeros(3)
n = growing.grow(np.array([0.0, 1.0, 2.0]), 2.0, out)
print(json.dumps({"n": n, "out": out.tolist(), "numba": "numba" in sys.modules}))
"""


class Box(NamedTuple):
    lengths: NDArray[np.float64]
    scale: float
    shift: int


@inlined
def _scaled(box: Box, i: int) -> float:
    return box.lengths[i] * box.scale + box.shift


@compiled
def _sums(box: Box, table: NDArray[np.float32], weight: float, first: int, out: NDArray[np.float64]) -> float:
    total = 0.0
    for i in range(first, table.shape[0]):
        for j in range(table.shape[1]):
            out[i, j] = weight * float(table[i, j]) + _scaled(box, i)
            total += out[i, j]
    return total


@compiled
def _prints(n: int) -> None:
    print(n)


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_machine_code_means_what_the_python_means(order: str) -> None:
    """For arrays of each layout, named tuples and numbers, result and array written are Python's, to the bit."""
    table = np.arange(24, dtype=np.float32).reshape(4, 6)
    table = {"C": table, "F": np.asfortranarray(table), "strided": table[:, ::2]}[order]
    box, found, expected = Box(np.linspace(0.1, 0.7, 4), 1.5, 3), np.zeros(table.shape), np.zeros(table.shape)
    assert _sums(box, table, 0.3, 1, found) == _sums.__wrapped__(box, table, 0.3, 1, expected)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found, expected)


def test_bound_arguments_are_those_given() -> None:
    """A bound function sees what is in its arrays when it is called, and takes the numbers left out in their order."""

    @compiled
    def tell(values: NDArray[np.float64], times: float, place: int) -> float:
        return values[place] * times

    values = np.array([1.0, 2.0])
    call = tell.bound(values)
    assert call(3.0, 1) == 6.0
    values[1] = 5.0
    assert call(3, 1) == 15.0


def test_code_that_needs_numba_is_refused() -> None:
    """What calls Python or numba's runtime, which a later start does not load, is refused when it is made."""
    with pytest.raises(RuntimeError, match=r"^compiled function _prints calls \w+, which is no part of C's"):
        _prints(3)


def _used(folder: Path, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", USE, folder],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return json.loads(done.stdout)


def _kept(folder: Path) -> list[Path]:
    return list((folder / "__pycache__").glob("growing.grow-*.code"))


def test_kept_code_is_loaded_without_numba_for_its_source_alone(tmp_path: Path) -> None:
    """A second start loads the first's code and no numba; a changed source or a damaged file is compiled anew."""
    source = tmp_path / "growing.py"
    source.write_text(MODULE)
    expected = {"n": 3, "out": (np.exp([0.0, 1.0, 2.0]) * 2.0).tolist()}
    assert _used(tmp_path) == {**expected, "numba": True}
    assert _used(tmp_path) == {**expected, "numba": False}
    (kept,) = _kept(tmp_path)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert _used(tmp_path) == {**expected, "numba": True}
    source.write_text(MODULE.replace("return len(values)", "return 7"))
    assert _used(tmp_path) == {**expected, "n": 7, "numba": True}
    assert len(_kept(tmp_path)) == 1


def test_kept_code_follows_what_stands_in_other_files(tmp_path: Path) -> None:
    """A part or a constant that changed in another file is compiled anew, and a change of neither is not."""
    part, constant, source = (tmp_path / f"{name}.py" for name in ("part", "constant", "growing"))
    part.write_text("from twin.compiling import inlined\n\n@inlined\ndef more(x, by):\n    return x * by\n")
    constant.write_text("LEAST = 1.0\n")
    source.write_text(
        MODULE.replace("import numpy as np", "from part import more\nfrom constant import LEAST").replace(
            "exp(x) * by", "max(LEAST, more(x, by))"
        )
    )
    assert _used(tmp_path) == {"n": 3, "out": [1.0, 2.0, 4.0], "numba": True}
    constant.write_text("LEAST = 1.0  # as it was\n")
    assert _used(tmp_path) == {"n": 3, "out": [1.0, 2.0, 4.0], "numba": False}
    constant.write_text("LEAST = 3.0\n")
    assert _used(tmp_path) == {"n": 3, "out": [3.0, 3.0, 4.0], "numba": True}
    part.write_text(part.read_text().replace("x * by", "x + by"))
    assert _used(tmp_path) == {"n": 3, "out": [3.0, 3.0, 4.0], "numba": True}
    part.write_text(part.read_text().replace("x + by", "9 * x + by"))
    assert _used(tmp_path) == {"n": 3, "out": [3.0, 11.0, 20.0], "numba": True}


def test_code_that_cannot_be_kept_is_no_error(tmp_path: Path) -> None:
    """Where neither the source's folder nor the user's can be written, every start compiles."""
    (tmp_path / "growing.py").write_text(MODULE)
    (tmp_path / "__pycache__").write_text("no folder")
    (tmp_path / "home").write_text("no folder")
    assert _used(tmp_path, XDG_CACHE_HOME=str(tmp_path / "home"))["n"] == 3
