"""Machine code of a function: made by numba, kept on disk, loaded by LLVM alone.

numba takes about a second to be ready even when it has nothing to compile. What it compiles here needs nothing of it:
the code allocates nothing, counts no references and raises nothing, so it refers to no symbol but those of C's
mathematics. numba only translates; the text that it gives is put behind an entry that takes the address of one block
of words, and loading that needs llvmlite and a few milliseconds.
"""

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import CFUNCTYPE, c_int32, c_void_p
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

__all__ = ["Entry", "Inlined", "entry_of"]

Entry = Callable[[int], int]
"""Takes the address of a block: a word for the result, one for an error, the arguments; returns numba's status."""

_TYPES = {"P": "ptr", "q": "i64", "d": "double"}
_NAME = "entry"
_DIGEST = 32  # bytes


class Inlined:
    """A part of compiled functions, with no machine code of its own; called from Python it is what it was."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        """Run the function in Python."""
        return self.function(*args)


def entry_of(function: Callable[..., Any], kinds: str, layout: str, example: Sequence[object], result: str) -> Entry:
    """Return the entry of a function's machine code, from disk if it is kept there for `kinds` of arguments.

    `layout` has a letter for each word of the arguments: P an address, q an integer, d a number. `example` has what
    numba finds the types of the arguments by, `result` the letter of the result or nothing.
    """
    source = Path(function.__code__.co_filename)
    made_of = sha256(repr((_written(function), _versions())).encode()).digest()
    folders = _folders(source)
    key = sha256(repr((kinds, layout, result, _processor())).encode()).hexdigest()[:16]
    name = f"{source.stem}.{function.__name__}-{key}.code"
    for folder in folders:
        if (code := _kept(folder / name, made_of)) is not None:
            return _loaded(code)
    code = _made(function, layout, example, result)
    for folder in folders:
        if _keep(folder / name, made_of, code):
            break
    return _loaded(code)


def _written(function: Callable[..., Any]) -> tuple[list[bytes], list[str]]:
    """Return what a function's code follows from: the files of it and of its parts, and the constants they name."""
    files: dict[str, bytes] = {}
    constants: set[str] = set()
    left = [function]
    seen = set(left)
    while left:
        code, known = left[-1].__code__, left.pop().__globals__
        files.setdefault(code.co_filename, Path(code.co_filename).read_bytes())
        for name, value in ((name, known[name]) for name in code.co_names if name in known):
            if isinstance(value, Inlined) and value.function not in seen:
                seen.add(value.function)
                left.append(value.function)
            elif isinstance(value, (int, float, tuple)):
                constants.add(f"{name} = {value!r}")
    return [files[name] for name in sorted(files)], sorted(constants)


@cache
def _versions() -> tuple[str, str]:
    return version("numba"), version("llvmlite")


def _folders(source: Path) -> tuple[Path, Path]:
    """Return where code may be kept: beside the source, or in the user's own folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = sha256(str(source.parent).encode()).hexdigest()[:8]
    return source.parent / "__pycache__", home / "moe2-twin" / place


def _kept(path: Path, made_of: bytes) -> bytes | None:
    """Return the code kept at a path, None when there is none, or it is of another source, or damaged."""
    try:
        kept = path.read_bytes()
    except OSError:
        return None
    found, check, code = kept[:_DIGEST], kept[_DIGEST : 2 * _DIGEST], kept[2 * _DIGEST :]
    return code if found == made_of and check == sha256(code).digest() else None


def _keep(path: Path, made_of: bytes, code: bytes) -> bool:
    """Write the code so that another process finds all of it or none; tell whether it could be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent)
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(made_of + sha256(code).digest() + code)
        Path(part).replace(path)
    except OSError:
        with suppress(OSError):
            Path(part).unlink()
        return False
    return True


