"""Tolerances: a TOML file that says how far two runs may be apart, and what exceeds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import tomli

from scenarios.comparing.differences import COUNTS, OF_LEGS, OF_REQUESTS, OF_RUNS, STATISTICS
from scenarios.comparing.resampling import LEAST_PAIRS
from scenarios.files.complaints import near
from scenarios.story.unanswered import unanswered

__all__ = ["EXACT_COUNTS", "Finding", "Tolerance", "judge_differences", "read_tolerances"]

_SCOPES: dict[str, tuple[str, ...]] = {"by_expert": OF_LEGS, "by_load": (*OF_LEGS, *OF_REQUESTS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far one statistic of one quantity may be off; `statistic` is '' for counts, which hold for every status."""

    scope: str
    quantity: str
    statistic: str
    limit: float

    @property
    def name(self) -> str:
        """The key in the file."""
        words = ("" if self.scope == "overall" else self.scope, self.quantity, self.statistic)
        return ".".join(word for word in words if word)


EXACT_COUNTS = Tolerance(scope="overall", quantity="counts", statistic="", limit=0.0)
"""Without a word about counts in the file, every status has as many requests on both sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One tolerance on one group: kept, exceeded, or not to be judged, with the sentence that says so."""

    status: Literal["kept", "exceeded", "unknown"]
    tolerance: Tolerance
    words: str


def read_tolerances(path: Path) -> tuple[Tolerance, ...]:
    """Return the tolerances in a TOML file; ValueError naming the key, with a near match, for what is not known."""
    try:
        data = tomli.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as tolerances ({error.strerror})") from None
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    overall = {k: v for k, v in data.items() if k not in _SCOPES}
    found = list(_of_scope(path, "overall", overall, (*COUNTS, *OF_LEGS, *OF_REQUESTS, *OF_RUNS)))
    for scope, quantities in _SCOPES.items():
        if not isinstance(data.get(scope, {}), dict):
            raise ValueError(f"{path}: key {scope} = {data[scope]!r}: should be a table of {', '.join(quantities)}")
        found += _of_scope(path, scope, data.get(scope, {}), quantities)
    if not any(t.quantity == "counts" for t in found):
        found.append(EXACT_COUNTS)
    return tuple(found)


def judge_differences(found: pd.DataFrame, tolerances: Sequence[Tolerance]) -> list[Finding]:
    """Return one finding per tolerance and group; groups of fewer than LEAST_PAIRS pairs are not judged."""
    return [finding for tolerance in tolerances for finding in _judged(found, tolerance)]


def _of_scope(path: Path, scope: str, data: Mapping[str, Any], allowed: Sequence[str]) -> Iterator[Tolerance]:
    prefix = "" if scope == "overall" else f"{scope}."
    for quantity, limits in data.items():
        if quantity not in allowed:
            known = [*allowed, *_SCOPES] if scope == "overall" else list(allowed)
            raise ValueError(
                f"{path}: key {prefix}{quantity}: no such quantity{near(quantity, known)}; known are {', '.join(known)}"
            )
        if quantity in COUNTS:
            yield Tolerance(scope=scope, quantity=quantity, statistic="", limit=_limit(path, prefix + quantity, limits))
            continue
        statistics = OF_RUNS.get(quantity, STATISTICS)
        if not isinstance(limits, dict):
            raise ValueError(
                f"{path}: key {prefix}{quantity} = {limits!r}: should be a table of {', '.join(statistics)}"
            )
        for statistic, limit in limits.items():
            name = f"{prefix}{quantity}.{statistic}"
            if statistic not in statistics:
                raise ValueError(
                    f"{path}: key {name}: no such statistic{near(statistic, statistics)}; known are "
                    f"{', '.join(statistics)}"
                )
            yield Tolerance(scope=scope, quantity=quantity, statistic=statistic, limit=_limit(path, name, limit))


def _limit(path: Path, name: str, found: Any) -> float:
    counts = name in COUNTS
    least = not isinstance(found, bool) and isinstance(found, (int, float)) and isfinite(found) and found >= 0
    if not least or (counts and found != int(found)):
        should = "a whole number of at least 0 (2: two of them)" if counts else "a number of at least 0 (0.05: 5 %)"
        raise ValueError(f"{path}: key {name} = {found!r}: should be {should}")
    if not counts and found > 1:
        raise ValueError(f"{path}: key {name} = {found!r}: is {found:.0%}, at most 1 has a use; 0.05 is 5 %")
    return float(found)


def _judged(found: pd.DataFrame, tolerance: Tolerance) -> Iterator[Finding]:
    rows = found[(found["scope"] == tolerance.scope) & (found["quantity"] == tolerance.quantity)]
    if tolerance.statistic:
        rows = rows[rows["statistic"] == tolerance.statistic]
    grouped = tolerance.scope != "overall"
    judged = rows[rows["n"] >= LEAST_PAIRS] if grouped else rows
    if judged.empty:
        why = f"no group has {LEAST_PAIRS} pairs" if grouped and len(rows) else "there is nothing of it in these runs"
        yield Finding(status="unknown", tolerance=tolerance, words=f"{tolerance.name}: not judged, {why}")
    for _, row in judged.iterrows():
        yield _finding(row, tolerance)


def _finding(row: pd.Series[Any], tolerance: Tolerance) -> Finding:
    of = (
        f" of {row['group']}" if row["group"] else f" of status {row['statistic']!r}" if not tolerance.statistic else ""
    )
    name, difference = f"{tolerance.name}{of}", float(row["difference"])
    if isnan(difference):
        return Finding(status="unknown", tolerance=tolerance, words=f"{name}: not judged, {row['note'] or 'not known'}")
    far = abs(difference) > tolerance.limit
    words = f"{name}: {_shown(row, tolerance)}, {'beyond' if far else 'within'} {_limit_words(tolerance)}"
    return Finding(status="exceeded" if far else "kept", tolerance=tolerance, words=words)


def _shown(row: pd.Series[Any], tolerance: Tolerance) -> str:
    difference = float(row["difference"])
    if tolerance.quantity in COUNTS:
        return f"{row['real']:.0f} measured, {row['twin']:.0f} simulated, {abs(difference):.0f} apart"
    if tolerance.statistic == "ks":
        return f"distance {difference:.3f}"
    if tolerance.statistic in {"wasserstein", "per_request"}:
        return f"{difference:.1%}"
    if silent := unanswered(row["real"], row["twin"]):
        return silent
    low, high = float(row["low"]), float(row["high"])
    known = "" if isnan(low) else f" (90 % interval {low:+.1%} to {high:+.1%})"
    return f"{row['real']:.4g} measured, {row['twin']:.4g} simulated, {difference:+.1%}{known}"


def _limit_words(tolerance: Tolerance) -> str:
    if tolerance.quantity in COUNTS or tolerance.statistic == "ks":
        return f"the tolerance {tolerance.limit:g}"
    return f"the tolerance {tolerance.limit:.3g} ({tolerance.limit:.1%})"
