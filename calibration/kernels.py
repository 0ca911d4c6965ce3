"""Profiles from the kernel tables of an engine, for either scheduler of the twin."""

from pathlib import Path
from typing import Any

from calibration.architectures import Architecture
from calibration.composed import composed_profile
from calibration.engine import engine_profile
from calibration.iterations import Limits
from calibration.profile import Profile

NO_LIMITS = Limits()


def kernel_profile(
    tables: tuple[Path, Path, Path],
    architecture: Architecture,
    *,
    device: str,
    device_name: str,
    quantization: str | None,
    limits: Limits = NO_LIMITS,
    chunked: bool = False,
    **beside: Any,
) -> Profile:
    """Return the profile of a model from its tables dense, attention and per sequence, of iterations within `limits`.

    Prefills alone and decodes are fitted apart, as the scheduler `prefill_first` runs them; with `chunked` whole
    iterations are, as that scheduler fills them. `beside` is what only the former takes: power and speeds of the device
    (see `composed_profile`). Raises ValueError naming the file.
    """
    named: dict[str, Any] = {"device": device, "device_name": device_name, "quantization": quantization}
    if chunked:
        return engine_profile(tables, architecture, **named, limits=limits, **beside)
    return composed_profile(tables, architecture, **named, limits=limits, **beside)
