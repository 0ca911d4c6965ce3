"""Why legs were not served, in words."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

__all__ = ["reasons"]

_MOST = 5


def reasons(legs: pd.DataFrame) -> Iterator[str]:
    """Yield how many legs were rejected or failed for which reason, the most frequent first, and how many more."""
    bad = legs[legs["reason"].notna()]
    found = (bad["status"] + ": " + bad["reason"]).value_counts()
    for words, n in found.head(_MOST).items():
        yield f"{n} {'leg' if n == 1 else 'legs'} {words}"
    if more := found.iloc[_MOST:].sum():
        yield f"{more} more for {len(found) - _MOST} other reasons, which are in legs.parquet"
