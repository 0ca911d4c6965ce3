"""Observations of seconds or joules against the terms of the cost model, whatever recorded them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.costs import Costs, padded
from calibration.fit import Floats, batch_terms, prefill_terms
from calibration.profile import Profile
from calibration.sessions import Sessions, batches_of, cells_of

Unit = Literal["s", "j"]
"""Seconds or joules, as the keys of profiles end."""

COEFFICIENTS = ("a", "b", "c", "d", "e", "f")
"""Of prefill a + bP + cP² and decode iteration d + eB + fC, in this order everywhere below."""
PREFILL, DECODE = slice(0, 3), slice(3, 6)
PHASES = ("prefill", "decode")
_ALONE = 1.001  # sequences side by side; rounding is no second one
LEAST_LEGS = 8
"""Legs alone at their server below which a run says too little of coefficients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """What prefills and decodings took (n,), seconds or joules, and the session of each, independent of the others.

    `terms` (n, 6) multiply the coefficients; a row is of one phase. Rows of batches tell d from e; lone sequences
    only tell their sum.
    """

    terms: Floats
    values: Floats
    session: NDArray[np.str_]
    unit: Unit = "s"

    def __post_init__(self) -> None:
        if not (len(self.terms) == len(self.values) == len(self.session)):
            raise ValueError("observations: terms, values and sessions must have as many rows")
        if len(self.values) == 0:
            raise ValueError("observations: there are none")
        if not np.all(self.values > 0):
            raise ValueError("observations: seconds and joules must be above 0")

    @property
    def is_prefill(self) -> NDArray[np.bool_]:
        """Which rows are prefills (n,)."""
        return np.asarray(self.terms[:, 0] > 0)

    @property
    def batched(self) -> bool:
        """Whether some rows are of several sequences side by side."""
        return bool(np.any(self.terms[:, 4] > _ALONE * self.terms[:, 3]))

    def rows(self, keep: NDArray[np.bool_]) -> "Observations":
        """Return the rows where `keep` (n,) is true."""
        return replace(self, terms=self.terms[keep], values=self.values[keep], session=self.session[keep])

    def as_costed(self, profile: Profile) -> "Observations":
        """Return what the profile can say something of: prompts in its tiles, and no batches where it knows of none."""
        costs = costs_of(profile, self.unit)
        terms = self.terms.copy()
        prompts = self.is_prefill
        terms[prompts, PREFILL] = prefill_terms(padded(terms[prompts, 1], costs.tile_tokens))
        lone = costs.per_sequence is not None or terms[:, 4] <= _ALONE * terms[:, 3]
        return replace(self, terms=terms).rows(np.broadcast_to(lone, len(terms)))


def costs_of(profile: Profile, unit: Unit) -> Costs:
    """Return the profile's costs of that unit; ValueError when its joules are not known."""
    costs = profile.seconds if unit == "s" else profile.joules
    if costs is None:
        raise ValueError(f"profile {profile.name}: its joules are not known (null)")
    return costs


def coefficients_of(costs: Costs) -> Floats:
    """Return a to f (6,); an unknown e counts as 0: d then covers a lone sequence whole."""
    base, per_sequence, per_context_token = costs.decode
    return np.array([*costs.prefill, base, per_sequence or 0.0, per_context_token])


def of_sessions(sessions: Sessions) -> Observations:
    """Return the observations of recorded sessions: medians of cells of lone sequences, and batches."""
    requests = sessions.requests
    prefills = cells_of(requests, "ttft_s").dropna()
    longer = requests[(requests["asked_output_tokens"] > 1) & (requests["decode_s"] > 0)]
    decodes = cells_of(longer, "decode_s").dropna()
    parts = [
        _prefills(prefills["asked_prompt_tokens"], prefills["ttft_s"], prefills["session"]),
        _decodes(
            decodes["asked_prompt_tokens"], decodes["asked_output_tokens"], decodes["decode_s"], decodes["session"]
        ),
    ]
    if "chunk_s" in requests:  # not every tool tells when its tokens came
        parts += [_batches(batches_of(own), str(session)) for session, own in requests.groupby("session")]
    return joined([part for part in parts if part is not None])


