"""What a scenario lets happen to its devices, and what its gateway does about it, in words."""

from __future__ import annotations

from scenarios.files.faults import Faults
from scenarios.files.gateway import Gateway
from scenarios.files.schema import ScenarioFile
from scenarios.story.story import FREE_GATE, NOT_MODELLED, STEADY_DEVICES

__all__ = ["happenings", "not_modelled"]


def happenings(file: ScenarioFile) -> list[tuple[str, str]]:
    """Return facts of the run: faults, switches of the power mode and the gateway's rules, each where there is one."""
    found = [("Faults", _faults(file.faults)), ("Power modes", _switches(file)), ("Gateway", _gateway(file.gateway))]
    return [(what, words) for what, words in found if words]


def not_modelled(file: ScenarioFile) -> list[str]:
    """Return what no run models, less what this one does."""
    instead = {}
    if file.faults != Faults() or file.power_switches:
        instead[STEADY_DEVICES] = (
            "Devices fail, slow down and change their power mode as the scenario says, and do not throttle when hot."
        )
    if file.gateway.gate_s > 0:
        instead[FREE_GATE] = "The gate's own computation costs no energy."
    return [instead.get(text, text) for text in NOT_MODELLED]


def _faults(faults: Faults) -> str:
    words = [
        f"{c.device} crashes at {c.at_s:g} s, {'for good' if c.repaired_s is None else f'until {c.repaired_s:g} s'}"
        for c in faults.crashes
    ]
    words += [
        f"{s.device} takes {s.factor:g} times as long from {s.at_s:g} s"
        + ("" if s.ends_s is None else f" until {s.ends_s:g} s")
        for s in faults.slow_downs
    ]
    words += [
        f"the {o.link} link{f' of {o.device}' if o.device else ''} is down from {o.at_s:g} s until {o.ends_s:g} s"
        for o in faults.outages
    ]
    which = "every device" if faults.devices is None else ", ".join(faults.devices)
    if faults.mtbf_s is not None:
        words.append(
            f"{which} crashes at random, on average {faults.mtbf_s:g} s after a repair, for {faults.mean_repair_s:g} s"
        )
    if faults.lan_mtbf_s is not None:
        words.append(
            f"the lan link of {which} is down at random, on average {faults.lan_mtbf_s:g} s after the last time, for "
            f"{faults.mean_lan_outage_s:g} s"
        )
    return "; ".join(words)


def _switches(file: ScenarioFile) -> str:
    return "; ".join(f"{s.device} goes to {s.mode} at {s.at_s:g} s" for s in file.power_switches)


def _gateway(gateway: Gateway) -> str:
    words = []
    if gateway.load_aware_top_m is not None:
        words.append(f"asks the least loaded of the gate's {gateway.load_aware_top_m} best")
    if gateway.quorum is not None:
        words.append(f"{gateway.quorum} answers suffice")
    if gateway.timeout_s is not None:
        words.append(f"gives up a leg after {gateway.timeout_s:g} s")
    if gateway.max_attempts > 1:
        words.append(f"tries a leg {gateway.max_attempts} times, on the {gateway.retry} expert")
    if gateway.admission_limit is not None:
        words.append(f"turns requests away beyond {gateway.admission_limit} in flight")
    if gateway.gate_s > 0:
        words.append(f"the gate takes {1000 * gateway.gate_s:g} ms a prompt")
    return "; ".join(words)
