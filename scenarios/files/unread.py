"""Keys that nothing in a scenario reads: changing one would change nothing, which is never what was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from scenarios.files.loads import (
    ClosedLoop,
    Diurnal,
    Gamma,
    Modulated,
    Poisson,
    RecordedRun,
    RequestsFile,
    Sessions,
    TraceLoad,
)
from scenarios.files.schema import ExpertSpec, ScenarioFile

__all__ = ["why_unread"]


def why_unread(key: str, file: ScenarioFile, names_experts: Callable[[], bool]) -> str:
    """Return why nothing in a scenario reads a key, and which one to change instead; nothing where it is read.

    `names_experts` tells whether the requests of a `requests` load name their experts.
    """
    rules = (*_of_load(file, names_experts), *_of_users(file), *_of_experts(file), *_of_the_rest(file))
    return next((why for pattern, why in rules if re.fullmatch(pattern, key)), "")


Rules = Iterator[tuple[str, str]]
"""A pattern of keys that nothing reads, and why."""


def _of_load(file: ScenarioFile, names_experts: Callable[[], bool]) -> Rules:
    if isinstance(file.load, RecordedRun):
        played = "a recorded run is played again at the servers, with its own users, network and routing"
        yield r"(users|network|router|gateway)\..*", played
        yield r"faults\.(outages|lan_mtbf_s|mean_lan_outage_s).*", played
    elif isinstance(file.load, RequestsFile) and names_experts():
        why = f"the requests of {file.load.path} name their experts and come to them without a network"
        yield r"(users|network|router)\..*", f"{why}; leave out the column 'experts' to have them routed"
        yield r"faults\.(outages|lan_mtbf_s|mean_lan_outage_s).*", why


def _of_users(file: ScenarioFile) -> Rules:
    if file.network.access_points is None:
        why = "where users are matters to nothing, as the network has no access points; add network.access_points"
        yield r"users\.(speed_m_per_s|pause_s)", why
        if driving := _rate(file):
            yield r"users\.count", driving
    elif file.users.mobility != "random_waypoint":
        yield r"users\.(speed_m_per_s|pause_s)", f'users.mobility is "{file.users.mobility}": no walk is drawn'


def _rate(file: ScenarioFile) -> str:
    """Return what says how much is asked, where the number of users does not."""
    load = file.load
    if isinstance(load, ClosedLoop) or (isinstance(load, Poisson) and load.requests_per_s is None):
        return ""
    if isinstance(load, Poisson):
        of_all = f"load.requests_per_s = {load.requests_per_s:g} is the rate of all users together"
        return f'{of_all}; change that, or set load={{process="poisson", requests_per_s_per_user=…}}'
    driven = {
        Gamma: "load.requests_per_s",
        Diurnal: "load.requests_per_s",
        Modulated: "load.states",
        Sessions: "load.sessions_per_s",
        TraceLoad: "load.rate_scale",
        RequestsFile: "load.path",
    }
    key = next((name for kind, name in driven.items() if isinstance(load, kind)), "load")
    return f"{key} says how much all users together ask; change that"


def _of_experts(file: ScenarioFile) -> Rules:
    for i, expert in enumerate(file.experts):
        at = rf"experts\[{i}\]\."
        if expert.scheduler != "chunked":
            yield f"{at}token_budget", f'experts[{i}].scheduler is "{expert.scheduler}"; it goes with "chunked"'
        if expert.kv != "paged":
            yield f"{at}block_tokens", f'experts[{i}].kv is "{expert.kv}"; it goes with "paged"'
        if not _is_loaded(expert, file):
            yield (
                f"{at}load_model_[sj]",
                "its model is loaded neither at the start nor after a crash; set "
                f"experts[{i}].load_model_at_start=true or a crash in [faults]",
            )


def _is_loaded(expert: ExpertSpec, file: ScenarioFile) -> bool:
    """Whether an expert's model may be loaded in a run."""
    faults = file.faults
    at_random = faults.mtbf_s is not None and expert.device in (faults.devices or [expert.device])
    return expert.load_model_at_start or at_random or any(c.device == expert.device for c in faults.crashes)


def _of_the_rest(file: ScenarioFile) -> Rules:
    budgets, faults, points = file.budgets, file.faults, file.network.access_points
    if budgets.delay_s is None:
        yield r"budgets\.(delay_statistic|served_share)", "there is no delay budget; give budgets.delay_s"
    elif budgets.delay_statistic != "mean":
        given = f'budgets.delay_statistic is "{budgets.delay_statistic}"'
        yield r"budgets\.served_share", f'{given}, in which what is not served counts as late; it goes with "mean"'
    if file.gateway.max_attempts == 1:
        yield r"gateway\.retry", "gateway.max_attempts is 1, so nothing is tried again; raise that too"
    if faults.mtbf_s is None and faults.lan_mtbf_s is None:
        yield r"faults\.devices.*", "nothing goes wrong at random; give faults.mtbf_s or faults.lan_mtbf_s"
    if points is not None and points.grid is None:
        yield r"network\.access_points\.spacing_m", "network.access_points.path says where the access points are"
