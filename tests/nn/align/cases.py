"""What every aligner must do, whatever it computes."""
import copy
import io
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mmgraph.data.view import GraphView, ptr_from_sizes
from mmgraph.errors import ShapeError
from mmgraph.nn.align import Aligner, Alignment

Sizes = Sequence[tuple[int, int]]


def random_edges(
    num_nodes: int,
    num_edges: int,
    generator: torch.Generator,
) -> Tensor:
    """With self loops, repeated edges and edges in both directions."""
    if num_nodes == 0:
        return torch.empty(2, 0, dtype=torch.long)
    edges = torch.randint(num_nodes, (2, num_edges), generator=generator)
    return torch.cat([edges, edges.flip(0)[:, ::3], edges[:, ::4]], dim=1)


def collate(views: Sequence[GraphView]) -> GraphView:
    """The views of single graphs as one batch."""
    sizes = torch.tensor([view.num_nodes for view in views], dtype=torch.long)
    ptr = ptr_from_sizes(sizes)
    batch = torch.arange(len(views)).repeat_interleave(sizes)

    def cat(values: list[Tensor | None]) -> Tensor | None:
        real = [value for value in values if value is not None]
        return torch.cat(real) if real else None

    return GraphView(
        cat([view.x for view in views]),
        torch.cat([v.edge_index + p for v, p in zip(views, ptr)], dim=1),
        cat([view.edge_type for view in views]),
        cat([view.edge_attr for view in views]), batch, ptr)


