import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from mmgraph.data import Post, SceneGraph
from tests.data.cases import (
    check_graphs,
    make_scene,
    make_text,
    parts,
    plain,
    posts,
)


def example(**kwargs):
    return Post.build(
        make_text('New Orleans Saints win', [1, 2, 3, -1]), make_scene(2),
        entities=[(0, 3, 2), (0, 2, 1), (3, 4)], relations=[(0, 1, 5)],
        post_id='17', image_path='a.jpg', **kwargs)


def test_build_and_parts():
    text, scene = make_text('a b c'), make_scene(3)
    text.x, text.tag_id = torch.randn(3, 2), torch.tensor([0, 1, 2])
    post = Post.build(text, scene, [(0, 1, 4)], post_id='x',
                      image_x=torch.randn(1, 6), region_x=torch.randn(4, 5))
    assert plain(post.text) == plain(text)
    assert plain(post.scene) == plain(scene)
    assert post.entities == [(0, 1, 4)] and post.relations == []
    assert post['image'].num_nodes == 1 and post['region'].num_nodes == 4
    assert post.image_path is None and post.validate()


def test_nested_mentions():
    post = example()
    assert post.entities == [(0, 3, 2), (0, 2, 1), (3, 4, 0)]
    assert post.relations == [(0, 1, 5)]
    assert post['entity', 'covers', 'word'].edge_index.tolist() == [
        [0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 1, 3]]
    assert post.image_path == 'a.jpg'


@pytest.mark.parametrize('post, scene, image, path', [
    (Post.build(make_text('a')), None, 0, None),
    (Post.build(make_text('a'), image_path='b.png'), (0, 0), 1, 'b.png'),
    (Post.build(make_text('a'), make_scene(0)), (0, 0), 1, None),
    (Post.build(make_text('a'), make_scene(0), has_image=False), None, 0,
     None),
    (Post.build(make_text(''), make_scene(2)), (2, 1), 1, None),
    (Post.build(make_text('a'), image_x=torch.empty(0, 4)), None, 0, None),
])
def test_what_a_post_lacks(post, scene, image, path):
    found = post.scene
    assert scene == (found and (found.num_nodes, found.num_edges))
    assert post['image'].num_nodes == image
    assert post.image_path == path
    assert post.validate()
    check_graphs([post])


def test_batch():
    lacking = make_scene(0)
    batch = check_graphs([
        example(),
        Post.build(make_text(''), lacking, has_image=False, post_id='none'),
        Post.build(make_text('one'), lacking, [(0, 1)], [(0, 0, 1)]),
        Post.build(make_text('b c d'), make_scene(4), [(1, 3), (0, 1)],
                   [(1, 0, 2), (0, 1, 3)], image_path='d.jpg'),
    ])
    assert batch.validate()
    assert batch.post_id == ['17', 'none', '', '']
    assert batch.image_path == ['a.jpg', None, None, 'd.jpg']
    assert batch.words[1:3] == [[], ['one']]
    assert batch['word'].ptr.tolist() == [0, 4, 4, 5, 8]
    assert batch['object'].ptr.tolist() == [0, 2, 2, 2, 6]
    assert batch['image'].batch.tolist() == [0, 2, 3]
    relation = batch['entity', 'relation', 'entity']
    assert relation.edge_index.tolist() == [[0, 3, 5, 4], [1, 3, 4, 5]]
    assert relation.relation_id.tolist() == [5, 1, 2, 3]
    for name in ('text', 'scene', 'entities', 'relations'):
        with pytest.raises(ValueError, match=f"'{name}' is of one post; un-"):
            getattr(batch, name)


def test_loader_shuffles_and_drops():
    items = [example() for _ in range(5)]
    sizes = [len(batch.words) for batch in
             DataLoader(items, batch_size=2, shuffle=True)]
    assert sizes == [2, 2, 1]


@settings(deadline=None, max_examples=60)
@given(st.lists(posts(), min_size=1, max_size=4))
def test_build_batch_unbatch(arguments):
    built = [Post.build(**kwargs) for kwargs in arguments]
    batch = Batch.from_data_list(built)
    assert batch.validate()
    for kwargs, post, again in zip(arguments, built, batch.to_data_list()):
        assert parts(again) == parts(post)
        assert plain(again.text) == plain(kwargs['text'])
        assert again.entities == kwargs['entities']
        assert again.relations == kwargs['relations']
        if kwargs['has_image']:
            assert plain(again.scene) == plain(kwargs['scene'])
        else:
            assert again.scene is None


