"""One picture of an aligned post."""
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mmgraph.data import Post, Vocabulary
from mmgraph.typing import PathLike
from mmgraph.utils import atomic_path, optional_import
from mmgraph.viz._layout import (
    LEVEL,
    MARGIN,
    Arc,
    Plan,
    Words,
    drawable,
    find_arcs,
    make_plan,
    place_words,
    text_width,
)

if TYPE_CHECKING:
    from mmgraph.nn.align.base import Alignment

__all__ = ['draw_alignment', 'save_alignment']

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
_HEAD, _TAIL = '#0072B2', '#E69F00'
_RIGHT, _WRONG, _PLAIN = '#009E73', '#D55E00', '#0072B2'
_GOLD, _INK, _SOFT = '#222222', '#333333', '#8A8F98'
_PREDICATE = '#7A5195'

_SMALL = 7.5  # Points, of the labels of edges.


def draw_alignment(
    post: Post,
    alignment: 'Alignment | None' = None,
    ax: Any = None,
    image: Any = None,
    vocabularies: Mapping[str, Vocabulary] | None = None,
    predicted: str | int | None = None,
    threshold: float = 0.1,
) -> Any:
    r"""Draws a post: its words under the arcs of their dependencies, the
    objects of its image with their predicates, and the alignment between.

    A line is the thicker the higher its score. Where the gold correspondence
    is known (edges :obj:`('word', 'matches', 'object')`), gold pairs are
    dashed, and lines tell right from wrong by colour. The head mention is
    blue, the tail mention is orange.

    Args:
        post (Post): The post.
        alignment (Alignment, optional): The alignment of this one post; by
            default its edges :obj:`('word', 'aligns', 'object')`, if it has
            them. (default: :obj:`None`)
        ax (matplotlib.axes.Axes, optional): Where to draw; a figure of
            fitting size by default. (default: :obj:`None`)
        image (optional): The picture to draw behind the objects: a path, an
            array or a PIL image. (default: :obj:`None`)
        vocabularies (mapping, optional): The names of :obj:`'object'`,
            :obj:`'predicate'`, :obj:`'dependency'` and :obj:`'relation'`
            ids, as a data set has them; without, ids are drawn.
            (default: :obj:`None`)
        predicted (str or int, optional): The relation that a model gave, its
            name or its id. (default: :obj:`None`)
        threshold (float, optional): Lines below this share of the highest
            score are left out. (default: :obj:`0.1`)

    Returns:
        matplotlib.figure.Figure: The figure.

    Raises:
        MissingExtraError: If :obj:`matplotlib` is not installed.
        ValueError: If :obj:`alignment` is of another post or of several.
    """
    figure_module = optional_import('matplotlib.figure', 'viz')
    names = _Names(vocabularies or {})
    lines = _lines(post, alignment, threshold)
    picture = _picture(image)
    room = None if ax is None else _inches(ax)
    words = place_words([drawable(word) for word in post.words], room, {
        i for start, end, _ in _mentions(post) for i in range(start, end)})
    arcs = find_arcs(post)
    ratio = 4 / 3 if picture is None else picture.shape[1] / picture.shape[0]
    plan = make_plan(words, arcs, ratio, room, stretch=picture is None)
    if ax is None:
        figure = figure_module.Figure(figsize=(plan.width, plan.height))
        ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, plan.width)
    ax.set_ylim(0, plan.height)
    ax.set_aspect('equal')
    ax.axis('off')
    _draw_title(ax, post, plan, names, predicted)
    _draw_words(ax, post, plan, words)
    _draw_arcs(ax, plan, words, arcs, names)
    anchors = _draw_scene(ax, post, plan, names, picture)
    _draw_lines(ax, plan, words, lines, anchors)
    return ax.figure


def save_alignment(post: Post, path: PathLike, dpi: int = 150,
                   **kwargs: Any) -> None:
    r"""Writes the picture of :func:`draw_alignment` to a file; its name tells
    the format (:obj:`.png`, :obj:`.svg`, :obj:`.pdf`).

    Args:
        post (Post): The post.
        path (str): The file.
        dpi (int, optional): Dots an inch. (default: :obj:`150`)
        **kwargs: Passed on to :func:`draw_alignment`.
    """
    figure = draw_alignment(post, **kwargs)
    suffix = str(path).rpartition('.')[2].lower()
    with atomic_path(path) as part:
        figure.savefig(part, dpi=dpi, format=suffix, facecolor='white')


class _Names:
    def __init__(self, vocabularies: Mapping[str, Vocabulary]) -> None:
        self.vocabularies = vocabularies

    def __call__(self, kind: str, index: int) -> str:
        vocabulary = self.vocabularies.get(kind)
        if vocabulary is not None and 0 <= index < len(vocabulary):
            return vocabulary.to_label(index)
        return str(index)


