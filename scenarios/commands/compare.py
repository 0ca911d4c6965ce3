"""The commands that hold the twin against what was recorded: `moe2 compare`, `moe2 import`."""

# ruff: noqa: PLC0415 - a command imports what it needs, so that help and errors come at once
from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scenarios.commands.output import AsJson, say
from scenarios.commands.refusal import bad_input

if TYPE_CHECKING:
    from scenarios.comparing.comparison import Comparison

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(compare)
    app.command("import")(import_)


def compare(
    real: Annotated[Path, typer.Argument(help="Folder of the measured run.")],
    twin: Annotated[Path, typer.Argument(help="Folder of the simulated run.")],
    tolerances: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file of tolerances; without it only counts must agree.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, the table, the JSON and the figures.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a measured run with a simulated one, request by request and in distribution.

    A file of tolerances has a table for ttft, tpot, leg, e2e or energy with mean, p50, p95, p99, ks, wasserstein or
    per_request, one for throughput with requests_per_s or output_tokens_per_s, and counts; also by_expert.ttft and
    by_load.e2e. Limits are shares: mean = 0.05 is 5 %.

    Exit status: 0 within every tolerance, 1 one is exceeded, 2 bad input, 3 one cannot be judged (a side has no meter).

    Example: moe2 compare runs/recorded runs/twin --tolerances tolerances.toml --out runs/compared
    """
    from scenarios.comparing.comparison import check_out, write_comparison
    from scenarios.comparing.comparison import compare as compared
    from scenarios.comparing.origins import check_order, disturbances
    from scenarios.comparing.sides import read_side
    from scenarios.comparing.tolerances import EXACT_COUNTS, read_tolerances

    with bad_input():
        limits = (EXACT_COUNTS,) if tolerances is None else read_tolerances(tolerances)
        if out is not None:
            check_out(out)
        check_order(real, twin)
        notes = [*disturbances(real, "REAL"), *disturbances(twin, "TWIN")]
        found = compared(read_side(real, "REAL"), read_side(twin, "TWIN"), limits, notes=notes)
        written = [] if out is None else write_comparison(found, out, real=str(real), twin=str(twin))
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print_comparison(found)
        for path in written:
            print(path)
    raise typer.Exit(found.exit_status)


def import_(  # noqa: PLR0917 - the command line's options
    form: Annotated[str, typer.Argument(metavar="FORM", help="What wrote the file: vllm-bench.")],
    file: Annotated[Path, typer.Argument(help="The file.")],
    out: Annotated[Path, typer.Option(help="Folder to write to, as `moe2 record` does.")],
    expert: Annotated[str, typer.Option(help="The scenario's name for the expert that served.")],
    device: Annotated[str, typer.Option(help="The scenario's name for its device.")],
    as_json: AsJson = False,
) -> None:
    """Write a load generator's result as the tables of a run, for `moe2 compare` and `moe2 run --trace`.

    vllm-bench: the JSON of `vllm bench serve --save-result --save-detailed`.

    Example: moe2 import vllm-bench result.json --out runs/recorded --expert llama@gpu --device gpu
    """
    from scenarios.comparing.importing import import_run

    with bad_input():
        n = import_run(form, file, out, expert=expert, device=device)
    say({"requests": n, "folder": str(out)}, [f"{n} requests in {out}"], as_json=as_json)


def _print_comparison(found: Comparison) -> None:
    from scenarios.commands.terminal_comparison import print_differences

    print(found.sentence)
    print_differences(found.table)
    for note in found.pairs.notes:
        print(f"note: {note}")
    for finding in found.findings:
        if finding.status != "kept":
            print(f"{'EXCEEDED' if finding.status == 'exceeded' else 'unknown'}: {finding.words}")
    kept = sum(finding.status == "kept" for finding in found.findings)
    print(f"{kept} of {len(found.findings)} tolerances kept, {len(found.pairs.requests)} requests compared")
