r"""Aligners of tiny pairs: words of a sentence against objects of an image,
most words without a partner.

Two kinds of pairs with known matches: `PlantedPairs` (a tree of 30 words, 10
objects; also with half the words unmatched and with objects that have no
word), and `SyntheticPosts`, whose words get features by a ridge regression of
what images of the training split show on the words of their texts (no match
is looked at). Reported are, as mean and standard deviation over seeds,

* *argmax*: share of the matched objects whose best word is right; *LAP*: the
  same after linear assignment;
* *AUROC*: how well the mass that an object (a word) lacks tells that it has no
  partner; a method without such a mass is judged by its best score; *ECE*: the
  calibration error of that mass as a probability, in ten bins;
* *ms*: CPU milliseconds a pair on one thread, in batches of 64 where a method
  takes batches; with *backward*, of the loss to the features.

Settings of ours were chosen on planted pairs of seeds 1000 to 1003. Peers that
are not installed are named as such. Example:

    python -m benchmarks.aligners_pairs --seeds 5
    python -m benchmarks.aligners_pairs --quick
"""
import argparse
import importlib
import platform
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch_geometric.data import Batch

import mmgraph
from benchmarks.common import write_json
from mmgraph.data.view import GraphView, batch_view, ptr_from_sizes
from mmgraph.datasets import PlantedPairs, SyntheticPosts
from mmgraph.nn.align.base import Aligner
from mmgraph.nn.align.edge_enhanced import EdgeEnhancedAligner, hop_edges
from mmgraph.nn.align.transport import TransportAligner

RESULT = Path(__file__).parent / 'results' / 'aligners_pairs.json'
BATCH = 64
#: The text of an error is cut here.
WIDTH = 60


class Pairs(NamedTuple):
    """The pairs of one set and seed, one by one and as batches."""
    views: list[tuple[GraphView, GraphView]]
    gold: list[Tensor]  # the word of each object, or -1
    labels: bool

    def batches(self, size: int) -> list[tuple[GraphView, GraphView]]:
        return [join(self.views[i:i + size])
                for i in range(0, len(self.views), size)]


class Method(NamedTuple):
    name: str
    #: Scores [n, m] of each of some pairs.
    run: Callable[[Pairs], list[Tensor]]
    partial: bool = False  # rows and columns sum to probabilities
    limit: int | None = None  # pairs, where it is slow
    backward: Aligner | None = None
    labels: bool = False


# Data ########################################################################


def join(
    views: Sequence[tuple[GraphView, GraphView]],
) -> tuple[GraphView, GraphView]:
    out = []
    for side in zip(*views, strict=True):
        sizes = torch.tensor([view.num_nodes for view in side])
        ptr = ptr_from_sizes(sizes)

        def cat(key: str, side: Any = side) -> Tensor | None:
            values = [getattr(view, key) for view in side]
            return None if values[0] is None else torch.cat(values)

        out.append(GraphView(
            cat('x'),
            torch.cat([v.edge_index + p for v, p in zip(side, ptr)], dim=1),
            cat('edge_type'), cat('edge_attr'),
            torch.arange(len(side)).repeat_interleave(sizes), ptr))
    return out[0], out[1]


def planted(num_pairs: int, seed: int, **kwargs: Any) -> Pairs:
    views, gold = [], []
    for pair in PlantedPairs(num_pairs, seed=seed, **kwargs):
        views.append((pair.source, pair.target))
        word = torch.full((pair.target.num_nodes, ), -1)
        word[pair.match_index[1]] = pair.match_index[0]
        gold.append(word)
    return Pairs(views, gold, labels=True)


