"""Figures without an end: a percentile of requests of which too many were never answered, in words."""

from math import isinf

__all__ = ["unanswered"]

_SIDES = {
    (True, True): "unanswered on both sides",
    (False, True): "unanswered in the twin only",
    (True, False): "unanswered in the measured run only",
}


def unanswered(real: float, twin: float) -> str:
    """Return on which side a figure is infinite, in words; '' where it is on neither.

    >>> from math import inf
    >>> unanswered(0.5, inf), unanswered(0.5, 0.7)
    ('unanswered in the twin only', '')
    """
    return _SIDES.get((isinf(real), isinf(twin)), "")
