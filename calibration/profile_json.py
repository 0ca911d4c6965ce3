"""The JSON form of a profile: its keys, read strictly and written the same way every time."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from calibration.costs import DECODE_KEYS, Decode

if TYPE_CHECKING:
    from calibration.profile import Profile

SCHEMA = 1
_TEXTS = ("name", "device", "model", "quantization", "runtime", "power_mode")
_OPTIONAL = ("tile_tokens", "mixed_s", "mixed_j")  # not there: the smooth form, and nothing more in mixed iterations
_MIXED = "per_context_token"
_KEYS = (
    *(
        "schema",
        *_TEXTS,
        "provenance",
        "energy_scope",
        "context_tokens",
        "prefill_s",
        "decode_s",
        "knee_tokens",
    ),
    *("prefill_j", "decode_j", "idle_w", "residuals", "evidence"),
)


def load_profile(text: str) -> dict[str, Any]:
    """Return the fields of a profile named as in `Profile`, and `prefill_s`, `decode_s`, `provenance`.

    Checks the shape only: keys, lists and objects. Raises ValueError naming the key.
    """
    found = _object("the profile", json.loads(text, object_pairs_hook=_without_repeats), _KEYS, optional=_OPTIONAL)
    if isinstance(found["schema"], bool) or found.pop("schema") != SCHEMA:
        raise ValueError(f"schema: must be {SCHEMA}; a newer profile needs a newer version of this program")
    residuals = _object("residuals", found.pop("residuals"), ("prefill", "decode"))
    if not isinstance(found["evidence"], dict):
        raise ValueError(f"evidence: found {found['evidence']!r}, must be an object {{…}}")
    return {
        **found,
        "provenance": _object("provenance", found["provenance"], ("latency", "energy")),
        "prefill_s": _list("prefill_s", found["prefill_s"]),
        "decode_s": _decode("decode_s", found["decode_s"]),
        "prefill_j": None if found["prefill_j"] is None else _list("prefill_j", found["prefill_j"]),
        "decode_j": None if found["decode_j"] is None else _decode("decode_j", found["decode_j"]),
        **{key: _object(key, found[key], (_MIXED,))[_MIXED] for key in ("mixed_s", "mixed_j") if key in found},
        "residuals_prefill": _list("residuals.prefill", residuals["prefill"]),
        "residuals_decode": _list("residuals.decode", residuals["decode"]),
    }


def dump_profile(profile: "Profile") -> str:
    """Return the profile as JSON text, keys in the order of DESIGN; the same profile gives the same text."""
    provenance = profile.provenance
    values = {
        "schema": SCHEMA,
        **{key: getattr(profile, key) for key in _TEXTS},
        "provenance": {"latency": provenance.latency, "energy": provenance.energy},
        "energy_scope": profile.energy_scope,
        "context_tokens": profile.context_tokens,
        "prefill_s": profile.seconds.prefill,
        "decode_s": _named(profile.seconds.decode),
        **_mixed("mixed_s", profile.seconds.mixed_per_context_token or None),
        "knee_tokens": profile.knee_tokens,
        **({} if profile.seconds.tile_tokens == 1 else {"tile_tokens": profile.seconds.tile_tokens}),
        "prefill_j": profile.prefill_j,
        "decode_j": None if profile.decode_j is None else _named(profile.decode_j),
        **_mixed("mixed_j", profile.mixed_j),
        "idle_w": profile.idle_w,
        "residuals": {"prefill": profile.residuals_prefill, "decode": profile.residuals_decode},
        "evidence": profile.evidence,
    }
    return _layout(values) + "\n"


def _named(decode: Decode) -> dict[str, float | None]:
    return dict(zip(DECODE_KEYS, decode, strict=True))


def _mixed(key: str, value: float | None) -> dict[str, Any]:
    return {} if value is None else {key: {_MIXED: value}}


def _decode(key: str, value: object) -> tuple[Any, ...]:
    found = _object(key, value, DECODE_KEYS)
    return tuple(found[name] for name in DECODE_KEYS)


def _list(key: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key}: found {value!r}, must be a list of numbers [...]")
    return tuple(value)


def _object(key: str, value: object, names: Sequence[str], *, optional: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{key}: found {value!r}, must be an object with {', '.join(names)}")
    allowed = (*names, *optional)
    for name in value:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown key {name!r} in {key}, allowed are {', '.join(allowed)}{hint}")
    missing = [name for name in names if name not in value]
    if missing:
        raise ValueError(f"{key} lacks {', '.join(missing)}; write null for energy or batch terms that are unknown")
    return dict(value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {repeated!r} stands twice in one object, must stand once")
    return found


def _layout(value: object, indent: str = "") -> str:
    """Return JSON with one line per key, and a list of plain values on one line."""
    deeper = indent + "  "
    if isinstance(value, Mapping) and value:
        lines = (f"{deeper}{json.dumps(k, ensure_ascii=False)}: {_layout(v, deeper)}" for k, v in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(v, (Mapping, list, tuple)) for v in value):
        return "[\n" + ",\n".join(deeper + _layout(v, deeper) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
