"""What pages of results are made of: tables in Markdown, figures in words."""

from collections.abc import Mapping, Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table.

    >>> print(markdown_table(["k", "right"], [["1", "45 %"]]))
    | k | right |
    | --- | --- |
    | 1 | 45 % |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ratio(row: Mapping[str, float], reference: str) -> str:
    """Return a method's accuracy as a ratio to a reference's, less 1, with its interval, from a row of `evaluate`.

    >>> ratio({"ratio_vs_plain": 0.052, "ratio_plain_low": 0.02, "ratio_plain_high": 0.084}, "plain")
    '+5.2 % (+2.0 to +8.4)'
    """
    low, high = (100 * row[f"ratio_{reference}_{end}"] for end in ("low", "high"))
    return f"{100 * row[f'ratio_vs_{reference}']:+.1f} % ({low:+.1f} to {high:+.1f})"
