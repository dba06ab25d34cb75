import pytest
import torch
from torch import nn
from torch_geometric.data import Batch

from mmgraph.data import Post
from mmgraph.nn.heads import MarkerPairHead, relation_rows
from tests.data.cases import make_text
from tests.nn.encoders.cases import with_tokens

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
HEAD, TAIL = torch.tensor([0, 3, 3]), torch.tensor([1, 5, 3])


@pytest.mark.parametrize('context', [0, 3])
@pytest.mark.parametrize('hidden', [None, 7])
@pytest.mark.parametrize('activation', [None, nn.Tanh()])
def test_formula(context, hidden, activation):
    head = MarkerPairHead(4, 5, context, hidden, activation=activation).eval()
    extra = torch.randn(3, context) if context else None
    out = head(X, HEAD, TAIL, extra)
    assert out.shape == (3, 5)
    for r in range(3):
        parts = [X[HEAD[r]], X[TAIL[r]]]
        vector = torch.cat(parts if extra is None else [*parts, extra[r]])
        if hidden is not None:
            vector = head.merge.weight @ vector + head.merge.bias
        if activation is not None:
            vector = vector.tanh()
        expected = head.classifier.weight @ vector + head.classifier.bias
        torch.testing.assert_close(out[r], expected)


def test_roles_matter():
    head = MarkerPairHead(4, 5).eval()
    forth, back = head(X, HEAD, TAIL), head(X, TAIL, HEAD)
    assert not torch.allclose(forth[:2], back[:2])
    assert torch.allclose(forth[2], back[2])


def test_no_pairs():
    none = torch.empty(0, dtype=torch.long)
    head = MarkerPairHead(4, 5, 3, 7)
    assert head(X, none, none, torch.empty(0, 3)).shape == (0, 5)


def test_dropout_only_in_training():
    head = MarkerPairHead(4, 5, dropout=0.9)
    assert not torch.equal(head(X, HEAD, TAIL), head(X, HEAD, TAIL))
    head.eval()
    assert torch.equal(head(X, HEAD, TAIL), head(X, HEAD, TAIL))


def make_posts():
    # Nested; tail first; three mentions of which two are marked.
    return [
        with_tokens(Post.build(
            make_text('a b c'), entities=[(0, 3), (0, 2)],
            relations=[(0, 1, 1)]), markers=[(0, 1), (1, 2)]),
        with_tokens(Post.build(make_text(''))),
        with_tokens(Post.build(
            make_text('d e'), entities=[(0, 1), (0, 2), (1, 2)],
            relations=[(2, 0, 3), (0, 2, 1)]), markers=[(2, 3), (0, 1)]),
    ]


def test_relation_rows():
    posts = make_posts()
    batch = Batch.from_data_list(posts)
    head, tail = relation_rows(batch, 'token')
    start = batch['token'].ptr[2]
    assert head.tolist() == [1, start + 3, start + 1]
    assert tail.tolist() == [2, start + 1, start + 3]
    head, tail = relation_rows(batch, 'word')
    assert head.tolist() == [0, 4, 3] and tail.tolist() == [0, 3, 4]
    head, tail = relation_rows(posts[1], 'token')
    assert head.numel() == tail.numel() == 0


def test_no_opening_marker():
    posts = make_posts()
    posts[2]['entity', 'marked_by', 'token'].edge_index = torch.tensor(
        [[2], [3]])
    with pytest.raises(ValueError, match='a mention of a relation has no ope'):
        relation_rows(Batch.from_data_list(posts), 'token')