def synthetic(num_pairs: int, seed: int, noise: float,
              num_train: int) -> Pairs:
    def keys(words: Sequence[str]) -> list[list[str]]:
        return [[w.lower(), '<Name>' if w[:1].isupper() and i else '<word>']
                for i, w in enumerate(words)]

    kwargs = dict(detector_noise=noise, seed=seed)
    train = list(SyntheticPosts('train', num_train, **kwargs))
    count = Counter(key for post in train for both in keys(post.words)
                    for key in set(both))
    known = {key: i for i, key in enumerate(
        sorted(key for key, number in count.items() if number >= 5))}
    dim = train[0]['object'].x.size(1)
    bag = torch.zeros(len(train), len(known), dtype=torch.double)
    shown = torch.zeros(len(train), dim, dtype=torch.double)
    for row, post in enumerate(train):
        for both in keys(post.words):
            for key in both:
                if key in known:
                    bag[row, known[key]] += 1
        shown[row] = post['object'].x.sum(0)
    table = torch.linalg.solve(
        bag.t() @ bag + torch.eye(len(known)), bag.t() @ shown).float()
    views, gold = [], []
    for post in SyntheticPosts('test', num_pairs, **kwargs):
        x = torch.zeros(len(post.words), dim)
        for i, both in enumerate(keys(post.words)):
            for key in both:
                if key in known:
                    x[i] += table[known[key]]
        batch = Batch.from_data_list([post])
        views.append((batch_view(batch, 'word', x=x),
                      batch_view(batch, 'object')))
        word = torch.full((post['object'].num_nodes, ), -1)
        match = post['word', 'matches', 'object'].edge_index
        word[match[1]] = match[0]
        gold.append(word)
    return Pairs(views, gold, labels=False)


# Methods #####################################################################


def ours(name: str, aligner: Aligner, partial: bool = True,
         labels: bool = False) -> Method:
    @torch.no_grad()
    def run(pairs: Pairs) -> list[Tensor]:
        out = []
        for source, target in pairs.batches(BATCH):
            dense = aligner(source, target).dense()
            out += [d[:n, :m] for d, n, m in zip(
                dense, source.sizes.tolist(), target.sizes.tolist())]
        return out

    return Method(name, run, partial, backward=aligner, labels=labels)


def each(call: Callable[[GraphView, GraphView], Any]
         ) -> Callable[[Pairs], list[Tensor]]:
    def run(pairs: Pairs) -> list[Tensor]:
        return [torch.as_tensor(call(s, t)).float() for s, t in pairs.views]

    return run


def cosine(source: GraphView, target: GraphView) -> Tensor:
    assert source.x is not None and target.x is not None
    x, y = (v.x / v.x.norm(dim=1, keepdim=True).clamp(min=1e-8)
            for v in (source, target))
    return x @ y.t()


def reach(view: GraphView, hops: int) -> np.ndarray:
    return (hop_edges(view, hops, None, 1.)[0, ..., 0] > 0).double().numpy()


def hungarian(source: GraphView, target: GraphView) -> np.ndarray:
    score = cosine(source, target).numpy()
    out = np.zeros_like(score)
    out[linear_sum_assignment(score, maximize=True)] = 1
    return out


def published(source: GraphView, target: GraphView) -> np.ndarray:
    """The node transport of EEGA as its code has it, for a batch of one:
    cost cut at 0.1, IPOT in plain numbers, 20 steps, all nodes alike.
    """
    cost = 1 - cosine(source, target).t().numpy()
    low = cost.min() + 0.1 * (cost.max() - cost.min())
    kernel = np.exp(-np.maximum(cost - low, 0) / 0.5)
    k, n = cost.shape
    plan, sigma = np.ones((k, n)), np.full((n, 1), 1 / n)
    for _ in range(20):
        q = kernel * plan
        delta = 1 / (k * (q @ sigma))
        sigma = 1 / (n * (q.T @ delta))
        plan = delta * q * sigma.T
    return plan.T


