"""The plant of a scenario: its experts with their profiles, read and checked against each other."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from calibration.profile import Profile, find_profile
from scenarios.files.complaints import near
from scenarios.files.loading import Scenario
from scenarios.files.schema import ExpertSpec
from twin.servers.expert import Expert

log = logging.getLogger(__name__)

__all__ = ["build_experts", "energy_gap", "expert_indices"]


def build_experts(scenario: Scenario) -> tuple[Expert, ...]:
    """Return the scenario's experts with their profiles.

    Raises ValueError naming the scenario, the expert and what is wrong with its profile or its slots.
    """
    experts = tuple(_expert(scenario, i, spec) for i, spec in enumerate(scenario.file.experts))
    log.info("read the profiles of %d experts: %s", len(experts), ", ".join(e.profile.name for e in experts))
    return experts


def _expert(scenario: Scenario, i: int, spec: ExpertSpec) -> Expert:
    try:
        return Expert(
            name=spec.name,
            device=spec.device,
            profile=_profile(scenario, spec, spec.profile),
            max_batch=spec.max_batch,
            kv_capacity_tokens=spec.kv_capacity_tokens,
            scheduler=spec.scheduler,
            token_budget=spec.token_budget,
            kv=spec.kv,
            block_tokens=spec.block_tokens,
            noise=spec.noise,
            power_modes={mode: _profile(scenario, spec, name) for mode, name in spec.power_modes.items()},
            load_s=spec.load_model_s,
            load_j=spec.load_model_j if spec.load_model_s > 0 else spec.load_model_j or 0.0,
            loads_at_start=spec.load_model_at_start,
        )
    except (ValueError, OSError) as error:
        raise ValueError(f"{scenario.source}: experts[{i}] {spec.name!r}: {error}") from None


def _profile(scenario: Scenario, spec: ExpertSpec, name: str) -> Profile:
    profile = find_profile(name, scenario.folder)
    added = spec.added_power
    return profile.with_added_power(added.power_w, added.scope, added.source) if added else profile


def energy_gap(experts: Sequence[Expert]) -> str:
    """Return why the experts' energy cannot be summed, or nothing.

    Either a profile's energy is unknown, or the profiles cover different parts of their machines.
    """
    profiles = [profile for e in experts for profile in (e.profile, *e.power_modes.values())]
    unknown = [profile.name for profile in profiles if profile.joules is None or profile.idle_w is None]
    if unknown:
        names = ", ".join(sorted(set(unknown)))
        return f"the energy of {names} is not known; measure it, or name a profile that has it"
    if loads := [e.name for e in experts if e.load_j is None]:
        return f"the energy of loading {', '.join(loads)} is not known; give load_model_j"
    scopes = {profile.energy_scope: profile.name for profile in profiles}
    if len(scopes) > 1:
        covers = " and ".join(f"{scope} ({name})" for scope, name in sorted(scopes.items()))
        return f"the profiles' energies cover different scopes: {covers}; bring them to one with added_power"
    return ""


def expert_indices(names: Sequence[str], experts: Sequence[Expert], where: str) -> tuple[int, ...]:
    """Return the indices of the named experts; ValueError with a near match for a name that no expert has."""
    known = [e.name for e in experts]
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: no expert is named {name!r}{near(name, known)}; experts: {', '.join(known)}")
        if list(names).count(name) > 1:
            raise ValueError(f"{where}: expert {name!r} is named twice")
    if not names:
        raise ValueError(f'{where}: the list is empty; name at least one expert, or write subset = "auto"')
    return tuple(known.index(name) for name in names)
