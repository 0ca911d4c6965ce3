"""What users who move cost: CPU seconds and memory of walks, measurements and handovers, and of requests on the radio.

python -m benchmarks.mobility
"""

import subprocess
import sys
from resource import RUSAGE_SELF, getrusage
from time import process_time

import numpy as np

from twin.radio.access import RadioAccess, RadioNetwork
from twin.radio.channel import Channel
from twin.radio.sites import grid_of_sites
from twin.users.mobility import RandomWaypoint

LASTS_S, REQUESTS, ROUNDS = 600.0, 1_000_000, 5


def access(n_users: int, seed: int) -> RadioAccess:
    """Return the radio of a run: users on foot among 25 cells of a square kilometre."""
    walk = RandomWaypoint(n_users=n_users, width_m=1000, height_m=1000, speed_m_per_s=(0.5, 1.5), pause_s=(0.0, 60.0))
    sites = grid_of_sites(columns=5, rows=5, spacing_m=200.0)
    return RadioNetwork(mobility=walk, sites=sites, channel=Channel(interference_load=0.3)).begin(seed=seed, stop_s=1e4)


def walk_all(n_users: int) -> str:
    """Return what it takes to follow everyone: compiled before, memory beyond that of the program."""
    access(10, 0).record(10.0)
    before_mb = getrusage(RUSAGE_SELF).ru_maxrss / 1000
    spent = []
    for seed in range(ROUNDS):
        begun_s = process_time()
        n = len(access(n_users, seed).record(LASTS_S).handovers)
        spent.append(process_time() - begun_s)
    more_mb = getrusage(RUSAGE_SELF).ru_maxrss / 1000 - before_mb
    return (
        f"{n_users:,} users for {LASTS_S:g} s, measured every second: {np.median(spent):.1f} s of CPU time, "
        f"{more_mb:.0f} MB more than the program, {n:,} handovers"
    )


def send_all() -> str:
    """Return what a million prompts and answers of 1,000 users take, walks included."""
    chance = np.random.default_rng(0)
    sent_s = np.sort(chance.uniform(0, LASTS_S, REQUESTS))
    user, tokens = chance.integers(1000, size=REQUESTS), chance.integers(100, 2000, REQUESTS)
    spent = []
    for seed in range(ROUNDS):
        radio, begun_s = access(1000, seed), process_time()
        radio.down_s(radio.up_s(sent_s, user, tokens) + 1.0, user, tokens)
        spent.append(process_time() - begun_s)
    return f"{REQUESTS:,} requests up and down, 1,000 users: {np.median(spent):.2f} s of CPU time"


def main() -> None:
    for what in (
        "walk_all(1_000)",
        "walk_all(100_000)",
        "send_all()",
    ):  # each in a process of its own: its memory counts
        code = f"from benchmarks.mobility import *; print({what})"
        subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
