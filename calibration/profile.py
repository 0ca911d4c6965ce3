"""Profiles: the fitted cost models of one expert on one device in one power mode, and their JSON files."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from json import JSONDecodeError
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np

from calibration.costs import Costs, Decode, Prefill, check_coefficient, check_decode, check_prefill
from calibration.profile_json import dump_profile, load_profile
from calibration.whole_file import write_whole

Origin = Literal["measured", "scaled", "composed", "assumed"]
Scope = Literal["gpu", "module", "board", "wall"]


class ProfileFile(Protocol):
    """A file on disk or inside the installed package (`importlib.resources`)."""

    @property
    def name(self) -> str:
        """The file's name without its folder."""

    def read_text(self, encoding: str | None = None) -> str:
        """Return the file's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a profile's latency and its energy come from, told apart; None for an energy that is not known at all."""

    latency: Origin
    energy: Origin | None

    def __post_init__(self) -> None:
        _check_choice("provenance.latency", self.latency, get_args(Origin))
        if self.energy is not None:
            _check_choice("provenance.energy", self.energy, get_args(Origin))


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one expert costs on one device: seconds always, joules where they are known.

    `quantization` is None where nothing tells it. `mixed_j` are the joules that each token of context costs more in an
    iteration that carries prompts too, None where they are not known or the form has no such term. `residuals_*` are
    relative (measured / fitted - 1); `evidence` is any JSON object.
    """

    name: str
    device: str
    model: str
    quantization: str | None
    runtime: str
    power_mode: str
    provenance: Provenance
    energy_scope: Scope | None
    context_tokens: int
    seconds: Costs
    knee_tokens: int
    prefill_j: Prefill | None
    decode_j: Decode | None
    idle_w: float | None
    residuals_prefill: tuple[float, ...]
    residuals_decode: tuple[float, ...]
    evidence: Mapping[str, Any]
    mixed_j: float | None = None

    def __post_init__(self) -> None:
        for key in ("name", "device", "model", "quantization", "runtime", "power_mode"):
            found = getattr(self, key)
            if key == "quantization" and found is None:
                continue
            if not isinstance(found, str) or not found.strip():
                raise ValueError(f"{key}: found {found!r}, must be text that is not empty")
        if self.energy_scope is not None:
            _check_choice("energy_scope", self.energy_scope, get_args(Scope))
        _check_integer("context_tokens", self.context_tokens, least=1)
        _check_integer("knee_tokens", self.knee_tokens, least=0)
        self._check_joules()
        self._check_origin()
        _check_residuals("prefill", self.residuals_prefill)
        _check_residuals("decode", self.residuals_decode)
        _check_json("evidence", self.evidence)

    def _check_joules(self) -> None:
        if self.prefill_j is not None:
            check_prefill("prefill_j", self.prefill_j)
        if self.idle_w is not None:
            check_coefficient("idle_w", self.idle_w)
        if self.mixed_j is not None:
            check_coefficient("mixed_j.per_context_token", self.mixed_j)
        if self.decode_j is None:
            if self.mixed_j is not None:
                raise ValueError(
                    f"mixed_j: found {self.mixed_j!r} without decode_j, which it is added to; leave it out"
                )
            return
        if self.mixed_j is None and self.seconds.mixed_per_context_token > 0:
            raise ValueError("mixed_j: not there beside mixed_s and decode_j; give the joules of the same iterations")
        check_decode("decode_j", self.decode_j)
        if (self.decode_j[1] is None) != (self.seconds.per_sequence is None):
            raise ValueError(
                f"decode_j.per_sequence: found {self.decode_j[1]!r} beside {self.seconds.per_sequence!r} "
                "in decode_s; batch terms must be known (a number) or unknown (null) in both"
            )

    def _check_origin(self) -> None:
        """Refuse an origin or a scope of joules that are not there, and joules without either."""
        stated = {"provenance.energy": self.provenance.energy, "energy_scope": self.energy_scope}
        known = self.prefill_j is not None or self.decode_j is not None or self.idle_w is not None
        for key, found in stated.items():
            if known and found is None:
                raise ValueError(f"{key}: found null beside known joules or idle watts; say what they are")
            if not known and found is not None:
                raise ValueError(f"{key}: found {found!r}, must be null as prefill_j, decode_j and idle_w are all null")

    @property
    def joules(self) -> Costs | None:
        """The energy costs, in the tiles of the seconds; None unless both prefill and decode energy are known."""
        if self.prefill_j is None or self.decode_j is None:
            return None
        tile, mixed = self.seconds.tile_tokens, self.mixed_j or 0.0
        return Costs.of(self.prefill_j, self.decode_j, tile_tokens=tile, mixed_per_context_token=mixed)

    @property
    def prefill_factors(self) -> tuple[float, ...]:
        """Multipliers of prefill time, one per residual, above 0 and of mean 1; (1,) without residuals."""
        return _factors(self.residuals_prefill)

    @property
    def decode_factors(self) -> tuple[float, ...]:
        """Multipliers of decode time, one per residual, above 0 and of mean 1; (1,) without residuals."""
        return _factors(self.residuals_decode)

    def with_added_power(self, watts: float, scope: str, source: str) -> "Profile":
        """Return the profile with a constant load of `watts` added, busy and idle, now metered at `scope`.

        `source` says where the watts come from and is kept in the evidence. What is unknown stays unknown, the scope of
        joules that are not known included.
        """
        check_coefficient("added power in watts", watts)
        _check_choice("energy_scope", scope, get_args(Scope))
        added = [*self.evidence.get("added_power", []), {"watts": watts, "scope": scope, "source": source}]
        seconds = self.seconds
        prefill_j = self.prefill_j and tuple(
            j + watts * s for j, s in zip(self.prefill_j, seconds.prefill, strict=True)
        )
        decode_j = self.decode_j and tuple(
            None if j is None or s is None else j + watts * s
            for j, s in zip(self.decode_j, seconds.decode, strict=True)
        )
        return replace(
            self,
            energy_scope=None if self.energy_scope is None else cast("Scope", scope),
            prefill_j=cast("Prefill | None", prefill_j),
            decode_j=cast("Decode | None", decode_j),
            mixed_j=None if self.mixed_j is None else self.mixed_j + watts * seconds.mixed_per_context_token,
            idle_w=None if self.idle_w is None else self.idle_w + watts,
            evidence={**self.evidence, "added_power": added},
        )


def read_profile(path: ProfileFile, *, strict: bool = False) -> Profile:
    """Return the profile in a JSON file.

    An origin and a scope of joules that it does not have are dropped, as earlier versions wrote them; `strict` refuses
    them. Raises one ValueError naming the file, the key, what was found and what is allowed.
    """
    try:
        found = load_profile(path.read_text(encoding="utf-8"))
        if not strict:
            _drop_origin(found)
        prefill, decode, mixed = found.pop("prefill_s"), found.pop("decode_s"), found.pop("mixed_s", 0.0)
        check_prefill("prefill_s", prefill)
        check_decode("decode_s", decode)
        check_coefficient("mixed_s.per_context_token", mixed)
        seconds = Costs.of(prefill, decode, tile_tokens=found.pop("tile_tokens", 1), mixed_per_context_token=mixed)
        return Profile(provenance=Provenance(**found.pop("provenance")), seconds=seconds, **found)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a profile ({error.strerror})") from error
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no JSON text, as profiles are ({error})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_profile(profile: Profile, path: Path) -> None:
    """Write the profile as JSON, whole or not at all; the same profile gives the same bytes."""
    write_whole(path, dump_profile(profile).encode())


def file_name(name: str) -> str:
    """Return the file that carries the profile of that name; what is awkward in a file's name becomes a dash.

    >>> file_name("rtx-4090/gemma-7b/bf16@2"), file_name("my card (2)/m/q4 k")
    ('rtx-4090--gemma-7b--bf16@2.json', 'my-card-2---m--q4-k.json')
    """
    return re.sub(r"[^\w.+@-]+", "-", name.replace("/", "--")) + ".json"


def bundled_profiles() -> dict[str, ProfileFile]:
    """Return the profiles that come with the package, name to file, sorted by name."""
    found = (entry for entry in files("calibration").joinpath("profiles").iterdir() if entry.name.endswith(".json"))
    return {entry.name.removesuffix(".json").replace("--", "/"): entry for entry in sorted(found, key=lambda e: e.name)}


def find_profile(name_or_path: str, folder: Path) -> Profile:
    """Return the bundled profile of that name, or the one at a path (it ends with .json) from `folder`.

    Raises ValueError, with a near match where there is one.
    """
    bundled = bundled_profiles()
    if name_or_path in bundled:
        return read_profile(bundled[name_or_path])
    path = folder / name_or_path
    if name_or_path.endswith(".json"):
        if path.is_file():
            return read_profile(path)
        beside = sorted(p.name for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
        raise ValueError(f"{path}: there is no such profile{did_you_mean(path.name, beside)}")
    raise ValueError(
        f"profile {name_or_path!r}: neither a bundled profile nor a path that ends with .json"
        f"{did_you_mean(name_or_path, bundled) or '; `moe2 profiles list` names the bundled ones'}"
    )


def did_you_mean(found: str, allowed: Iterable[str]) -> str:
    """Return '; did you mean …?' when an allowed word is near, else nothing."""
    near = difflib.get_close_matches(found, list(allowed), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _drop_origin(found: dict[str, Any]) -> None:
    """Set the origin and the scope of a profile's joules to None where it has none, once they are valid words."""
    if any(found[key] is not None for key in ("prefill_j", "decode_j", "idle_w")):
        return
    if found["energy_scope"] is not None:
        _check_choice("energy_scope", found["energy_scope"], get_args(Scope))
    Provenance(**found["provenance"])
    found["energy_scope"], found["provenance"]["energy"] = None, None


