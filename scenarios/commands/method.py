"""The commands of the method: `moe2 evaluate` with budgets, `moe2 answers collect`, `moe2 embed`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from calibration.whole_file import whole_file
from scenarios.commands.output import AsJson, say
from scenarios.commands.refusal import bad_input
from scenarios.commands.voice import progress_console
from scenarios.interrupting import kept
from scenarios.runs.folder import check_file

if TYPE_CHECKING:
    import pandas as pd

answers_app = typer.Typer(no_args_is_help=True, help="Answers tables of your own LLMs.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(answers_app, name="answers")
    app.command("embed")(embed_)


def draw_evaluation(scenario: str, changes: list[str], out: Path, *, n_budgets: int = 12) -> pd.DataFrame:
    """Write curves.csv and the two figures of accuracy against budgets to `out`; return the curves.

    The experts, their costs, answers and gate are those of the scenario.
    """
    from scenarios.figures.budget_curves import draw_budget_curves  # noqa: PLC0415
    from scenarios.files.loading import load  # noqa: PLC0415
    from scenarios.method.curves import scenario_curves  # noqa: PLC0415

    loaded = load(scenario, changes)
    curves = scenario_curves(loaded, n_budgets=n_budgets)
    draw_budget_curves(curves, out)
    names = [expert.name for expert in loaded.file.experts]
    experts = curves["experts"].map(lambda places: "|".join(names[p] for p in places))
    curves.assign(experts=experts).to_csv(out / "curves.csv", index=False)
    return curves


@answers_app.command("collect")
def collect_(
    endpoints: Annotated[Path, typer.Option(help="TOML: tables [[endpoints]] with model, url, precision.")],
    questions: Annotated[Path, typer.Option(help="JSONL: id, category, question, options, answer (a letter).")],
    out: Annotated[Path, typer.Option(help="Answers table to write (Parquet).")] = Path("answers.parquet"),
    encoder: Annotated[Path | None, typer.Option(help="Folder of sentence-transformers; the bundled one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask your own LLMs multiple-choice questions and write their answers table; start again to resume.

    What was answered, with the options' probabilities, is kept beside the table in a file that ends in .log.jsonl; the
    table holds the likeliest option. Train a gate on the table with `moe2 train --answers FILE`, and name both in a
    scenario's [router].

    Example: moe2 answers collect --endpoints endpoints.toml --questions questions.jsonl --out answers.parquet
    """
    from moe2.answers import write_answers  # noqa: PLC0415
    from scenarios.method.collecting import collect  # noqa: PLC0415
    from scenarios.method.endpoints import read_endpoints  # noqa: PLC0415
    from scenarios.method.questions import read_questions  # noqa: PLC0415

    with bad_input():
        check_file(out)
        check_apart(out, endpoints, questions)
        asked, prompts = read_endpoints(endpoints), read_questions(questions)
        log = out.with_suffix(".log.jsonl")
        going_on = f"what was answered is kept in {log}; the same command goes on from there"
        console = progress_console()
        bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        with kept(going_on), bar:
            tasks = {e.model: bar.add_task(e.model, total=len(prompts)) for e in asked}
            table = collect(
                asked,
                prompts,
                log,
                encoder=encoder,
                progress=lambda model, n: bar.update(tasks[model], completed=n),
            )
        with whole_file(out) as draft:
            write_answers(table, draft)
    told = {
        model: {"right": float(table.correct[:, i].mean()), "unparsed": int((table.choice[:, i] < 0).sum())}
        for i, model in enumerate(table.models)
    }
    lines = [
        f"{model}: {found['right']:.1%} right, {found['unparsed']} answers unparsed" for model, found in told.items()
    ]
    head = f"{out}: {len(table)} questions, {len(table.models)} models"
    say({"file": str(out), "questions": len(table), "models": told}, [head, *lines], as_json=as_json)


def embed_(
    texts: Annotated[Path, typer.Argument(help="JSONL with a `text`, or a `question` and its `options`, per line.")],
    out: Annotated[Path, typer.Option(help="Embeddings to write (.npz: embedding, encoder).")] = Path("embedding.npz"),
    encoder: Annotated[Path | None, typer.Option(help="Folder of sentence-transformers; the bundled one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Embed prompts; needs the extra `encoder`.

    Example: moe2 embed prompts.jsonl --out embedding.npz
    """
    import numpy as np  # noqa: PLC0415

    from moe2.encoder import embed, identity  # noqa: PLC0415

    with bad_input():
        check_file(out)
        check_apart(out, texts)
        vectors = embed(_texts(texts), folder=encoder)
        with whole_file(out) as draft, draft.open("wb") as file:
            np.savez(file, embedding=vectors, encoder=np.array(identity(encoder)))
    (n, size), by = vectors.shape, identity(encoder)
    line = f"{out}: {n} prompts, {size} values each, of {by}"
    say({"file": str(out), "prompts": n, "values": size, "encoder": by}, [line], as_json=as_json)


def check_apart(out: Path, *given: Path) -> None:
    """Raise ValueError when the result would be written over what it is made of."""
    for file in given:
        if out.resolve() == file.resolve():
            raise ValueError(f"{out}: is what is read, and would be overwritten; name another file for --out")


def _texts(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a readable text file: {error}") from None
    found = [_text(line, f"{path}, line {i}") for i, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise ValueError(f"{path}: no text; write one JSON object per line")
    return found


def _text(line: str, where: str) -> str:
    from moe2.encoder import prompt_text  # noqa: PLC0415

    try:
        entry = json.loads(line)
        text, options = (entry["text"], None) if "text" in entry else (entry["question"], entry["options"])
    except (json.JSONDecodeError, KeyError, TypeError):
        text = options = None
    if not isinstance(text, str) or not text.strip() or not isinstance(options, (list, type(None))):
        raise ValueError(
            f"{where}: found {line[:40]!r}; each line is a JSON object with a text, or a question and its options "
            "(a list)"
        )
    return text if options is None else prompt_text(text, [str(option) for option in options])
