import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmgraph
from mmgraph.nn.configurable import build_from_config
from mmgraph.nn.crf import LinearChainCRF
from mmgraph.parse.bio import bio_violations

SIZES = [3, 0, 1, 4, 2, 1, 0]
CONSTRAINTS = [None, 'always', 'decoding', 'never']


def make_crf(constraint=None, types=1, seed=0, scale=1.):
    tags = 1 + 2 * types
    crf = (LinearChainCRF(tags) if constraint is None
           else LinearChainCRF(tags, types, constraint)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(0, scale, generator=generator)
    return crf


def make_input(sizes=SIZES, tags=3, seed=0, scale=1.):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), tags, generator=generator).double() * scale
    return x, torch.tensor([0, *np.cumsum(sizes)])


def gold_of(crf, x, ptr):
    """Well-formed tags: B- I- B- I- and so on, O at the end."""
    return torch.tensor([tag for i, j in itertools.pairwise(ptr.tolist())
                         for tag in ([1, 2] * (j - i))[:max(j - i - 1, 0)]
                         + [0] * (j > i)], dtype=torch.long)


def score(crf, x, tags):
    """From the formula."""
    total = crf.start[tags[0]] + crf.end[tags[-1]]
    for t, tag in enumerate(tags):
        total = total + x[t, tag]
        if t:
            total = total + crf.transitions[tags[t - 1], tag]
    return float(total.detach())


def all_scores(crf, x, well_formed):
    """Every path of one post and its score; the empty one has score 0."""
    if not len(x):
        return {(): 0.}
    return {tags: score(crf, x, tags)
            for tags in itertools.product(range(crf.num_tags), repeat=len(x))
            if not (well_formed and bio_violations(tags))}


def logsumexp(values):
    top = max(values)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def chain_log_z(crf, x):
    """The forward algorithm, word by word in log-space."""
    start, end = crf.start.detach().numpy(), crf.end.detach().numpy()
    transitions = crf.transitions.detach().numpy()
    if crf.constraint == 'always':
        start = np.where(crf.may_start, start, -np.inf)
        transitions = np.where(crf.may_follow, transitions, -np.inf)
    alpha = start + x[0].numpy()
    for row in x[1:].numpy():
        alpha = np.array([logsumexp(alpha + transitions[:, j]) + row[j]
                          for j in range(len(row))])
    return logsumexp(alpha + end)


def posts_of(x, ptr):
    return [x[i:j] for i, j in itertools.pairwise(ptr.tolist())]


