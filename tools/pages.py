"""Blocks of Markdown that pages of results are made of."""

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table.

    >>> print(markdown_table(["k", "right"], [["1", "45 %"]]))
    | k | right |
    | --- | --- |
    | 1 | 45 % |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