class _Line(NamedTuple):
    word: int
    object: int
    share: float  # Of the highest score; 0 for a gold pair not found.
    gold: bool
    known: bool  # Whether there is a gold standard.


def _inches(ax: Any) -> tuple[float, float]:
    box = ax.get_position()
    width, height = ax.figure.get_size_inches()
    return float(box.width * width), float(box.height * height)


def _picture(image: Any) -> Any:
    if image is None:
        return None
    numpy = optional_import('numpy', 'viz')
    if isinstance(image, str) or hasattr(image, '__fspath__'):
        pillow = optional_import('PIL.Image', 'vision')
        with pillow.open(image) as opened:
            return numpy.asarray(opened.convert('RGB'))
    return numpy.asarray(image)


def _lines(post: Post, alignment: 'Alignment | None',
           threshold: float) -> list[_Line]:
    n, m = int(post['word'].num_nodes), int(post['object'].num_nodes)
    pairs: dict[tuple[int, int], float] = {}
    if alignment is not None:
        if alignment.num_graphs != 1:
            raise ValueError(
                f"'alignment' must be of one post (got {alignment.num_graphs} "
                f'graphs); align the post alone, or draw posts of the batch '
                f'from their edges (word, aligns, object)')
        if (alignment.num_source, alignment.num_target) != (n, m):
            raise ValueError(
                f"'alignment' must join the {n} words and {m} objects of the "
                f'post (got {alignment.num_source} and '
                f'{alignment.num_target}). Is it of another post?')
        index, score = alignment.match_index, alignment.match_score
    elif ('word', 'aligns', 'object') in post.edge_types:
        store = post['word', 'aligns', 'object']
        index, score = store.edge_index, store.get('edge_weight')
    else:
        index, score = None, None
    if index is not None:
        values = ([1.0] * index.size(1) if score is None
                  else score.detach().tolist())
        pairs = {(w, o): value for (w, o), value
                 in zip(index.t().tolist(), values)}
    known = ('word', 'matches', 'object') in post.edge_types
    gold = ({(w, o) for w, o in
             post['word', 'matches', 'object'].edge_index.t().tolist()}
            if known else set())
    top = max(pairs.values(), default=0.0)
    lines = [_Line(w, o, value / top, (w, o) in gold, known)
             for (w, o), value in pairs.items()
             if top > 0 and value >= threshold * top]
    drawn = {(line.word, line.object) for line in lines}
    lines += [_Line(w, o, 0.0, True, True) for w, o in sorted(gold - drawn)]
    return sorted(lines, key=lambda line: line.share)


def _draw_title(ax: Any, post: Post, plan: Plan, names: _Names,
                predicted: str | int | None) -> None:
    gold = [names('relation', relation) for _, _, relation in post.relations]
    parts = [('gold: ' + ', '.join(gold), _INK)] if gold else []
    if predicted is not None:
        name = (predicted if isinstance(predicted, str)
                else names('relation', int(predicted)))
        colour = _INK if not gold else _RIGHT if name in gold else _WRONG
        parts.append((f'predicted: {name}', colour))
    x = MARGIN
    for part, colour in parts:
        ax.text(x, plan.height - 0.28, part, size=12 * plan.scale,
                weight='bold', color=colour, va='center', ha='left',
                parse_math=False)
        x += text_width(part, 12, True) + 0.35
    ax.text(plan.width - MARGIN, plan.height - 0.28, post.post_id,
            size=9 * plan.scale, color=_SOFT, va='center', ha='right',
            parse_math=False)


def _mentions(post: Post) -> list[tuple[int, int, str]]:
    r"""The mentions with their colours: those of the first relation, and
    those in no relation or in further ones.
    """
    relations = post.relations
    marked = dict(zip(relations[0], (_HEAD, _TAIL))) if relations else {}
    return [(start, end, marked.get(i, _SOFT))
            for i, (start, end, _) in enumerate(post.entities)]


def _draw_words(ax: Any, post: Post, plan: Plan, words: Words) -> None:
    patches = optional_import('matplotlib.patches', 'viz')
    colours = {}
    for start, end, colour in _mentions(post):
        left = words.x[start] - words.half[start] - 0.06
        right = words.x[end - 1] + words.half[end - 1] + 0.06
        ax.add_patch(patches.FancyBboxPatch(
            (left, plan.word_bottom), right - left,
            plan.word_top - plan.word_bottom, mutation_aspect=1,
            boxstyle='round,pad=0.02,rounding_size=0.06', facecolor=colour,
            alpha=0.18, edgecolor='none', zorder=1))
        ax.add_patch(patches.Rectangle(
            (left + 0.04, plan.word_bottom - 0.02), right - left - 0.08, 0.03,
            facecolor=colour, edgecolor='none', zorder=2))
        colours.update(dict.fromkeys(range(start, end), colour))
    for i, word in enumerate(words.text):
        ax.text(words.x[i], (plan.word_bottom + plan.word_top) / 2, word,
                size=words.size * plan.scale, color=_INK, ha='center',
                va='center', rotation=90 if words.turned else 0, zorder=3,
                weight='bold' if i in colours else 'normal',
                parse_math=False)