def peers() -> list[Method]:
    """The installed ones; a missing one is a method that says so."""
    out = [
        Method('cosine', each(cosine)),
        Method('Hungarian (SciPy)', each(hungarian)),
        Method('EEGA transport, as published', each(published)),
    ]
    try:
        ot = importlib.import_module('ot')
        importlib.import_module('ot.batch')
    except ImportError:
        out.append(Method('POT', missing('pot')))
    else:
        def semi(hops: int, alpha: float) -> Callable[..., Any]:
            def call(source: GraphView, target: GraphView) -> Any:
                m = target.num_nodes
                plan = ot.gromov.semirelaxed_fused_gromov_wasserstein(
                    1 - cosine(target, source).double().numpy(),
                    reach(target, 1), reach(source, hops),
                    p=np.full(m, 1 / m), alpha=alpha, symmetric=True)
                return plan.T
            return call

        def batched(pairs: Pairs) -> list[Tensor]:
            found = []
            for i in range(0, len(pairs.views), BATCH):
                some = pairs.views[i:i + BATCH]
                c_s = torch.from_numpy(np.stack(
                    [reach(s, 3) for s, _ in some])).float()
                c_t = torch.from_numpy(np.stack(
                    [reach(t, 1) for _, t in some])).float()
                cost = torch.stack([1 - cosine(s, t) for s, t in some])
                found += list(ot.batch.solve_gromov_batch(
                    c_s, c_t, M=cost, alpha=0.5, symmetric=True).plan)
            return found

        def linear(pairs: Pairs) -> list[Tensor]:
            found = []
            for i in range(0, len(pairs.views), BATCH):
                some = pairs.views[i:i + BATCH]
                cost = torch.stack([1 - cosine(s, t) for s, t in some])
                found += list(ot.batch.solve_batch(cost, reg=0.05).plan)
            return found

        out += [
            Method('POT semi-relaxed FGW, tree, alpha 0.1',
                   each(semi(1, 0.1))),
            Method('POT semi-relaxed FGW, 3 hops, alpha 0.5',
                   each(semi(3, 0.5))),
            Method('POT semi-relaxed FGW, 3 hops, alpha 0.1',
                   each(semi(3, 0.1))),
            Method('ot.batch FGW, 3 hops', batched, limit=2 * BATCH),
            Method('ot.batch Sinkhorn', linear),
        ]
    try:
        pygm = importlib.import_module('pygmtools')
    except ImportError:
        out.append(Method('pygmtools', missing('pygmtools')))
    else:
        pygm.set_backend('numpy')

        def rrwm(source: GraphView, target: GraphView) -> Any:
            node = cosine(source, target).double().numpy()
            n, m = node.shape
            a, b = reach(source, 3), reach(target, 1)
            # Column-major: entry (j n + i, l n + k) joins (i, j) and (k, l).
            affinity = np.kron(b, a)
            np.fill_diagonal(affinity, 0)
            affinity[np.diag_indices(n * m)] = np.maximum(
                node, 0).T.reshape(-1) * 10  # as many as edges
            return pygm.rrwm(affinity, n, m)

        def scaled(source: GraphView, target: GraphView) -> Any:
            score = cosine(source, target).numpy()
            return pygm.sinkhorn(score.T, tau=0.05, dummy_row=True).T

        out += [
            Method('pygmtools RRWM', each(rrwm), limit=20),
            Method('pygmtools Sinkhorn', each(scaled)),
        ]
    return out


def missing(name: str) -> Callable[[Pairs], list[Tensor]]:
    def run(pairs: Pairs) -> list[Tensor]:
        raise ImportError(f'{name} is not installed')

    return run


def methods() -> list[Method]:
    return [
        ours('EdgeEnhancedAligner', EdgeEnhancedAligner()),
        ours('EdgeEnhancedAligner, unmatched=2',
             EdgeEnhancedAligner(unmatched=2.)),
        ours("EdgeEnhancedAligner, edge_cost='type'",
             EdgeEnhancedAligner(edge_cost='type', num_edge_types=8),
             labels=True),
        ours("EdgeEnhancedAligner, edge_cost='attr'",
             EdgeEnhancedAligner(edge_cost='attr'), labels=True),
        ours('EdgeEnhancedAligner, semi-relaxed',
             EdgeEnhancedAligner(marginals='semi_relaxed'), False),
        ours('EdgeEnhancedAligner.eega()', EdgeEnhancedAligner.eega(), False),
        ours('TransportAligner', TransportAligner()),
        ours('TransportAligner, unmatched=2', TransportAligner(unmatched=2.)),
        ours('TransportAligner, IPOT',
             TransportAligner(solver='ipot', marginals='balanced'), False),
        *peers(),
    ]


# Measures ####################################################################


def accuracy(scores: list[Tensor], gold: list[Tensor]) -> tuple[float, float]:
    first, lap, total = 0, 0, 0
    for score, word in zip(scores, gold):
        real = word >= 0
        first += int((score.argmax(0)[real] == word[real]).sum())
        row, col = linear_sum_assignment(score.numpy(), maximize=True)
        found = torch.full_like(word, -2)
        found[torch.from_numpy(col)] = torch.from_numpy(row)
        lap += int((found[real] == word[real]).sum())
        total += int(real.sum())
    return first / max(total, 1), lap / max(total, 1)


