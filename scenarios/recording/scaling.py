"""A scenario played faster or slower than it says: the same requests, closer together or farther apart."""

from __future__ import annotations

from math import isfinite
from typing import Any

from scenarios.files.loading import Scenario
from scenarios.files.schema import ScenarioFile

__all__ = ["sped_up"]

_RATES = ("requests_per_s", "requests_per_s_per_user", "rate_scale")
_SECONDS = ("period_s", "mean_s")


def sped_up(scenario: Scenario, speed: float) -> Scenario:
    """Return the scenario with its load `speed` times as fast and its duration as much shorter.

    Delays of the network, timeouts and budgets stay: they are of the world, which does not run faster. Raises
    ValueError for a speed that is no positive number, and for a load whose instants stand in a file.
    """
    if not (isfinite(speed) and speed > 0):
        raise ValueError(f"--speed {speed}: must be a finite number above 0; 2 plays twice as fast")
    if speed == 1:
        return scenario
    data = scenario.file.model_dump(exclude_none=True)
    if data["load"]["process"] == "requests":
        raise ValueError("--speed: the instants of this load stand in its file; scale the column arrived_s there")
    data["load"] = _faster(data["load"], speed)
    data["duration_s"] /= speed
    if data["warmup_s"] != "auto":
        data["warmup_s"] /= speed
    file = ScenarioFile.model_validate(data)
    return Scenario(file=file, source=scenario.source, folder=scenario.folder)


def _faster(value: Any, speed: float) -> Any:
    """Return a load with its rates multiplied and its seconds divided.

    >>> _faster({"process": "mmpp", "states": [{"requests_per_s": 2.0, "mean_s": 8.0}]}, 4.0)
    {'process': 'mmpp', 'states': [{'requests_per_s': 8.0, 'mean_s': 2.0}]}
    """
    if isinstance(value, list):
        return [_faster(part, speed) for part in value]
    if not isinstance(value, dict):
        return value
    scaled = {}
    for key, part in value.items():
        if key in _RATES:
            scaled[key] = part * speed
        elif key in _SECONDS:
            scaled[key] = part / speed
        else:
            scaled[key] = _faster(part, speed)
    return scaled
