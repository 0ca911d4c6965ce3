"""Recordings of `moe2 calibrate` of a made-up server, whose seconds are known."""

import numpy as np

from calibration.runtimes.generation import Generation
from calibration.session.plan import Cell
from calibration.session.store import Store, request_row

TRUE = (0.02, 1e-3, 1e-7, 0.024, 2e-6)
LENGTHS = (32, 128, 512, 2048)
MANIFEST = {
    "plan": {}, "model": "m", "device": "bench", "runtime_build": "b", "began_unix_s": 1.0, "formulas": {},
    "meter": {"scope": None, "name": "none"}, "allowed": [], "host": {"power_mode": "p"},
    "runtime": {"context_tokens": 8192}, "model_sha256": "0" * 64,
}  # fmt: skip


def calibrated(folder, seed, *, slower=1.0, spread=0.01, began_unix_s=1.0):
    """Write a recording of `moe2 calibrate` of a made-up server, whose seconds are known."""
    rng = np.random.default_rng(seed)
    store = Store(folder=folder)
    store.begin({**MANIFEST, "began_unix_s": began_unix_s})
    factor = slower * np.exp(spread * rng.standard_normal())
    for block in range(2):
        for P in LENGTHS:
            for out in (1, 16, 64):
                cell = Cell(block=block, prompt_tokens=P, output_tokens=out, concurrency=1)
                rows = [request_row(cell, str(seed), n, _generation(rng, P, out, factor)) for n in range(3)]
                store.add(cell.key, rows)
    return folder


def _generation(rng, P, out, factor):
    a, b, c, d, f = TRUE
    first_s, step_s = rng.lognormal(0, 0.02, 2) * factor * np.array([a + b * P + c * P**2, d + f * (P + out / 2)])
    return Generation(
        asked_prompt_tokens=P, asked_output_tokens=out, sent_s=0.0, first_token_s=first_s,
        finished_s=first_s + (out - 1) * step_s, chunk_s=(), prompt_tokens=P, output_tokens=out, cached_tokens=0,
        server_prefill_s=None, server_decode_s=None, fault="",
    )  # fmt: skip
