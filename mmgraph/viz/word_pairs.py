"""One picture of a post's table of word pairs."""
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmgraph.data import Post, Vocabulary
from mmgraph.parse.word_pairs import table_of
from mmgraph.utils import optional_import
from mmgraph.viz._layout import MARGIN, drawable, text_width

if TYPE_CHECKING:
    from mmgraph.models import Extraction

__all__ = ['draw_word_pairs']

# The palettes of Okabe and Ito (types) and of Tol (relations), which
# colour-blind readers can tell apart.
_TYPES = ('#56B4E9', '#E69F00', '#CC79A7', '#F0E442', '#0072B2')
_RELATIONS = ('#44AA99', '#CC6677', '#332288', '#999933', '#AA4499', '#117733',
              '#882255', '#DDCC77')
_RIGHT, _WRONG = '#009E73', '#D55E00'
_INK, _SOFT, _EMPTY, _LINE = '#222222', '#8A8F98', '#F1F2F5', '#DDE0E5'

# Lengths in inches, fonts in points.
_CELL, _WORD, _SMALL, _ROW = 0.3, 10.0, 9.0, 0.24
_BETWEEN, _MAX_SIDE = 0.45, 9.0

_Span = tuple[int, int, int]  # start, end, type
_Quintuple = tuple[_Span, _Span, int]


class _Reading(NamedTuple):
    mentions: list[_Span]
    relations: list[_Quintuple]


def draw_word_pairs(
    post: Post,
    predicted: 'Extraction | None' = None,
    vocabularies: Mapping[str, Vocabulary] | None = None,
) -> Any:
    r"""Draws a post as the table that joint models fill: a mention of type
    :math:`t` colours the pairs of its own words, a relation those of a word of
    the one and a word of the other mention. Below each table stand its
    relations, as :obj:`head → relation → tail`.

    What a model predicted stands beside the annotation: what is right has a
    green frame, what is wrong a red one, and what it did not find a dashed
    one. The table does not tell the direction of a relation, so right is who
    names the two mentions, their types and the relation.

    Args:
        post (Post): The post with its annotation.
        predicted (Extraction, optional): What a model's :meth:`decode` gave
            for this post. (default: :obj:`None`)
        vocabularies (mapping, optional): The names of :obj:`'entity'` and
            :obj:`'relation'` ids, as a data set has them; without, ids are
            drawn. (default: :obj:`None`)

    Returns:
        matplotlib.figure.Figure: The figure.

    Raises:
        MissingExtraError: If :obj:`matplotlib` is not installed.
        ValueError: If :obj:`predicted` has a mention outside the post.
    """
    figure_module = optional_import('matplotlib.figure', 'viz')
    vocabularies = vocabularies or {}
    entities = post.entities
    gold = _Reading(entities, [(entities[head], entities[tail], relation)
                               for head, tail, relation in post.relations])
    found = None if predicted is None else _read(predicted)
    sides = [gold] if found is None else [gold, found]
    colours = _Colours(sides, vocabularies)
    words = [drawable(word) for word in post.words]
    cell = min(_CELL, _MAX_SIDE / max(len(words), 1))
    size = min(_WORD, cell * 72 / 1.25)  # A line must fit in its cell.
    longest = max((text_width(word, size, True) for word in words),
                  default=0.0) + 0.12
    side = cell * len(words)
    lines = max(max(len(part.relations) for part in sides), 1)
    said = [_say(quintuple, words, colours.names)
            for part in sides for quintuple in part.relations]
    below = max([text_width(line, _SMALL) + 0.3 for line in said], default=0.0)
    panel = max(longest + side, below)
    legend = colours.legend(found is not None)
    reach = sum(text_width(name, _SMALL) + 0.55 for name, _ in legend)
    width = max(len(sides) * panel + (len(sides) - 1) * _BETWEEN, reach)
    width += 2 * MARGIN
    under = MARGIN + 0.35 + _ROW * lines + 0.15
    height = under + side + longest + 0.35 + MARGIN
    figure = figure_module.Figure(figsize=(width, height))
    for i, part in enumerate(sides):
        left = MARGIN + i * (panel + _BETWEEN) + longest
        ax = figure.add_axes((left / width, under / height,
                              max(side, 0.01) / width,
                              max(side, 0.01) / height))
        title = 'gold' if i == 0 else 'predicted'
        _draw_table(ax, post, part, words, colours, size)
        if i:
            _judge(ax, gold, part)
        figure.text((left - longest) / width, 1 - MARGIN / height, title,
                    size=11, weight='bold', color=_INK, va='top')
        for row, quintuple in enumerate(part.relations):
            right = part is gold or _key(quintuple) in map(
                _key, gold.relations)
            figure.text(
                (left - longest) / width,
                (under - 0.15 - _ROW * (row + 0.5)) / height,
                _say(quintuple, words, colours.names), size=_SMALL,
                color=_INK if right else _WRONG, va='center',
                parse_math=False)
    figure.text(1 - MARGIN / width, 1 - MARGIN / height, post.post_id, size=9,
                color=_SOFT, va='top', ha='right', parse_math=False)
    patches = optional_import('matplotlib.patches', 'viz')
    figure.legend(handles=[patches.Patch(label=name, **style)
                           for name, style in legend],
                  loc='lower center', ncol=max(len(legend), 1), frameon=False,
                  fontsize=_SMALL, borderaxespad=0.3, handlelength=1.2,
                  handleheight=1.2, columnspacing=1.2)
    return figure