def _made(function: Callable[..., Any], layout: str, example: Sequence[object], result: str) -> bytes:
    """Let numba translate the function, and return it with its entry as object code."""
    import numba  # noqa: PLC0415 - nearly a second, and only here

    _teach_parts()
    numbers = {"d": numba.types.float64, "q": numba.types.int64, "": numba.types.none}
    typeof: Callable[[object], Any] = numba.typeof
    signature = numbers[result](*(numbers[one] if isinstance(one, str) else typeof(one) for one in example))
    dispatcher = _translator(no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    dispatcher.compile(signature)
    module = llvm.parse_assembly(dispatcher.inspect_llvm(signature.args))
    native = module.get_function(dispatcher.overloads[signature.args].fndesc.llvm_func_name)
    taken, expected = [str(a.type) for a in native.arguments], ["ptr", "ptr", *(_TYPES[letter] for letter in layout)]
    if taken != expected:
        raise RuntimeError(
            f"numba {version('numba')} hands arguments over in another way than this program knows; "
            "install the version that constraints.txt names"
        )
    if strange := [f.name for f in module.functions if f.is_declaration and not _is_at_hand(f.name)]:
        raise RuntimeError(
            f"compiled function {function.__name__} calls {strange[0]}, which is no part of C's mathematics: "
            "machine code must do without numba and Python"
        )
    module.link_in(llvm.parse_assembly(_entry_text(native.name, expected)))
    for part in (*module.functions, *module.global_variables):
        if not part.is_declaration and part.name != _NAME:
            part.linkage = "internal"
    return bytes(_machine().emit_object(module))


def _is_at_hand(name: str) -> bool:
    """Tell whether code may call a function of that name: every process has C's mathematics."""
    return name.startswith("llvm.") or hasattr(math, name)


def _translator(**options: bool) -> Any:
    """Return numba's decorator for code that has nothing of numba's when it runs: no references are counted."""
    from numba import njit  # noqa: PLC0415

    decorator: Any = njit
    return decorator(error_model="numpy", _nrt=False, **options)


@cache
def _teach_parts() -> None:
    """Tell numba that an inlined part is a function of its own kind."""
    from numba import types  # noqa: PLC0415
    from numba.extending import typeof_impl  # noqa: PLC0415

    def type_of(part: Inlined, _context: object) -> object:
        return types.Dispatcher(translated(part))

    @cache
    def translated(part: Inlined) -> Any:
        return _translator(forceinline=True)(part.function)

    typeof_impl.register(Inlined)(type_of)


def _entry_text(native: str, kinds: Sequence[str]) -> str:
    """Return LLVM's text of the entry: it calls the function with the words of a block; the first two are its own."""
    lines, passed = [f"define i32 @{_NAME}(ptr %block) {{", "%error = getelementptr i64, ptr %block, i64 1"], []
    for i, kind in enumerate(kinds[2:], start=2):
        lines += [f"%at{i} = getelementptr i64, ptr %block, i64 {i}", f"%word{i} = load {kind}, ptr %at{i}"]
        passed.append(f"{kind} %word{i}")
    call = f'%status = call i32 @"{native}"({", ".join(["ptr %block", "ptr %error", *passed])})'
    return "\n".join([*lines, call, "ret i32 %status", "}", f'declare i32 @"{native}"({", ".join(kinds)})'])


def _loaded(code: bytes) -> Entry:
    """Return the entry of object code, handed to LLVM as numba does it: as what an engine's module is compiled to."""
    module = llvm.parse_assembly(f"define i32 @{_NAME}(ptr %block) {{ ret i32 1 }}")
    engine = llvm.create_mcjit_compiler(module, _machine())
    engine.set_object_cache(getbuffer_func=lambda _module: code)
    engine.finalize_object()
    entry = CFUNCTYPE(c_int32, c_void_p)(engine.get_function_address(_NAME))
    entry.engine = engine  # type: ignore[attr-defined]  # the code is there as long as its engine
    return entry


def _machine() -> Any:
    """Return LLVM's machine of this processor, with the options that numba has; an engine takes it for its own."""
    cpu, features = _processor()
    target = llvm.Target.from_default_triple()
    reloc = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc=reloc, jit=True)


@cache
def _processor() -> tuple[str, str]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
