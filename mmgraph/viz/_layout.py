"""Where the parts of the picture of an aligned post go."""
from typing import NamedTuple

from mmgraph.data import Post
from mmgraph.utils import optional_import

__all__ = [
    'LEVEL', 'MARGIN', 'Arc', 'Plan', 'Words', 'find_arcs', 'make_plan',
    'place_words', 'text_width'
]

# Lengths in inches, fonts in points.
MARGIN, LEVEL = 0.25, 0.25  # Around all; of an arc above the next one.
_WORD, _GAP, _MAX_GAP = 10.5, 0.17, 0.45
_MIN_WIDTH, _MAX_WIDTH = 8.0, 15.0
_SCENE_HEIGHT, _BETWEEN = 3.7, 1.25


class Words(NamedTuple):
    text: list[str]
    x: list[float]  # Centres.
    half: list[float]
    turned: bool
    height: float
    width: float  # Of the row.
    size: float  # Of the font.


class Arc(NamedTuple):
    head: int
    dependent: int
    label: int
    level: int


class Plan(NamedTuple):
    width: float
    height: float
    word_top: float
    word_bottom: float
    scene: tuple[float, float, float, float]  # x1 y1 x2 y2, y upwards
    scale: float  # Inches of the figure to an inch of the plan.


def text_width(text: str, size: float, bold: bool = False) -> float:
    r"""The width of a text in inches."""
    if not text.strip():
        return 0.0
    font = optional_import('matplotlib.font_manager', 'viz').FontProperties(
        size=size, weight='bold' if bold else 'normal')
    path = optional_import('matplotlib.textpath', 'viz').text_to_path
    width, _, _ = path.get_text_width_height_descent(text, font, False)
    return float(width) / 72


def drawable(text: str) -> str:
    r"""The text with a box for each character that the font lacks, such as
    an emoji, instead of a warning a character.
    """
    fonts = optional_import('matplotlib.font_manager', 'viz')
    known = fonts.get_font(fonts.findfont(fonts.FontProperties()))
    return ''.join(c if known.get_char_index(ord(c)) else '\u25a1'
                   for c in text)


def place_words(text: list[str], room: tuple[float, float] | None,
                 bold: set[int]) -> Words:
    r"""Puts words side by side; turns them where there is no room."""
    size = _WORD
    half = [max(text_width(word, size, i in bold), 0.1) / 2
            for i, word in enumerate(text)]
    need = 2 * sum(half) + _GAP * (len(text) + 1) + 2 * MARGIN
    # A smaller place than this is filled by a shrunken picture.
    limit = _MAX_WIDTH if room is None else max(room[0], _MIN_WIDTH)
    if need <= limit:
        row = max(need, _MIN_WIDTH)
        gap = _GAP + (row - need) / (len(text) + 1)
        gap = min(gap, _MAX_GAP)  # A short text stays together.
        used = 2 * sum(half) + gap * (len(text) - 1)
        at, x = (row - used) / 2, []
        for reach in half:
            x.append(at + reach)
            at += 2 * reach + gap
        return Words(text, x, half, False, 0.24, row, size)
    step = (limit - 2 * MARGIN) / max(len(text), 1)
    size = min(size, step * 72 / 1.25)  # A line must fit in its step.
    longest = max((text_width(word, size, True) for word in text), default=0.0)
    x = [MARGIN + (i + 0.5) * step for i in range(len(text))]
    return Words(text, x, [size / 72 / 2] * len(text), True, longest + 0.08,
                  limit, size)


def find_arcs(post: Post) -> list[Arc]:
    r"""Dependencies with the lowest level at which no two arcs touch."""
    store = post['word', 'governs', 'word']
    edges = zip(*store.edge_index.tolist(), store.edge_type.tolist())
    arcs: list[Arc] = []
    for head, dependent, label in sorted(
            edges, key=lambda edge: abs(edge[0] - edge[1])):
        low, high = sorted((head, dependent))
        level = 1 + max((arc.level for arc in arcs
                         if min(arc[:2]) < high and low < max(arc[:2])),
                        default=0)
        arcs.append(Arc(head, dependent, label, level))
    return arcs


def make_plan(words: Words, arcs: list[Arc], ratio: float,
          room: tuple[float, float] | None, stretch: bool) -> Plan:
    width = words.width
    # Boxes alone may be stretched, a picture may not.
    scene_width = min(_SCENE_HEIGHT * (2.4 if stretch else ratio),
                      width - 2 * MARGIN)
    scene_height = (_SCENE_HEIGHT if stretch
                    else min(_SCENE_HEIGHT, scene_width / ratio))
    bottom = 0.5  # The legend.
    left = (width - scene_width) / 2
    scene = (left, bottom, left + scene_width, bottom + scene_height)
    word_bottom = scene[3] + _BETWEEN
    word_top = word_bottom + words.height
    levels = max((arc.level for arc in arcs), default=0)
    height = word_top + 0.3 + LEVEL * levels + 0.55
    scale = 1.0 if room is None else min(room[0] / width, room[1] / height)
    return Plan(width, height, word_top, word_bottom, scene, scale)