class _Colours:
    r"""The names and colours of types and relations; those of a picture's
    relations in the order they come.
    """
    def __init__(self, sides: Sequence[_Reading],
                 vocabularies: Mapping[str, Vocabulary]) -> None:
        self.vocabularies = vocabularies
        self.types = sorted({mention[2] for side in sides
                             for mention in side.mentions})
        self.relations = list(dict.fromkeys(
            quintuple[2] for side in sides for quintuple in side.relations))

    def names(self, kind: str, index: int) -> str:
        vocabulary = self.vocabularies.get(kind)
        if vocabulary is not None and 0 <= index < len(vocabulary):
            return vocabulary.to_label(index)
        return f'{"type" if kind == "entity" else kind} {index}'

    def of_type(self, index: int) -> str:
        return _TYPES[index % len(_TYPES)]

    def of_relation(self, index: int) -> str:
        return _RELATIONS[self.relations.index(index) % len(_RELATIONS)]

    def legend(self, judged: bool) -> list[tuple[str, dict[str, Any]]]:
        styles = [(self.names('entity', i), dict(facecolor=self.of_type(i)))
                  for i in self.types]
        styles += [(self.names('relation', i),
                    dict(facecolor=self.of_relation(i)))
                   for i in self.relations]
        if judged:
            styles += [(name, dict(facecolor='none', **_frame(colour)))
                       for name, colour in (('right', _RIGHT),
                                            ('wrong', _WRONG),
                                            ('not found', None))]
        return styles


def _frame(colour: str | None) -> dict[str, Any]:
    return dict(edgecolor=colour or _INK, linewidth=2.0 if colour else 1.2,
                linestyle='-' if colour else (0, (3, 2)))


def _read(predicted: 'Extraction') -> _Reading:
    def span(entity: Any) -> _Span:
        return entity.start, entity.end, entity.type_id
    return _Reading(
        [span(entity) for entity in predicted.entities],
        [(span(relation.head), span(relation.tail), relation.relation_id)
         for relation in predicted.relations])


def _key(quintuple: _Quintuple) -> tuple[frozenset[_Span], int]:
    return frozenset(quintuple[:2]), quintuple[2]


def _say(quintuple: _Quintuple, words: list[str], names: Any) -> str:
    head, tail = (' '.join(words[start:end])
                  for start, end, _ in quintuple[:2])
    return f'{head}  →  {names("relation", quintuple[2])}  →  {tail}'


def _draw_table(ax: Any, post: Post, reading: _Reading, words: list[str],
                colours: _Colours, size: float) -> None:
    to_rgb = optional_import('matplotlib.colors', 'viz').to_rgb
    # A mention that is in a relation only has its place in the table, too.
    mentions = list(dict.fromkeys([*reading.mentions, *(
        mention for quintuple in reading.relations
        for mention in quintuple[:2])]))
    relations = [(mentions.index(head), mentions.index(tail), relation)
                 for head, tail, relation in reading.relations]
    num_types = 1 + max((mention[2] for mention in mentions), default=0)
    table = table_of(post.annotated(mentions, relations), num_types,
                     1 + max((relation[2] for relation in relations),
                             default=0))
    palette = {-1: _EMPTY, 0: 'white'}
    palette.update({1 + i: colours.of_type(i) for i in colours.types})
    palette.update({1 + num_types + i: colours.of_relation(i)
                    for _, _, i in relations})
    n = len(words)
    if n:
        ax.imshow(np.array([[to_rgb(palette[label]) for label in row]
                            for row in table.tolist()]),
                  extent=(0, n, n, 0), interpolation='nearest', aspect='auto')
    ax.set_xlim(0, max(n, 1))
    ax.set_ylim(max(n, 1), 0)
    for i in range(n + 1):
        ax.plot([i, i], [0, i], color=_LINE, linewidth=0.6)
        ax.plot([i, n], [i, i], color=_LINE, linewidth=0.6)
    places = [i + 0.5 for i in range(n)]
    ax.set_yticks(places, words)
    ax.set_xticks(places, words, rotation=90)
    ax.tick_params(length=0, pad=3, labelsize=size, labelcolor=_SOFT,
                   labeltop=True, labelbottom=False)
    named = {i for start, end, _ in mentions for i in range(start, end)}
    for labels in ax.get_xticklabels(), ax.get_yticklabels():
        for i, label in enumerate(labels):
            label.set_parse_math(False)
            if i in named:
                label.set(color=_INK, weight='bold')
    for spine in ax.spines.values():
        spine.set_visible(False)


def _judge(ax: Any, gold: _Reading, found: _Reading) -> None:
    r"""Frames what is right, wrong and missing."""
    patches = optional_import('matplotlib.patches', 'viz')

    def frame(rows: _Span, columns: _Span, colour: str | None) -> None:
        ax.add_patch(patches.Rectangle(
            (columns[0], rows[0]), columns[1] - columns[0],
            rows[1] - rows[0], facecolor='none', clip_on=False,
            zorder=3 if colour else 4, **_frame(colour)))

    for mention in {*gold.mentions, *found.mentions}:
        frame(mention, mention, None if mention not in found.mentions
              else _RIGHT if mention in gold.mentions else _WRONG)
    truth, guess = ({_key(quintuple): quintuple for quintuple in side.relations}
                    for side in (gold, found))
    for key, quintuple in {**truth, **guess}.items():
        rows, columns = sorted(quintuple[:2])
        frame(rows, columns, None if key not in guess
              else _RIGHT if key in truth else _WRONG)
