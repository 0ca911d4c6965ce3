"""Laws of the llama.cpp server that other tests lean on."""

import httpx
import numpy as np

from tests.llama_server import llama_server, write_llama


def test_a_real_server_counts_the_tokens_it_is_sent(tmp_path):
    """Exact token ids come in, the forced number goes out, and nothing is taken from a cache."""
    rng = np.random.default_rng(1)
    with llama_server(write_llama(tmp_path / "llama.gguf"), slots=2) as address:
        for n_prompt, n_output in ((5, 3), (300, 1)):
            body = {
                "prompt": rng.integers(1, 500, n_prompt).tolist(),
                "max_tokens": n_output,
                "ignore_eos": True,
                "cache_prompt": False,
            }
            usage = httpx.post(f"{address}/v1/completions", json=body, timeout=60.0).raise_for_status().json()["usage"]
            assert (usage["prompt_tokens"], usage["completion_tokens"]) == (n_prompt, n_output)
            assert usage["prompt_tokens_details"]["cached_tokens"] == 0
        assert len(httpx.get(f"{address}/slots", timeout=60.0).json()) == 2
