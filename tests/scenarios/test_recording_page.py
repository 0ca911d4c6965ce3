"""docs/recording.md does what it says: its files are taken as they stand, its commands end as it tells."""

import json
import re
import shlex
from pathlib import Path

from record_sample import PROFILE, moe2
from testbed_server import testbed_server

PAGE = Path(__file__).parents[2] / "docs" / "recording.md"
ENDS = {
    "record": {3},  # one recording has no interval
    "run": {0},
    "compare": {0, 1, 3},  # as near as the stand-in for a server is; its twelve legs are too few to judge an expert by
    "traces add": {0, 1, 3},
    "traces list": {0},
    "traces check": {0, 1, 3},
    "sync": {0, 1},
}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_page_on_recording_can_be_followed_literally(tmp_path, monkeypatch):
    """Every file of the page and every command of it, in order, on a server at the address that it names.

    Each ends as the page says and never as bad input; what a command leaves is what the next one takes.
    """
    monkeypatch.chdir(tmp_path)
    covariance = [[1e-8, 0, 0], [0, 0, 0], [0, 0, 0]]
    profile = {**PROFILE, "evidence": {"prefill_s": {"covariance": covariance, "scale": 0.01}}}
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.json").write_text(json.dumps(profile))
    rows = "".join(f"{i},{0.6 * i},{20 + i},{4 + i % 3},law,llama@bench\n" for i in range(12))
    (tmp_path / "requests.csv").write_text("request_id,arrived_s,prompt_tokens,output_tokens,category,experts\n" + rows)
    with testbed_server() as server:
        for text in blocks("toml"):
            name = text.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(text.replace("http://127.0.0.1:8080", server.address))
        done = []
        for line in "".join(blocks("console")).splitlines():
            program, *words = shlex.split(line.removeprefix("$ "))
            found = moe2(*words)
            command = " ".join(words[: 1 + (words[0] == "traces")])
            done.append((program, command))
            assert found.exit_code in ENDS[command], f"{line}\n{found.output}"
    assert done == [("moe2", command) for command in ENDS]
    for left in ("recorded/report.html", "compared/comparison.html", "traces/recorded/trace.toml", "newer"):
        assert (tmp_path / left).exists()


def test_every_option_and_key_that_the_page_names_is_there():
    """Words in code that look like an option of a command are options; files of the tables are written by that name."""
    text = PAGE.read_text(encoding="utf-8")
    commands = (["record"], ["run"], ["compare"], ["traces", "add"], ["traces", "check"], ["sync"], ["import"])
    helped = " ".join(moe2(*command, "--help").output for command in commands)
    named = set(re.findall(r"(?<![\w-])--[a-z-]+", text)) - {"--save-result", "--save-detailed"}  # vLLM's own
    assert named - set(re.findall(r"--[a-z-]+", helped)) == set()
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (PAGE.parent / link).exists(), link
