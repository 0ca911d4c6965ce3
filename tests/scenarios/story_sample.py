"""A synthetic story: eight experts on three RTX 4090 and five AGX Orin, k = 3, three replications."""

import numpy as np
import pandas as pd

from scenarios.story.story import Story, Subset
from scenarios.verdicts.verdict import Estimate, Verdict, judge, overall
from twin.records.metrics import delay_percentile_s

CATEGORIES = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health", "history", "law",
    "math", "other", "philosophy", "physics", "psychology",
)  # fmt: skip
MODELS = {
    "rtx4090-a": "llama-3.1-8b-instruct",
    "rtx4090-b": "phi-3-mini-4k-instruct",
    "rtx4090-c": "mathstral-7b",
    "orin-a": "gemma-7b",
    "orin-b": "qwen1.5-7b-chat",
    "orin-c": "mistral-7b-instruct-v0.2",
    "orin-d": "yi-6b-chat",
    "orin-e": "llama-2-13b",
}
LEFT_OUT = {
    "orin-d": "adds 0.001 to the objective, below every other expert, and 21 J per request",
    "orin-e": "law would take 61 s in the worst case, its budget is 40 s",
}
KEPT = tuple(device for device in MODELS if device not in LEFT_OUT)
DURATION_S, WARMUP_S = 3600.0, 300.0


def expert(device: str) -> str:
    return f"{MODELS[device]}@{device}"


