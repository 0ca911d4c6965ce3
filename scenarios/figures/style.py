"""How every figure looks: size, type, colours, the PNG file it becomes and the picture that stands on a page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from scenarios.figures.following import following

WIDTH_IN = 6.0
DOTS_PER_IN = 200  # twice the 100 that a page shows, for fine screens and print

# Every colour here has one that stands for it in the dark: see `following`.
INK, MUTED, RULE = "#1f2933", "#5f6b7a", "#e3e7eb"
# Okabe and Ito's palette, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#9aa5b1",
)  # fmt: skip
BUDGET = VERMILION
PARTS = {"network": GREY, "wait": ORANGE, "prefill": SKY, "decode": BLUE}
_HARDWARE = {"4090": BLUE, "orin": GREEN}
_OTHER_HARDWARE = (PURPLE, ORANGE, SKY, VERMILION, GREY)

_LOOK: Mapping[str, Any] = {
    "axes.edgecolor": GREY,
    "axes.grid.axis": "x",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10.5,
    "axes.linewidth": 0.8,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "grid.color": RULE,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.color": INK,
    "ytick.labelsize": 10,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One drawn figure: a PNG file, the same picture for a page, and the words that go with it.

    Attributes:
        key: what it shows, also the name of the file; the report places it by this.
        path: the PNG file, light.
        svg: the picture as SVG whose colours follow the page.
        alt: what a reader who cannot see it needs to know.
        caption: what the marks mean.
        width_px: width on the page, half the pixels of the file.
        height_px: height on the page.
    """

    key: str
    path: Path
    svg: str
    alt: str
    caption: str
    width_px: int
    height_px: int


Vector = Literal["svg", "pdf"]
"""A format for papers, drawn beside the PNG."""


@contextmanager
def house_style(vector: Vector | None = None) -> Iterator[None]:
    """Draw in this project's style for as long as the block lasts; with `vector` each figure in that format too."""
    formats = {"savefig.format": vector or "png", "svg.hashsalt": "moe2", "pdf.fonttype": 42}
    with mpl.rc_context({**sns.axes_style("whitegrid"), **_LOOK, **formats}):
        yield


def new_canvas(height_in: float) -> tuple[Canvas, Axes]:
    """Return an empty canvas of the common width with one pair of axes."""
    canvas = Canvas(figsize=(WIDTH_IN, height_in), dpi=DOTS_PER_IN, layout="constrained", facecolor="white")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    sns.despine(ax=axes, left=True)
    axes.tick_params(length=0)
    return canvas, axes


def save(canvas: Canvas, folder: Path, key: str, *, alt: str, caption: str) -> Figure:
    """Write `folder`/`key`.png, the same bytes for the same picture, and return the figure.

    In a house style with a vector format the picture is written in that one too.
    """
    path = folder / f"{key}.png"
    canvas.savefig(path, dpi=DOTS_PER_IN, format="png", metadata={"Software": None})
    canvas.set_layout_engine("none")  # as it is laid out now: laid out anew it may come out otherwise
    vector = mpl.rcParams["savefig.format"]
    if vector in _UNDATED:
        canvas.savefig(path.with_suffix(f".{vector}"), format=vector, metadata=dict.fromkeys(_UNDATED[vector]))
    width, height = canvas.get_size_inches()
    return Figure(
        key=key,
        path=path,
        svg=following(canvas, key, alt),
        alt=alt,
        caption=caption,
        width_px=round(100 * width),
        height_px=round(100 * height),
    )


_UNDATED = {"svg": ("Date",), "pdf": ("CreationDate",)}  # left out, so that the same picture has the same bytes


def rows_height_in(n_rows: int, *, per_row_in: float = 0.36) -> float:
    """Return the height of a chart of `n_rows` horizontal rows, axes and legend included."""
    return 1.5 + per_row_in * max(n_rows, 1)


def legend_below(canvas: Canvas, axes: Axes, *, columns: int) -> None:
    """Put the legend under the axes, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        canvas.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=1.4, columnspacing=1.4)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label rows 0, 1, … from the top down and leave a little room at both ends."""
    axes.set_yticks(range(len(names)), labels=list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with numbers as people write them; where it spans little, with those between too."""
    few = LogLocator(base=10, subs=(1, 2, 5), numticks=8)
    axis.set_major_locator(few)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def hardware_colours(hardware: Sequence[str]) -> dict[str, str]:
    """Return one colour per kind of hardware; those of the testbed are the same in every report.

    >>> hardware_colours(["Jetson AGX Orin 64GB", "GeForce RTX 4090"])
    {'Jetson AGX Orin 64GB': '#009e73', 'GeForce RTX 4090': '#0072b2'}
    """
    colours: dict[str, str] = {}
    spare = 0
    for kind in dict.fromkeys(hardware):
        known = [colour for word, colour in _HARDWARE.items() if word in kind.lower()]
        colours[kind] = known[0] if known else _OTHER_HARDWARE[spare % len(_OTHER_HARDWARE)]
        spare += not known
    return colours
