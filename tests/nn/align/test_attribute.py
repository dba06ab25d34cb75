import math

import pytest
import torch

from mmgraph import checks
from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align.attribute import AttributeAligner
from tests.nn.align.cases import AlignerCase, all_pairs


def cosine(x, y):
    size = math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y)) / size if size else 0.0


def view(x):
    x = torch.as_tensor(x)
    return GraphView.single(torch.empty(2, 0, dtype=torch.long), x.size(0),
                            x=x)


class TestAttributeAligner(AlignerCase):
    cls = AttributeAligner
    channels = (6, 6)

    def test_oracle(self):
        source, target = self.batch(self.sizes)
        source.x[3] = 0
        target.x[5] = 0
        source = source._replace(x=source.x.double())
        out = AttributeAligner()(source, target)
        expected = [cosine(source.x[i].tolist(), target.x[j].tolist())
                    for i, j in all_pairs(source, target)]
        assert out.match_score.dtype == torch.double
        torch.testing.assert_close(
            out.match_score, torch.tensor(expected, dtype=torch.double),
            atol=1e-12, rtol=0)

    @pytest.mark.parametrize('top_k', [1, 3])
    def test_top_k(self, top_k):
        source, target = self.batch(self.sizes)
        out = AttributeAligner(top_k=top_k)(source, target)
        expected = AttributeAligner()(source, target).topk(top_k)
        assert torch.equal(out.match_index, expected.match_index)

    def test_one_hot_ids(self):
        ids = torch.eye(3, dtype=torch.long)
        out = AttributeAligner()(view(ids), view(ids.flip(0)))
        assert torch.equal(out.dense()[0], torch.eye(3).flip(0))

    def test_large_and_small_numbers(self):
        x = torch.tensor([[3., 4.], [1., 0.]])
        out = AttributeAligner()(view(x * 1e30), view(x * 1e-30)).dense()[0]
        torch.testing.assert_close(out, torch.tensor([[1., .6], [.6, 1.]]))

    def test_without_columns(self):
        x = torch.empty(2, 0)
        assert AttributeAligner()(view(x), view(x)).match_score.tolist() == [
            0, 0, 0, 0]

    def test_errors(self):
        good = view(torch.ones(2, 3))
        with pytest.raises(ValueError, match=r"'target.x' must .*got None"):
            AttributeAligner()(good, good._replace(x=None))
        with pytest.raises(ValueError, match="'source.x' must be finite"):
            AttributeAligner()(view([[1., math.nan]]), good)
        with pytest.raises(ShapeError, match=r'\(got 3 and 2\)'):
            AttributeAligner()(good, view(torch.ones(2, 2)))
        with checks(False):
            AttributeAligner()(good, good)
        with pytest.raises(ValueError, match="'top_k' must be at least 1"):
            AttributeAligner(top_k=0)
