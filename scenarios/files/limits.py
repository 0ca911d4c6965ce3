"""How much one replication may be: beyond it a machine has no memory left, or no end is in sight."""

from __future__ import annotations

from scenarios.files.faults import Faults
from scenarios.files.loads import ClosedLoop, Drawn, Modulated, Sessions

__all__ = ["MOST_EVENTS", "MOST_REQUESTS", "MOST_WAITING", "check_size"]

MOST_REQUESTS = 50_000_000  # a few hundred bytes each
MOST_WAITING = 1_000_000  # users of a closed loop, who are all there from the begin
MOST_EVENTS = 1_000_000  # crashes of a device, outages of a link, changes of a load's state


def check_size(load: object, n_users: int, faults: Faults, *, duration_s: float, drain_cap_s: float) -> None:
    """Raise ValueError for a replication of more requests, waiting users or random events than can be simulated."""
    if isinstance(load, ClosedLoop) and n_users > MOST_WAITING:
        raise ValueError(f"users.count = {n_users}: should be at most {MOST_WAITING:,} where users wait for answers")
    if isinstance(load, Drawn) and not isinstance(load, ClosedLoop):
        per_s = load.sessions_per_s if isinstance(load, Sessions) else load.planned_per_s(n_users)
        asked = "sessions" if isinstance(load, Sessions) else "requests"
        _check(per_s * duration_s, asked, "load", MOST_REQUESTS, "lower the rate or duration_s")
    if isinstance(load, Modulated):
        a_round_s = sum(state.mean_s for state in load.states)
        _check(duration_s / a_round_s, "rounds", "load.states", MOST_EVENTS, "let states last longer")
    lasts_s = duration_s + drain_cap_s
    for key, mean_s, down_s in (
        ("faults.mtbf_s", faults.mtbf_s, faults.mean_repair_s),
        ("faults.lan_mtbf_s", faults.lan_mtbf_s, faults.mean_lan_outage_s),
    ):
        if mean_s is not None:
            _check(lasts_s / (mean_s + (down_s or 0.0)), "failures", key, MOST_EVENTS, "raise it, or lower drain_cap_s")


def _check(n: float, what: str, key: str, most: int, way_out: str) -> None:
    if not n <= most:  # written so that NaN fails too
        raise ValueError(f"{key}: about {n:.3g} {what} in one replication, at most {most:,} are simulated; {way_out}")
