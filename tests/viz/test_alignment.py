import itertools

import pytest
import torch

from mmgraph.data import Post, SceneGraph, TextGraph, Vocabulary
from mmgraph.datasets.synthetic import SyntheticPosts
from mmgraph.nn.align import Alignment
from mmgraph.viz import draw_alignment, save_alignment

matplotlib = pytest.importorskip('matplotlib')
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

LABELS = Vocabulary(['root', 'dep'])
ALIGNS = ('word', 'aligns', 'object')


@pytest.fixture(scope='module')
def dataset():
    return SyntheticPosts(num_posts=40, seed=1)


def plain_post(words, num_objects=0, **kwargs):
    text = TextGraph.from_heads(words, [-1] + [0] * (len(words) - 1),
                                ['dep'] * len(words), LABELS)
    scene = SceneGraph.build(torch.empty(2, 0, dtype=torch.long),
                             num_objects)
    return Post.build(text, scene if num_objects else None, **kwargs)


def alignment_of(post, index, score):
    return Alignment(
        torch.tensor(index).t(), torch.tensor(score),
        torch.tensor([0, post['word'].num_nodes]),
        torch.tensor([0, post['object'].num_nodes]))


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def lines(figure):
    return [line for ax in figure.axes for line in ax.lines
            if line.get_linestyle() != 'None']


def assert_apart(figure, words):
    # The boxes of the words, as the backend draws them.
    renderer = FigureCanvasAgg(figure).get_renderer()
    left = list(words)
    boxes = []
    for text in figure.axes[0].texts:
        if left and text.get_text() == left[0]:
            boxes.append(text.get_window_extent(renderer))
            left.pop(0)
    assert not left
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1


def test_names_and_title(dataset):
    post = dataset[0]
    figure = draw_alignment(post, vocabularies=dataset.vocabularies,
                            predicted='None')
    found = texts(figure)
    label = dataset.vocabularies['relation'].to_label(post.relations[0][2])
    assert f'gold: {label}' in found and 'predicted: None' in found
    assert set(post.words) <= set(found)
    for i in post['object'].label_id.tolist():
        assert dataset.vocabularies['object'].to_label(i) in found
    assert post.post_id in found


def test_predicted_by_id(dataset):
    post = dataset[0]
    relation = post.relations[0][2]
    figure = draw_alignment(post, predicted=relation)
    assert f'gold: {relation}' in texts(figure)
    assert f'predicted: {relation}' in texts(figure)


def test_gold_lines(dataset):
    post = dataset[0]
    figure = draw_alignment(post)
    assert len(lines(figure)) == post['word', 'matches', 'object'].num_edges
    assert all(line.get_linestyle() == '--' for line in lines(figure))


def test_alignment_lines(dataset):
    post = next(p for p in dataset
                if p['word', 'matches', 'object'].num_edges >= 2)
    gold = post['word', 'matches', 'object'].edge_index.t().tolist()
    wrong = next([w, o] for w in range(len(post.words)) for o in range(2)
                 if [w, o] not in gold)
    alignment = alignment_of(post, [gold[0], wrong, gold[1]],
                             [1.0, 0.5, 0.01])
    drawn = [line for line in lines(draw_alignment(post, alignment))
             if line.get_linestyle() == '-']
    assert len(drawn) == 2  # The third is below the threshold.
    thin, thick = drawn
    assert thick.get_linewidth() > thin.get_linewidth()
    assert thick.get_color() != thin.get_color()
    figure = draw_alignment(post, alignment, threshold=0.0)
    assert sum(line.get_linestyle() == '-' for line in lines(figure)) == 3
    # The edges of the post say the same as the object.
    post = post.annotated(post.entities, post.relations)
    post[ALIGNS].edge_index = alignment.match_index
    post[ALIGNS].edge_weight = alignment.match_score
    again = [line for line in lines(draw_alignment(post))
             if line.get_linestyle() == '-']
    assert ([line.get_xydata().tolist() for line in again]
            == [line.get_xydata().tolist() for line in drawn])


def test_alignment_without_gold_or_scores():
    post = plain_post(['a', 'b'], 2)
    post[ALIGNS].edge_index = torch.tensor([[0], [1]])
    figure = draw_alignment(post)
    assert len(lines(figure)) == 1
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        'aligned', 'head', 'tail']


@pytest.mark.parametrize('count,length', [
    (1, 18), (7, 6), (25, 1), (25, 5), (25, 18), (60, 6)])
def test_words_never_overlap(count, length):
    words = [f'{i:0{length}d}'[-length:] for i in range(count)]
    figure = draw_alignment(plain_post(words, 3))
    assert_apart(figure, words)
    assert figure.get_size_inches()[0] <= 15


@pytest.mark.parametrize('size', [(4, 3), (8, 4), (20, 20)])
def test_given_axes(dataset, size):
    post = max(dataset, key=lambda post: len(post.words))
    figure = Figure(figsize=size)
    ax = figure.add_axes((0, 0, 1, 1))
    assert draw_alignment(post, ax=ax) is figure
    assert_apart(figure, post.words)


@pytest.mark.parametrize('kwargs,said', [
    (dict(), 'no image'), (dict(image_path='a.jpg'), 'no object')])
def test_nothing_to_see(kwargs, said):
    assert said in texts(draw_alignment(plain_post(['hi'], **kwargs)))


def test_text_is_not_markup():
    post = plain_post(['$x$', '_', '$', '{'], 1)
    figure = draw_alignment(post)
    FigureCanvasAgg(figure).draw()
    assert '$x$' in texts(figure)


def test_ten_objects_without_boxes():
    figure = draw_alignment(plain_post(['a'], 10))
    FigureCanvasAgg(figure).draw()
    assert {f'object {i}' for i in range(10)} <= set(texts(figure))


@pytest.mark.parametrize('suffix', ['png', 'svg'])
def test_save(dataset, tmp_path, suffix):
    pytest.importorskip('PIL')
    path = tmp_path / f'post.{suffix}'
    save_alignment(dataset[2], path, dpi=40, image=dataset.draw(2),
                   vocabularies=dataset.vocabularies)
    assert path.stat().st_size > 1000
    picture = tmp_path / 'picture.png'
    dataset.draw(2).save(picture)
    save_alignment(dataset[2], path, dpi=40, image=picture)
    assert [file.name for file in tmp_path.iterdir()
            if file.name.startswith('.')] == []


def test_wrong_alignment(dataset):
    post, other = plain_post(['a', 'b'], 2), plain_post(['a'], 2)
    with pytest.raises(ValueError, match=r"'alignment' must join the 2 words "
                       r'and 2 objects of the post \(got 1 and 2\)'):
        draw_alignment(post, alignment_of(other, [[0, 0]], [1.0]))
    two = Alignment(torch.empty(2, 0, dtype=torch.long), torch.empty(0),
                    torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError,
                       match=r"'alignment' must be of one post \(got 2"):
        draw_alignment(post, two)


def test_emoji_are_boxes(tmp_path, recwarn):
    save_alignment(plain_post(['so', 'happy', '\U0001fae0']),
                   tmp_path / 'post.png')
    assert not [w for w in recwarn if 'Glyph' in str(w.message)]
    figure = draw_alignment(plain_post(['so', 'happy', '\U0001fae0']))
    assert '\u25a1' in texts(figure)
