import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch

from mmgraph.data import Post, ptr_from_sizes
from mmgraph.nn.ragged import first_of_group, pad_rows, row_ptr, rows_of
from tests.data.cases import make_text

SIZES = st.lists(st.integers(0, 5), max_size=5)


def ragged(sizes):
    sizes = torch.tensor(sizes, dtype=torch.long)
    batch = torch.arange(sizes.numel()).repeat_interleave(sizes)
    return batch, ptr_from_sizes(sizes)


@given(SIZES, st.sampled_from([(), (2, ), (2, 3)]), st.floats(-2, 2))
def test_pad_rows(sizes, shape, value):
    batch, ptr = ragged(sizes)
    x = torch.randn(batch.numel(), *shape)
    padded, mask = pad_rows(x, batch, ptr, value)
    length = max(sizes, default=0)
    assert padded.shape == (len(sizes), length, *shape)
    for b, n in enumerate(sizes):
        assert torch.equal(padded[b, :n], x[ptr[b]:ptr[b + 1]])
        assert (padded[b, n:] == torch.tensor(value)).all()
        assert mask[b].tolist() == [True] * n + [False] * (length - n)
    assert torch.equal(padded[mask], x)


@given(SIZES, st.integers(0, 7))
def test_pad_rows_to_a_size(sizes, size):
    batch, ptr = ragged(sizes)
    x = torch.arange(batch.numel())
    padded, mask = pad_rows(x, batch, ptr, value=-1, size=size)
    assert padded.shape == mask.shape == (len(sizes), size)
    for b in range(len(sizes)):
        rows = x[ptr[b]:ptr[b + 1]].tolist()[:size]
        assert padded[b].tolist() == rows + [-1] * (size - len(rows))
        assert int(mask[b].sum()) == len(rows)


def test_pad_rows_gradient():
    batch, ptr = ragged([2, 0, 1])
    x = torch.randn(3, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: pad_rows(x, batch, ptr)[0], (x, ))


def test_rows_of():
    posts = [Post.build(make_text(text)) for text in ('a b', '', 'c')]
    vector, ptr = rows_of(Batch.from_data_list(posts), 'word')
    assert vector.tolist() == [0, 0, 2] and ptr.tolist() == [0, 2, 2, 3]
    vector, ptr = rows_of(posts[0], 'word')
    assert vector.tolist() == [0, 0] and ptr.tolist() == [0, 2]
    vector, ptr = rows_of(posts[1], 'object')
    assert vector.tolist() == [] and ptr.tolist() == [0, 0]


def test_row_ptr():
    assert row_ptr([2, 0, 1], torch.empty(0)).tolist() == [0, 2, 2, 3]


@pytest.mark.parametrize('fill', [-1, 7])
@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9))))
def test_first_of_group(fill, pairs):
    index = torch.tensor([i for i, _ in pairs], dtype=torch.long)
    value = torch.tensor([v for _, v in pairs], dtype=torch.long)
    expected = [min((v for i, v in pairs if i == group), default=fill)
                for group in range(5)]
    assert first_of_group(index, value, 5, fill).tolist() == expected