def sample_run(
    replication: int, n_requests: int, longest_prompt: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return requests, legs and devices of one run: each kept device serves first come first served, one at a time."""
    chance = np.random.default_rng([3, replication])
    arrived = np.sort(chance.uniform(0, DURATION_S, n_requests))
    category = chance.choice(CATEGORIES, n_requests)
    prompt = chance.integers(60, 900, n_requests) + np.where(category == "law", 900, 0)
    taste = np.array([3.0, 2.6, 2.4, 0.75, 0.7, 0.45])
    keys = np.log(taste) + chance.gumbel(size=(n_requests, len(KEPT)))
    chosen = np.argsort(-keys, axis=1)[:, :3]
    free, busy = np.zeros(len(KEPT)), np.zeros(len(KEPT))
    legs = []
    for row in range(n_requests):
        for rank, e in enumerate(chosen[row]):
            fast = KEPT[e].startswith("rtx")
            output = int(chance.gamma(4.0, 35 if fast else 11)) + 1
            reject = not fast and prompt[row] > longest_prompt
            at = arrived[row] + 0.0205
            start = max(at, free[e])
            first = start + (0.02 + 6e-5 * prompt[row] if fast else 0.2 + 1.1e-3 * prompt[row])
            end = first + (output - 1) * (0.0125 if fast else 0.085)
            if not reject:
                free[e], busy[e] = end, busy[e] + end - start
            gone = (np.nan, np.nan, np.nan) if reject else (start, first, end)
            legs.append(
                (replication, row, expert(KEPT[e]), KEPT[e], (0.5, 0.3, 0.2)[rank], at, *gone, int(prompt[row]), output,
                 0.0 if reject else (end - start) * (320 if fast else 38), "rejected" if reject else "served")
            )  # fmt: skip
    names = (
        "replication", "request_id", "expert", "device", "weight", "arrived_s", "started_s", "first_token_s",
        "finished_s", "prompt_tokens", "output_tokens", "energy_j", "status",
    )  # fmt: skip
    legs_table = pd.DataFrame(legs, columns=list(names))
    return _requests(replication, arrived, category, legs_table, chance), legs_table, _devices(replication, busy)


def _requests(replication, arrived, category, legs, chance) -> pd.DataFrame:
    by_request = legs.groupby("request_id")
    served = by_request["status"].agg(lambda s: bool((s == "served").all())).to_numpy()
    last = by_request["finished_s"].max().to_numpy(dtype=float)
    return pd.DataFrame(
        {
            "replication": replication,
            "request_id": np.arange(len(arrived)),
            "category": category,
            "arrived_s": arrived,
            "finished_s": np.where(served, last + 0.0205, np.nan),
            "n_legs": 3,
            "correct": chance.random(len(arrived)) < 0.5,
            "energy_j": by_request["energy_j"].sum().to_numpy(),
            "status": np.where(served, "served", "rejected"),
        }
    )


def _devices(replication: int, busy: np.ndarray) -> pd.DataFrame:
    fast = np.array([d.startswith("rtx") for d in KEPT])
    idle = DURATION_S - busy
    table = pd.DataFrame(
        {
            "replication": replication,
            "device": KEPT,
            "busy_s": busy,
            "idle_s": idle,
            "busy_energy_j": busy * np.where(fast, 320.0, 38.0),
            "idle_energy_j": idle * np.where(fast, 21.0, 9.0),
            "overhead_energy_j": 0.0,
            "utilisation": busy / DURATION_S,
        }
    )
    table.loc[table["device"] == "orin-c", ["busy_energy_j", "idle_energy_j"]] = np.nan
    table["energy_j"] = table["busy_energy_j"] + table["idle_energy_j"] + table["overhead_energy_j"]
    return table


def accuracy_rows() -> pd.DataFrame:
    rows = [
        ("gate, k = 3 of 6", "router", 0.497, 0.482, 0.512, 0.048, 0.034, 0.062, 2402, ""),
        ("majority vote of all", "baseline", 0.469, 0.454, 0.484, 0.020, 0.004, 0.036, 2402, ""),
        ("average of all", "baseline", 0.463, 0.448, 0.478, 0.014, -0.002, 0.03, 2402, ""),
        ("random 3", "baseline", 0.421, 0.405, 0.436, -0.028, -0.045, -0.011, 2402, ""),
        ("oracle", "unreachable", 0.792, 0.779, 0.805, 0.343, 0.33, 0.356, 2402, "counts lucky guesses"),
    ]
    singles = (0.449, 0.41, 0.38, 0.33, 0.29, 0.31, 0.28, 0.21)
    for device, share in zip(MODELS, singles, strict=True):
        best = device == "rtx4090-a"
        diff = (np.nan,) * 3 if best else (share - 0.449, share - 0.465, share - 0.433)
        note = "chosen on validation" if best else ""
        rows.append((expert(device), "single expert", share, share - 0.015, share + 0.015, *diff, 2402, note))
    names = ("method", "kind", "accuracy", "low", "high", "diff_vs_best_single", "diff_low", "diff_high", "n", "note")
    return pd.DataFrame(rows, columns=list(names))


def profile_rows() -> pd.DataFrame:
    rows = []
    for device, model in MODELS.items():
        fast = device.startswith("rtx")
        hardware = "GeForce RTX 4090" if fast else "Jetson AGX Orin 64GB"
        profile = f"rtx-4090/{model}/bf16" if fast else f"agx-orin-64gb/{model}/fp16"
        latency = "measured" if device == "rtx4090-a" else "scaled"
        energy = "assumed" if fast else "scaled"
        if device == "orin-c":
            energy = "composed"
        rows.append(
            (expert(device), device, hardware, model, profile, latency, energy, "gpu" if fast else "module",
             "LLMServingSim kernel tables (vLLM 0.19), @5daddb21" if fast else "EdgeReasoning, IISWC 2025, @e74ca1ed",
             "prefill ±3.1 %, decode ±1.9 %" if latency == "measured" else "transfer error 11 % (one model left out)",
             "250–400 W assumed under load" if fast else "batch 1 only: max_batch = 1")
        )  # fmt: skip
    names = (
        "expert", "device", "hardware", "model", "profile", "latency", "energy", "energy_scope", "source", "errors",
        "notes",
    )  # fmt: skip
    return pd.DataFrame(rows, columns=list(names))


def verdicts(requests: pd.DataFrame) -> tuple[Verdict, ...]:
    energy = Verdict(
        metric="energy_j",
        label="energy per request",
        budget=900.0,
        unit="J",
        estimate=None,
        low=None,
        high=None,
        status="undecided",
        note="the profile of orin-c knows no idle power; measure it or assume one",
    )
    return (*(delay_verdict(category, requests) for category in CATEGORIES), energy)


def delay_verdict(category: str, requests: pd.DataFrame) -> Verdict:
    p95 = delay_percentile_s(requests[requests["category"] == category], 95)
    found = Estimate(value=p95, low=p95 * 0.93, high=p95 * 1.07, n=3)
    if np.isnan(p95):
        found = Estimate(value=None, low=None, high=None, n=0)
    budget = 40.0 if category == "law" else 20.0
    return judge(metric="delay_s", label=f"delay p95, {category}", budget=budget, unit="s", found=found)


def sample_subset() -> Subset:
    worst = pd.DataFrame({"category": CATEGORIES, "delay_s": np.linspace(9.2, 17.9, 14), "budget_s": 20.0})
    worst.loc[worst["category"] == "law", ["delay_s", "budget_s"]] = (31.4, 40.0)
    kept = [expert(d) for d in KEPT]
    others = ([*kept, expert("orin-d")], kept[:5], [*kept, expert("orin-e")])
    runners = pd.DataFrame(
        {
            "experts": [", ".join(names) for names in others],
            "value": [-1.2811, -1.2954, -1.2709],
            "energy_j": [521.0, 455.0, np.nan],
            "feasible": [True, True, False],
            "why": ["", "", "law takes 61 s, its budget is 40 s"],
        }
    )  # fmt: skip
    left = pd.DataFrame({"expert": [expert(d) for d in LEFT_OUT], "why": list(LEFT_OUT.values())})
    return Subset(
        experts=tuple(kept),
        how="Exhaustive search over all 255 subsets; optimal, checked by an independent function.",
        value=-1.2804,
        energy_j=488.0,
        energy_budget_j=900.0,
        worst_case=worst,
        runners_up=runners,
        left_out=left,
    )


def sample_story(*, n_requests: int = 1500, replications: int = 3, longest_prompt: int = 1740, **changes) -> Story:
    runs = [sample_run(r, n_requests, longest_prompt) for r in range(replications)]
    requests, legs, devices = (pd.concat(part, ignore_index=True) for part in zip(*runs, strict=True))
    judged = requests[requests["arrived_s"] >= WARMUP_S]
    found = verdicts(judged)
    values = {
        "name": "testbed",
        "description": "Two hundred users ask exam questions of eight LLMs on three RTX 4090 and five Jetson AGX Orin.",
        "service_need": "A tutor's answer must come while the pupil still looks at the question.",
        "budgets_in_words": (
            "95 % of the answers of every category arrive within 20 s, of law within 40 s.",
            "An answer costs at most 900 J, idle power of the kept experts included.",
        ),
        "facts": (("Users", "200"), ("Load", "Poisson, 0.42 requests/s"), ("Experts per request", "3"),
                  ("Gate", "bundled, trained on 6,981 prompts")),
        "overall": overall(found),
        "verdicts": found,
        "delay_statistic": "p95",
        "delay_budgets_s": {"default": 20.0, "law": 40.0},
        "requests": requests,
        "legs": legs,
        "devices": devices,
        "accuracy": accuracy_rows(),
        "subset": sample_subset(),
        "profiles": profile_rows(),
        "warnings": ("The energy budget is undecided: the profile of orin-c knows no idle power.",),
        "seed": 7,
        "replications": replications,
        "duration_s": DURATION_S,
        "warmup_s": WARMUP_S,
        "n_requests": len(judged),
        "wall_s": 8.4,
        "version": "0.1.0",
        "command": "moe2 run testbed --seed 7 --out runs/testbed",
    }  # fmt: skip
    return Story(**{**values, **changes})
