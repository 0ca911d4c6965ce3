"""Run the notebooks of `docs/` and keep what they print: `python -m tools.notebook` writes, `--check` compares.

Each notebook runs in a fresh kernel, in an empty folder, from the code that stands here. Pictures are compared by their
being there, everything else to the letter.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = (ROOT / "docs" / "planning.ipynb",)


def main(words: Sequence[str]) -> None:
    """Write the outputs of every notebook; with `--check` exit 1 where they are no longer the same."""
    different = []
    for path in NOTEBOOKS:
        run = executed(path)
        if "--check" in words:
            different += [path.name] if told(run) != told(nbformat.read(path, as_version=4)) else []
        else:
            path.write_text(json.dumps(run, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
            print(f"wrote {path}")
    if different:
        raise SystemExit(f"{', '.join(different)}: says something else now; run `python -m tools.notebook` and look")


def executed(path: Path) -> Any:
    """Return a notebook with the outputs of its cells, without what differs from run to run."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": folder, "JUPYTER_PLATFORM_DIRS": "1"}
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.clear()
        for output in cell.get("outputs", ()):
            output.pop("metadata", None)
            if output.output_type in {"execute_result", "display_data"}:
                output["metadata"] = {}
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def told(notebook: Any) -> list[Any]:
    """Return what the cells of a notebook are and print, pictures as their kinds."""
    return [
        (cell.cell_type, cell.source, [_output(output) for output in cell.get("outputs", ())])
        for cell in notebook.cells
    ]


def _output(output: Any) -> Any:
    if "data" not in output:
        return output.get("name"), output.get("text"), output.get("ename")
    return [(kind, "a picture" if kind.startswith("image/") else text) for kind, text in sorted(output.data.items())]


if __name__ == "__main__":
    main(sys.argv[1:])
