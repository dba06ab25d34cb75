import itertools

import numpy as np
import pytest

from mmgraph.data import Post, TextGraph, Vocabulary
from mmgraph.models import Entity, Extraction, Relation
from mmgraph.parse.word_pairs import table_of
from mmgraph.viz import draw_word_pairs

matplotlib = pytest.importorskip('matplotlib')
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

LABELS = Vocabulary(['dep'])
NAMES = dict(entity=Vocabulary(['per', 'org', 'misc', 'loc']),
             relation=Vocabulary(['member_of', 'locate_at', 'peer']))
WORDS = 'Porto greets Ana Ruiz of Delta FC'.split()
GOLD = dict(entities=[(2, 4, 0), (5, 7, 1), (0, 1, 3)],
            relations=[(0, 1, 0), (1, 2, 1)], post_id='made up')


def make(words, **kwargs):
    text = TextGraph.from_heads(words, [-1] * len(words), ['dep'] * len(words),
                                LABELS)
    return Post.build(text, **kwargs)


def entity(start, end, kind):
    return Entity(start, end, kind, ' '.join(WORDS[start:end]))


PERSON, CLUB, TOWN = entity(2, 4, 0), entity(5, 7, 1), entity(0, 1, 2)
FOUND = Extraction([TOWN, PERSON, CLUB], [Relation(CLUB, PERSON, 0, 0.9),
                                          Relation(PERSON, TOWN, 2, 0.6)])


def texts(figure):
    return [text.get_text() for text in figure.texts]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def frames(ax):
    """What is framed: rows, columns and how."""
    found = {}
    for patch in ax.patches:
        assert isinstance(patch, Rectangle)
        (x, y), w, h = patch.get_xy(), patch.get_width(), patch.get_height()
        colour = matplotlib.colors.to_hex(patch.get_edgecolor())
        found.setdefault((y, y + h, x, x + w), []).append(
            {'#009e73': 'right', '#d55e00': 'wrong'}.get(colour, 'missed'))
    return found


def test_the_annotation():
    post = make(WORDS, **GOLD)
    figure = draw_word_pairs(post, vocabularies=NAMES)
    assert texts(figure) == [
        'gold', 'Ana Ruiz  →  member_of  →  Delta FC',
        'Delta FC  →  locate_at  →  Porto', 'made up']
    assert legend(figure) == ['per', 'org', 'loc', 'member_of', 'locate_at']
    (ax, ) = figure.axes
    for labels in ax.get_xticklabels(), ax.get_yticklabels():
        assert [label.get_text() for label in labels] == WORDS
        assert [label.get_weight() for label in labels] == [
            'bold' if i in (0, 2, 3, 5, 6) else 'normal' for i in range(7)]
    # One colour a label, another one for each.
    cells = np.asarray(ax.images[0].get_array()).reshape(-1, 3)
    labels = table_of(post, 4, 3).view(-1).tolist()
    colours = {label: {tuple(cell) for cell, other in zip(cells, labels)
                       if other == label} for label in set(labels)}
    assert all(len(found) == 1 for found in colours.values())
    assert len(set.union(*colours.values())) == len(colours) == 7
    assert frames(ax) == {}


def test_right_wrong_and_missed():
    figure = draw_word_pairs(make(WORDS, **GOLD), FOUND, NAMES)
    gold, found = figure.axes
    assert frames(gold) == {}
    assert frames(found) == {
        (2, 4, 2, 4): ['right'], (5, 7, 5, 7): ['right'],
        # Another type than the annotation's: one is wrong and one missing.
        (0, 1, 0, 1): frames(found)[0, 1, 0, 1],
        # Nothing in the table tells the direction.
        (2, 4, 5, 7): ['right'],
        (0, 1, 2, 4): ['wrong'], (0, 1, 5, 7): ['missed']}
    assert sorted(frames(found)[0, 1, 0, 1]) == ['missed', 'wrong']
    assert 'Delta FC  →  member_of  →  Ana Ruiz' in texts(figure)
    assert legend(figure) == ['per', 'org', 'misc', 'loc', 'member_of',
                              'locate_at', 'peer', 'right', 'wrong',
                              'not found']
    # The same colour in both tables.
    assert np.array_equal(gold.images[0].get_array()[2, 2:7],
                          found.images[0].get_array()[2, 2:7])


def test_a_mention_of_a_relation_is_in_the_table():
    found = Extraction([], [Relation(PERSON, CLUB, 0, 0.9)])
    tables = [np.asarray(ax.images[0].get_array()) for ax in draw_word_pairs(
        make(WORDS, entities=GOLD['entities'][:2], relations=[(0, 1, 0)]),
        found).axes]
    assert np.array_equal(*tables)


def test_ids_without_names():
    figure = draw_word_pairs(make(WORDS, **GOLD))
    assert legend(figure) == ['type 0', 'type 1', 'type 3', 'relation 0',
                              'relation 1']
    assert 'Ana Ruiz  →  relation 0  →  Delta FC' in texts(figure)


@pytest.mark.parametrize('words', [
    [], ['a'], ['$x$', '_', '\U0001fae0'], ['antidisestablishment'] * 40])
def test_all_kinds_of_posts(words, recwarn):
    figure = draw_word_pairs(make(words), Extraction([], []))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert not [w for w in recwarn if 'Glyph' in str(w.message)]
    renderer = canvas.get_renderer()
    for ax in figure.axes:
        boxes = [label.get_window_extent(renderer)
                 for label in ax.get_yticklabels()]
        for a, b in itertools.pairwise(boxes):
            assert not a.overlaps(b)
        for label in (*ax.get_yticklabels(), *ax.get_xticklabels()):
            box = label.get_window_extent(renderer)
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
    left, right = (ax.get_window_extent(renderer) for ax in figure.axes)
    assert not left.overlaps(right)


def test_a_mention_outside_the_post():
    with pytest.raises(ValueError, match=r"post 'made up': mention 0 must be "
                       r'a span inside the 7 words \(got \[6, 9\)\)'):
        draw_word_pairs(make(WORDS, **GOLD),
                        Extraction([Entity(6, 9, 0, 'FC')], []))
