"""What a tab gives in each shell: the shell itself reads the script that `moe2 --show-completion` prints."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("moe2")
PREPARED = {
    # the function that the shell calls at a tab, called by hand: its answer is in COMPREPLY
    "bash": "COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _moe2_completion moe2; "
    'printf "%s\\n" "${{COMPREPLY[@]}}"',
    # likewise; its answer is what it gives to _arguments, each with its meaning
    "zsh": 'words=({line}); CURRENT=${{#words}}; _arguments() {{ print -r -- "$@" }}; _files() {{ print files }}; '
    "_moe2_completion",
    "fish": 'complete -C "{line}"',
}
TAKEN = {
    "bash": 'eval "$(moe2 --show-completion)"',
    "zsh": 'compdef() { }\neval "$(moe2 --show-completion)"',
    "fish": "moe2 --show-completion | source",
}
CASES = {"moe2 ru": "run", "moe2 sweep testbed --set router.s": "router.subset="}


@pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed beside this Python")
@pytest.mark.parametrize("shell", PREPARED)
def test_each_shell_completes_by_the_script_that_is_printed_for_it(shell, tmp_path):
    """A command and a key of the scenario in question are completed; the script is one that the shell can read."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    asked = "\n".join(PREPARED[shell].format(line=line) for line in CASES)
    path = tmp_path / f"ask.{shell}"
    path.write_text(f"{TAKEN[shell]}\n{asked}\n")
    bare = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    surroundings = {**os.environ, "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    found = subprocess.run([shell, *bare, str(path)], env=surroundings, capture_output=True, text=True, check=False)
    assert found.stderr == ""
    first, second = CASES.values()
    told = found.stdout
    assert first in told.split("\n")[0]
    assert second.replace(":", "\\:") in told
    assert "sensitivity" not in told
