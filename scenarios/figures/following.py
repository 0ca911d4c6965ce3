"""Pictures whose colours follow the page they stand on: light or dark as its reader has it, light in print.

A picture on a page is SVG that names this project's colours as properties of the page, with the light colour as what
holds where the page says nothing. `dark_rules` is what a page says in the dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from html import escape

from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure as Canvas

__all__ = ["DARK", "dark_rules", "following", "paler"]

PAPER = "#14181d"  # the page in the dark
_PLAIN = {
    "#ffffff": PAPER, "#1f2933": "#e7ebef", "#5f6b7a": "#a3adb9", "#e3e7eb": "#303842", "#9aa5b1": "#7f8b99",
}  # fmt: skip
_HUES = {
    "#0072b2": "#3f9fe4", "#e69f00": "#eeb02e", "#009e73": "#2fc297", "#d55e00": "#ff8440", "#56b4e9": "#9bd6f7",
    "#cc79a7": "#dd94bb",
}  # fmt: skip


def paler(colour: str, ground: str = "#ffffff", share: float = 0.35) -> str:
    """Return a colour mixed with the ground it stands on, for the lesser part of the same thing.

    >>> paler("#0072b2")
    '#a6cee4'
    """
    pairs = zip(to_rgb(colour), to_rgb(ground), strict=True)
    red, green, blue = (share * c + (1 - share) * g for c, g in pairs)
    return to_hex((red, green, blue))


DARK: Mapping[str, str] = {
    **_PLAIN,
    **_HUES,
    **{paler(light): paler(dark, PAPER, 0.42) for light, dark in {**_HUES, "#9aa5b1": "#7f8b99"}.items()},
}
"""Every colour of the figures, light, and what stands for it in the dark."""


def dark_rules() -> str:
    """Return the properties that a page sets in the dark, as CSS."""
    return " ".join(f"{_property(light)}: {dark};" for light, dark in DARK.items())


def following(canvas: Canvas, key: str, alt: str) -> str:
    """Return the picture as SVG to stand in a page: no outer file's parts, no name that another picture may have."""
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    (box,) = re.findall(r'<svg[^>]*?viewBox="([^"]+)"', text)
    inner = re.sub(r"<metadata>.*?</metadata>", "", text[text.index(">", text.index("<svg")) + 1 :], flags=re.DOTALL)
    inner = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", inner)
    inner = re.sub(r'(?<!href=")(?<!\()#[0-9a-f]{6}\b', _named, inner)
    return f'<svg class="picture" viewBox="{box}" role="img" aria-label="{escape(alt)}">{inner}'


def _named(found: re.Match[str]) -> str:
    light = found.group()
    return f"var({_property(light)}, {light})" if light in DARK else light


def _property(light: str) -> str:
    return f"--c{light[1:]}"
