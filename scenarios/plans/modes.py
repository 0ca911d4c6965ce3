"""The power modes that devices may start in, and which of their assignments are worth a proposal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf

from twin.servers.expert import Expert

__all__ = ["Mode", "modes_of", "slowed", "started_in"]

Mode = str | None
"""A key of the experts' power_modes; None: the mode that the scenario starts the device in."""


def modes_of(experts: Sequence[Expert], switched: Collection[str]) -> dict[str, tuple[Mode, ...]]:
    """Return the modes that each device may start in: its own, and those that every expert on it has a profile of.

    A device that is `switched` during the run starts as the scenario says; a mode with the same profiles is no other,
    and one whose profile is of another model would be another expert.
    """
    found: dict[str, tuple[Mode, ...]] = {}
    for device in dict.fromkeys(e.device for e in experts):
        here = [e for e in experts if e.device == device]
        named = [m for m in here[0].power_modes if all(_same_model(e, m) for e in here)]
        others = [m for m in named if any(e.power_modes[m] != e.profile for e in here)]
        found[device] = (None,) if device in switched else (None, *others)
    return found


def started_in(expert: Expert, mode: Mode) -> Expert:
    """Return an expert whose device starts in a mode."""
    return expert if mode is None else replace(expert, profile=expert.profile_in(mode))


def slowed(
    choices: Mapping[str, Sequence[Mode]], cost: Callable[[Mapping[str, Mode]], tuple[float, float]]
) -> Iterator[dict[str, Mode]]:
    """Yield assignments of modes from the quickest to the thriftiest, one device a step.

    `choices` has the modes of each device from the quickest to the thriftiest. Each step slows down the device that
    adds least to the first of the two costs for what it takes off the second.

    >>> costs = {("a", None): (1, 9), ("a", "low"): (2, 5), ("b", None): (1, 9), ("b", "low"): (9, 8)}
    >>> def cost(modes): return tuple(sum(costs[item][i] for item in modes.items()) for i in (0, 1))
    >>> [list(modes.values()) for modes in slowed({"a": (None, "low"), "b": (None, "low")}, cost)]
    [[None, None], ['low', None], ['low', 'low']]
    """
    place = dict.fromkeys(choices, 0)
    while True:
        here = {device: choices[device][at] for device, at in place.items()}
        yield here
        steps = [device for device, at in place.items() if at + 1 < len(choices[device])]
        if not steps:
            return
        slow, thrifty = cost(here)
        price = {}
        for device in steps:
            slower, thriftier = cost({**here, device: choices[device][place[device] + 1]})
            saved = thrifty - thriftier
            price[device] = (slower - slow) / saved if saved > 0 else inf
        place[min(steps, key=price.__getitem__)] += 1


def _same_model(expert: Expert, mode: str) -> bool:
    return mode in expert.power_modes and expert.power_modes[mode].model == expert.profile.model