def _draw_arcs(ax: Any, plan: Plan, words: Words, arcs: list[Arc],
               names: _Names) -> None:
    patches = optional_import('matplotlib.patches', 'viz')
    path_module = optional_import('matplotlib.path', 'viz')
    base = plan.word_top + 0.06
    move, line, curve = (path_module.Path.MOVETO, path_module.Path.LINETO,
                         path_module.Path.CURVE3)
    for arc in arcs:
        forward = 1 if arc.dependent > arc.head else -1
        # Leaves the head towards the dependent and meets it in the middle, so
        # that arcs at one word stay apart.
        start = words.x[arc.head] + forward * min(0.07, words.half[arc.head])
        end = words.x[arc.dependent]
        top = base + LEVEL * arc.level
        bend = forward * min(0.12, abs(end - start) / 2)
        ax.add_patch(patches.PathPatch(path_module.Path(
            [(start, base), (start, top - 0.1), (start, top),
             (start + bend, top), (end - bend, top), (end, top),
             (end, top - 0.1), (end, base)],
            [move, line, curve, curve, line, curve, curve, line]),
            facecolor='none', edgecolor=_SOFT, linewidth=0.9 * plan.scale,
            zorder=1))
        ax.add_patch(patches.Polygon(
            [(end, base - 0.03), (end - 0.035, base + 0.06),
             (end + 0.035, base + 0.06)], closed=True, facecolor=_SOFT,
            edgecolor='none', zorder=2))
        label = names('dependency', arc.label)
        fit = abs(end - start) / max(text_width(label, _SMALL), 0.01)
        ax.text((start + end) / 2, top, label,
                size=_SMALL * plan.scale * min(1, max(fit, 0.6)), color=_INK,
                ha='center', va='center', zorder=4, parse_math=False,
                bbox=dict(facecolor='white', edgecolor='none', pad=0.6))


