"""Draws the images of ``SyntheticPosts``."""
import colorsys
import math
from collections.abc import Sequence
from typing import Any

from mmgraph.datasets._grammar import kind_of
from mmgraph.utils import optional_import

__all__ = ['draw_objects']

Point = tuple[float, float]
Colour = tuple[int, int, int]

_SKY, _GROUND = ((214, 232, 245), (245, 247, 242)), (226, 220, 204)
_INK = (40, 44, 52)
_SCALE = 2  # Drawn larger and shrunk: smooth edges.


def _regular(corners: int, turn: float = 0.0,
             inner: float = 1.0) -> list[Point]:
    r"""A regular polygon, or a star, in the unit circle."""
    count = corners * (1 if inner == 1 else 2)
    return [((inner if i % 2 and inner != 1 else 1)
             * math.sin(2 * math.pi * (i / count + turn)),
             -(inner if i % 2 and inner != 1 else 1)
             * math.cos(2 * math.pi * (i / count + turn)))
            for i in range(count)]


#: The outlines that things take in turn.
_SHAPES: tuple[list[Point], ...] = (
    _regular(40),
    _regular(4, 1 / 8),
    _regular(5, inner=0.45),
    _regular(3),
    _regular(6),
    _regular(4),
    _regular(8, inner=0.7),
    _regular(3, 1 / 2),
    _regular(5),
    [(-1, -0.4), (-0.4, -0.4), (-0.4, -1), (0.4, -1), (0.4, -0.4),
     (1, -0.4), (1, 0.4), (0.4, 0.4), (0.4, 1), (-0.4, 1), (-0.4, 0.4),
     (-1, 0.4)],
)


def _colour(label: int, light: float = 0.52) -> Colour:
    # Steps of the golden ratio: neighbours differ, and none repeats.
    red, green, blue = colorsys.hls_to_rgb(label * 0.618034 % 1, light, 0.55)
    return round(255 * red), round(255 * green), round(255 * blue)


def _person(canvas: Any, box: Sequence[float], colour: Colour,
            hair: Colour, width: int) -> None:
    x1, y1, x2, y2 = box
    middle, height = (x1 + x2) / 2, y2 - y1
    head = min(0.2 * height, 0.36 * (x2 - x1))
    neck = y1 + 2.1 * head
    canvas.rounded_rectangle(
        (x1 + 0.08 * (x2 - x1), neck, x2 - 0.08 * (x2 - x1), y2),
        radius=0.4 * (x2 - x1), fill=colour, outline=_INK, width=width,
        corners=(True, True, False, False))
    canvas.ellipse((middle - head, y1 + 0.1 * head, middle + head,
                    y1 + 2.1 * head), fill=(241, 205, 174), outline=_INK,
                   width=width)
    canvas.pieslice((middle - head, y1 + 0.1 * head, middle + head,
                     y1 + 2.1 * head), 180, 360, fill=hair, outline=_INK,
                    width=width)


def _skyline(canvas: Any, box: Sequence[float], colour: Colour,
             width: int) -> None:
    x1, y1, x2, y2 = box
    step = (x2 - x1) / 4
    for i, top in enumerate((0.35, 0.0, 0.5, 0.2)):
        canvas.rectangle((x1 + i * step, y1 + top * (y2 - y1),
                          x1 + (i + 1) * step, y2), fill=colour,
                         outline=_INK, width=width)


def draw_objects(
    labels: Sequence[str],
    label_ids: Sequence[int],
    boxes: Sequence[Sequence[float]],
    size: tuple[int, int],
    names: bool = True,
) -> Any:
    r"""A picture of labelled boxes; places behind, persons in front."""
    image_module = optional_import('PIL.Image', 'vision')
    draw_module = optional_import('PIL.ImageDraw', 'vision')
    font_module = optional_import('PIL.ImageFont', 'vision')
    width, height = (_SCALE * side for side in size)
    image = image_module.new('RGB', (width, height), _GROUND)
    canvas = draw_module.Draw(image)
    horizon = round(0.62 * height)
    for y in range(horizon):
        part = y / horizon
        canvas.line((0, y, width, y), fill=tuple(
            round(a + part * (b - a)) for a, b in zip(*_SKY)))
    font = font_module.load_default(max(round(height / 34), 10))
    line = max(height // 320, 1)
    layer = {'place': 0, 'thing': 1, 'person': 2}
    order = sorted(range(len(labels)), key=lambda i: layer[kind_of(labels[i])])
    for i in order:
        x1, y1, x2, y2 = (side * (width, height)[j % 2]
                          for j, side in enumerate(boxes[i]))
        colour = _colour(label_ids[i])
        if names:
            y2 -= 1.3 * font.size  # Room for the name.
        if kind_of(labels[i]) == 'person':
            _person(canvas, (x1, y1, x2, y2), colour,
                    _colour(label_ids[i], 0.25), line)
        elif kind_of(labels[i]) == 'place':
            _skyline(canvas, (x1, y1, x2, y2), _colour(label_ids[i], 0.78),
                     line)
        else:
            middle, radius = ((x1 + x2) / 2, (y1 + y2) / 2), min(
                x2 - x1, y2 - y1) / 2
            canvas.polygon(
                [(middle[0] + radius * x, middle[1] + radius * y)
                 for x, y in _SHAPES[label_ids[i] % len(_SHAPES)]],
                fill=colour, outline=_INK, width=line)
        if not names:
            continue
        # The name on a plate that stays inside the picture.
        reach = canvas.textlength(labels[i], font=font) / 2 + 0.4 * font.size
        at = min(max((x1 + x2) / 2, reach), width - reach)
        canvas.rounded_rectangle(
            (at - reach, y2, at + reach, y2 + 1.3 * font.size),
            radius=0.4 * font.size, fill=(255, 255, 255))
        canvas.text((at, y2 + 0.65 * font.size), labels[i], fill=_INK,
                    font=font, anchor='mm')
    return image.resize(size, image_module.Resampling.LANCZOS)