def relabel(view: GraphView, order: Tensor) -> GraphView:
    """The same graph; new node i is old node order[i]."""
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel())
    shuffle = torch.randperm(view.edge_index.size(1))

    def pick(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[shuffle]

    return view._replace(
        x=None if view.x is None else view.x[order],
        edge_index=place[view.edge_index[:, shuffle]],
        edge_type=pick(view.edge_type), edge_attr=pick(view.edge_attr))


class AlignerCase:
    """Subclass it, set ``cls`` and ``kwargs``, and the tests below run.

    ``channels`` are the sizes of source and target node features, and
    ``exact`` says that nothing random depends on the numbering of nodes.
    """
    cls: ClassVar[type[Aligner]]
    kwargs: ClassVar[dict[str, Any]] = {}
    channels: ClassVar[tuple[int, int]] = (8, 6)
    num_edge_types: ClassVar[int] = 4
    edge_dim: ClassVar[int] = 3
    sizes: ClassVar[Sizes] = [(7, 4), (1, 1), (12, 5), (3, 9), (20, 10)]
    exact: ClassVar[bool] = True
    atol: ClassVar[float] = 1e-5

    def make(self) -> Aligner:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(12345)
            return self.cls(**self.kwargs).eval()

    def graph(self, num_nodes: int, channels: int, seed: int) -> GraphView:
        generator = torch.Generator().manual_seed(seed)
        edges = random_edges(num_nodes, 3 * num_nodes // 2, generator)
        num_edges = edges.size(1)
        return GraphView.single(
            edges, num_nodes,
            x=torch.randn(num_nodes, channels, generator=generator),
            edge_type=torch.randint(self.num_edge_types, (num_edges, ),
                                    generator=generator),
            edge_attr=torch.randn(num_edges, self.edge_dim,
                                  generator=generator))

    def pairs(self, sizes: Sizes) -> list[tuple[GraphView, GraphView]]:
        return [(self.graph(n, self.channels[0], 2 * i),
                 self.graph(m, self.channels[1], 2 * i + 1))
                for i, (n, m) in enumerate(sizes)]

    def batch(self, sizes: Sizes) -> tuple[GraphView, GraphView]:
        sources, targets = zip(*self.pairs(sizes), strict=True)
        return collate(sources), collate(targets)

    def check(self, out: Alignment, source: GraphView,
              target: GraphView) -> None:
        assert isinstance(out, Alignment)
        assert out.num_graphs == source.num_graphs
        assert torch.equal(out.source_ptr, source.ptr)
        assert torch.equal(out.target_ptr, target.ptr)
        row, col = out.match_index
        assert out.match_index.dtype == torch.long
        assert torch.equal(source.batch[row], target.batch[col])
        assert torch.isfinite(out.match_score).all()
        key = row * max(target.num_nodes, 1) + col
        assert (key[1:] > key[:-1]).all(), 'sorted, and no pair twice'

    def test_repr(self) -> None:
        assert repr(self.make()).startswith(self.cls.__name__ + '(')

    def test_shape(self) -> None:
        source, target = self.batch(self.sizes)
        out = self.make()(source, target)
        self.check(out, source, target)
        assert out.num_matches > 0
        assert out.match_score.dtype == torch.float
        assert out.dense().shape == (len(self.sizes), 20, 10)

    @pytest.mark.parametrize('dtype', [torch.double, torch.bfloat16])
    def test_dtype(self, dtype: torch.dtype) -> None:
        source, target = self.batch(self.sizes)
        assert source.x is not None and target.x is not None
        source = source._replace(x=source.x.to(dtype))
        target = target._replace(x=target.x.to(dtype))
        out = self.make().to(dtype)(source, target)
        self.check(out, source, target)
        assert out.match_score.dtype == dtype

    def test_batched_equals_alone(self) -> None:
        pairs = self.pairs(self.sizes)
        aligner = self.make()
        together = aligner(*self.batch(self.sizes)).dense()
        for i, (source, target) in enumerate(pairs):
            alone = aligner(source, target).dense()[0]
            n, m = alone.shape
            torch.testing.assert_close(together[i, :n, :m], alone,
                                       atol=self.atol, rtol=0)
            assert together[i, n:].count_nonzero() == 0
            assert together[i, :, m:].count_nonzero() == 0

    def test_batch_order(self) -> None:
        pairs = self.pairs(self.sizes)[::-1]
        aligner = self.make()
        forth = aligner(*self.batch(self.sizes)).dense()
        back = aligner(collate([p[0] for p in pairs]),
                       collate([p[1] for p in pairs])).dense()
        torch.testing.assert_close(back.flip(0), forth, atol=self.atol, rtol=0)

    def test_permutation_equivariance(self) -> None:
        if not self.exact:
            pytest.skip('random draws follow the numbering of nodes')
        aligner = self.make()
        for source, target in self.pairs(self.sizes):
            p = torch.randperm(source.num_nodes)
            q = torch.randperm(target.num_nodes)
            out = aligner(source, target).dense()[0]
            again = aligner(relabel(source, p), relabel(target, q)).dense()[0]
            torch.testing.assert_close(again, out[p][:, q], atol=self.atol,
                                       rtol=0)

    def test_reproducible(self) -> None:
        source, target = self.batch(self.sizes)
        aligner = self.make()
        state = torch.random.get_rng_state()
        first, second = aligner(source, target), aligner(source, target)
        assert torch.equal(state, torch.random.get_rng_state())
        assert torch.equal(first.match_index, second.match_index)
        assert torch.equal(first.match_score, second.match_score)

    def test_inputs_untouched(self) -> None:
        views = self.batch(self.sizes)
        before = copy.deepcopy(views)
        self.make()(*views)
        for view, old in zip(views, before, strict=True):
            for a, b in zip(view, old, strict=True):
                assert a is b is None or torch.equal(a, b)

    @pytest.mark.parametrize('sizes', [
        [(0, 0)], [(5, 0)], [(0, 5)], [(1, 1)], [(1, 6)], [(6, 1)],
        [(0, 4), (5, 3), (4, 0), (0, 0), (2, 2)], [(0, 0), (0, 0)]
    ])
    def test_empty_and_tiny(self, sizes: Sizes) -> None:
        source, target = self.batch(sizes)
        out = self.make()(source, target)
        self.check(out, source, target)
        assert not out.dense().isnan().any()

    def test_no_graphs(self) -> None:
        def empty(channels: int) -> GraphView:
            view = GraphView.single(
                torch.empty(2, 0, dtype=torch.long), 0,
                x=torch.empty(0, channels))
            return view._replace(ptr=torch.tensor([0]))

        out = self.make()(empty(self.channels[0]), empty(self.channels[1]))
        assert out.num_graphs == 0 and out.num_matches == 0
        assert out.dense().shape == (0, 0, 0)

    def test_no_edges(self) -> None:
        views = []
        for view in self.batch(self.sizes):
            views.append(view._replace(
                edge_index=torch.empty(2, 0, dtype=torch.long),
                edge_type=torch.empty(0, dtype=torch.long),
                edge_attr=torch.empty(0, self.edge_dim)))
        self.check(self.make()(*views), *views)

    def test_different_numbers_of_graphs(self) -> None:
        source, _ = self.batch(self.sizes)
        _, target = self.batch(self.sizes[:2])
        with pytest.raises(ShapeError, match='the same number of graphs'):
            self.make()(source, target)

    def test_generator(self) -> None:
        views = self.batch(self.sizes)
        aligner = self.make()
        state = torch.random.get_rng_state()

        def run(seed: int) -> Alignment:
            return aligner(*views,
                           generator=torch.Generator().manual_seed(seed))

        first, second = run(3), run(3)
        assert torch.equal(state, torch.random.get_rng_state())
        assert torch.equal(first.match_index, second.match_index)
        assert torch.equal(first.match_score, second.match_score)
        pair = self.pairs(self.sizes)[2]
        alone = aligner(*pair, generator=torch.Generator().manual_seed(3))
        n, m = alone.dense().shape[1:]
        torch.testing.assert_close(first.dense()[2, :n, :m],
                                   alone.dense()[0], atol=self.atol, rtol=0)

    def test_seeds(self) -> None:
        source, target = self.batch(self.sizes)
        aligner = self.make()
        # Two known matches in each pair that has room for them.
        seeds = torch.cat([
            torch.stack([source.ptr[b] + torch.tensor([0, n - 1]),
                         target.ptr[b] + torch.tensor([m - 1, 0])])
            for b, (n, m) in enumerate(self.sizes) if min(n, m) > 1], dim=1)
        if not aligner.takes_seeds:
            with pytest.raises(ValueError, match='takes no seeds'):
                aligner(source, target, seeds=seeds)
            return
        none = torch.empty(2, 0, dtype=torch.long)
        plain, empty = aligner(source, target), aligner(source, target,
                                                        seeds=none)
        assert torch.equal(plain.match_score, empty.match_score)
        out = aligner(source, target, seeds=seeds)
        self.check(out, source, target)
        assert not torch.equal(out.dense(), plain.dense())
        for wrong, text in (
            (seeds[:1], r'\[2, S\]'),
            (seeds[:, [0, 0]], 'once at most'),
            (torch.tensor([[0], [target.num_nodes]]), 'target positions'),
            (torch.tensor([[0], [target.num_nodes - 1]]), 'the same pair'),
        ):
            with pytest.raises(ValueError, match=text):
                aligner(source, target, seeds=wrong)

    def test_seeds_alone(self) -> None:
        aligner = self.make()
        if not aligner.takes_seeds:
            pytest.skip('takes no seeds')
        source, target = self.batch(self.sizes)
        seeds = torch.stack([source.ptr[2] + torch.tensor([3, 5]),
                             target.ptr[2] + torch.tensor([0, 4])])
        together = aligner(source, target, seeds=seeds).dense()[2]
        alone = aligner(*self.pairs(self.sizes)[2],
                        seeds=torch.tensor([[3, 5], [0, 4]])).dense()[0]
        n, m = alone.shape
        torch.testing.assert_close(together[:n, :m], alone, atol=self.atol,
                                   rtol=0)

    def test_state_dict(self) -> None:
        aligner, other = self.make(), self.cls(**self.kwargs).eval()
        buffer = io.BytesIO()
        torch.save(aligner.state_dict(), buffer)
        buffer.seek(0)
        other.load_state_dict(torch.load(buffer, weights_only=True))
        views = self.batch(self.sizes)
        assert torch.equal(aligner(*views).match_score,
                           other(*views).match_score)

    def test_gradients(self) -> None:
        aligner = self.make()
        parameters = list(aligner.parameters())
        if not parameters:
            pytest.skip('nothing to learn')
        out = aligner(*self.batch(self.sizes))
        weight = torch.arange(out.num_matches) % 7 - 3.0
        (out.match_score * weight).sum().backward()
        for name, parameter in aligner.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def all_pairs(source: GraphView,
              target: GraphView) -> Iterator[tuple[int, int]]:
    """Every pair of a batch, one by one."""
    for i in range(source.num_nodes):
        for j in range(target.num_nodes):
            if source.batch[i] == target.batch[j]:
                yield i, j