# 2e4: in log-space, 20: re-scaled every step or two
@pytest.mark.parametrize('scale', [1., 20., 2e4])
@pytest.mark.parametrize('constraint', CONSTRAINTS)
def test_brute_force(constraint, scale):
    crf = make_crf(constraint, scale=min(scale, 30))
    x, ptr = make_input(scale=scale)
    gold = gold_of(crf, x, ptr)
    with torch.no_grad():
        loss, log_z = crf(x, gold, ptr), crf.log_partition(x, ptr)
    marginals, paths = crf.marginals(x, ptr), crf.decode(x, ptr)
    best = crf.k_best(x, ptr, 5)
    assert loss.shape == log_z.shape == (len(SIZES), )
    for b, rows in enumerate(posts_of(x, ptr)):
        n, i = len(rows), int(ptr[b])
        summed = all_scores(crf, rows, constraint == 'always')
        z = logsumexp(summed.values())
        assert float(log_z[b]) == pytest.approx(z, rel=1e-12, abs=1e-12)
        right = summed[tuple(gold[i:i + n].tolist())]
        assert float(loss[b]) == pytest.approx(z - right, rel=1e-9, abs=1e-9)
        expected = np.zeros((n, 3))
        for tags, value in summed.items():
            for t, tag in enumerate(tags):
                expected[t, tag] += math.exp(value - z)
        assert marginals[i:i + n].numpy() == pytest.approx(expected, abs=1e-9)
        decoded = all_scores(crf, rows, constraint in ('always', 'decoding'))
        ranked = sorted(decoded, key=decoded.get, reverse=True)
        assert paths[b] == list(ranked[0])
        assert [tags for tags, _ in best[b]] == list(map(list, ranked[:5]))
        assert [p for _, p in best[b]] == pytest.approx(
            [decoded[tags] - z for tags in ranked[:5]], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize('scale', [1., 2e4])
@pytest.mark.parametrize('constraint', [None, 'always'])
def test_gradient_is_expected_counts(constraint, scale):
    crf, (x, ptr) = make_crf(constraint), make_input(scale=scale)
    weight = torch.arange(1., 1 + len(SIZES)).double()
    (crf.log_partition(x.requires_grad_(), ptr) * weight).sum().backward()
    torch.testing.assert_close(
        x.grad, crf.marginals(x, ptr)
        * weight.repeat_interleave(torch.tensor(SIZES)).unsqueeze(1))
    start, end = np.zeros(3), np.zeros(3)
    transitions = np.zeros((3, 3))
    for rows, w in zip(posts_of(x.detach(), ptr), weight.tolist()):
        summed = all_scores(crf, rows, constraint == 'always')
        z = logsumexp(summed.values())
        for tags, value in summed.items():
            p = w * math.exp(value - z)
            if tags:
                start[tags[0]] += p
                end[tags[-1]] += p
            for pair in itertools.pairwise(tags):
                transitions[pair] += p
    assert crf.start.grad.numpy() == pytest.approx(start)
    assert crf.end.grad.numpy() == pytest.approx(end)
    assert crf.transitions.grad.numpy() == pytest.approx(transitions)


def with_mask(x, ptr):
    """One post more, whose mask keeps the whole batch in log-space."""
    more = x.new_tensor([[-torch.inf, 0, 0], [0, 0, -torch.inf]])
    return torch.cat([x, more]), torch.cat([ptr, ptr[-1:] + 2])


@pytest.mark.parametrize('log_space', [False, True])
@pytest.mark.parametrize('constraint', CONSTRAINTS)
def test_gradcheck(constraint, log_space):
    crf, (x, ptr) = make_crf(constraint), make_input()
    gold = gold_of(crf, x, ptr)

    def run(x, *parameters):
        offsets = ptr
        if log_space:
            x, offsets = with_mask(x, ptr)
        tags = torch.cat([gold, gold.new_tensor([1, 0] * log_space)])
        values = dict(zip(('start', 'end', 'transitions'), parameters))
        return torch.func.functional_call(crf, values, (x, tags, offsets))

    assert torch.autograd.gradcheck(
        run, [x.requires_grad_(), crf.start, crf.end, crf.transitions])
    assert torch.autograd.gradcheck(
        lambda x: crf.log_partition(
            *(with_mask(x, ptr) if log_space else (x, ptr))), [x])


def test_differentiated_once():
    crf, (x, ptr) = make_crf(), make_input()
    (grad, ) = torch.autograd.grad(
        crf.log_partition(x.requires_grad_(), ptr).sum(), x,
        create_graph=True)
    with pytest.raises(RuntimeError, match='does not require grad'):
        grad.sum().backward()


# Ranges that re-scale every 46, 8, 2 and 1 steps, and one for log-space.
@pytest.mark.parametrize('width', [10, 55, 140, 195, 500])
@pytest.mark.parametrize('constraint', [None, 'always'])
def test_long_posts(constraint, width):
    sizes = [150, 1, 0, 149, 7, 64]
    crf = make_crf(constraint, types=2)
    x, ptr = make_input(sizes, tags=5, seed=width)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.clamp_(-1, 1)
    room = width - 4 - 1 - math.log(5)
    x = (x - x.min()) / (x.max() - x.min()) * room
    # The adverse case: what is likely in one half is impossible in the other.
    x[:75, :2] -= room
    x[75:150, 2:] -= room
    x = x.clamp(min=-room)
    log_z = crf.log_partition(x.requires_grad_(), ptr)
    log_z.sum().backward()
    expected = [chain_log_z(crf, rows) if len(rows) else 0.
                for rows in posts_of(x.detach(), ptr)]
    assert log_z.tolist() == pytest.approx(expected, rel=1e-12)
    assert x.grad.sum(1).tolist() == pytest.approx([1] * sum(sizes))
    assert x.grad.min() >= 0
    alone = []
    for rows in posts_of(x.detach(), ptr):
        many, offsets = torch.cat([rows, rows.new_full((1, 5), -torch.inf)]), [
            0, len(rows), len(rows) + 1]
        many[-1, 0] = 0  # So this one is in log-space.
        alone.append(crf.marginals(many, torch.tensor(offsets))[:-1])
    torch.testing.assert_close(x.grad, torch.cat(alone), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('outlier', [5, 20, 33, 60, 100, 150, 1000])
@pytest.mark.parametrize('constraint', [None, 'always'])
def test_one_word_has_far_higher_scores(constraint, outlier):
    # All others look unlikely beside it, and so do all of their messages.
    sizes = [200, 1, 180]
    crf, (x, ptr) = make_crf(constraint, types=2), make_input(sizes, tags=5)
    x[200] += outlier
    log_z = crf.log_partition(x.requires_grad_(), ptr)
    log_z.sum().backward()
    assert log_z.tolist() == pytest.approx(
        [chain_log_z(crf, rows) for rows in posts_of(x.detach(), ptr)])
    other = x.detach().clone()
    other[200] -= outlier
    torch.testing.assert_close(x.grad, crf.marginals(other, ptr))


@pytest.mark.parametrize('scale', [1., 2e4])
@pytest.mark.parametrize('constraint', CONSTRAINTS)
def test_alone_and_in_a_batch(constraint, scale):
    crf, (x, ptr) = make_crf(constraint), make_input(scale=scale)
    x[ptr[3]:ptr[4]] /= scale  # A batch may hold both.
    gold = gold_of(crf, x, ptr)
    loss, marginals = crf(x, gold, ptr), crf.marginals(x, ptr)
    paths, best = crf.decode(x, ptr), crf.k_best(x, ptr, 3)
    for b in range(len(SIZES)):
        rows = slice(int(ptr[b]), int(ptr[b + 1]))
        one = torch.tensor([0, SIZES[b]])
        torch.testing.assert_close(
            crf(x[rows], gold[rows], one), loss[b:b + 1])
        torch.testing.assert_close(crf.marginals(x[rows], one),
                                   marginals[rows])
        assert crf.decode(x[rows], one) == [paths[b]]
        alone, = crf.k_best(x[rows], one, 3)
        assert [tags for tags, _ in alone] == [tags for tags, _ in best[b]]
        assert [p for _, p in alone] == pytest.approx(
            [p for _, p in best[b]], rel=1e-9, abs=1e-9)


def test_order_of_posts():
    crf, (x, ptr) = make_crf(), make_input()
    order = [4, 6, 3, 0, 5, 2, 1]
    rows = posts_of(x, ptr)
    other = torch.tensor([0, *np.cumsum([SIZES[b] for b in order])])
    shuffled = torch.cat([rows[b] for b in order])
    torch.testing.assert_close(crf.log_partition(shuffled, other),
                               crf.log_partition(x, ptr)[order])
    paths = crf.decode(x, ptr)
    assert crf.decode(shuffled, other) == [paths[b] for b in order]


def test_ties_are_broken_alike_alone_and_in_a_batch():
    crf = LinearChainCRF(5, 2)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.zero_()
    sizes = [1, 2, 3, 8, 5]
    x, ptr = torch.zeros(sum(sizes), 5), torch.tensor([0, *np.cumsum(sizes)])
    assert crf.decode(x, ptr) == [
        crf.decode(x[:n], torch.tensor([0, n]))[0] for n in sizes]


@pytest.mark.parametrize('ptr', [[0], [0, 0], [0, 0, 0, 0]])
def test_no_words(ptr):
    crf, ptr = make_crf('always'), torch.tensor(ptr)
    x = torch.empty(0, 3, requires_grad=True)
    b = ptr.numel() - 1
    loss = crf(x, torch.empty(0, dtype=torch.long), ptr)
    assert loss.tolist() == [0] * b
    loss.sum().backward()
    assert x.grad.shape == (0, 3)
    for parameter in crf.parameters():
        assert not parameter.grad.any()
    assert crf.log_partition(x, ptr).tolist() == [0] * b
    assert crf.marginals(x, ptr).shape == (0, 3)
    assert crf.decode(x, ptr) == [[] for _ in range(b)]
    assert crf.k_best(x, ptr, 2) == [[([], 0.)] for _ in range(b)]


def test_one_tag():
    crf = LinearChainCRF(1)
    x, ptr = torch.randn(3, 1), torch.tensor([0, 2, 3])
    zeros = torch.zeros(3, dtype=torch.long)
    assert crf(x, zeros, ptr).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert crf.decode(x, ptr) == [[0, 0], [0]]


@pytest.mark.parametrize('scale', [1e4, 1e8, 1e30])
def test_very_large_scores(scale):
    crf, (x, ptr) = make_crf('always').float(), make_input(scale=scale)
    x = x.float().requires_grad_()
    loss = crf(x, gold_of(crf, x, ptr), ptr)
    assert loss.isfinite().all() and (loss >= 0).all()
    loss.sum().backward()
    assert x.grad.isfinite().all()
    if scale < 1e9:  # beyond, differences are below the precision
        assert x.grad.sum(1).abs().max() < 1e-6
    with torch.no_grad():
        crf.transitions.mul_(1e30)
    assert crf(x, gold_of(crf, x, ptr), ptr).isfinite().all()


@pytest.mark.parametrize('constraint', CONSTRAINTS)
def test_masked_tags(constraint):
    crf, (x, ptr) = make_crf(constraint), make_input()
    x[0, 0] = x[1, 1] = x[4, 0] = x[4, 2] = x[5, 2] = x[6, 2] = -torch.inf
    summed = [all_scores(crf, rows, constraint == 'always')
              for rows in posts_of(x, ptr)]
    loss = crf.log_partition(x.requires_grad_(), ptr)
    assert loss.tolist() == pytest.approx(
        [logsumexp(scores.values()) for scores in summed])
    loss.sum().backward()
    assert x.grad.sum(1).tolist() == pytest.approx([1] * len(x))
    assert not x.grad[x == -torch.inf].any()
    for parameter in crf.parameters():
        assert parameter.grad.isfinite().all()
    for rows, path in zip(posts_of(x, ptr), crf.decode(x.detach(), ptr)):
        assert all(row[tag] > -torch.inf for row, tag in zip(rows, path))


def test_no_tags_possible():
    crf, (x, ptr) = make_crf(), make_input()
    x[1] = -torch.inf
    log_z = crf.log_partition(x.requires_grad_(), ptr)
    assert log_z[0] == -torch.inf and log_z[1:].isfinite().all()
    log_z.sum().backward()
    assert not x.grad[:3].any()
    assert x.grad[3:].sum(1).tolist() == pytest.approx([1] * (len(x) - 3))
    assert crf.transitions.grad.isfinite().all()
    assert crf.k_best(x, ptr, 2)[0] == []


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision(dtype):
    crf, (x, ptr) = make_crf('always').float(), make_input(tags=3)
    gold, low = gold_of(crf, x, ptr), x.to(dtype)
    full = crf(low.float(), gold, ptr)
    loss = crf(low.requires_grad_(), gold, ptr)
    assert loss.dtype == torch.float
    torch.testing.assert_close(loss, full, rtol=0, atol=0)
    loss.sum().backward()
    assert low.grad.dtype == dtype
    assert crf.log_partition(low, ptr).dtype == torch.float
    assert crf.marginals(low, ptr).dtype == torch.float
    assert crf.decode(low, ptr) == crf.decode(low.float(), ptr)
    whole = crf.to(dtype)  # the parameters too
    assert whole(low, gold, ptr).dtype == torch.float


def test_autocast():
    crf, (x, ptr) = make_crf().float(), make_input()
    x = x.float().requires_grad_()
    gold = gold_of(crf, x, ptr)
    loss = crf(x, gold, ptr)
    (grad, ) = torch.autograd.grad(loss.sum(), x)
    with torch.autocast('cpu', torch.bfloat16):
        again = crf(x, gold, ptr)
        (other, ) = torch.autograd.grad(again.sum(), x)
    assert torch.equal(loss, again) and torch.equal(grad, other)


@pytest.mark.parametrize('constraint', [None, 'always'])
def test_float32_is_exact(constraint):
    crf, (x, ptr) = make_crf(constraint).float(), make_input([64] * 4)
    exact = make_crf(constraint)
    exact.load_state_dict(crf.state_dict())  # the same numbers
    gold = gold_of(crf, x, ptr)
    sure = x.clone()
    sure[torch.arange(len(x)), gold] += 25  # a loss of about 1e-8
    for values in (x, 10 * x, sure):
        single = values.float().requires_grad_()
        double = single.detach().double().requires_grad_()
        loss, expected = crf(single, gold, ptr), exact(double, gold, ptr)
        torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
        loss.sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(single.grad.double(), double.grad,
                                   rtol=1e-6, atol=0)
        oracle = [chain_log_z(exact, rows) - score(exact, rows, tags)
                  for rows, tags in zip(posts_of(double.detach(), ptr),
                                        posts_of(gold, ptr))]
        assert loss.tolist() == pytest.approx(oracle, rel=1e-6, abs=1e-11)


def test_well_formed_tags_have_all_probability():
    crf, (x, ptr) = make_crf('always'), make_input([4])
    (best, ) = crf.k_best(x, ptr, 200)
    assert len(best) == len(all_scores(crf, x, True)) < 3**4
    assert not any(bio_violations(tags) for tags, _ in best)
    assert math.fsum(math.exp(p) for _, p in best) == pytest.approx(1)
    values = [p for _, p in best]
    assert values == sorted(values, reverse=True)
    crf.constraint = 'decoding'  # the others have some then
    (less, ) = crf.k_best(x, ptr, 200)
    assert [tags for tags, _ in less] == [tags for tags, _ in best]
    assert math.fsum(math.exp(p) for _, p in less) < 0.99
    crf.constraint = 'never'
    (every, ) = crf.k_best(x, ptr, 200)
    assert len(every) == 3**4
    assert math.fsum(math.exp(p) for _, p in every) == pytest.approx(1)


def test_constraint_never_lowers_the_likelihood():
    for seed in range(5):
        x, ptr = make_input(seed=seed)
        always, plain = (make_crf(c, seed=seed) for c in ('always',
                                                          'decoding'))
        gold = gold_of(always, x, ptr)
        assert (always(x, gold, ptr) <= plain(x, gold, ptr) + 1e-12).all()


@pytest.mark.parametrize('tags', [[2, 0, 0], [1, 0, 2]])
def test_ill_formed_gold(tags):
    x, ptr = make_input([1, 3])
    gold = torch.tensor([0, *tags])
    crf = make_crf('always')
    with pytest.raises(ValueError, match=r"'tags' must be possible.*"
                       rf'\(got {tags} in post 1\)'.replace(
                           '[', r'\[').replace(']', r'\]')):
        crf(x, gold, ptr)
    with mmgraph.checks(False):
        loss = crf(x.requires_grad_(), gold, ptr)
        assert loss[0].isfinite() and loss[1] == torch.inf
        loss.sum().backward()
        assert x.grad.isfinite().all()
    assert make_crf('decoding')(x, gold, ptr).isfinite().all()


def test_gold_that_is_masked():
    crf, (x, ptr) = make_crf(), make_input([1, 2])
    x[1, 1] = -torch.inf
    with pytest.raises(ValueError, match=r"'tags' must be possible"):
        crf(x, torch.tensor([0, 1, 0]), ptr)
    assert crf(x, torch.tensor([0, 0, 0]), ptr).isfinite().all()


def test_forbidden_parameters_get_no_gradient():
    crf, (x, ptr) = make_crf('always'), make_input()
    crf(x, gold_of(crf, x, ptr), ptr).sum().backward()
    allowed = torch.tensor([[True, True, False], [True] * 3, [True] * 3])
    assert torch.equal(crf.transitions.grad != 0, allowed)
    assert crf.start.grad[2] == 0 and crf.end.grad.all()
    with torch.no_grad():  # So their values do not matter, however large.
        before = crf(x, gold_of(crf, x, ptr), ptr)
        crf.transitions[0, 2] = crf.start[2] = 1e6
        torch.testing.assert_close(crf(x, gold_of(crf, x, ptr), ptr), before)
        crf.transitions[0, 2] = -torch.inf
        torch.testing.assert_close(crf(x, gold_of(crf, x, ptr), ptr), before)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 9), max_size=6), st.integers(1, 4),
       st.integers(0, 1000), st.sampled_from(['always', 'decoding']))
