"""Run every benchmark of this folder, each in a process of its own, one after another. `make bench`."""

import pkgutil
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> None:
    """Print the machine, then each benchmark's own lines and what it took."""
    print(f"{processor()}, {platform.system()}, Python {platform.python_version()}")
    began_s = time.perf_counter()
    for name in benchmarks():
        print(f"\n== {name}", flush=True)
        started_s = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        subprocess.run(command, check=True, cwd=FOLDER.parent)  # noqa: S603 - this program's own modules
        print(f"({time.perf_counter() - started_s:.0f} s)", flush=True)
    print(f"\nall benchmarks: {(time.perf_counter() - began_s) / 60:.1f} minutes")


def benchmarks() -> Sequence[str]:
    """Return the modules of this folder; its packages are what they measure against."""
    return [m.name for m in pkgutil.iter_modules([str(FOLDER)]) if not m.ispkg and m.name != "__main__"]


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
