"""What measuring costs: a meter's share of a core and of TTFT, and the client's own time beside the server's."""

import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

from calibration.meters.boards import board_named
from calibration.meters.ina3221 import Ina3221Meter
from calibration.meters.protocol import Meter
from calibration.meters.sampling import Sampling
from calibration.runtimes.endpoint import Endpoint
from calibration.runtimes.stream import Stream
from tests.llama_server import llama_server, write_llama

WATCHED_S = 5.0
PAIRS = 40


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        meter = Ina3221Meter(_sysfs(Path(folder)), board_named("AGX Orin"))
        print(f"meter at {1 / meter.poll_s:.0f} looks a second: {core_share(meter):.2%} of a core (allowed 1 %)")
        with llama_server(write_llama(Path(folder) / "llama.gguf")) as address:
            with_s, without_s, overhead_s = first_tokens(meter, address)
            costs_s = {n: client_cpu_s(address, n) for n in (1, 64)}
        change = np.median(with_s) / np.median(without_s) - 1
        spread = 1.2533 * np.hypot(*(np.std(s) / np.sqrt(len(s)) / np.median(s) for s in (with_s, without_s)))
        print(f"TTFT with the meter over without, {PAIRS} pairs: {change:+.2%} ± {1.96 * spread:.2%} (allowed 0.5 %)")
        print(
            f"client overhead, TTFT - server's prompt time: median {1000 * np.median(overhead_s):.2f} ms (allowed 2 ms)"
        )
        for n, (whole_s, inside_s) in costs_s.items():
            print(
                f"client CPU, 512 prompt and {n} output tokens: {1000 * whole_s:.2f} ms a request, "
                f"{1000 * inside_s:.2f} ms of it between sending and the last byte"
            )
        meter.close()


def core_share(meter: Meter) -> float:
    """Return the CPU time that sampling takes over the time it samples."""
    before_s = time.process_time()
    with Sampling(meter):
        time.sleep(WATCHED_S)
    return (time.process_time() - before_s) / WATCHED_S


def client_cpu_s(address: str, output_tokens: int) -> tuple[float, float]:
    """Return this process's CPU seconds per request, all of it and the part within its durations.

    CPU time hardly grows when the machine is busy, as wall time does.
    """
    endpoint = Timed(address)
    endpoint.report()
    rng = np.random.default_rng(1)
    prompts = [rng.integers(100, 500, 512).tolist() for _ in range(PAIRS)]
    endpoint.generate(prompts[0], output_tokens)
    endpoint.inside_s = 0.0
    before_s = time.process_time()
    for prompt in prompts:
        endpoint.generate(prompt, output_tokens)
    whole_s = time.process_time() - before_s
    endpoint.close()
    return whole_s / len(prompts), endpoint.inside_s / len(prompts)


class Timed(Endpoint):
    """An endpoint that adds up the CPU time of what lies between sending and the last byte."""

    inside_s = 0.0

    def _received(self, request: httpx.Request, stream: Stream) -> str:
        before_s = time.process_time()
        fault = super()._received(request, stream)
        self.inside_s += time.process_time() - before_s
        return fault


def first_tokens(meter: Meter, address: str) -> tuple[list[float], list[float], list[float]]:
    """Return TTFTs with and without sampling, in alternation, and the client's overheads without."""
    endpoint = Endpoint(address)
    endpoint.report()
    rng = np.random.default_rng(0)
    with_s: list[float] = []
    without_s: list[float] = []
    overhead_s: list[float] = []
    for pair in range(PAIRS + 2):
        for metered in (True, False) if pair % 2 else (False, True):
            prompt = rng.integers(100, 500, 512).tolist()
            if metered:
                with Sampling(meter):
                    generation = endpoint.generate(prompt, 1)
            else:
                generation = endpoint.generate(prompt, 1)
            if generation.fault:
                raise SystemExit(f"the server does not do as asked: {generation.fault}")
            if pair >= 2 and generation.ttft_s is not None:
                (with_s if metered else without_s).append(generation.ttft_s)
                if not metered and generation.server_prefill_s is not None:
                    overhead_s.append(generation.ttft_s - generation.server_prefill_s)
    endpoint.close()
    return with_s, without_s, overhead_s


def _sysfs(root: Path) -> Path:
    """Write hwmon files as an AGX Orin has them; reading real ones also waits for the sensor's bus."""
    for n, rail in enumerate(board_named("AGX Orin").total, start=1):
        chip = root / "sys" / "class" / "hwmon" / "hwmon1"
        chip.mkdir(parents=True, exist_ok=True)
        (chip / "name").write_text("ina3221\n")
        (chip / f"in{n}_label").write_text(f"{rail}\n")
        (chip / f"in{n}_input").write_text("5000\n")
        (chip / f"curr{n}_input").write_text("800\n")
    return root


if __name__ == "__main__":
    main()
