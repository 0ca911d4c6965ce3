"""A model in this process with random weights and a real architecture's shape: time hardly depends on their values."""

import time
from collections.abc import Sequence
from typing import Any

from calibration.architectures import Architecture
from calibration.runtimes.generation import Generation

RANDOM_WEIGHTS = "weights are random: time hardly depends on their values, answers mean nothing"
DTYPES = ("float32", "float16", "bfloat16")


class RandomTransformer:
    """A Llama-like decoder of `transformers`, greedy, one sequence at a time; needs the extra `testbed`.

    `device` is a name of torch's ('auto': CUDA where there is a GPU, else the CPU), `dtype` likewise ('auto': bfloat16
    on a GPU, float32 on a CPU). The model is made by the first `report` or `generate`, so that a device can be metered
    before it carries one.
    """

    def __init__(self, shape: Architecture, *, device: str = "auto", dtype: str = "auto", seed: int = 0) -> None:
        self._shape = shape
        self._device, self._dtype, self._seed = device, dtype, seed
        self.vocabulary = shape.vocabulary
        self._torch: Any = None
        self._model: Any = None

    def report(self) -> dict[str, Any]:
        """Return what runs, on what, and that its weights are random; ValueError where torch cannot do as asked."""
        self._connect()
        import transformers  # noqa: PLC0415 - as heavy as torch

        return {
            "model": self._shape.name,
            "build": f"transformers {transformers.__version__}, torch {self._torch.__version__}",
            "torch_device": self._device,
            "threads": self._torch.get_num_threads(),
            "quantization": {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[self._dtype],
            "context_tokens": self._shape.context_tokens,
            "slots": 1,
            "weights": RANDOM_WEIGHTS,
            "shape": {"source": self._shape.source, "parameters": self._parameters()},
        }

    def _connect(self) -> None:
        """Make the model, once; the only place that imports torch."""
        if self._model is not None:
            return
        try:
            import torch  # noqa: PLC0415 - heavy, and needed by this runtime alone
            from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415
        except ImportError as error:
            raise ValueError("a model in this process needs torch: pip install 'moe2-twin[gate,testbed]'") from error
        shape, self._torch = self._shape, torch
        gpu = torch.cuda.is_available()
        self._device = ("cuda" if gpu else "cpu") if self._device == "auto" else self._device
        self._dtype = (
            ("bfloat16" if self._device.startswith("cuda") else "float32") if self._dtype == "auto" else self._dtype
        )
        if self._dtype not in DTYPES:
            raise ValueError(f"dtype {self._dtype!r}: must be auto or one of {', '.join(DTYPES)}")
        torch.manual_seed(self._seed)
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
            dtype=self._dtype,  # without it the weights are made in 32 bits first, twice the memory
        )
        made: Any = LlamaForCausalLM  # transformers is not typed throughout
        try:
            with torch.device(self._device):
                self._model = made(config).to(getattr(torch, self._dtype)).eval()
        except (RuntimeError, AssertionError) as error:  # the latter of a torch without CUDA
            raise ValueError(f"{shape.name} on {self._device}: torch cannot make it ({error})") from error

    def _parameters(self) -> int:
        return sum(int(weights.numel()) for weights in self._model.parameters())

    def generate(self, prompt: Sequence[int], output_tokens: int) -> Generation:
        """Generate greedily; each token is waited for, as a server that streams must."""
        self._connect()
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
