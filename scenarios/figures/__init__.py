"""Pictures of one scenario's runs: the only place that draws."""

from scenarios.figures.drawing import draw_figures
from scenarios.figures.style import Figure, Vector

__all__ = ["Figure", "Vector", "draw_figures"]