def lacks(scores: list[Tensor], gold: list[Tensor], partial: bool,
          dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The sign that a node of one side has no partner, and whether it has."""
    sign, alone = [], []
    for score, word in zip(scores, gold):
        if 0 in score.shape:
            continue
        sign.append(1 - score.sum(dim) if partial else -score.amax(dim))
        if dim == 0:
            alone.append(word < 0)
        else:
            free = torch.ones(score.size(0), dtype=torch.bool)
            free[word[word >= 0]] = False
            alone.append(free)
    return torch.cat(sign).numpy(), torch.cat(alone).numpy()


def auroc(sign: np.ndarray, alone: np.ndarray) -> float | None:
    if alone.all() or not alone.any():
        return None
    _, place, count = np.unique(sign, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    k = alone.sum()
    return float((rank[alone].sum() - k * (k + 1) / 2) / k / (~alone).sum())


def ece(probability: np.ndarray, alone: np.ndarray) -> float:
    bins = np.minimum((probability * 10).astype(int), 9)
    return float(sum(abs(probability[bins == b].sum() - alone[bins == b].sum())
                     for b in range(10)) / len(alone))


def cpu(call: Callable[[], object], seconds: float) -> float:
    """CPU seconds of a call, the least of the repeats that fit."""
    call()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def backward_ms(aligner: Aligner, pairs: Pairs, size: int,
                seconds: float) -> tuple[float, float]:
    """Forward without gradient, and forward with backward, a pair."""
    views = pairs.views
    while len(views) < size:
        views = views + views
    source, target = join(views[:size])
    assert source.x is not None and target.x is not None
    x, y = (v.x.clone().requires_grad_() for v in (source, target))

    def forward() -> None:
        with torch.no_grad():
            aligner(source, target)

    def both() -> None:
        out = aligner(source._replace(x=x), target._replace(x=y))
        assert out.loss is not None
        out.loss.backward()

    with mmgraph.checks(False):
        return (1e3 * cpu(forward, seconds) / size,
                1e3 * cpu(both, seconds) / size)


def measure(method: Method, pairs: Pairs, seconds: float) -> dict[str, Any]:
    some = Pairs(pairs.views[:method.limit], pairs.gold[:method.limit],
                 pairs.labels)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        scores = method.run(some)
    spent = time.process_time() - start
    scores = [score.detach().float() for score in scores]
    first, lap = accuracy(scores, some.gold)
    row: dict[str, Any] = dict(argmax=first, lap=lap,
                               ms=1e3 * spent / len(some.views))
    for name, dim in (('object', 0), ('word', 1)):
        sign, alone = lacks(scores, some.gold, method.partial, dim)
        row[f'auroc_{name}'] = auroc(sign, alone)
        if method.partial:
            row[f'ece_{name}'] = ece(sign.clip(0, 1), alone)
    if method.backward is not None:
        row['ms'], row['ms_backward'] = backward_ms(
            method.backward, pairs, BATCH, seconds)
    return row


# The run #####################################################################


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    real = [value for value in values if value is not None]
    if not real:
        return ''
    text = f'{statistics.mean(real):.{digits}f}'
    if len(real) > 1:
        text += f' ± {statistics.stdev(real):.{digits}f}'
    return text


def plot(table: list[dict[str, Any]], path: Path) -> None:
    """Accuracy against time, on the first set of pairs."""
    try:
        matplotlib = importlib.import_module('matplotlib')
        matplotlib.use('Agg')
        plt = importlib.import_module('matplotlib.pyplot')
    except ImportError:
        return
    figure, axis = plt.subplots(figsize=(8, 5))
    for row in table:
        if row['set'] != table[0]['set'] or 'argmax' not in row:
            continue
        mine = 'Aligner' in row['method']
        x, y = (statistics.mean(row[key]) for key in ('ms', 'argmax'))
        axis.scatter(x, y, color='C3' if mine else 'C0')
        axis.annotate(row['method'], (x, y), fontsize=6, xytext=(4, 2),
                      textcoords='offset points')
    axis.set(xscale='log', xlabel='CPU milliseconds a pair',
             ylabel='objects with the right word', title=table[0]['set'])
    axis.margins(x=0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--quick', action='store_true',
                        help='two seeds, few pairs, two of the sets; nothing '
                        'is written')
    parser.add_argument('--seeds', type=int, default=None,
                        help='number of seeds (default: 5, or 2 with --quick)')
    parser.add_argument('--pairs', type=int, default=None,
                        help='pairs a seed (default: 256, or 40 with --quick)')
    parser.add_argument('--output', type=Path, default=None,
                        help='JSON file (default: the recorded result, or '
                        'none with --quick); the plot goes beside it')
    args = parser.parse_args()
    if args.output is None and not args.quick:
        args.output = RESULT
    for name, value in (('seeds', 2 if args.quick else 5),
                        ('pairs', 40 if args.quick else 256)):
        if getattr(args, name) is None:
            setattr(args, name, value)
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1 '
                         f'(got {getattr(args, name)})')
    return args


def main() -> int:
    args = parse_args()
    torch.set_num_threads(1)
    seconds = 0.02 if args.quick else 0.15
    num_train = 300 if args.quick else 2000
    sets: dict[str, Callable[[int], Pairs]] = {
        'planted, 30 words, 10 objects':
            lambda seed: planted(args.pairs, seed),
        'planted, half of 20 words unmatched':
            lambda seed: planted(args.pairs, seed, num_words=20),
        'planted, 30 % of objects unmatched':
            lambda seed: planted(args.pairs, seed, unmatched=0.3),
        'SyntheticPosts, detector noise 0.1':
            lambda seed: synthetic(args.pairs, seed, 0.1, num_train),
        'SyntheticPosts, detector noise 0.5':
            lambda seed: synthetic(args.pairs, seed, 0.5, num_train),
    }
    if args.quick:
        sets = {title: make for title, make in sets.items()
                if title.endswith(('10 objects', '0.1'))}
    table: list[dict[str, Any]] = []
    timing: list[dict[str, Any]] = []
    for title, make in sets.items():
        data = [make(seed) for seed in range(args.seeds)]
        for method in methods():
            if method.labels and not data[0].labels:
                continue
            row: dict[str, Any] = dict(set=title, method=method.name)
            try:
                found = [measure(method, pairs, seconds) for pairs in data]
            except (ImportError, RuntimeError, ValueError) as error:
                row['error'] = (str(error).splitlines() or ['?'])[0][:WIDTH]
            else:
                row |= {key: [one[key] for one in found] for key in found[0]}
            table.append(row)
            print(f"{title}: {method.name}: "
                  f"{row.get('error') or spread(row['argmax'])}",
                  file=sys.stderr)
        if title == next(iter(sets)):
            for method in methods()[:3] + methods()[5:7]:
                assert method.backward is not None
                for size in (1, 4, 16, 64, 256, 1024):
                    forward, both = backward_ms(method.backward, data[0],
                                                size, seconds)
                    timing.append(dict(method=method.name, batch=size,
                                       ms=forward, ms_backward=both))
                    print(f'{method.name}: {size} pairs: {forward:.3f} ms, '
                          f'{both:.3f} ms', file=sys.stderr)
    columns = dict(argmax='argmax', lap='LAP', auroc_object='AUROC objects',
                   ece_object='ECE objects', auroc_word='AUROC words',
                   ece_word='ECE words', ms='ms', ms_backward='ms, backward')
    result = dict(
        benchmark='aligners_pairs', quick=args.quick,
        title='Aligners of tiny pairs',
        columns=['pairs', 'method', *columns.values()],
        rows=[[row['set'], row['method'],
               *(spread(row.get(key, [])) for key in columns)]
              if 'error' not in row else
              [row['set'], row['method'], f"not run: {row['error']}",
               *[''] * (len(columns) - 1)]
              for row in table],
        notes=[f'Mean ± standard deviation over {args.seeds} seeds of '
               f'{args.pairs} pairs; CPU milliseconds a pair, one thread, '
               f'batches of {BATCH} where a method takes them. Settings of '
               f'ours were chosen on other seeds.'],
        measured=table, timing=timing,
        machine=dict(processor=platform.machine(), threads=1,
                     python=platform.python_version(),
                     torch=torch.__version__, mmgraph=mmgraph.__version__))
    for line in result['rows']:  # type: ignore[attr-defined]
        print(' | '.join(line))
    if args.output is not None:
        write_json(args.output, result)
        write_json(args.output.with_stem(f'{args.output.stem}_batches'), dict(
            title='Aligners of tiny pairs: CPU milliseconds a pair, forward '
                  'and with backward, by the size of the batch',
            columns=['method', 'pairs in a batch', 'ms', 'ms, backward'],
            rows=[[row['method'], str(row['batch']), f"{row['ms']:.3f}",
                   f"{row['ms_backward']:.3f}"] for row in timing]))
        plot(table, args.output.with_suffix('.png'))
        print(f'wrote {args.output}', file=sys.stderr)
    return 0


if __name__ == '__main__':
    sys.exit(main())
