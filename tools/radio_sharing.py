"""How far the share that a transfer keeps is from exact processor sharing: `python -m tools.radio_sharing`.

Exponential sizes arrive as a Poisson process at one cell. Processor sharing has mean 1 / (1 - load) times the mean size
(M/M/1-PS); the twin's rule is simulated with `twin.radio.sharing`.
"""

import numpy as np

from twin.radio.sharing import Band

LOADS = (0.05, 0.1, 0.2, 0.3, 0.5)
N = 400_000


def kept_share_s(load: float, seed: int = 1) -> float:
    """Return the mean seconds of a transfer of mean size one second under the twin's rule."""
    chance = np.random.default_rng(seed)
    sent_s = np.cumsum(chance.exponential(1 / load, N))
    ends_s = Band(1).ends_s(np.zeros(N, dtype=np.int64), sent_s, sent_s, chance.exponential(1.0, N))
    return float(np.mean(ends_s - sent_s))


def main() -> None:
    print("| load of the cell | processor sharing | share kept | difference |\n|---|---|---|---|")
    for load in LOADS:
        exact_s, found_s = 1 / (1 - load), kept_share_s(load)
        print(f"| {load:.0%} | {exact_s:.3f} | {found_s:.3f} | {found_s / exact_s - 1:+.1%} |")


if __name__ == "__main__":
    main()
