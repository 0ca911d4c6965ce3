"""What Ctrl-C leaves behind, and what every command promises in its help."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time

import pytest
import typer

from scenarios.cli import app
from tests.scenarios.sweep_plant import write_small

COMMAND = [sys.executable, "-c", "print('it runs', flush=True)\nfrom scenarios.cli import main; main()"]
RUN = {"summary.json", "scenario.toml", "requests.parquet", "legs.parquet", "devices.parquet", "report.html", "figures"}


def started(words):
    """Start a command; return its process once Python itself is up, from when on an interrupt is the program's."""
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.readline()
    return process


def interrupted(process):
    """Return the exit status of a process that gets SIGINT, as Ctrl-C sends it.

    A library that is being loaded may swallow it: like a person, ask again.
    """
    with process.stdout:
        for _ in range(20):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=10)
    process.kill()
    return pytest.fail(f"still running after twenty interrupts, then {process.wait()}")


def test_an_interrupted_run_leaves_all_or_nothing(tmp_path):
    """At whatever moment SIGINT comes, the folder is whole or not there, and nothing unfinished lies beside it."""
    small = write_small(tmp_path / "in", n_requests=40)
    chance = random.Random(8)  # noqa: S311
    for i in range(3):
        out = tmp_path / "out" / str(i)
        out.parent.mkdir(exist_ok=True)
        process = started(["run", str(small), "--out", str(out)])
        time.sleep(0.5 + 2.0 * i + 0.5 * chance.random())
        status = interrupted(process)
        if out.exists():
            assert {p.name for p in out.iterdir()} >= RUN
            assert json.loads((out / "summary.json").read_text())["scenario"] == "small"
        else:
            assert status in {130, -signal.SIGINT}, "an interrupt is no verdict"
        assert not [p for p in out.parent.iterdir() if p.name.startswith(".")]


def test_an_interrupted_sweep_is_not_taken_for_complete(tmp_path):
    """Without sweep.json a sweep is not complete; what was measured is whole, and the sweep goes on from it."""
    small = write_small(tmp_path / "in", n_requests=40)
    words = ["sweep", str(small), "--vary", "seed=1..12", "--jobs", "1", "--no-figures", "--out", str(tmp_path / "s")]
    process = started(words)
    cache = tmp_path / "s" / "cache"
    while process.poll() is None and not (cache.exists() and list(cache.glob("*.json"))):
        time.sleep(0.005)
    status = interrupted(process)
    if not (tmp_path / "s" / "sweep.json").exists():
        assert status in {130, -signal.SIGINT}
    for entry in cache.glob("*.json"):
        assert json.loads(entry.read_text())["digest"] == entry.stem
    assert subprocess.run([*COMMAND, *words], stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert (tmp_path / "s" / "sweep.json").exists()


def commands(command, path=()):
    """Yield every command of the command line with its words."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(commands(typer.main.get_command(app)))
PRINT_JSON_ANYWAY = {"schema", "profiles show"}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_help_has_an_example_that_the_command_can_read(words):
    """Each help ends with an example of that very command, whose options exist."""
    command = COMMANDS[words]
    examples = [line.partition("Example: ")[2] for line in command.help.splitlines() if "Example: " in line]
    assert examples, f"moe2 {words} --help shows no example"
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for example in examples:
        assert example.startswith(f"moe2 {words}")
        assert {word for word in example.split() if word.startswith("--")} <= known


@pytest.mark.parametrize("words", sorted(set(COMMANDS) - PRINT_JSON_ANYWAY))
def test_every_command_speaks_to_programs(words):
    """`--json` is known to every command that does not print JSON anyway."""
    assert "--json" in {name for parameter in COMMANDS[words].params for name in parameter.opts}
