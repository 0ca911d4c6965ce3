"""A model in this process with random weights and a real architecture's shape: time hardly depends on their values."""

import time
from collections.abc import Sequence
from typing import Any

from calibration.architectures import Architecture
from calibration.runtimes.generation import Generation

RANDOM_WEIGHTS = "weights are random: time hardly depends on their values, answers mean nothing"


class RandomTransformer:
    """A Llama-like decoder of `transformers`, greedy, one sequence at a time; needs the extra `testbed`."""

    def __init__(self, shape: Architecture, *, device: str = "cpu", dtype: str = "float32", seed: int = 0) -> None:
        import torch  # noqa: PLC0415 - heavy, and needed by this runtime alone
        from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

        self._torch = torch
        self._shape = shape
        self._device, self._dtype = device, dtype
        self.vocabulary = shape.vocabulary
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            max_position_embeddings=shape.context_tokens,
            tie_word_embeddings=shape.tied_embedding,
        )
        with torch.device(device):
            model: Any = LlamaForCausalLM  # transformers is not typed throughout
            self._model: Any = model(config).to(getattr(torch, dtype)).eval()

    def report(self) -> dict[str, Any]:
        """Return what runs, on what, and that its weights are random."""
        import transformers  # noqa: PLC0415

        return {
            "model": self._shape.name,
            "build": f"transformers {transformers.__version__}, torch {self._torch.__version__}",
            "device": self._device,
            "dtype": self._dtype,
            "context_tokens": self._shape.context_tokens,
            "weights": RANDOM_WEIGHTS,
        }

    def generate(self, prompt: Sequence[int], output_tokens: int) -> Generation:
        """Generate greedily; each token is waited for, as a server that streams must."""
        torch = self._torch
        sent_s = time.monotonic()
        stamps = []
        with torch.inference_mode():
            ids = torch.tensor([list(prompt)], device=self._device)
            past = None
            for _ in range(output_tokens):
                out = self._model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
                past = out.past_key_values
                ids = out.logits[:, -1].argmax(-1, keepdim=True)
                ids.item()  # waits for the device
                stamps.append(time.monotonic())
        return Generation(
            asked_prompt_tokens=len(prompt),
            asked_output_tokens=output_tokens,
            sent_s=sent_s,
            first_token_s=stamps[0],
            finished_s=stamps[-1],
            chunk_s=tuple(stamps),
            prompt_tokens=len(prompt),
            output_tokens=len(stamps),
            cached_tokens=0,
            server_prefill_s=None,
            server_decode_s=None,
            fault="",
        )

    def close(self) -> None:
        """Drop the model."""
        self._model = None
