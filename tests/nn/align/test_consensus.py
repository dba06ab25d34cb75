import json
import math

import pytest
import torch

from mmgraph.data.view import GraphView
from mmgraph.nn.align.consensus import ConsensusAligner, RelationalGNN
from tests.nn.align.cases import AlignerCase, all_pairs, collate, relabel


def build(in_channels=8, num_indicators=4, seed=0, **kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConsensusAligner(RelationalGNN(in_channels, 16, 12),
                                RelationalGNN(num_indicators, 6, 5),
                                **{'num_steps': 3, **kwargs})


def softmax(logits, other=()):
    total = sum(math.exp(x) for x in (*logits, *other))
    return [math.exp(x) / total for x in logits]


def oracle(aligner, source, target, r, pairs=None):
    """One pair of graphs in double precision: first and last scores."""
    n, m = source.num_nodes, target.num_nodes
    h_s, h_t = aligner.psi_1(source).tolist(), aligner.psi_1(target).tolist()
    listed = [[j for j in range(m) if pairs is None or (i, j) in pairs]
              for i in range(n)]
    logit = [[sum(a * b for a, b in zip(h_s[i], h_t[j])) for j in listed[i]]
             for i in range(n)]
    other = [aligner.unmatched.item()] if aligner.partial else []
    weight, bias = aligner.lin_1.weight.tolist(), aligner.lin_1.bias.tolist()
    last, shift = aligner.lin_2.weight[0].tolist(), aligner.lin_2.bias.item()
    stages = [[softmax(row, other) for row in logit]]
    for r_s in r:
        r_t = torch.zeros(m, r_s.size(1), dtype=torch.double)
        for i in range(n):
            for j, s in zip(listed[i], stages[-1][i]):
                r_t[j] += s * r_s[i]
        o_s = aligner.psi_2(source._replace(x=r_s)).tolist()
        o_t = aligner.psi_2(target._replace(x=r_t)).tolist()
        for i in range(n):
            for place, j in enumerate(listed[i]):
                gap = [a - b for a, b in zip(o_s[i], o_t[j])]
                hidden = [max(0, sum(w * g for w, g in zip(row, gap)) + b)
                          for row, b in zip(weight, bias)]
                logit[i][place] += shift + sum(
                    w * x for w, x in zip(last, hidden))
        stages.append([softmax(row, other) for row in logit])
    out = torch.zeros(2, n, m, dtype=torch.double)
    for stage, scores in enumerate((stages[0], stages[-1])):
        for i in range(n):
            out[stage, i, listed[i]] = torch.tensor(scores[i],
                                                    dtype=torch.double)
    return out


def double(view):
    return view._replace(x=view.x.double())


class Case(AlignerCase):
    cls = ConsensusAligner
    channels = (8, 8)
    exact = False  # random numbers belong to positions
    options = {}

    @property
    def kwargs(self):
        return dict(psi_1=RelationalGNN(8, 16, 12),
                    psi_2=RelationalGNN(4, 6, 5), num_steps=3, **self.options)

    def test_state_dict(self):
        aligner, other = self.make(), self.cls(**self.kwargs).eval()
        views = self.batch(self.sizes)
        expected = aligner(*views).match_score
        assert not torch.equal(expected, other(*views).match_score)
        other.load_state_dict(aligner.state_dict())
        assert torch.equal(expected, other(*views).match_score)

    def test_equivariant_given_numbers(self):
        """The one thing that follows the numbering are random numbers."""
        aligner = self.make().double()
        for source, target in self.pairs(self.sizes):
            source, target = double(source), double(target)
            p = torch.randperm(source.num_nodes)
            q = torch.randperm(target.num_nodes)
            draw = aligner.indicators(source, aligner.pair_generator(None))
            out = aligner(source, target).dense()[0]
            aligner.indicators = lambda *_, p=p, draw=draw: draw[:, p]
            again = aligner(relabel(source, p), relabel(target, q)).dense()[0]
            del aligner.indicators
            torch.testing.assert_close(again, out[p][:, q])

    def test_oracle(self):
        aligner = self.make().double()
        for source, target in self.pairs([(7, 4), (1, 1), (6, 9)]):
            source, target = double(source), double(target)
            r = aligner.indicators(
                source, aligner.pair_generator(None)).double()
            out = aligner(source, target)
            pairs = set(map(tuple, out.match_index.t().tolist()))
            if aligner.top_k is not None:
                h_s, h_t = aligner.psi_1(source), aligner.psi_1(target)
                best = (h_s @ h_t.t()).topk(min(aligner.top_k, len(h_t)))
                assert pairs == {(i, j) for i, row in enumerate(
                    best.indices.tolist()) for j in row}
            expected = oracle(aligner, source, target, r, pairs)
            torch.testing.assert_close(out.dense()[0], expected[1])
            total = out.dense()[0].sum(1)
            assert (total < 1).all() if aligner.partial else torch.allclose(
                total, torch.ones_like(total))
            # In training, seeds give the loss and leave scores alone.
            if aligner.top_k is None:
                rows = torch.randperm(min(expected.shape[1:]))[:3]
                seeds = torch.stack([rows, rows.flip(0)])
                learned = aligner.train()(source, target, seeds=seeds)
                aligner.eval()
                torch.testing.assert_close(learned.dense(), out.dense())
                parts = expected[:, seeds[0], seeds[1]].log()
                if aligner.partial:
                    alone = [i for i in range(source.num_nodes)
                             if i not in rows.tolist()]
                    parts = torch.cat([parts, (
                        1 - expected[:, alone].sum(2)).log()], dim=1)
                torch.testing.assert_close(learned.loss,
                                           -parts.mean(1).sum())

    def test_seeds_are_evidence(self):
        aligner = self.make()
        source, target = self.pairs([(9, 7)])[0]
        seeds = torch.tensor([[2, 5], [6, 0]])
        out = aligner(source, target, seeds=seeds)
        assert out.loss is None
        dense = out.dense()[0]
        listed = torch.zeros_like(dense, dtype=torch.bool)
        listed[tuple(out.match_index)] = True
        for i, j in seeds.t().tolist():
            assert listed[i].sum() == 1 == listed[:, j].sum()
            assert listed[i, j]
            if not aligner.partial:
                assert dense[i, j] == 1


class TestDense(Case):
    def test_gradcheck(self):
        aligner = self.make().double()
        source, target = map(double, self.pairs([(3, 4)])[0])

        def run(x_s, x_t):
            return aligner(source._replace(x=x_s),
                           target._replace(x=x_t)).match_score

        assert torch.autograd.gradcheck(run, (
            source.x.requires_grad_(), target.x.requires_grad_()))


class TestSparse(Case):
    options = dict(top_k=3)

    def test_equals_dense(self):
        """With all targets as candidates the variants agree."""
        views = self.batch(self.sizes)
        dense = build()(*views)
        sparse = build(top_k=10)(*views)
        assert torch.equal(dense.match_index, sparse.match_index)
        torch.testing.assert_close(dense.match_score, sparse.match_score)
        # The same through the search, where it leaves one target out.
        nine = build(top_k=9)(*views)
        assert nine.num_matches == dense.num_matches - 20

    def test_training_candidates(self):
        source, target = self.batch([(6, 30), (8, 25)])
        seeds = torch.stack([torch.arange(14), torch.arange(14) + 20])
        seeds[1, 6:] += 16
        aligner = build(top_k=3)
        out = aligner(source, target, seeds=seeds)
        index = set(map(tuple, out.match_index.t().tolist()))
        assert set(map(tuple, seeds.t().tolist())) <= index
        number = torch.bincount(out.match_index[0])
        assert number.min() >= 3 and 4 < number.double().mean() <= 7
        assert torch.isfinite(out.loss)
        key = out.match_index[0] * 55 + out.match_index[1]
        assert (key[1:] > key[:-1]).all()
        other = aligner(source, target,
                        generator=torch.Generator().manual_seed(1))
        assert not torch.equal(out.match_index, other.match_index)
        assert aligner.eval()(source, target).num_matches == 14 * 3


class TestPartial(Case):
    options = dict(partial=True)


class TestPartialSparse(Case):
    options = dict(partial=True, top_k=2)


def test_two_kinds_of_features():
    aligner = ConsensusAligner(RelationalGNN(8, 16, 12),
                               RelationalGNN(4, 6, 5),
                               psi_target=RelationalGNN(3, 16, 12))
    case = AlignerCase()
    source, target = case.graph(6, 8, 0), case.graph(4, 3, 1)
    assert aligner(source, target).num_matches == 24


def test_detach():
    aligner = build(detach=True)
    source, target = TestDense().batch([(6, 4), (5, 5)])
    aligner(source, target, seeds=torch.tensor([[0], [1]])).loss.backward()
    assert all(p.grad is None for p in aligner.psi_1.parameters())
    assert all(p.grad is not None for p in aligner.psi_2.parameters())


@pytest.mark.parametrize('top_k', [None, 3])
def test_pieces(top_k, monkeypatch):
    """Pairs worked on a few at a time give the same."""
    views = TestDense().batch(TestDense.sizes)
    aligner = build(top_k=top_k).eval()
    whole = aligner(*views)
    monkeypatch.setattr('mmgraph.nn.align.consensus._PIECE', 50)
    out = aligner(*views)
    assert torch.equal(out.match_index, whole.match_index)
    torch.testing.assert_close(out.match_score, whole.match_score)


def test_relational_gnn():
    """Node by node."""
    view = double(AlignerCase().graph(7, 3, 0))
    gnn = RelationalGNN(3, 5, 4, num_layers=2).double()
    states = [list(view.x)]
    for root, into, out_of in zip(gnn.roots, gnn.convs_in, gnn.convs_out):
        rows = []
        for i in range(7):
            row = root(states[-1][i])
            for conv, here, there in ((into, 1, 0), (out_of, 0, 1)):
                ends = view.edge_index[there][view.edge_index[here] == i]
                if ends.numel() > 0:
                    row = row + conv.lin_l(sum(
                        states[-1][j] for j in ends.tolist()) / ends.numel())
            rows.append(row.relu())
        states.append(rows)
    expected = torch.stack([gnn.out(torch.cat([s[i] for s in states]))
                            for i in range(7)])
    torch.testing.assert_close(gnn(view), expected)
    with pytest.raises(ValueError, match=r"'view.x' must be given"):
        gnn(view._replace(x=None))


def test_reset_parameters():
    aligner = build(partial=True)
    before = {k: v.clone() for k, v in aligner.state_dict().items()}
    torch.nn.init.ones_(aligner.unmatched)
    with torch.random.fork_rng(devices=[]):
        aligner.reset_parameters()
    for name, value in aligner.state_dict().items():
        assert torch.equal(value, before[name]) == (name == 'unmatched')


def test_config():
    aligner = build(top_k=4, partial=True, psi_target=RelationalGNN(3, 4, 12))
    config = json.loads(json.dumps(aligner.get_config()))
    other = ConsensusAligner.from_config(config)
    assert repr(other) == repr(aligner)
    other.load_state_dict(aligner.state_dict())


def pair(seed, partial=False):
    """A random tree and a noisy, renumbered copy of it whose features come
    from four kinds only: alone, they match one node in four.
    """
    generator = torch.Generator().manual_seed(seed)
    n = 16
    parent = [int(torch.randint(max(0, i - 3), i, (), generator=generator))
              for i in range(1, n)]
    edges = torch.tensor([parent, list(range(1, n))])
    kinds = torch.randn(4, 8, generator=torch.Generator().manual_seed(99))
    kind = torch.randint(4, (n, ), generator=generator)
    x = kinds[kind]
    order = torch.randperm(n, generator=generator)
    place = torch.argsort(order)

    def noisy():
        return x + 0.2 * torch.randn(n, 8, generator=generator)

    source = GraphView.single(edges, n, x=noisy())
    target = GraphView.single(place[edges], n, x=noisy()[order])
    return source, target, torch.stack([torch.arange(n), place])


def accuracy(aligner, views, truth):
    out = aligner.eval()(*views).topk(1)
    best = torch.full((views[0].num_nodes, ), -1)
    best[out.match_index[0]] = out.match_index[1]
    return (best[truth[0]] == truth[1]).double().mean().item()


def gather(seeds):
    sources, targets, truths = zip(*(pair(s) for s in seeds))
    shift = 16 * torch.arange(len(truths)).repeat_interleave(16)
    return ((collate(sources), collate(targets)),
            torch.cat(truths, dim=1) + shift)


@pytest.mark.parametrize('top_k', [None, 6])
def test_learns(top_k):
    """It learns to match what features leave open, on pairs not seen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        aligner = ConsensusAligner(
            RelationalGNN(8, 32, 32), RelationalGNN(16, 16, 16), num_steps=4,
            top_k=top_k)
    views, truth = gather(range(32))
    test = gather(range(100, 116))
    before = accuracy(aligner, *test)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(aligner.parameters(), lr=0.01)
    state = torch.random.get_rng_state()
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = aligner.train()(*views, seeds=truth, generator=generator).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert torch.equal(state, torch.random.get_rng_state())
    after = accuracy(aligner, *test)
    assert losses[-1] < losses[0] / 2
    assert before < 0.6 and after > 0.9


@pytest.mark.parametrize('kwargs,message', [
    (dict(num_steps=-1), r"'num_steps' must be at least 0 \(got -1\)"),
    (dict(top_k=0), r"'top_k' must be at least 1 \(got 0\)"),
])
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_more_errors():
    with pytest.raises(ValueError, match=r"'psi_2' must tell its"):
        ConsensusAligner(RelationalGNN(8, 4, 4), torch.nn.ReLU())
    with pytest.raises(ValueError, match=r"'num_layers' must be at least 1"):
        RelationalGNN(8, 4, 4, num_layers=0)
    source, target = TestDense().pairs([(3, 2)])[0]
    with pytest.raises(ValueError, match=r"'target.x' must be given"):
        build()(source, target._replace(x=None))


def test_all_pairs_once():
    views = TestDense().batch([(3, 2), (2, 4)])
    out = build()(*views)
    assert list(map(tuple, out.match_index.t().tolist())) == list(
        all_pairs(*views))
