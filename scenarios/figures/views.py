"""What the figures and the report's tables read off the record tables."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios.story.story import Story
from twin.records.metrics import after_warmup, delays_s, mean_delay_s, percentile, served_share

Floats = NDArray[np.float64]
PART_NAMES = ("network", "wait", "prefill", "decode")


def floats(column: "pd.Series[float]") -> Floats:
    """Return a column, nullable or not, as floats with NaN where nothing is known."""
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def judged_requests(story: Story) -> pd.DataFrame:
    """Return the requests that arrived after warm-up, with `delay_s`, which is +inf when there was no answer."""
    requests = after_warmup(story.requests, story.warmup_s)
    category = requests["category"].astype("object").fillna("(none)").astype(str)
    return requests.assign(category=category, delay_s=delays_s(requests))


def statistic_share(statistic: str) -> float | None:
    """Return the share that a percentile speaks of, None for a mean.

    >>> statistic_share("p95"), statistic_share("mean")
    (0.95, None)
    """
    return float(statistic[1:]) / 100 if statistic.startswith("p") and statistic[1:].isdigit() else None


def delay_table(story: Story) -> pd.DataFrame:
    """Return one row per category, tightest first: n, unanswered (share), quantiles, mean, judged and budget in s.

    All runs are taken together: this describes the delays. A verdict takes each run by itself.
    """
    groups = judged_requests(story).groupby("category", sort=True)
    rows = [{"category": str(name), **_delay_figures(group, story.delay_statistic)} for name, group in groups]
    table = pd.DataFrame(rows, columns=["category", *_DELAY_FIGURES])
    budgets = [story.budget_s(category) for category in table["category"]]
    table["budget_s"] = np.array([np.nan if b is None else b for b in budgets], dtype=np.float64)
    used = (table["judged_s"] / table["budget_s"]).fillna(-1.0)
    return table.loc[used.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


_QUANTILES = (5, 25, 50, 75, 95, 99)
_DELAY_FIGURES = ("n", "unanswered", *(f"p{q}" for q in _QUANTILES), "mean", "judged_s")


def _delay_figures(group: pd.DataFrame, statistic: str) -> dict[str, float]:
    seconds = delays_s(group)
    share, mean_s = statistic_share(statistic), mean_delay_s(group)
    judged_s = mean_s if share is None else percentile(seconds, round(100 * share))
    quantiles = [percentile(seconds, q) for q in _QUANTILES]
    figures = (len(group), 1 - served_share(group), *quantiles, mean_s, judged_s)
    return dict(zip(_DELAY_FIGURES, figures, strict=True))


def leg_parts(story: Story) -> pd.DataFrame:
    """Return one row per answered leg of a judged, answered request, with the seconds of each part.

    `slowest` marks the leg that the request waited for; `network` is what is left of the request's delay beside
    that leg, and NaN for the others.
    """
    requests = judged_requests(story)
    requests = requests[np.isfinite(requests["delay_s"])][["replication", "request_id", "delay_s"]]
    legs = story.legs[story.legs["status"] == "served"].merge(requests, on=["replication", "request_id"])
    arrived, started, first, finished = (
        floats(legs[f"{name}_s"]) for name in ("arrived", "started", "first_token", "finished")
    )
    names = legs[["replication", "request_id", "expert", "device"]].astype({"expert": object, "device": object})
    parts = names.assign(wait=started - arrived, prefill=first - started, decode=finished - first, finished_s=finished)
    last = parts.groupby(["replication", "request_id"])["finished_s"].transform("max")
    slowest = (parts["finished_s"] == last) & ~parts[parts["finished_s"] == last].duplicated(
        ["replication", "request_id"]
    ).reindex(parts.index, fill_value=False)
    network = np.where(slowest, floats(legs["delay_s"]) - (finished - arrived), np.nan)
    return parts.assign(slowest=slowest, network=network)


def time_table(story: Story) -> pd.DataFrame:
    """Return mean seconds of each part: the first row for the leg a request waits for, then one row per expert.

    `slowest` is the share of requests that waited for the expert; NaN in the first row.
    """
    parts = leg_parts(story)
    slow = parts[parts["slowest"]]
    whole = pd.DataFrame([{"expert": "", "device": "", **slow[list(PART_NAMES)].mean(), "slowest": np.nan}])
    by_expert = parts.groupby(["expert", "device"], sort=True)[["wait", "prefill", "decode"]].mean().reset_index()
    share = slow["expert"].value_counts(normalize=True)
    by_expert["slowest"] = by_expert["expert"].map(share).fillna(0.0).astype(float)
    by_expert["network"] = np.nan
    return pd.concat([whole, by_expert[whole.columns]], ignore_index=True) if len(parts) else whole.iloc[:0]


def device_table(story: Story) -> pd.DataFrame:
    """Return one row per device: joules per request by kind, utilisation (mean, lowest, highest run), provenance.

    Joules per request are a device's joules in a run divided by the requests served in it, averaged over runs, so
    that the devices add up to the budgeted energy per request.
    """
    served = story.requests[story.requests["status"] == "served"]
    per_run = served.groupby("replication").size().rename("n")
    devices = story.devices.merge(per_run, left_on="replication", right_index=True, how="left")
    kinds = {
        "busy_j": "busy_energy_j",
        "idle_j": "idle_energy_j",
        "overhead_j": "overhead_energy_j",
        "all_j": "energy_j",
    }
    columns = {name: floats(devices[column]) / floats(devices["n"]) for name, column in kinds.items()}
    table = devices[["device"]].assign(**columns, busy_s=floats(devices["busy_s"]), u=floats(devices["utilisation"]))
    by_device = table.groupby("device", sort=True)
    means = by_device[[*kinds, "busy_s"]].mean()
    means = means.where(by_device[[*kinds, "busy_s"]].count().eq(by_device.size(), axis=0))  # one unknown: unknown
    means = means.assign(utilisation=by_device["u"].mean(), lowest=by_device["u"].min(), highest=by_device["u"].max())
    names = ["device", "hardware", "energy", "energy_scope", "profile"]
    return means.reset_index().merge(story.profiles[names].drop_duplicates("device"), on="device", how="left")


def in_system(story: Story, *, n_windows: int = 120) -> pd.DataFrame:
    """Return the mean number of requests in the system in windows of time: replication, at_s (middle), n.

    A rejected or failed request leaves when it arrives; an unfinished one stays to the end.
    """
    rows = []
    for replication, run in story.requests.groupby("replication", sort=True):
        arrived = floats(run["arrived_s"])
        left = floats(run["finished_s"])
        left = np.where(np.isnan(left), np.where(run["status"] == "unfinished", np.inf, arrived), left)
        end_s = max([story.duration_s, *left[np.isfinite(left)].tolist()])
        edges_s = np.linspace(0.0, end_s, n_windows + 1)
        stayed_s = np.diff(_elapsed_s(edges_s, arrived) - _elapsed_s(edges_s, left))  # request-seconds per window
        middle_s = (edges_s[1:] + edges_s[:-1]) / 2
        rows.append(pd.DataFrame({"replication": replication, "at_s": middle_s, "n": stayed_s / np.diff(edges_s)}))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["replication", "at_s", "n"])


def _elapsed_s(at_s: Floats, instants_s: Floats) -> Floats:
    """Return the seconds since each instant, summed over the instants that have passed.

    >>> _elapsed_s(np.array([0.0, 2.0, 5.0]), np.array([1.0, 4.0, np.inf]))
    array([0., 1., 5.])
    """
    ordered = np.sort(instants_s[np.isfinite(instants_s)])
    total_s = np.concatenate([[0.0], np.cumsum(ordered)])
    passed = np.searchsorted(ordered, at_s, "right")
    return np.asarray(passed * at_s - total_s[passed])


def short_names(experts: "pd.Series[str]") -> list[str]:
    """Return the names without their devices where that leaves them distinct.

    >>> short_names(pd.Series(["gemma-7b@orin-a", "yi-6b@orin-a", "yi-6b@orin-b"]))
    ['gemma-7b', 'yi-6b@orin-a', 'yi-6b@orin-b']
    """
    bare = [str(name).split("@")[0] for name in experts]
    return [short if bare.count(short) == 1 else str(name) for short, name in zip(bare, experts, strict=True)]