def test_decoded_tags_are_well_formed(sizes, types, seed, constraint):
    crf = make_crf(constraint, types, seed)
    x, ptr = make_input(sizes, 1 + 2 * types, seed, scale=3.)
    paths = crf.decode(x, ptr)
    assert [len(path) for path in paths] == sizes
    assert not any(bio_violations(path) for path in paths)
    first = [ways[0] for ways in crf.k_best(x, ptr, 2)]
    assert [tags for tags, _ in first] == paths
    with torch.no_grad(), mmgraph.checks(False):
        gold = torch.tensor(sum(paths, []), dtype=torch.long)
        loss = crf(x, gold, ptr)
    assert (-loss).tolist() == pytest.approx([p for _, p in first], abs=1e-9)


@pytest.mark.parametrize('tags', [2, 9])
def test_equal_to_pytorch_crf(tags):
    torchcrf = pytest.importorskip('torchcrf', reason='needs pytorch-crf')
    crf, peer = make_crf(), torchcrf.CRF(tags, batch_first=True).double()
    crf = LinearChainCRF(tags).double()
    pairs = ((crf.start, peer.start_transitions),
             (crf.end, peer.end_transitions),
             (crf.transitions, peer.transitions))
    for ours, theirs in pairs:
        theirs.data = ours.data.clone()
    sizes = [7, 1, 30, 12, 2, 29]
    x, ptr = make_input(sizes, tags, scale=2.)
    gold = torch.randint(tags, (len(x), ),
                         generator=torch.Generator().manual_seed(0))
    padded = torch.nn.utils.rnn.pad_sequence(posts_of(x, ptr), True)
    padded_gold = torch.nn.utils.rnn.pad_sequence(posts_of(gold, ptr), True)
    mask = torch.arange(30) < torch.tensor(sizes).unsqueeze(1)
    loss = crf(x.requires_grad_(), gold, ptr)
    expected = -peer(padded.requires_grad_(), padded_gold, mask,
                     reduction='none')
    torch.testing.assert_close(loss, expected)
    weight = torch.rand(len(sizes), dtype=torch.double)
    (loss * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, padded.grad[mask])
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert crf.decode(x, ptr) == peer.decode(padded, mask)


