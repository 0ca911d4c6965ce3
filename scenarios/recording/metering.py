"""Meters over a replication: the joules of each device that has one, and those of its busy time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from calibration.meters.opening import open_meter
from calibration.meters.protocol import Meter
from calibration.meters.sampling import Sampling
from scenarios.recording.endpoints import EndpointSpec
from scenarios.recording.journal import Metered

__all__ = ["energy_gap", "metered", "open_meters", "sampling"]


def open_meters(specs: Sequence[EndpointSpec], devices: Sequence[str]) -> dict[str, Meter]:
    """Return the meter of each device that has one; `devices` are those of the endpoints' experts.

    A device that several experts share needs its meter once. Raises ValueError naming the expert whose meter cannot be
    opened.
    """
    meters: dict[str, Meter] = {}
    for spec, device in zip(specs, devices, strict=True):
        try:
            meter = open_meter(spec.meter, rails=spec.rails, gpu=spec.gpu)
        except ValueError as error:
            raise ValueError(f"endpoint of {spec.expert!r}: {error}") from None
        if meter.scope is not None:
            meters.setdefault(device, meter)
    return meters


@contextmanager
def sampling(meters: dict[str, Meter]) -> Iterator[dict[str, Sampling]]:
    """Look at all meters, each at its own rate, while the block lasts."""
    with ExitStack() as stack:
        yield {device: stack.enter_context(Sampling(meter)) for device, meter in meters.items()}


def metered(
    seen: Sampling, spans: Sequence[tuple[float, float]], *, began_s: float, horizon_s: float
) -> dict[str, Any]:
    """Return a device's joules from 0 to `horizon_s` and in its busy `spans` (of the run's clock), for `Metered`.

    Busy joules are not known when one of the spans is too short for the meter: see `calibration.meters.series`.
    """
    whole = seen.energy_of(began_s, began_s + horizon_s)
    busy = [seen.energy_of(began_s + begin_s, began_s + end_s) for begin_s, end_s in spans]
    aliased = next((f"busy joules: {window.reason}" for window in busy if window.joules is None), "")
    return {
        "energy_j": whole.joules,
        "busy_j": None if aliased or whole.joules is None else sum(window.joules or 0.0 for window in busy),
        "scope": seen.meter.scope,
        "source": whole.source,
        "reason": whole.reason or aliased,
    }


def energy_gap(devices: Sequence[str], found: Sequence[Metered]) -> str:
    """Return why the joules of the devices cannot be summed, '' when they can."""
    known = {event.device for event in found if event.energy_j is not None}
    if without := sorted(set(devices) - known):
        reason = next(
            (f": {event.reason}" for event in found if event.device == without[0]),
            ": no meter, or the recording was interrupted",
        )
        return f"the energy of {', '.join(without)} was not measured{reason}"
    scopes = sorted({str(event.scope) for event in found})
    return f"the meters cover different scopes, {' and '.join(scopes)}" if len(scopes) > 1 else ""
