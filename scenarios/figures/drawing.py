"""All figures of one story."""

from pathlib import Path

from scenarios.figures.accuracy import draw_accuracy
from scenarios.figures.delays import draw_delay_by_category, draw_delay_curve, draw_time_parts
from scenarios.figures.devices import draw_energy_by_device, draw_in_system, draw_utilisation
from scenarios.figures.style import Figure, Vector, house_style
from scenarios.story.story import Story

_DRAWINGS = (
    draw_delay_by_category,
    draw_delay_curve,
    draw_time_parts,
    draw_energy_by_device,
    draw_utilisation,
    draw_in_system,
)


def draw_figures(story: Story, folder: Path, *, vector: Vector | None = None) -> list[Figure]:
    """Draw every figure that the story has data for as PNG files in `folder`, which is made where it is missing.

    With `vector` each is written in that format too. The same story gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawings = _DRAWINGS if story.accuracy.empty else (*_DRAWINGS, draw_accuracy)
    with house_style(vector):
        return [draw(story, folder) for draw in drawings]
