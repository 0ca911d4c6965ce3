"""What measuring costs: meters' share of a core and of TTFT, and the client's own time beside the server's.

`python -m benchmarks.metering` on an idle machine of two cores or more, about 100 s. The share of TTFT is measured
twice: on a server whose every prompt is the same work (`benchmarks.servers.steady`), in many short requests, where
half a per cent can be told; and on llama.cpp, whose own time per prompt varies by more than that.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CDLL, CFUNCTYPE, c_int, c_uint, c_void_p
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np

from calibration.meters.boards import board_named
from calibration.meters.ina3221 import Ina3221Meter
from calibration.meters.nvml import NvmlMeter
from calibration.meters.protocol import Meter
from calibration.meters.sampling import Sampling
from calibration.profile import find_profile
from calibration.runtimes.endpoint import Endpoint
from calibration.runtimes.stream import Stream
from tests.llama_server import llama_server, write_llama

WATCHED_S = 5.0
PAIRS = 40
WORK_S = 0.02
BLOCK = 10
BLOCKS = 100
"""Pairs of blocks of requests on the steady server: a thousand requests with the meter, a thousand without."""
TYPICAL = ("agx-orin-64gb/deepseek-r1-distill-llama-8b/fp16", 512)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        meter = Ina3221Meter(_sysfs(Path(folder)), board_named("AGX Orin"))
        for name, one in (("INA3221, files of a disk", meter), ("NVML, a stub of the library", _nvml())):
            print(f"{name}: {1 / one.poll_s:.0f} looks a second cost {core_share(one):.2%} of a core (allowed 1 %)")
        with steady_server() as address:
            print(told(*steady_first_tokens(meter, address)))
        with llama_server(write_llama(Path(folder) / "llama.gguf")) as address:
            with_s, without_s, overhead_s = first_tokens(meter, address)
            costs_s = {n: client_cpu_s(address, n) for n in (1, 64)}
        change = np.median(with_s) / np.median(without_s) - 1
        spread = 1.2533 * np.hypot(*(np.std(s) / np.sqrt(len(s)) / np.median(s) for s in (with_s, without_s)))
        print(
            f"llama.cpp, {PAIRS} pairs: TTFT with the meter {change:+.2%} ± {1.96 * spread:.2%}: too few and too "
            "scattered to tell 0.5 %, see the steady server"
        )
        print(
            f"client overhead, TTFT - server's prompt time: median {1000 * np.median(overhead_s):.2f} ms (allowed 2 ms)"
        )
        for n, (whole_s, inside_s) in costs_s.items():
            print(
                f"client CPU, 512 prompt and {n} output tokens: {1000 * whole_s:.2f} ms a request, "
                f"{1000 * inside_s:.2f} ms of it between sending and the last byte"
            )
        meter.close()


@contextmanager
def steady_server() -> Iterator[str]:
    """Yield the address of a `benchmarks.servers.steady` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.servers.steady", str(WORK_S)]
    with subprocess.Popen(  # noqa: S603 - this file's own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


def steady_first_tokens(meter: Meter, address: str) -> tuple[np.ndarray, np.ndarray]:
    """Return TTFTs with and without sampling, each (BLOCKS, BLOCK), from blocks in alternation, a random one first."""
    endpoint = Endpoint(address)
    endpoint.report()
    rng = np.random.default_rng(0)
    ttft_s = np.empty((2, BLOCKS, BLOCK))
    _ttfts(endpoint)
    for pair in range(BLOCKS):
        for metered in rng.permutation(2):
            if metered:
                with Sampling(meter):
                    ttft_s[0, pair] = _ttfts(endpoint)
            else:
                ttft_s[1, pair] = _ttfts(endpoint)
    endpoint.close()
    return ttft_s[0], ttft_s[1]


def told(with_s: np.ndarray, without_s: np.ndarray) -> str:
    """Return the effect of metering in ms and as shares, with 95 % intervals from the pairs of blocks."""
    name, prompt_tokens = TYPICAL
    typical_s = float(find_profile(name, Path.cwd()).seconds.prefill_of(prompt_tokens))
    usual_s, lines = float(np.median(without_s)), []
    for what, of in (("medians of blocks", np.median), ("means of blocks", np.mean)):
        effect_s, error_s = _paired(of, with_s, without_s)
        lines.append(
            f"steady server, {BLOCKS} pairs of {BLOCK} requests, {what}: TTFT with the meter {1e3 * effect_s:+.3f} ± "
            f"{1e3 * error_s:.3f} ms of {1e3 * usual_s:.1f} ms, {effect_s / usual_s:+.2%} ± {error_s / usual_s:.2%} "
            f"(allowed 0.5 %); {effect_s / typical_s:+.3%} ± {error_s / typical_s:.3%} of the {1e3 * typical_s:.0f} ms "
            f"that {prompt_tokens} tokens take by {name}, if it does not grow with them"
        )
    return "\n".join(lines)


def _paired(of: Callable[..., np.ndarray], with_s: np.ndarray, without_s: np.ndarray) -> tuple[float, float]:
    each = of(with_s, axis=1) - of(without_s, axis=1)
    return float(each.mean()), float(1.984 * each.std(ddof=1) / np.sqrt(len(each)))  # Student's t, 99 degrees


def _ttfts(endpoint: Endpoint) -> list[float]:
    found = []
    for _ in range(BLOCK):
        generation = endpoint.generate([1] * 32, 1)
        if generation.fault or generation.ttft_s is None:
            raise SystemExit(f"the steady server does not do as asked: {generation.fault}")
        found.append(generation.ttft_s)
    return found


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


def _nvml() -> Meter:
    """Return the NVML meter on a stub of the library: the real binding, each of whose looks ends in an idle ioctl.

    A driver's own time is not in it: it is the card's, and differs between drivers. What is read is zero.
    """
    import pynvml  # noqa: PLC0415 - replaced only here

    libc = CDLL(None)

    def handle(_index: int, device: int) -> int:
        c_void_p.from_address(device).value = 9999  # no open file: isatty asks the kernel and answers 0, success
        return 0

    stub: dict[str, Any] = {
        "nvmlInitWithFlags": CFUNCTYPE(c_int, c_uint)(lambda _: 0),
        "nvmlShutdown": CFUNCTYPE(c_int)(lambda: 0),
        "nvmlDeviceGetHandleByIndex_v2": CFUNCTYPE(c_int, c_uint, c_void_p)(handle),
        "nvmlDeviceGetName": libc["isatty"],
        "nvmlDeviceGetFieldValues": libc["isatty"],
        "nvmlDeviceGetTotalEnergyConsumption": libc["isatty"],
    }
    pynvml.nvmlLib = SimpleNamespace(**stub)
    return NvmlMeter()


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
