"""The loopback testbed: a real llama.cpp server, calibrated, recorded under load, and beside it the twin.

`make testbed` (about 40 minutes on an idle machine of two cores) goes on where an earlier call was stopped and writes
docs/results-testbed.md; `python -m tools.testbed --short` is a minute of the same with a smaller model.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.meters.protocol import NoMeter
from calibration.profile import read_profile, write_profile
from calibration.runtimes.endpoint import Endpoint
from calibration.session.calibrating import calibrate
from calibration.session_profile import session_profile
from calibration.sessions import read_sessions
from scenarios.comparing.comparison import compare
from scenarios.files.loading import load
from scenarios.runs.result import run
from tests.llama_server import write_llama
from tools.loopback import LONG, SHORT, Form, Loopback, loopback
from tools.speedometer import read_speeds, slowdowns, speedometer
from tools.testbed_scenario import drawn, rate_for, write_scenario
from twin.records.tables import Tables, read_tables, write_tables

ROOT = Path(__file__).parents[1]
STALE_S = 120.0  # a calibration that is older was not made right before
DRAINS_S = 10.0  # what is under way at the end of a recording has ended by then
SPEEDS = "speeds.csv"  # of the server's core, all the time
UTILISATION = ("utilisation", "mean")
METRICS = {
    "E2E, mean": ("e2e", "mean"),
    "E2E, p95": ("e2e", "p95"),
    "throughput": ("throughput", "requests_per_s"),
    "TTFT, mean": ("ttft", "mean"),
    "TPOT, mean": ("tpot", "mean"),
    "utilisation": UTILISATION,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the testbed; the long form also writes its page of results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a minute of it, with a smaller model")
    parser.add_argument("--rounds", type=int, help="recordings of each load level, in place of the form's")
    parser.add_argument("--folder", type=Path, help="where it is recorded; what is there already is not done again")
    asked = parser.parse_args(arguments)
    folder = asked.folder or ROOT / "runs" / ("loopback-short" if asked.short else "loopback")
    form = SHORT if asked.short else LONG
    figures = perform(replace(form, rounds=asked.rounds or form.rounds), folder)
    from tools.results_testbed import sections_of  # noqa: PLC0415 - it needs this module

    print("\n\n".join(sections_of(figures)))
    if not asked.short:
        from tools.results import main as write_pages  # noqa: PLC0415

        write_pages(["testbed"])


def perform(form: Form, folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Return the figures of the testbed, recorded into `folder` as far as they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.gguf"
    if not model.exists():
        shape = {key: getattr(form, key) for key in ("layers", "hidden", "feed_forward", "context_tokens")}
        write_llama(folder / ".model.gguf", **shape)
        (folder / ".model.gguf").rename(model)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[0]})
    settings = {"slots": form.slots, "context_tokens": form.context_tokens, "token_budget": form.token_budget}
    core = cores[1] if len(cores) > 1 else None
    try:
        with loopback(model, **settings, core=core) as server, speedometer(folder / SPEEDS, core):
            bench = Bench(form=form, folder=folder, server=server, say=say)
            found = bench.recorded()
    finally:
        os.sched_setaffinity(0, set(cores))
    (folder / "figures.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A running server and the folder that everything about it is recorded into."""

    form: Form
    folder: Path
    server: Loopback
    say: Callable[[str], None]

    def recorded(self) -> dict[str, Any]:
        """Calibrate, record and calibrate in turn; return the figures."""
        form, server = self.form, self.server
        self.say(f"server: {server.slots} slots of {server.context_tokens} tokens, {server.token_budget} an iteration")
        before, rows = self._calibrated("00"), []
        places = [(i, level) for i in range(form.rounds) for level in form.levels]
        for n, (i, level) in enumerate(places):
            name = f"{level:g}-{i}"
            done = (self.folder / "recordings" / name / "out" / "summary.json").is_file()
            before = before if done else self._fresh(before, n)
            cpu_share = self._record(name, level, before, seed=1000 * i + round(100 * level))
            after = self._calibrated(f"{n + 1:02}")
            row = {"level": level, "recording": name, "cpu_share": cpu_share}
            rows.append({**row, **self._errors(name, before, after)})
            errors = ", ".join(f"{key} {found['error']:+.1%}" for key, found in rows[-1]["metrics"].items())
            self.say(f"{n + 1} of {len(places)}: {level:.0%} utilised, twin against recorded: {errors}")
            before = after
        return {
            "machine": machine(),
            "ended_unix_s": time.time(),
            "model": {"layers": form.layers, "hidden": form.hidden, "feed_forward": form.feed_forward},
            "server": {k: getattr(server, k) for k in ("slots", "context_tokens", "token_budget", "one_kv_buffer")},
            "load": {"prompt": form.prompt, "output": form.output, "duration_s": form.duration_s},
            "rows": rows,
        }

    def _calibrated(self, name: str) -> Path:
        """Return a short calibration of now, or the one of that name that an earlier call made."""
        folder = self.folder / "calibrations" / name
        if (folder / "done").exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        self.say(f"calibrating, {name}")
        endpoint, began_unix_s = Endpoint(self.server.address), time.time()
        try:
            calibrate(endpoint, NoMeter(), folder, self.form.plan, self_test_s=0.2)
        finally:
            endpoint.close()
        (folder / "done").write_text(json.dumps([began_unix_s, time.time()]), encoding="utf-8")
        return folder

    def _fresh(self, before: Path, n: int) -> Path:
        """Return a calibration that was made right before now: after a break, another one."""
        age_s = time.time() - (before / "done").stat().st_mtime
        return before if age_s < STALE_S else self._calibrated(f"{n:02}-again-{time.time():.0f}")

    def _profile(self, *calibrations: Path) -> Path:
        """Return the profile fitted to calibrations, as `moe2 fit` fits it."""
        path = self.folder / "profiles" / f"{'+'.join(folder.name for folder in calibrations)}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            sessions = read_sessions(calibrations)
            named = {"name": "loopback/random-llama/f32", "quantization": "f32"}
            write_profile(session_profile(sessions, **named, token_budget=self.server.token_budget), path)
        return path

    def _slowdowns(self, folder: Path, *calibrations: Path) -> list[tuple[float, float, float]]:
        """Return how many times as long as in the calibrations the server's core took, by the second."""
        if not (self.folder / SPEEDS).exists():
            return []
        speeds = read_speeds(self.folder / SPEEDS)
        spans = [tuple(json.loads((c / "done").read_text(encoding="utf-8"))) for c in calibrations]
        began_unix_s = json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))["recording"][
            "clock_began_unix_s"
        ][0]
        return slowdowns(speeds, spans, began_unix_s=began_unix_s, lasts_s=self.form.duration_s + DRAINS_S)

    def _record(self, name: str, utilisation: float, before: Path, *, seed: int) -> float:
        """Record Poisson arrivals with `moe2 record`; returns how much of the core that it could use the server had.

        Their rate is the one at which the twin's server, by the calibration `before`, is utilised so.
        """
        folder = self.folder / "recordings" / name
        if (folder / "out" / "summary.json").is_file():
            return float((folder / "cpu_share").read_text(encoding="utf-8"))
        shutil.rmtree(folder, ignore_errors=True)
        duration_s, profile = self.form.duration_s, self._profile(before)
        rate = rate_for(utilisation, self.form, self.server, profile, folder)
        rows = drawn(self.form, np.random.default_rng(seed), rate=rate, duration_s=duration_s)
        scenario = write_scenario(folder, rows, profile, self.server, duration_s=duration_s)
        endpoint = f'[[endpoints]]\nexpert = "llama"\nurl = "{self.server.address}"\n'
        (folder / "endpoints.toml").write_text(endpoint, encoding="utf-8")
        self.say(f"recording {len(rows)} requests in {duration_s:g} s, {name}")
        moe2, out = Path(sys.executable).with_name("moe2"), folder / "out"
        words = [moe2, "record", scenario, "--endpoints", folder / "endpoints.toml", "--out", out, "--no-report", "-q"]
        began = self.server.scheduled_ns
        subprocess.run([str(word) for word in words], check=True)  # noqa: S603
        ran, waited = np.subtract(self.server.scheduled_ns, began)
        share = float(ran / (ran + waited))
        (folder / "cpu_share").write_text(f"{share}\n", encoding="utf-8")
        return share

    def _errors(self, name: str, before: Path, after: Path) -> dict[str, Any]:
        """Return the twin's errors on a recording, calibrated before and after it, and how far those two are apart."""
        folder = self.folder / "recordings" / name
        real = read_tables(folder / "out")
        found = {
            key: self._beside(real, folder, self._profile(*c), f"twin-{key}")
            for key, c in (("both", [before, after]), ("before", [before]), ("after", [after]))
        }
        paces = self._slowdowns(folder, before, after)
        found["at_pace"] = self._beside(real, folder, self._profile(before, after), "twin-at-pace", paces)
        metrics = {}
        for metric, where in METRICS.items():
            at = {key: table.loc[where] for key, table in found.items()}
            metrics[metric] = {
                "real": at["both"]["real"],
                "twin": at["both"]["twin"],
                "error": at["both"]["twin"] / at["both"]["real"] - 1,
                "drift": abs(at["after"]["twin"] / at["before"]["twin"] - 1),
                "error_at_pace": at["at_pace"]["twin"] / at["both"]["real"] - 1,
            }
        late = json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))["recording"]["lateness"]
        statuses = {side: found["both"].attrs[side] for side in ("real", "twin")}
        return {
            "metrics": metrics,
            "around_s": float(read_profile(self._profile(before, after)).evidence["chunked"]["request_s"]),
            "n": len(real.requests),
            "statuses": statuses,
            "late_max_s": late["max_s"],
            "paces": [factor for begin_s, _, factor in paces if begin_s < self.form.duration_s],
        }

    def _beside(
        self, real: Tables, folder: Path, profile: Path, name: str, paces: Sequence[tuple[float, float, float]] = ()
    ) -> pd.DataFrame:
        """Return real and twin figures by (quantity, statistic); the twin is run into a folder of that name."""
        place = folder / name
        place.mkdir(exist_ok=True)
        changes = [f"experts[0].profile={profile}"]
        if paces:
            slow = (f'{{device = "loopback", at_s = {a}, ends_s = {b}, factor = {by}}}' for a, b, by in paces)
            changes.append(f"faults.slow_downs=[{', '.join(slow)}]")
        tables = run(load(folder / "out" / "scenario.toml", changes)).tables
        write_tables(later(tables, float(read_profile(profile).evidence["chunked"]["request_s"])), place)
        twin = read_tables(place)
        table = compare(real, twin).table
        figures = table[table["scope"] == "overall"].set_index(["quantity", "statistic"])[["real", "twin"]]
        figures.loc[UTILISATION, :] = [float(t.devices["utilisation"].iloc[0]) for t in (real, twin)]
        figures.attrs = {
            key: t.requests["status"].value_counts().to_dict() for key, t in (("real", real), ("twin", twin))
        }
        return figures


def later(tables: Tables, around_s: float) -> Tables:
    """Return what a client sees that is `around_s` away from its server: every token comes so much later."""
    legs, requests = tables.legs.copy(), tables.requests.copy()
    legs[["first_token_s", "finished_s"]] += around_s
    requests["finished_s"] += around_s
    return replace(tables, legs=legs, requests=requests)


def machine() -> str:
    """Return what this machine is, in words."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores of {name}"


if __name__ == "__main__":
    main()
