"""Compiled functions: numba makes the machine code once; later starts load what was kept, without numba."""

from collections.abc import Callable
from ctypes import addressof, create_string_buffer
from functools import update_wrapper
from inspect import signature
from itertools import chain
from struct import pack_into, unpack_from
from typing import Any, Generic, ParamSpec, TypeVar, cast

import numpy as np

from twin.machine_code import Entry, Inlined, entry_of

__all__ = ["Compiled", "compiled", "inlined"]

Function = TypeVar("Function", bound=Callable[..., object])
P = ParamSpec("P")
R = TypeVar("R")

_LETTERS = {float: "d", int: "q", bool: "q"}  # of struct: how a number is handed over
_WORD = 8  # bytes
_FIRST = 2 * _WORD  # before the arguments: the result, and room for an error
_DONE = (0, -2)  # numba's status of a result, and of None


class Compiled(Generic[P, R]):
    """A function in machine code, which is made or found on disk when it is first called with such arguments.

    They are arrays, numbers annotated as such, and named tuples of both; the result is a number or None. The code
    allocates nothing and raises nothing: an array that is its result is brought by the caller. What it calls is
    `inlined`, in whatever file.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        update_wrapper(self, function)
        self._function = function
        self._letters = [_LETTERS.get(one.annotation, "") for one in signature(function).parameters.values()]
        self._result = _LETTERS.get(function.__annotations__["return"], "")
        self._entries: dict[tuple[object, ...], Entry] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the machine code; all arguments are given by place."""
        assert not kwargs  # noqa: S101 - a slip of the caller's
        return self.bound(*args)()

    def bound(self, *given: object) -> Callable[..., R]:
        """Return the function with its arguments given but for numbers at the end, for a caller that calls it often.

        What is returned holds the arrays. Two threads must not call it at once.
        """
        letters, name = self._letters, self._function.__name__
        words = [_words(value, letter) for value, letter in zip(given, letters, strict=False)]
        layout, rest = "".join(form for form, _ in words), "".join(letters[len(given) :])
        block = create_string_buffer(_FIRST + _WORD * len(layout + rest))
        pack_into(layout, block, _FIRST, *chain.from_iterable(values for _, values in words))
        entry, result = self._entry(given, layout + rest), self._result
        place, address = _FIRST + _WORD * len(layout), addressof(block)

        def call(*last: float, _held: tuple[object, ...] = given) -> R:
            pack_into(rest, block, place, *last)
            if entry(address) not in _DONE:
                raise RuntimeError(f"the machine code of {name} told of an error, which it is made not to have")
            return cast("R", unpack_from(result, block)[0] if result else None)

        return call

    def _entry(self, given: tuple[object, ...], layout: str) -> Entry:
        pairs = list(zip(given, self._letters, strict=False))
        kinds = (*(letter or _kind(value) for value, letter in pairs), *self._letters[len(given) :])
        if kinds not in self._entries:
            example = [letter or value for value, letter in pairs] + self._letters[len(given) :]
            self._entries[kinds] = entry_of(self._function, repr(kinds), layout, example, self._result)
        return self._entries[kinds]


compiled = Compiled


def inlined(function: Function) -> Function:
    """Return the function as a part of the compiled ones that call it; it needs no machine code of its own."""
    return cast("Function", Inlined(function))


def _words(value: Any, letter: str) -> tuple[str, list[float]]:
    """Return the words by which numba hands a value over, and their letters: an array has no owner that counts."""
    if letter:
        return letter, [value]
    if isinstance(value, tuple):
        parts = [_words(part, _LETTERS.get(type(part), "")) for part in value]
        return "".join(form for form, _ in parts), list(chain.from_iterable(words for _, words in parts))
    array = cast("np.ndarray[Any, np.dtype[Any]]", value)
    shape = [*array.shape, *array.strides]
    return "PPqqP" + "q" * len(shape), [0, 0, array.size, array.itemsize, array.ctypes.data, *shape]


def _kind(value: Any) -> object:
    """Return what machine code for a value depends on."""
    if isinstance(value, tuple):
        return type(value).__name__, *map(_kind, value)
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    flags = value.flags
    layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
    return value.dtype, value.ndim, layout, flags.aligned, flags.writeable
