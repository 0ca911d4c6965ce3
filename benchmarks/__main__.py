"""Run every benchmark of this folder, one after another. `make bench`."""

import importlib
import pkgutil
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def main() -> None:
    """Print the machine, then each benchmark's own lines and what it took."""
    print(f"{processor()}, {platform.system()}, Python {platform.python_version()}")
    began_s = time.perf_counter()
    for name, benchmark in benchmarks():
        print(f"\n== {name}", flush=True)
        started_s = time.perf_counter()
        benchmark()
        print(f"({time.perf_counter() - started_s:.0f} s)", flush=True)
    print(f"\nall benchmarks: {(time.perf_counter() - began_s) / 60:.1f} minutes")


def benchmarks() -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the name and the `main` of every module of this folder that has one, each loaded when its turn comes."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.ispkg and module.name != "__main__":
            main = getattr(importlib.import_module(f"benchmarks.{module.name}"), "main", None)
            if main is not None:
                yield module.name, main


def processor() -> str:
    """Return the processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


if __name__ == "__main__":
    main()
