"""What Ctrl-C leaves behind, and what every command promises in its help."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from scenarios.cli import app
from tests.scenarios.sweep_plant import write_small

COMMAND = [sys.executable, "-c", "print('it runs', flush=True)\nfrom scenarios.start import main; main()"]
GOES_ON = "the same command goes on from there"
RUN = {"summary.json", "scenario.toml", "requests.parquet", "legs.parquet", "devices.parquet", "report.html", "figures"}


def started(words, stderr=subprocess.DEVNULL):
    """Start a command; return its process once Python itself is up, from when on an interrupt is the program's."""
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=stderr)
    process.stdout.readline()
    return process


def interrupted(process):
    """Return the exit status of a process that gets one SIGINT, as Ctrl-C sends it."""
    with process.stdout:
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            return pytest.fail(f"still running a minute after an interrupt, then {process.wait()}")


def test_an_interrupted_run_leaves_all_or_nothing(tmp_path):
    """At whatever moment one SIGINT comes, the folder is whole or not there, and nothing unfinished lies beside it."""
    small = write_small(tmp_path / "in", n_requests=40)
    chance = random.Random(8)  # noqa: S311
    for i, after_s in enumerate((0.0, 0.15, 0.5, 2.5)):
        out = tmp_path / "out" / str(i)
        out.parent.mkdir(exist_ok=True)
        process = started(["run", str(small), "--out", str(out)])
        time.sleep(after_s * (0.5 + chance.random()))
        status = interrupted(process)
        if out.exists():
            assert {p.name for p in out.iterdir()} >= RUN
            assert json.loads((out / "summary.json").read_text())["scenario"] == "small"
        else:
            assert status in {130, -signal.SIGINT}, "an interrupt is no verdict"
        assert not [p for p in out.parent.iterdir() if p.name.startswith(".")]


LOSING = """
import os, signal, sys, time
from scenarios.interrupting import interruptible

class Losing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

def lose():
    Losing()  # what is raised in its destructor is printed and dropped

def drop():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        pass

def keep():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        time.sleep(2)
        print("cleaned up", flush=True)

with interruptible():
    {"lose": lose, "drop": drop, "keep": keep}[sys.argv[1]]()
    time.sleep(60)
    print("went on", flush=True)
"""


@pytest.mark.parametrize(("how", "said"), [("lose", ""), ("drop", ""), ("keep", "cleaned up\n")])
def test_an_interrupt_that_is_dropped_comes_again(how, said):
    """Dropped by a destructor or by somebody's `except`, it ends the process all the same; a cleanup has its time."""
    found = subprocess.run([sys.executable, "-c", LOSING, how], capture_output=True, text=True, timeout=50, check=False)
    assert (found.returncode, found.stdout) == (130, said), found.stderr


def test_an_interrupted_sweep_is_not_taken_for_complete(tmp_path):
    """Without sweep.json a sweep is not complete; what was measured is whole, and the sweep goes on from it."""
    small = write_small(tmp_path / "in", n_requests=40)
    words = ["sweep", str(small), "--vary", "seed=1..12", "--jobs", "1", "--no-figures", "--out", str(tmp_path / "s")]
    cache = tmp_path / "s" / "cache"
    with (tmp_path / "said").open("wb") as said:
        process = started(words, said)
        while process.poll() is None and not (cache.exists() and list(cache.glob("*.json"))):
            time.sleep(0.005)
        status = interrupted(process)
    if not (tmp_path / "s" / "sweep.json").exists():
        assert status == 130
        assert (
            tmp_path / "said"
        ).read_text() == f"moe2: interrupted; what was measured is kept in {cache}; {GOES_ON}\n"
    for entry in cache.glob("*.json"):
        assert json.loads(entry.read_text())["digest"] == entry.stem
    assert subprocess.run([*COMMAND, *words], stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert (tmp_path / "s" / "sweep.json").exists()


def commands(command, path=()):
    """Yield every command of the command line with its words."""
    if hasattr(command, "commands"):
        for name in command.list_commands(None):
            yield from commands(command.get_command(None, name), (*path, name))
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


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_speaks_to_programs_and_as_much_as_it_is_told(words):
    """`--json` is known to every command that does not print JSON anyway, `-q` and `-v` to all."""
    known = {name for parameter in COMMANDS[words].params for name in parameter.opts}
    assert {"-q", "-v"} <= known
    assert "--json" in known or words in PRINT_JSON_ANYWAY


def test_quiet_prints_nothing_and_verbose_tells_the_steps_on_stderr(tmp_path):
    """`-q` leaves the exit status and what is wrong; `-v` adds steps with their seconds, to stderr alone."""
    small = str(write_small(tmp_path / "in"))
    words = ["run", small, "--no-report", "--out", str(tmp_path / "out")]
    plain, quiet, verbose = (CliRunner().invoke(app, [*words, *more]) for more in ([], ["-q"], ["-v"]))
    assert plain.exit_code == quiet.exit_code == verbose.exit_code
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert verbose.stdout == plain.stdout != ""
    for told in (
        "moe2-twin ",
        "reading the scenario",
        "read the profiles of 1 experts: bench/m/q",
        "requests simulated",
    ):
        assert told in verbose.stderr
    assert "ended, after" in verbose.stderr.splitlines()[-1]
    assert "requests simulated" not in plain.stderr
    wrong = CliRunner().invoke(app, ["check", "testbad", "-q"])
    assert wrong.exit_code == 2
    assert "testbad" in wrong.stderr
    assert wrong.stdout == ""


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("moe2 ru", ["run"]),
        ("moe2 run tes", ["testbed"]),
        ("moe2 run testbed --time", ["--timeline", "--timeline-from", "--timeline-until"]),
        ("moe2 run testbed --set router.", ["router.gate=", "router.answers=", "router.k=", "router.subset="]),
        ("moe2 sweep testbed --vary users.co", ["users.count="]),
        ("moe2 profiles show rtx-4090/ge", ["rtx-4090/gemma-7b/bf16"]),
    ],
)
def test_the_shell_completes_commands_options_scenarios_keys_and_profiles(line, found):
    """What bash asks for with a tab is answered, one word a line."""
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_MOE2_COMPLETE": "complete_bash"}
    told = CliRunner().invoke(app, [], prog_name="moe2", env=asked)
    assert told.stdout.split() == found


SAYING = """
import os, signal, sys
from scenarios.interrupting import interruptible, kept

def interrupt():
    with kept("all of it"):
        os.kill(os.getpid(), signal.SIGINT)

def convert():
    try:
        with kept("the outer words"):
            interrupt()
    except KeyboardInterrupt as error:
        raise RuntimeError("it was said otherwise") from error

def plain():
    os.kill(os.getpid(), signal.SIGINT)

def handled():
    try:
        interrupt()
    except KeyboardInterrupt:
        pass

with interruptible():
    {"convert": convert, "plain": plain, "handled": handled}[sys.argv[1]]()
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("convert", "moe2: interrupted; all of it\n"),
        ("plain", "moe2: interrupted; nothing half-written is left; the same command starts anew\n"),
        ("handled", ""),  # by a command that has said itself what it kept
    ],
)
def test_an_interrupt_says_what_is_kept(how, said):
    """One line on standard error, from the innermost that knows, whatever the interrupt became on its way up."""
    found = subprocess.run([sys.executable, "-c", SAYING, how], capture_output=True, text=True, timeout=50, check=False)
    assert (found.returncode, found.stderr) == (130, said)
