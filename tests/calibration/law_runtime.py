"""A runtime whose generations take what a law says, told and not waited for; for the tests beside."""

import numpy as np

from calibration.runtimes.generation import Generation
from tests.clock import Clock

PREFILL_S = (0.02, 2e-4, 3e-8)
DECODE_S = (0.01, 0.002, 1e-6)


class LawRuntime:
    """Prefill a + bP + cP², decode iterations d + eB + fC of B = 1, each times 1 + `noise` drawn anew.

    The clock that it moves is the only one on which its generations take time.
    """

    vocabulary = 1000

    def __init__(self, *, prefill_s=PREFILL_S, noise=0.0, seed=0, slots=1, clock=None):
        self.prefill_s, self.noise, self.slots = prefill_s, noise, slots
        self.rng = np.random.default_rng(seed)
        self.clock = clock or Clock()

    def report(self):
        return {"model": "law", "build": "1", "context_tokens": 100_000, "slots": self.slots, "quantization": "fp16"}

    def generate(self, prompt, output_tokens):
        P = len(prompt)
        d, e, f = DECODE_S
        steps = [np.polyval(self.prefill_s[::-1], P), *(d + e + f * (P + j) for j in range(1, output_tokens))]
        sent_s = self.clock.monotonic()
        stamps = sent_s + np.cumsum(np.array(steps) * (1 + self.noise * self.rng.standard_normal()))
        self.clock.sleep(float(stamps[-1]) - sent_s)
        return Generation(
            asked_prompt_tokens=P,
            asked_output_tokens=output_tokens,
            sent_s=sent_s,
            first_token_s=float(stamps[0]),
            finished_s=float(stamps[-1]),
            chunk_s=tuple(stamps.tolist()),
            prompt_tokens=P,
            output_tokens=output_tokens,
            cached_tokens=0,
            server_prefill_s=None,
            server_decode_s=None,
            fault="",
        )

    def close(self):
        pass
