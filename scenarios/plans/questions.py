"""Questions that planners ask, each as a sweep over named variants of a scenario: the first is the one to compare with.

A variant is a whole scenario, so its results are cached, paired and written like any point of a sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scenarios.files.loading import Scenario, load
from scenarios.files.schema import Poisson
from scenarios.sweeps.cache import digest
from scenarios.sweeps.sweeping import Point, Sweep
from scenarios.sweeps.variations import Variation, literal

if TYPE_CHECKING:
    from scenarios.runs.replicating import Assembly
    from twin.world import Engine

__all__ = ["VARIANT", "fixed_subset", "frozen", "quoted", "scaled_load", "variants", "versus", "what_ifs"]

VARIANT = "variant"


def variants(named: Sequence[tuple[str, Scenario]], engine: Engine) -> Sweep:
    """Return the sweep over named scenarios; the first is its base."""
    labels = tuple(label for label, _ in named)
    if len(set(labels)) < len(labels):
        raise ValueError(f"variants need names of their own; found {', '.join(labels)}")
    points = tuple(
        Point(index=i, values=(label,), scenario=scenario, digest=digest(scenario, engine))
        for i, (label, scenario) in enumerate(named)
    )
    return Sweep(base=named[0][1], variations=(Variation(key=VARIANT, values=labels),), points=points, engine=engine)


def versus(one: str | Path, other: str | Path, changes: Sequence[str], *, engine: Engine) -> Sweep:
    """Return two scenarios to compare, under the first one's seed and number of replications."""
    first = load(one, changes)
    same = [f"seed={first.file.seed}", f"replications={first.file.replications}"]
    second = load(other, [*changes, *same])
    names = (first.file.name, second.file.name)
    labels = names if names[0] != names[1] else (f"{names[0]} (first)", f"{names[1]} (second)")
    return variants([(labels[0], first), (labels[1], second)], engine)


def what_ifs(scenario: str | Path, changes: Sequence[str], *, engine: Engine) -> Sweep:
    """Return a scenario beside itself with each device lost or crashing, prompts twice as long, and twice the load.

    The subset is the one that the scenario keeps; what is lost is not replaced. A crash comes when half of the
    arrivals are over and is repaired a tenth of them later; what becomes of its requests the scenario's gateway says.
    Prompts twice as long are made by a longer prefix, so that their mean doubles. A load from a file is kept as it is.
    ValueError for a wrong scenario, or one whose requests name their experts.
    """
    from scenarios.runs.replicating import assemble  # noqa: PLC0415 - loads the simulator

    assembly = assemble(load(scenario, changes), engine=engine)
    kept = _kept_names(assembly)
    base = [*changes, fixed_subset(kept)]
    named = [("as it is", load(scenario, base))]
    devices = dict.fromkeys(expert.device for expert in assembly.experts)  # one may carry several experts
    rests = {device: [e.name for e in assembly.experts if e.device != device] for device in devices}
    named += [
        (f"without {device}", load(scenario, [*changes, fixed_subset(rest)])) for device, rest in rests.items() if rest
    ]
    fine = [device for device in devices if device not in assembly.file.faults.named_devices()]
    named += [(f"crash of {device}", load(scenario, [*base, _crash(assembly, device)])) for device in fine]
    if isinstance(assembly.file.load, Poisson):
        named.append(("prompts twice as long", load(scenario, [*base, _longer_prompts(assembly)])))
        named.append(("twice the load", load(scenario, [*base, scaled_load(assembly.scenario, 2.0)])))
    return variants(named, engine)


def fixed_subset(names: Sequence[str]) -> str:
    """Return the change that keeps exactly these experts."""
    return f"router.subset=[{', '.join(quoted(name) for name in names)}]"


def scaled_load(scenario: Scenario, factor: float) -> str:
    """Return the change that multiplies a random load, whichever way its rate is given."""
    arrivals = scenario.file.load
    if not isinstance(arrivals, Poisson):
        raise ValueError(f'{scenario.source}: load.process = "{arrivals.process}": only a poisson load can be scaled')
    if arrivals.requests_per_s is not None:
        return f"load.requests_per_s={arrivals.requests_per_s * factor!r}"
    return f"load.requests_per_s_per_user={(arrivals.requests_per_s_per_user or 0.0) * factor!r}"


def frozen(scenario: str | Path, changes: Sequence[str], *, engine: Engine) -> tuple[Scenario, list[str]]:
    """Return the scenario with the subset it keeps written down, and the changes that make it."""
    from scenarios.runs.replicating import assemble  # noqa: PLC0415 - loads the simulator

    assembly = assemble(load(scenario, changes), engine=engine)
    fixed = [*changes, fixed_subset(_kept_names(assembly))]
    return load(scenario, fixed), fixed


def _kept_names(assembly: Assembly) -> list[str]:
    if assembly.routing is None:
        raise ValueError(f"{assembly.scenario.source}: its requests name their experts; this question needs a router")
    return [e.name for e in assembly.experts]


def _crash(assembly: Assembly, device: str) -> str:
    """Return the change that adds a crash of a device to those that the scenario has."""
    at_s = assembly.file.duration_s / 2
    crashes = [c.model_dump(exclude_none=True) for c in assembly.file.faults.crashes]
    crashes.append({"device": device, "at_s": at_s, "repaired_s": 1.2 * at_s})
    return f"faults.crashes={literal(crashes)}"


def _longer_prompts(assembly: Assembly) -> str:
    routing, arrivals = assembly.routing, assembly.file.load
    assert routing is not None  # noqa: S101 - checked by the caller
    assert isinstance(arrivals, Poisson)  # noqa: S101 - likewise
    mean = float(routing.pool.prompt_tokens[routing.test_rows].mean())
    return f"load.prompt_prefix_tokens={round(2 * arrivals.prompt_prefix_tokens + mean)}"


def quoted(name: str) -> str:
    """Return a name as TOML has it."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
