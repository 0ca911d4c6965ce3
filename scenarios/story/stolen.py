"""What a virtual machine's host took from it while something was recorded (steal), in words."""

from __future__ import annotations

__all__ = ["MOST_STOLEN", "stolen_words"]

MOST_STOLEN = 0.02
"""Share of the time of a machine's processors that its host may take before a recording says so."""


def stolen_words(share: float | None, *, least: float = MOST_STOLEN) -> list[str]:
    """Return what a share of more than `least` says, in one line; none where it is less or not known.

    >>> stolen_words(0.031), stolen_words(0.01), stolen_words(None)
    (["3.1% of the time of the client's processors was taken by their host (steal)"], [], [])
    """
    if share is None or not share > least:
        return []
    return [f"{share:.1%} of the time of the client's processors was taken by their host (steal)"]
