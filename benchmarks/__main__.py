"""Run every benchmark of this folder, one after another. `make bench`."""

import importlib
import pkgutil
import platform
import time
from pathlib import Path


def main() -> None:
    """Print the machine, then each benchmark's own lines and what it took."""
    print(f"{processor()}, {platform.system()}, Python {platform.python_version()}")
    began_s = time.perf_counter()
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "__main__" and not module.ispkg:
            print(f"\n== {module.name}", flush=True)
            started_s = time.perf_counter()
            importlib.import_module(f"benchmarks.{module.name}").main()
            print(f"({time.perf_counter() - started_s:.0f} s)", flush=True)
    print(f"\nall benchmarks: {(time.perf_counter() - began_s) / 60:.1f} minutes")


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