def _boxes(post: Post) -> list[list[float]]:
    objects = post['object']
    boxes = objects.get('box')
    if boxes is not None:
        return [[float(side) for side in box] for box in boxes.tolist()]
    # Without boxes: places side by side, in two rows for many.
    m = int(objects.num_nodes)
    rows = 1 if m <= 5 else 2
    columns = max((m + rows - 1) // rows, 1)
    return [[(i // rows + 0.2) / columns, (i % rows + 0.25) / rows,
             (i // rows + 0.8) / columns, (i % rows + 0.75) / rows]
            for i in range(m)]


def _draw_scene(ax: Any, post: Post, plan: Plan, names: _Names,
                picture: Any) -> list[tuple[float, float]]:
    r"""Draws the image; tells where lines meet each object."""
    patches = optional_import('matplotlib.patches', 'viz')
    path_module = optional_import('matplotlib.path', 'viz')
    x1, y1, x2, y2 = plan.scene
    if picture is not None:
        ax.imshow(picture, extent=(x1, x2, y1, y2), aspect='auto', zorder=0,
                  interpolation='antialiased')
        ax.set_xlim(0, plan.width)
        ax.set_ylim(0, plan.height)
    ax.add_patch(patches.Rectangle(
        (x1, y1), x2 - x1, y2 - y1, edgecolor='#C9CDD3', linewidth=1,
        facecolor='#F6F7F9' if picture is None else 'none', zorder=0))
    m = int(post['object'].num_nodes)
    if m == 0:
        said = ('no object' if int(post['image'].num_nodes) else 'no image')
        ax.text((x1 + x2) / 2, (y1 + y2) / 2, said,
                size=12 * plan.scale, color=_SOFT, ha='center', va='center')
        return []
    label_id = post['object'].get('label_id')
    slots = post['object'].slot_id.tolist()
    middles, anchors = [], []
    for i, box in enumerate(_boxes(post)):
        left, right = (x1 + side * (x2 - x1) for side in box[::2])
        top, bottom = (y2 - side * (y2 - y1) for side in box[1::2])
        ax.add_patch(patches.Rectangle(
            (left, bottom), right - left, top - bottom, facecolor=(1, 1, 1, 0.7)
            if picture is None else 'none', edgecolor=_INK,
            linewidth=1.1 * plan.scale, zorder=1))
        name = f'object {slots[i]}' if label_id is None \
            else names('object', int(label_id[i]))
        reach = text_width(name, 9) / 2 + 0.08
        at = min(max((left + right) / 2, x1 + reach), x2 - reach)
        chip = min(top, y2 - 0.12)
        ax.text(at, chip, name, size=9 * plan.scale, weight='bold',
                color='white', ha='center', va='center', zorder=7,
                parse_math=False,
                bbox=dict(boxstyle='round,pad=0.22', facecolor=_INK,
                          edgecolor='white', linewidth=0.8))
        middles.append(((left + right) / 2, (top + bottom) / 2))
        anchors.append((at, chip + 0.1))
    taken = list(anchors)
    relates = post['object', 'relates', 'object']
    for (s, o), predicate in zip(relates.edge_index.t().tolist(),
                                 relates.edge_type.tolist()):
        (x1, y1), (x2, y2) = middles[s], middles[o]
        # Bent, so that an arrow and its reverse stay apart.
        bend = ((x1 + x2) / 2 + 0.14 * (y2 - y1),
                (y1 + y2) / 2 - 0.14 * (x2 - x1))
        ax.add_patch(patches.FancyArrowPatch(
            path=path_module.Path(
                [middles[s], bend, middles[o]],
                [path_module.Path.MOVETO, path_module.Path.CURVE3,
                 path_module.Path.CURVE3]),
            arrowstyle='-|>', mutation_scale=11 * plan.scale,
            color=_PREDICATE, linewidth=1.3 * plan.scale, zorder=4))
        spot = _free_spot([(
            (1 - t) ** 2 * x1 + 2 * t * (1 - t) * bend[0] + t ** 2 * x2,
            (1 - t) ** 2 * y1 + 2 * t * (1 - t) * bend[1] + t ** 2 * y2)
            for t in (0.5, 0.42, 0.58, 0.34, 0.66, 0.26)], taken)
        taken.append(spot)
        ax.text(*spot, names('predicate', predicate),
                size=_SMALL * plan.scale, style='italic', color=_PREDICATE,
                ha='center', va='center', zorder=6.5, parse_math=False,
                bbox=dict(boxstyle='round,pad=0.12', facecolor='white',
                          edgecolor='none', alpha=0.85))
    return anchors


def _free_spot(spots: list[tuple[float, float]],
               taken: list[tuple[float, float]]) -> tuple[float, float]:
    r"""The first spot with room for a label, else the one with most room."""
    def room(spot: tuple[float, float]) -> float:
        # Labels are wide and low.
        return min((max(abs(spot[0] - x) / 0.75, abs(spot[1] - y) / 0.22)
                    for x, y in taken), default=1.0)
    return next((spot for spot in spots if room(spot) >= 1),
                max(spots, key=room))


def _draw_lines(ax: Any, plan: Plan, words: Words, lines: list[_Line],
                anchors: list[tuple[float, float]]) -> None:
    lines_module = optional_import('matplotlib.lines', 'viz')
    legend: dict[str, dict[str, Any]] = {}
    dashed = dict(color=_GOLD, linewidth=1.2 * plan.scale,
                  linestyle=(0, (4, 3)))
    aligned = any(line.share for line in lines)
    for line in lines:
        x, y = anchors[line.object]
        ends = ([words.x[line.word], x], [plan.word_bottom - 0.05, y])
        if line.share:
            colour = (_PLAIN if not line.known
                      else _RIGHT if line.gold else _WRONG)
            ax.add_line(lines_module.Line2D(
                *ends, color=colour, solid_capstyle='round', zorder=6,
                linewidth=(0.8 + 3.2 * line.share) * plan.scale,
                alpha=0.35 + 0.5 * line.share))
            legend['aligned' if not line.known else 'aligned, right'
                   if line.gold else 'aligned, wrong'] = dict(
                       color=colour, linewidth=3 * plan.scale)
        if line.gold:
            ax.add_line(lines_module.Line2D(*ends, zorder=6, **dashed))
            legend['gold' if line.share or not aligned
                   else 'gold, not found'] = dashed
        ax.add_line(lines_module.Line2D(
            *ends, linestyle='none', marker='o', markersize=3.5 * plan.scale,
            color=_INK, zorder=6))
    if 'gold' in legend:
        legend.pop('gold, not found', None)  # The same dashes.
    handles = [lines_module.Line2D([], [], label=name, **style)
               for name, style in sorted(legend.items())]
    handles += [lines_module.Line2D([], [], color=colour,
                                    linewidth=7 * plan.scale,
                                    alpha=0.35, label=name)
                for name, colour in (('head', _HEAD), ('tail', _TAIL))]
    ax.legend(handles=handles, loc='lower center', ncol=len(handles),
              frameon=False, fontsize=9 * plan.scale, bbox_to_anchor=(0.5, 0.0),
              borderaxespad=0.3, handlelength=2.4)