def _factors(residuals: Sequence[float]) -> tuple[float, ...]:
    # Divide by the mean rather than subtract it: a factor then stays above 0 whatever the residuals are.
    factors = 1.0 + np.asarray(residuals or (0.0,), dtype=np.float64)
    return tuple((factors / factors.mean()).tolist())


def _check_choice(key: str, found: object, allowed: Sequence[str]) -> None:
    if found not in allowed:
        raise ValueError(
            f"{key}: found {found!r}, must be one of {', '.join(allowed)}{did_you_mean(str(found), allowed)}"
        )


def _check_integer(key: str, found: object, *, least: int) -> None:
    if isinstance(found, bool) or not isinstance(found, int) or found < least:
        raise ValueError(f"{key}: found {found!r}, must be an integer of at least {least}")


def _check_residuals(key: str, residuals: Sequence[object]) -> None:
    for i, found in enumerate(residuals):
        number = isinstance(found, (int, float)) and not isinstance(found, bool)
        if not (number and -1 < cast("float", found) < inf):
            raise ValueError(
                f"residuals.{key}[{i}]: found {found!r}, must be a number above -1 (0.05: 5 % slower than fitted)"
            )


def _check_json(key: str, found: object) -> None:
    if isinstance(found, Mapping):
        for name, value in found.items():
            if not isinstance(name, str):
                raise ValueError(f"{key}: found the name {name!r}, must be text")
            _check_json(f"{key}.{name}", value)
    elif isinstance(found, (list, tuple)):
        for i, value in enumerate(found):
            _check_json(f"{key}[{i}]", value)
    elif isinstance(found, float) and not isfinite(found):
        raise ValueError(f"{key}: found {found!r}, must be finite; write null for what is missing")
    elif found is not None and not isinstance(found, (str, int, float, bool)):
        raise ValueError(f"{key}: found {type(found).__name__}, must be plain JSON")
