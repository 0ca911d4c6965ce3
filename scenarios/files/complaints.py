"""What is wrong with a scenario file, in one sentence: the key, what was found, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from scenarios.files.schema import ScenarioFile

__all__ = ["explain", "near", "wrong_key"]

Loc = tuple[str | int, ...]
"""The path to a key: names, and places in lists."""

_NAMED = 12  # keys that are wrong too, named before the others are counted


def near(name: str, known: Iterable[str], alike: float = 0.5) -> str:
    """Return a hint at the known name that is nearest to a wrong one, or nothing; `alike` is how near it has to be.

    >>> near("lan_delay_ms", ["lan_delay_s", "access_delay_s"])
    " (did you mean 'lan_delay_s'?)"
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=alike)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def explain(error: ValidationError) -> str:
    """Put the first problem into one sentence, and name the keys of the others."""
    loc, first, others = _first(error)
    names = list(dict.fromkeys(_dotted(other) for other in others))
    shown = ", ".join([*names[:_NAMED], *([f"{len(names) - _NAMED} more"] if len(names) > _NAMED else [])])
    return _sentence(loc, first) + (f" (wrong too: {shown})" if names else "")


def wrong_key(error: ValidationError) -> str:
    """Return the key that the sentence of `explain` is about; nothing where it is about the whole scenario."""
    return _dotted(_first(error)[0])


def _first(error: ValidationError) -> tuple[Loc, Any, list[Loc]]:
    """Return the problem to tell, with its path, and the paths of the others."""
    problems = [(_untagged(p["loc"]), p) for p in error.errors(include_url=False)]
    problems.sort(key=lambda p: p[1]["type"] == "missing")  # a misspelt key says more than the one it leaves missing
    top = problems[0][0][:2]
    here = [p for p in problems if p[0][:2] == top]
    loc, first = max(here, key=lambda p: len(p[0]))  # of a union's branches, the one that reaches deepest
    return loc, first, [p[0] for p in problems if p[0] != loc[: len(p[0])]]


def _sentence(loc: Loc, problem: Any) -> str:
    where = _dotted(loc)
    kind, found = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        allowed = list(_model(loc[:-1], problem["loc"]).model_fields)
        return f"key {where} is not known{near(str(loc[-1]), allowed)}; allowed here: {', '.join(allowed)}"
    if kind == "missing":
        return f"key {where} is missing{_meaning(loc, problem['loc'])}"
    if kind == "value_error":
        return f"{where}: {problem['ctx']['error']}" if where else str(problem["ctx"]["error"])
    wanted = (
        _too_short(problem)
        if kind == "too_short"
        else _WANTED.get(kind) or _lower(problem["msg"].replace("Input should", "should"))
    )
    shown = "" if isinstance(found, Mapping) else f" = {found!r}"
    return f"key {where}{shown}: {wanted}{_meaning(loc, problem['loc'])}"


_PROCESSES = "'poisson', 'gamma', 'mmpp', 'diurnal', 'closed_loop', 'sessions', 'trace', 'requests' or 'recorded'"
_WANTED = {
    "model_type": "should be a table",
    "model_attributes_type": "should be a table",
    "union_tag_not_found": f"needs the key process: {_PROCESSES}",
    "union_tag_invalid": f"process should be {_PROCESSES}",
    "list_type": "should be a list",
    "string_type": "should be text",
}


def _too_short(problem: Mapping[str, Any]) -> str:
    least = problem["ctx"]["min_length"]
    return f"should have at least {'one entry' if least == 1 else f'{least} entries'}"


def _untagged(loc: Loc) -> Loc:
    """Return a problem's path without the names that pydantic gives to the branches of a union."""
    return tuple(p for p in loc if not (isinstance(p, str) and (p in _BRANCHES or "[" in p)))


_BRANCHES = frozenset(
    {"poisson", "gamma", "mmpp", "diurnal", "closed_loop", "sessions", "trace", "requests", "recorded"}
    | {"float", "constrained-float"}
)


def _meaning(loc: tuple[str | int, ...], tagged: Sequence[str | int]) -> str:
    """Return what the schema says of a key, as the end of a sentence."""
    if not loc or isinstance(loc[-1], int):
        return ""
    field = _model(loc[:-1], tagged).model_fields.get(loc[-1])
    text = (field.description or "").rstrip(".") if field else ""
    return f". It means: {text}" if text else ""


def _model(loc: Sequence[str | int], tagged: Sequence[str | int]) -> type[BaseModel]:
    model: Any = ScenarioFile
    for step in loc:
        if isinstance(step, str) and step in model.model_fields:
            model = _section(model.model_fields[step].annotation, tagged) or model
    return model  # type: ignore[no-any-return]


def _section(annotation: Any, tagged: Sequence[str | int]) -> Any:
    """Return the section that an annotation leads to; of a union, the branch named in the tagged path."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    branches = [b for b in (_section(a, tagged) for a in get_args(annotation)) if b is not None]
    for branch in branches:
        kinds = get_args(branch.model_fields["process"].annotation) if "process" in branch.model_fields else ()
        if any(kind in tagged for kind in kinds):
            return branch
    return branches[0] if branches else None


def _dotted(loc: Sequence[str | int]) -> str:
    """Return a path as it is written for `--set`.

    >>> _dotted(("experts", 0, "max_batch"))
    'experts[0].max_batch'
    """
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