def joules_of(sessions: Sessions) -> Observations | None:
    """Return what energy windows say of recorded sessions, gross of idle; None where no joules were recorded.

    A correction that the recordings ask for is in them, as it is in a profile fitted to them.
    """
    prefills, decodes = (frame[frame["joules"] > 0] for frame in (sessions.prefill_j, sessions.decode_j))
    if prefills.empty and decodes.empty:
        return None
    keys = ("asked_prompt_tokens", "asked_output_tokens", "n_sequences")
    P, out, B = (decodes[key].to_numpy(dtype=np.float64) for key in keys)
    terms = np.zeros((len(prefills) + len(decodes), 6))
    terms[: len(prefills), PREFILL] = prefill_terms(prefills["asked_prompt_tokens"].to_numpy(dtype=np.float64))
    terms[len(prefills) :, DECODE] = batch_terms(P, out, B)
    both = pd.concat([prefills, decodes])
    corrected = 1.0 if sessions.correction is None else sessions.correction.loaded
    return Observations(
        terms=terms,
        values=corrected * both["joules"].to_numpy(dtype=np.float64),
        session=both["session"].to_numpy().astype(np.str_),
        unit="j",
    )


def of_legs(legs: pd.DataFrame, *, source: str, session: str) -> Observations:
    """Return the observations of a recorded run's legs on one expert (DESIGN's legs table).

    Only served legs that were alone there from arrival to end are taken: in a queue or a batch a leg's times are not
    its own. A replication is a session of its own. Raises ValueError when fewer than LEAST_LEGS are left.
    """
    alone = pd.concat([_alone(own) for _, own in legs.groupby("replication")])
    served = alone[(alone["status"] == "served") & alone["first_token_s"].notna()]
    if len(served) < LEAST_LEGS:
        raise ValueError(
            f"{source}: {len(served)} of {len(legs)} legs were served alone at their server, needs {LEAST_LEGS}; "
            "record at a lower load, or calibrate"
        )
    names = session + "/" + served["replication"].astype(str)
    decode_s = served["finished_s"] - served["first_token_s"]
    longer = (served["output_tokens"] > 1) & (decode_s > 0)
    parts = [
        _prefills(served["prompt_tokens"], served["first_token_s"] - served["arrived_s"], names),
        _decodes(*(column[longer] for column in (served["prompt_tokens"], served["output_tokens"], decode_s, names))),
    ]
    return joined([part for part in parts if part is not None])


def joined(parts: list[Observations]) -> Observations:
    """Return the observations of all parts together."""
    if not parts:
        raise ValueError("observations: there are none")
    return Observations(
        terms=np.concatenate([part.terms for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        session=np.concatenate([part.session for part in parts]),
        unit=parts[0].unit,
    )


def stated_scale(evidence: Mapping[str, Any], phase: str, unit: Unit) -> float | None:
    """Return the relative spread of a phase's cells about its fit that a profile's evidence states, if it does."""
    found = evidence.get(f"{phase}_{unit}", {}).get("scale")
    return None if found is None else float(found)


def _alone(legs: pd.DataFrame) -> pd.DataFrame:
    """Return the legs of one replication that shared their server with no other; a rejected one never was there."""
    arrived = legs[legs["arrived_s"].notna() & (legs["status"] != "rejected")].sort_values("arrived_s", kind="stable")
    begin_s = arrived["arrived_s"].to_numpy(dtype=np.float64)
    # a leg without an end may have been there ever after
    end_s = np.where(arrived["finished_s"].isna(), np.inf, arrived["finished_s"].to_numpy(dtype=np.float64))
    before_s = np.concatenate([[-np.inf], np.maximum.accumulate(end_s)[:-1]])
    after_s = np.concatenate([begin_s[1:], [np.inf]])
    return arrived[(before_s <= begin_s) & (end_s <= after_s)]


def _prefills(prompt_tokens: Any, seconds: Any, session: Any) -> Observations | None:
    if not len(seconds):
        return None
    terms = np.zeros((len(seconds), 6))
    terms[:, PREFILL] = prefill_terms(prompt_tokens)
    return Observations(
        terms=terms, values=np.asarray(seconds, dtype=np.float64), session=np.asarray(session, dtype=np.str_)
    )


def _decodes(prompt_tokens: Any, output_tokens: Any, seconds: Any, session: Any) -> Observations | None:
    if not len(seconds):
        return None
    terms = np.zeros((len(seconds), 6))
    terms[:, DECODE] = batch_terms(prompt_tokens, output_tokens, 1.0)
    return Observations(
        terms=terms, values=np.asarray(seconds, dtype=np.float64), session=np.asarray(session, dtype=np.str_)
    )


def _batches(batches: pd.DataFrame, session: str) -> Observations | None:
    if batches.empty:
        return None
    n, B, C = (batches[key].to_numpy(dtype=np.float64) for key in ("n_iterations", "n_sequences", "context_tokens"))
    terms = np.zeros((len(n), 6))
    terms[:, DECODE] = np.column_stack([n, B * n, C * n])
    return Observations(
        terms=terms,
        values=batches["seconds"].to_numpy(dtype=np.float64),
        session=np.full(len(n), session),
    )