def test_wrong_input():
    crf, (x, ptr) = make_crf(), make_input()
    gold = gold_of(crf, x, ptr)
    with pytest.raises(ValueError, match=r"'num_tags' must be 1 \+ 2 \* "
                       r"'num_types' \(got 4 and 2\)"):
        LinearChainCRF(4, 2)
    with pytest.raises(ValueError, match="'constraint' must be one of"):
        LinearChainCRF(5, 2, 'training')
    with pytest.raises(ValueError, match="'num_tags' must be at least 1"):
        LinearChainCRF(0)
    with pytest.raises(ValueError, match=r"'emissions' must have shape "
                       r'\[n, 3\] \(got \[11, 2\]\)'):
        crf(x[:, :2], gold, ptr)
    with pytest.raises(ValueError, match=r"'tags' must have shape \[11\] "
                       r'\(got \[10\]\)'):
        crf(x, gold[1:], ptr)
    with pytest.raises(ValueError, match=r"'tags' must be in \[0, 3\) "
                       r'\(got 0 to 3\)'):
        crf(x, gold + (gold == 2), ptr)
    with pytest.raises(ValueError, match=r"'ptr' must end with .* "
                       r'\(got 10 for 11\)'):
        crf.decode(x, ptr.clamp(max=10))
    with pytest.raises(ValueError, match="'k' must be at least 1"):
        crf.k_best(x, ptr, 0)


def test_configuration():
    crf = LinearChainCRF(5, 2, 'decoding')
    again = build_from_config(json.loads(json.dumps(crf.get_config())))
    again.load_state_dict(crf.state_dict())
    assert set(crf.state_dict()) == {'start', 'end', 'transitions'}
    x, ptr = make_input(tags=5)
    torch.testing.assert_close(again.log_partition(x, ptr),
                               crf.log_partition(x, ptr))
    assert repr(crf) == "LinearChainCRF(5, constraint='decoding')"
    assert repr(LinearChainCRF(4)) == "LinearChainCRF(4, constraint='never')"
    before = crf.transitions.clone()
    crf.reset_parameters()
    assert not torch.equal(before, crf.transitions)
    for parameter in crf.parameters():
        assert parameter.abs().max() <= 0.1
