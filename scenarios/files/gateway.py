"""The gateway of a scenario: its rules for waiting, retrying, limiting and looking at the load."""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scenarios.files.loads import Count, Section
from twin.gateway.rules import Rules

__all__ = ["Gateway", "n_offers", "rules_of"]


class Gateway(Section):
    """What the gateway does beside asking the router's k experts and waiting for them."""

    gate_s: float = Field(0.0, ge=0, le=60, description="Seconds of the gate for each prompt of a batch.")
    quorum: Count | None = Field(None, description="Answers that suffice; all k when left out.")
    timeout_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds after which a leg without an answer is given up."
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(1, description="How often a leg is tried in all.")
    backoff_s: float = Field(0.0, ge=0, le=3600, description="Before the second attempt, twice that before the third …")
    retry: Literal["next", "same"] = Field("next", description="On the next expert that the gate ranks, or the same.")
    admission_limit: Count | None = Field(None, description="Requests in flight beyond which others are rejected.")
    load_aware_top_m: Count | None = Field(
        None, description="Of the gate's m best, those k with the shortest predicted work are asked."
    )

    @model_validator(mode="after")
    def _something_to_retry(self) -> Gateway:
        if self.backoff_s > 0 and self.max_attempts == 1:
            raise ValueError(f"backoff_s = {self.backoff_s} goes with max_attempts above 1")
        return self

    def check(self, k: int) -> None:
        """Raise ValueError where the rules do not go with the router's k."""
        for key, found, fits in (
            ("quorum", self.quorum, (self.quorum or 1) <= k),
            ("load_aware_top_m", self.load_aware_top_m, (self.load_aware_top_m or k) >= k),
        ):
            if not fits:
                bound = "at most" if key == "quorum" else "at least"
                raise ValueError(f"gateway: {key} is {found}, must be {bound} router.k = {k}")


def rules_of(gateway: Gateway, k: int | None) -> Rules | None:
    """Return the rules of a run, None when there are none; `k` is None when the load names its experts."""
    if gateway == Gateway():
        return None
    return Rules(
        k=k,
        quorum=gateway.quorum,
        load_aware=gateway.load_aware_top_m is not None,
        timeout_s=gateway.timeout_s or inf,
        max_attempts=gateway.max_attempts,
        backoff_s=gateway.backoff_s,
        retry=gateway.retry,
        admission_limit=gateway.admission_limit,
        gate_s=gateway.gate_s,
    )


def n_offers(gateway: Gateway, k: int, n_experts: int) -> int:
    """Return how many experts the router offers for a prompt, the k that are asked and those to go on to."""
    if gateway.load_aware_top_m is not None:
        return min(gateway.load_aware_top_m, n_experts)
    return n_experts if gateway.max_attempts > 1 and gateway.retry == "next" else min(k, n_experts)
