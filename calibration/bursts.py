"""Requests sent side by side, until the last of them has its first token: iterations that carry prompts and decodes.

As prompts are waiting all the time, every iteration after the first request's first token is mixed, and how many there
were is told by that request's further tokens. Whatever decoding costs more beside prompts, and prompts beside
other sequences' context, is in the span.
"""

import numpy as np
import pandas as pd

__all__ = ["BURSTS", "bursts_of"]

BURSTS = ["prompt_tokens", "n_sequences", "n_mixed", "decoded_tokens", "context_tokens", "seconds"]
_TOGETHER = 0.25  # of the usual time between two tokens: those of one iteration come within it


def bursts_of(requests: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each time that requests with prompts of one length were sent side by side.

    Columns: BURSTS. `prompt_tokens` are of one prompt, `n_mixed` the iterations after the first of the first tokens,
    `decoded_tokens` those that came after their own sequence's first, `context_tokens` the contexts that these saw,
    summed, and `seconds` from the first send to the last first token. `requests` are good ones, as of a session;
    a burst with a request missing is left out.
    """
    rows = []
    for _, burst in requests[requests["concurrency"] > 1].groupby(["session", "cell", "repeat"]):
        if len(burst) != int(burst["concurrency"].iloc[0]):
            continue
        chunks = [np.asarray(found, dtype=np.float64) for found in burst["chunk_s"]]
        tokens_per_chunk = burst["output_tokens"].to_numpy() / [len(found) for found in chunks]
        first_s = burst["first_token_s"].to_numpy()
        gaps = np.concatenate([np.diff(found) for found in chunks])
        end_s = first_s.max() + (_TOGETHER * float(np.median(gaps)) if len(gaps) else 0.0)
        later = np.array([np.sum(found[1:] <= end_s) for found in chunks]) * tokens_per_chunk
        prompts = burst["prompt_tokens"].to_numpy(dtype=np.float64)
        context = float(np.sum(later * prompts + later * (later + 1) / 2))
        seconds = float(first_s.max() - burst["sent_s"].min())
        rows.append((prompts.mean(), len(burst), later[np.argmin(first_s)], later.sum(), context, seconds))
    return pd.DataFrame(rows, columns=BURSTS, dtype=np.float64)
