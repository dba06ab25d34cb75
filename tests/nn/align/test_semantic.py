import math

import pytest
import torch

from mmgraph.data.view import GraphView
from mmgraph.errors import ShapeError
from mmgraph.nn.align import SemanticAligner
from tests.nn.align.cases import AlignerCase, all_pairs


class TestSemanticAligner(AlignerCase):
    cls = SemanticAligner
    kwargs = dict(source_channels=8, target_channels=6, hidden_channels=16)

    def test_oracle(self):
        source, target = self.batch(self.sizes)
        aligner = self.make().double()
        x_s, x_t = source.x.double(), target.x.double()
        key = x_s @ aligner.lin_key.weight.t() + aligner.lin_key.bias
        query = x_t @ aligner.lin_query.weight.t() + aligner.lin_query.bias
        total = torch.zeros(target.num_nodes, dtype=torch.double)
        expected = []
        for i, j in all_pairs(source, target):
            value = torch.exp(query[j] @ key[i] / math.sqrt(16))
            total[j] += value
            expected.append(value)
        out = aligner(source._replace(x=x_s), target._replace(x=x_t))
        expected = torch.stack(expected) / total[out.match_index[1]]
        assert out.match_index.t().tolist() == [
            list(pair) for pair in all_pairs(source, target)]
        torch.testing.assert_close(out.match_score, expected)

    def test_attention(self):
        source, target = self.batch([(3, 2), (0, 2), (4, 0), (5, 4)])
        aligner = self.make()
        beta = aligner.attention(source.x, target.x, source, target)
        assert beta.shape == (4, 4, 5)
        rows = beta.sum(-1)
        expected = torch.tensor([[1.0, 1, 0, 0], [0] * 4, [0] * 4, [1] * 4])
        torch.testing.assert_close(rows, expected)
        torch.testing.assert_close(
            aligner(source, target).dense(), beta.transpose(1, 2))

    def test_features_of_the_caller(self):
        source, target = self.batch([(3, 2)])
        aligner = self.make()
        bare = source._replace(x=None), target._replace(x=None)
        torch.testing.assert_close(
            aligner.attention(source.x, target.x, *bare),
            aligner.attention(source.x, target.x, source, target))
        with pytest.raises(ValueError, match=r"'source.x' must be given"):
            aligner(*bare)
        with pytest.raises(ValueError, match=r"'target.x' must be given"):
            aligner(source, bare[1])
        with pytest.raises(ShapeError, match=r"'x_target' .* \[2, 6\]"):
            aligner.attention(source.x, target.x[:1], source, target)

    def test_reset_parameters(self):
        aligner = self.make()
        before = aligner.lin_key.weight.clone()
        aligner.reset_parameters()
        assert not torch.equal(before, aligner.lin_key.weight)

    def test_sizes(self):
        with pytest.raises(ValueError, match=r"'target_channels' .* \(got 0"):
            SemanticAligner(8, 0, 4)

    def test_gradient_without_objects(self):
        aligner = self.make()
        source, target = self.batch([(3, 0), (0, 2)])
        source = source._replace(x=source.x.requires_grad_())
        aligner(source, target).dense().sum().backward()
        assert torch.isfinite(source.x.grad).all()

    def test_gradcheck(self):
        aligner = SemanticAligner(2, 2, 3).double()
        source, target = self.batch([(2, 2), (1, 3)])
        source, target = GraphView(*source), GraphView(*target)

        def through(x_s, x_t):
            return aligner(source._replace(x=x_s),
                           target._replace(x=x_t)).match_score

        generator = torch.Generator().manual_seed(0)
        x_s, x_t = (torch.randn(n, 2, dtype=torch.double, generator=generator,
                                requires_grad=True) for n in (3, 5))
        assert torch.autograd.gradcheck(through, (x_s, x_t))
