"""Laws of how the command line is called: one line for what is wrong, plain text where no terminal reads it."""

import os
import pty
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from scenarios.cli import PANELS, app
from tests.scenarios.test_interrupted import COMMANDS

BOXES = "╭╮╰╯│─┃━"


@pytest.mark.parametrize(
    ("call", "told", "way_out"),
    [
        ("rum", "there is no command 'rum' (did you mean 'run'?); there are scenarios, check, ", "moe2"),
        ("--nope", "there is no option --nope", "moe2"),
        ("run", "run: argument SCENARIO is missing (a scenario file", "moe2 run"),
        ("run testbed", "run: --out is missing (folder to write to", "moe2 run"),
        ("run nope", "run: nope: no such file and no bundled scenario", "moe2 run"),
        ("run testbad", "(did you mean 'testbed'?); bundled are: add-a-4090, ", "moe2 run"),
        ("run testbed --ot x", "run: there is no option --ot (did you mean '--out'?)", "moe2 run"),
        ("run testbed --out", "run: option '--out' requires an argument", "moe2 run"),
        ("run testbed --out x --seed abc", "run: --seed abc: should be a valid integer", "moe2 run"),
        ("sweep testbed --out x --vary k=1 --jobs 0", "sweep: --jobs 0: should be greater than or equal to 1", "moe2"),
        ("timeline x", "for example: moe2 timeline runs/testbed --out timeline.json", "moe2 timeline"),
        (
            "profiles shw",
            "profiles: there is no command 'shw' (did you mean 'show'?); there are list, ",
            "moe2 profiles",
        ),
        ("profiles show", "profiles show: argument NAME is missing", "moe2 profiles show"),
    ],
)
def test_a_wrong_call_is_one_line_with_what_is_near_and_the_way_out(call, told, way_out):
    """Exit status 2, nothing on standard output, one line on standard error without a box."""
    found = CliRunner().invoke(app, call.split())
    assert (found.exit_code, found.stdout) == (2, "")
    (line,) = found.stderr.splitlines()
    assert line.startswith("moe2: ")
    assert told in line
    assert f"see {way_out}" in line
    assert line.endswith("--help")
    assert not set(BOXES) & set(line)


def test_a_scenario_file_that_is_near_is_named(tmp_path):
    """A mistyped file is told of the one beside it that is nearest, by the path as it was written."""
    (tmp_path / "mine.toml").write_text("")
    found = CliRunner().invoke(app, ["check", str(tmp_path / "min.toml")])
    assert found.exit_code == 2
    assert f"min.toml: no such file and no bundled scenario (did you mean '{tmp_path}/mine.toml'?)" in found.stderr
    (tmp_path / "mine.toml").rename(tmp_path / "pyproject.toml")
    found = CliRunner().invoke(app, ["check", str(tmp_path / "nope.toml")])
    assert "did you mean" not in found.stderr, "a folder and an ending in common are no likeness"


def in_terminal(*words):
    """Return what a call shows in a terminal of 80 columns, and its exit status."""
    master, screen = pty.openpty()
    call = [sys.executable, "-c", "from scenarios.start import main; main()", *words]
    process = subprocess.Popen(call, stdout=screen, stderr=screen, env={**os.environ, "COLUMNS": "80", "TERM": "xterm"})
    os.close(screen)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(master)
    return shown.decode(), process.wait()


def test_a_terminal_shows_the_same_line_and_help_in_boxes():
    """What is wrong is one message wherever it is read; help to a terminal is drawn."""
    shown, status = in_terminal("run", "testbad")
    assert status == 2
    assert shown.count("moe2: ") == 1
    assert "did you mean 'testbed'?" in shown.replace("\r\n", "")
    assert not set(BOXES) & set(shown)
    shown, status = in_terminal("run", "--help")
    assert status == 0
    assert "╭" in shown


@pytest.mark.parametrize("words", ["", *COMMANDS])
def test_help_to_a_pipe_is_plain_text_of_80_columns(words):
    """Every option of every command is in it, with no box; the contents have every command under its part."""
    found = CliRunner().invoke(app, [*words.split(), "--help"])
    assert found.exit_code == 0
    assert not set(BOXES) & set(found.stdout)
    assert max(map(len, found.stdout.splitlines())) <= 80
    if words:
        assert "Example: moe2 " in found.stdout
        known = [name for p in COMMANDS[words].params for name in p.opts if p.param_type_name == "option"]
        assert all(name in found.stdout for name in known)
    else:
        told = found.stdout.splitlines()
        for panel, names in PANELS.items():
            below = told[told.index(f"{panel}:") + 1 :]
            assert all(any(line.startswith(f"  {name} ") for line in below) for name in names)


def test_a_group_without_a_command_shows_its_help():
    """What can be called is the way out; the exit status says that nothing was."""
    for words in ([], ["profiles"]):
        found = CliRunner().invoke(app, words)
        assert found.exit_code == 2
        assert "Usage: " in found.stdout
        assert found.stdout.endswith("\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("check testbed", ["reading the scenario", "read the profiles of 8 experts", "chose 4 of 8 experts"]),
        ("profiles list", []),
    ],
)
def test_every_command_tells_what_it_reads_and_computes_when_asked(words, told):
    """`-v` begins with the program and the command, has what is done, and ends with the time; each line is timed."""
    found = CliRunner().invoke(app, [*words.split(), "-v"])
    assert found.exit_code == 0
    lines = found.stderr.splitlines()
    assert lines[0].endswith(f"moe2 {words.removesuffix(' testbed')}")
    assert "ended, after" in lines[-1]
    assert all(any(part in line for line in lines[1:-1]) for part in told)
    assert all(line.split()[0].replace(".", "").isdigit() and line.split()[1] == "s" for line in lines)
