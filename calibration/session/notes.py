"""What is noted of a session at its end: what its client adds to every first token, and what was stolen from it."""

from typing import Any

import numpy as np
import pandas as pd

from calibration.session.store import Store

__all__ = ["notes_of", "overhead_of", "stolen_share_of"]


def notes_of(store: Store, session: str) -> dict[str, Any]:
    """Return the notes of one session of a recording, as plain JSON; see the functions below."""
    rows = store.read()
    own = rows[rows["session"] == session]
    return {"client_overhead_s": overhead_of(own), "steal_share": stolen_share_of(own)}


def overhead_of(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Return the median seconds that lone good requests waited for their first token beyond the server's prompt time.

    None where the server does not tell its own prompt time.
    """
    lone = rows[(rows["kind"] == "request") & (rows["concurrency"] == 1) & (rows["fault"] == "")]
    seconds = (lone["first_token_s"] - lone["sent_s"] - lone["server_prefill_s"].astype(float)).dropna()
    return None if seconds.empty else {"median": float(seconds.median()), "n": len(seconds)}


def stolen_share_of(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Return median and largest share over cells of the processors' time that a host took; None where not told."""
    cells = rows[rows["kind"] == "request"].groupby(["session", "cell"])["steal_share"].first().dropna()
    return None if cells.empty else {"median": float(np.median(cells)), "most": float(cells.max()), "n": len(cells)}
