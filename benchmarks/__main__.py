"""Run every benchmark of this folder, one after another. `make bench`."""

import importlib
import pkgutil
import platform
from pathlib import Path


def main() -> None:
    """Print the machine, then each benchmark's own lines."""
    print(f"{processor()}, {platform.system()}, Python {platform.python_version()}")
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "__main__":
            print(f"\n== {module.name}")
            importlib.import_module(f"benchmarks.{module.name}").main()


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