def test_annotated_shares_and_does_not_touch():
    post = example()
    other = post.annotated([(1, 2)], [(0, 0, 9)])
    assert post.entities == [(0, 3, 2), (0, 2, 1), (3, 4, 0)]
    assert other.entities == [(1, 2, 0)] and other.relations == [(0, 0, 9)]
    assert other['object'].x is post['object'].x
    assert other.validate() and post.validate()
    assert post.annotated([]).relations == []


@pytest.mark.parametrize('entities, relations, message', [
    ([(0, 1), (2, 2)], [], r"post 'p': mention 1 must be a span inside the 3 "
     r'words \(got \[2, 2\)\)'),
    ([(0, 4)], [], r'mention 0 .* \(got \[0, 4\)\)'),
    ([(-1, 1)], [], r'mention 0 .* \(got \[-1, 1\)\)'),
    ([(0, 1)], [(0, 0, 1), (0, 1, 2)], r"post 'p': relation 1 must join two "
     r'of the 1 mentions \(got 0 and 1\)'),
    ([(0, 1)], [(-1, 0, 1)], r'relation 0 .* \(got -1 and 0\)'),
])
def test_build_errors(entities, relations, message):
    with pytest.raises(ValueError, match=message):
        Post.build(make_text('a b c'), entities=entities, relations=relations,
                   post_id='p')


NAN = float('nan')
FAULTS = [
    ('word', 'x', torch.ones(3, 2), r"'word.x' must have one row a node "
     r'\(got 3 for 4\)'),
    ('word', 'x', torch.tensor([[0], [1], [NAN], [0]]),
     r"'word.x' must be finite \(got nan at row 2\)"),
    ('word', 'tag_id', torch.tensor([0, 0, 0, -1]),
     r"'word.tag_id' must not be negative \(got -1 at row 3\)"),
    ('object', 'box', torch.tensor([[0.0, 0, 1, 1], [0, -0.5, 1, 1]]),
     r"'object.box' must .* at object 1\)"),
    ('entity', 'type_id', torch.tensor([0]), r"'entity.type_id' must have"),
    (('word', 'governs', 'word'), 'edge_index',
     torch.tensor([[1, 2, 9], [0, 1, 2]]), r"'word governs word': source "
     r'positions must be in \[0, 4\) \(got 9 at edge 2\)'),
    (('object', 'relates', 'object'), 'edge_type', torch.tensor([-3]),
     r'\(got -3 at edge 0 of object relates object\)'),
    (('object', 'relates', 'object'), 'edge_score', torch.tensor([NAN]),
     r"'relates.edge_score' must be finite"),
    (('entity', 'relation', 'entity'), 'relation_id', torch.tensor([1, 2]),
     r"'relation_id' must be equally long \(got 1 and 2\)"),
    (('entity', 'covers', 'word'), 'edge_index',
     torch.tensor([[0, 2], [0, 1]]), 'mention 1 covers no word'),
    (('word', 'aligns', 'object'), 'edge_index', torch.tensor([[0], [2]]),
     r'target positions must be in \[0, 2\) \(got 2 at edge 0\)'),
]


@pytest.mark.parametrize('kind, key, value, message', FAULTS)
def test_validate(kind, key, value, message):
    post = example()
    assert post.validate()
    post[kind][key] = value
    with pytest.raises(ValueError, match=f'^Post 17: .*{message}'):
        post.validate()
    assert not post.validate(raise_on_error=False)


def test_validate_tells_everything_at_once():
    post = example()
    post.words = ['a']
    for kind, key, value, _ in FAULTS[2:5]:
        post[kind][key] = value
    with pytest.raises(ValueError) as error:
        post.validate()
    text = str(error.value)
    assert text.count(';') == 3 and "'words' must hold one string" in text


def test_subclass():
    class Tweet(Post):
        pass

    tweet = Tweet.build(make_text('a b'), SceneGraph.empty(), post_id='t')
    assert tweet.text.words == ['a', 'b'] and tweet.validate()
    assert repr(tweet) == ("Tweet('t': 2 words, 1 dependencies | 0 objects, "
                           '0 scene relations | 0 entities, 0 relations)')


def test_repr():
    assert repr(example()) == (
        "Post('17': 4 words, 3 dependencies | 2 objects, 1 scene relations | "
        '3 entities, 1 relations)')
    assert repr(Post.build(make_text(''))) == (
        "Post('': 0 words, 0 dependencies | no image | 0 entities, "
        '0 relations)')
    assert repr(Post()) == 'Post()'
