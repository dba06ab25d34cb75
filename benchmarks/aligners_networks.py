r"""Aligners on pairs of real networks: ours and others', same pairs, same
decoders, same budget, in the same run.

Every (method, pair, seed) is a process of its own with one thread and a
budget of CPU seconds and memory; a method that exceeds it stays in the tables
as stopped. A seed draws the noise, the numbering of the target network, the
known matches and what the method itself draws. Imports and a first call on a
tiny pair do not count.

Each run is written at once, and runs that are there already are skipped, so
the script can be stopped and started again. A run is repeated if the method's
settings, its code (ours: what is left of the source without comments and
docstrings; others': version or commit) or the pair itself have changed.

    python -m benchmarks.aligners_networks --pairs main --seeds 0 1 2
    python -m benchmarks.aligners_networks --methods 'scipy*' --pairs arenas-5
    python -m benchmarks.aligners_networks --render       # tables and plots
    python -m benchmarks.aligners_networks --quick        # tiny, no data

Peers that are not on the package index are looked for in the folder
``--peers`` (or ``$MMGRAPH_PEERS``); see ``benchmarks/peers``.
"""
import argparse
import ast
import contextlib
import fnmatch
import hashlib
import importlib
import inspect
import io
import json
import multiprocessing
import os
import platform
import resource
import signal
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import scipy.sparse as sp
import torch
from torch_geometric.transforms import Compose
from torch_geometric.utils import erdos_renyi_graph, to_undirected
from tqdm import tqdm

import mmgraph
from benchmarks.common import (
    reset_peak,
    show,
    status_field,
    write_json,
)
from benchmarks.peers.network_aligners import PEERS, NotInstalled, Problem
from mmgraph.data import GraphPair
from mmgraph.datasets import NetworkAlignment
from mmgraph.metrics import alignment as metrics
from mmgraph.nn import align
from mmgraph.nn.align import Aligner, Alignment
from mmgraph.transforms import DropEdges, PermutedCopy
from mmgraph.utils import data_dir

RESULTS = Path(__file__).parent / 'results'
STEM = 'aligners_networks'
#: Pairs with more scores are judged by the best so many of each node.
LARGE, KEPT = 2**25, 50
#: What to take where structure is all there is.
DEFAULT = 'Quadratic'
#: The row of :func:`bound`.
BOUND = 'bound'


# The pairs ###################################################################


class Pair(NamedTuple):
    """One pair of networks; what is drawn is drawn by the seed of a run."""
    name: str
    level: int | None = None
    drop: float = 0.0  # share of target edges that is dropped
    known: float = 0.0  # share of matches that is given
    features: bool = False

    def build(self, seed: int, data: Path | None) -> tuple[GraphPair,
                                                           torch.Tensor]:
        """The pair, its test matches in it, and the known matches."""
        if self.name == 'random':  # needs no data
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                edges = to_undirected(erdos_renyi_graph(60, 0.1))
            pair = GraphPair(edge_index_s=edges, edge_index_t=edges,
                             num_nodes_s=60, num_nodes_t=60,
                             match_index=torch.arange(60).repeat(2, 1))
        elif data is None:
            raise SystemExit("error: 'MMGRAPH_DATA' is not set; set it or "
                             'pass --data, or try --quick')
        else:
            pair = NetworkAlignment(data, self.name, level=self.level)[0]
        noise = [DropEdges(self.drop, seed=seed)] if self.drop else []
        pair = Compose([*noise, PermutedCopy(seed=seed)])(pair)
        if not self.features:
            pair.x_s = pair.x_t = None
        gold = pair.match_index
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(gold.size(1), generator=generator)
        gold = gold[:, order]
        count = round(self.known * gold.size(1))
        pair.match_index = gold[:, count:]
        return pair, gold[:, :count]


def dropped(name: str, network: str, levels: Iterable[int]) -> dict[str, Pair]:
    return {f'{name}-{level}': Pair(network, drop=level / 100)
            for level in levels}


#: Pairs by group. ``x-5`` is a network and a permuted copy without 5 % of its
#: edges, ``x-90`` one with 90 % of them, ``x+10`` one with 10 % more, and
#: ``x (20)`` tells 20 % of the matches.
GROUPS: dict[str, dict[str, Pair]] = {
    'main': {
        'arenas-5': Pair('arenas_base', drop=0.05),
        'celegans-5': Pair('bio-celegans', drop=0.05),
        'netscience-5': Pair('ca-netscience', drop=0.05),
        'highschool-90': Pair('highschool', 90),
        'voles-90': Pair('voles', 90),
        'multimagna+10': Pair('multimagna', 10),
    },
    'noise': {
        **dropped('arenas', 'arenas_base', (0, 1, 10, 25)),
        **dropped('celegans', 'bio-celegans', (0, 1, 10, 25)),
        **dropped('netscience', 'ca-netscience', (0, 1, 10, 25)),
    },
    'more': {
        'arenas_shipped': Pair('arenas_shipped'),
        'arenas_walign': Pair('arenas_walign'),
        'highschool-80': Pair('highschool', 80),
        'voles-80': Pair('voles', 80),
        **{f'multimagna+{level}': Pair('multimagna', level)
           for level in (5, 15, 20, 25)},
    },
    'seeded': {
        'arenas-5 (20)': Pair('arenas_base', drop=0.05, known=0.2),
        'phone_email (20)': Pair('phone_email', known=0.2),
        'cora, x': Pair('cora', features=True),
        'cora, x (20)': Pair('cora', known=0.2, features=True),
        'foursquare_twitter (20)': Pair('foursquare_twitter', known=0.2),
        'acm_dblp, x': Pair('acm_dblp', features=True),
        'acm_dblp, x (20)': Pair('acm_dblp', known=0.2, features=True),
    },
    'quick': {'random': Pair('random', drop=0.02)},
}
PAIRS = {name: pair for group in GROUPS.values()
         for name, pair in group.items()}


# The methods #################################################################


def as_it_is(result: Any, pair: GraphPair) -> Any:
    return result


class Method(NamedTuple):
    """What is compared.

    Args:
        load: Called in the process of a run; returns what is timed, a
            function of what ``prepare`` made of the pair, the known matches
            and the seed. ``finish`` turns its result into an alignment.
        settings: What it is run with.
        code: What tells its version.
        seeds: Whether it takes known matches: 'no', 'can' or 'must'.
        features: Whether it takes node attributes, likewise.
        ranks: Whether it scores pairs; a mapping has no second candidates.
    """
    load: Callable[[], Callable[[Any], Any]]
    prepare: Callable[[GraphPair, torch.Tensor, int], Any]
    finish: Callable[[Any, GraphPair], Alignment]
    settings: dict[str, Any]
    code: str
    seeds: str = 'no'
    features: str = 'no'
    ranks: bool = True

    def suits(self, pair: Pair) -> bool:
        return not (self.seeds == 'must' and not pair.known
                    or self.features == 'must' and not pair.features)


def part(name: str, **kwargs: Any) -> Callable[[], Aligner]:
    """An aligner that is built when it is needed."""
    def build() -> Aligner:
        return getattr(align, name)(**{
            key: value() if callable(value) else value
            for key, value in kwargs.items()})

    return build


def regal(**kwargs: Any) -> Callable[[], Aligner]:
    return part('StructuralAligner', **{'top_k': None, **kwargs})


def refined(inner: Callable[[], Aligner]) -> Callable[[], Aligner]:
    return part('RefinedAligner', aligner=inner)


class Ours(NamedTuple):
    """An aligner of ours. What is learned is learned from the known matches;
    ``build`` then takes the number of features.
    """
    build: Callable[..., Aligner]
    seeds: str = 'can'  # given where an aligner takes them
    features: str = 'can'
    epochs: tuple[int, int] | None = None  # without and with consensus


def consensus(num_features: int = 1) -> Aligner:
    """As the paper does with knowledge graphs, at half the width."""
    return align.ConsensusAligner(
        align.RelationalGNN(num_features, 128, 128, 3),
        align.RelationalGNN(32, 32, 32, 3), top_k=10)


def train(aligner: Aligner, epochs: tuple[int, int], views: Any,
          seeds: torch.Tensor, generator: torch.Generator) -> Alignment:
    """First the features, then, with these held fixed, the consensus."""
    steps, aligner.num_steps = aligner.num_steps, 0
    optimizer = torch.optim.Adam(aligner.parameters(), lr=1e-3)
    for epoch in range(sum(epochs)):
        if epoch == epochs[0]:
            aligner.num_steps, aligner.detach = steps, True
        optimizer.zero_grad()
        aligner(*views, seeds=seeds, generator=generator).loss.backward()
        optimizer.step()
    with torch.no_grad():
        return aligner.eval()(*views, seeds=seeds, generator=generator)


OURS: dict[str, Ours] = {
    'Degree': Ours(part('DegreeAligner')),
    'Attribute': Ours(part('AttributeAligner'), features='must'),
    'REGAL': Ours(regal()),
    'REGAL, top 10': Ours(regal(top_k=10, ties='first')),
    'IsoRank': Ours(part('IsoRankAligner')),
    'IsoRank, x': Ours(part('IsoRankAligner', prior='attribute'),
                       features='must'),
    'FINAL': Ours(part('FinalAligner')),
    'CONE': Ours(part('ConeAligner')),
    'GRASP': Ours(part('GraspAligner')),
    'FUGAL': Ours(part('FugalAligner')),
    'PARROT': Ours(part('ParrotAligner'), seeds='must'),
    'Transport': Ours(part('TransportAligner'), features='must'),
    'EdgeEnhanced': Ours(part('EdgeEnhancedAligner'), features='must'),
    'Consensus': Ours(consensus, seeds='must', features='must',
                      epochs=(50, 50)),
    'REGAL, refined': Ours(refined(regal(top_k=10, ties='first'))),
    'CONE, refined': Ours(refined(part('ConeAligner', top_k=10))),
    'PARROT, refined': Ours(refined(part('ParrotAligner')), seeds='must'),
    'Quadratic': Ours(part('QuadraticAligner')),
    'Quadratic, x': Ours(part('QuadraticAligner', attr_weight=1.0),
                         features='must'),
    'Quadratic, convex start': Ours(part(
        'QuadraticAligner', start='convex', num_soft=0, num_sweeps=0)),
    'Quadratic, flat start': Ours(part(
        'QuadraticAligner', start='flat', num_soft=0, num_sweeps=0)),
    'Quadratic, REGAL start': Ours(part(
        'QuadraticAligner', start=regal(), num_soft=0, num_sweeps=0)),
}


def our_method(name: str) -> Method:
    entry = OURS[name]
    aligner = entry.build()
    settings = aligner.get_config()
    if entry.epochs is not None:
        settings['epochs'] = list(entry.epochs)

    def prepare(pair: GraphPair, seeds: torch.Tensor, seed: int) -> Any:
        used = aligner
        if entry.epochs is not None:
            torch.manual_seed(seed)
            used = entry.build(pair.x_s.size(1))
        if pair.num_nodes_s * pair.num_nodes_t > LARGE:
            for module in used.modules():
                if getattr(module, 'top_k', 0) is None:
                    module.top_k = KEPT
        more = dict(generator=torch.Generator().manual_seed(seed))
        if aligner.takes_seeds and seeds.numel():
            more['seeds'] = seeds
        return used, (pair.source, pair.target), more

    def solve(given: Any) -> Alignment:
        used, views, more = given
        if entry.epochs is not None:
            return train(used, entry.epochs, views, **more)
        return used(*views, **more)

    return Method(lambda: solve, prepare, as_it_is, settings,
                  code_of(aligner), entry.seeds, entry.features)


def peer_method(name: str, peers: Path | None) -> Method:
    peer = PEERS[name]

    def finish(scores: np.ndarray, pair: GraphPair) -> Alignment:
        return as_alignment(scores, pair, peer.ranks)

    return Method(lambda: peer.load(peers), as_problem, finish,
                  peer.settings, peer.version(peers), peer.seeds,
                  peer.features, peer.ranks)


def as_problem(pair: GraphPair, seeds: torch.Tensor, seed: int) -> Problem:
    """The pair as the peers take it."""
    graphs = []
    for view in (pair.source, pair.target):
        edges, n = view.edge_index.numpy(), view.num_nodes
        matrix = sp.csr_array((np.ones(edges.shape[1]), tuple(edges)),
                              shape=(n, n))
        matrix.data[:] = 1
        graphs.append(matrix)
    x = [None if x is None else x.numpy() for x in (pair.get('x_s'),
                                                    pair.get('x_t'))]
    return Problem(*graphs, *x, seeds=seeds.numpy(), seed=seed)


def as_alignment(scores: np.ndarray, pair: GraphPair,
                 ranks: bool) -> Alignment:
    """What a peer found as an alignment; a mapping lists its pairs only."""
    source, target = pair.source, pair.target
    scores = np.nan_to_num(scores, nan=0.0)
    if not ranks:
        row, col = np.nonzero(scores)
    elif scores.size > LARGE:
        col = np.argpartition(-scores, KEPT, axis=1)[:, :KEPT]
        row = np.repeat(np.arange(len(scores)), KEPT)
        col = np.sort(col, axis=1).ravel()
    else:
        return Alignment.from_dense(
            torch.from_numpy(scores.astype(np.float64)).unsqueeze(0), source,
            target)
    return Alignment(
        torch.from_numpy(np.stack([row, col])),
        torch.from_numpy(scores[row, col].astype(np.float64)), source.ptr,
        target.ptr)


def code_of(aligner: Aligner) -> str:
    """A hash of the source that an aligner runs: the modules of its parts and
    what they import of the same package, without comments and docstrings. The
    base classes, whose contract is fixed, are left out.
    """
    root = 'mmgraph.nn.align'
    base = {root, f'{root}.base', f'{root}.dense'}
    todo = {type(module).__module__ for module in aligner.modules()}
    done: dict[str, str] = {}
    while todo:
        name = todo.pop()
        if name in done or name in base or not name.startswith(root):
            continue
        module = importlib.import_module(name)
        tree = ast.parse(inspect.getsource(module))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                todo.add(node.module)
            body = getattr(node, 'body', None)
            if (isinstance(body, list) and body
                    and isinstance(body[0], ast.Expr)
                    and isinstance(body[0].value, ast.Constant)):
                body[0] = ast.Pass()
        done[name] = ast.unparse(tree)
    text = '\n'.join(done[name] for name in sorted(done))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def methods(peers: Path | None) -> dict[str, Method | str]:
    """All methods by name; for one that is not there, what is missing."""
    found: dict[str, Method | str] = {}
    for name in OURS:
        try:
            found[name] = our_method(name)
        except Exception as error:
            found[name] = f'{type(error).__name__}: {error}'
    for name in PEERS:
        found[name] = peer_method(name, peers)
    return found


# One run #####################################################################


class Budget(NamedTuple):
    seconds: float
    gigabytes: float


def cpu() -> float:
    """CPU seconds of this process and of those it has waited for."""
    used = [resource.getrusage(who)
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in used)


def measure(method: Method, pair: GraphPair, seeds: torch.Tensor, seed: int,
            budget: Budget) -> dict[str, Any]:
    """Aligns and decodes one pair."""
    solve = method.load()
    tiny, known = tiny_pair(pair, seeds)
    limit(budget)
    with contextlib.suppress(Exception):  # a tiny pair may be too tiny
        method.finish(solve(method.prepare(tiny, known, seed)),
                      tiny).match('lap')
    given = method.prepare(pair, seeds, seed)
    limit(budget)
    reset_peak()
    before = status_field('VmRSS')
    start = cpu()
    result = solve(given)
    seconds = cpu() - start
    memory = status_field('VmHWM') - before
    alignment = method.finish(result, pair)
    start = cpu()
    decoded = alignment.match('lap')
    return dict(
        seconds=round(seconds, 4), decode_seconds=round(cpu() - start, 4),
        memory=memory, **score(alignment, decoded, pair, method.ranks))


def score(alignment: Alignment, decoded: Alignment, pair: GraphPair,
          ranks: bool) -> dict[str, float | None]:
    """All that is said of a result; source nodes look for their targets."""
    gold = pair.match_index
    hits, mrr = None, None
    if ranks:
        hits = metrics.hits_at_k(alignment, gold, 10, side='source')
        mrr = metrics.mean_reciprocal_rank(alignment, gold, side='source')
    return dict(
        argmax=metrics.match_accuracy(alignment, gold, side='source')[0],
        lap=metrics.match_accuracy(decoded, gold, side='source')[0],
        hits10=hits, mrr=mrr,
        ec=metrics.edge_correctness(decoded, pair.source, pair.target))


def tiny_pair(pair: GraphPair, seeds: torch.Tensor) -> tuple[GraphPair,
                                                             torch.Tensor]:
    """A pair of 60 nodes with whatever the real one has."""
    tiny, _ = Pair('random').build(0, None)
    known = torch.empty(2, 0, dtype=torch.long)
    if seeds.numel():
        known = tiny.match_index[:, :12]
    for key in 'x_s', 'x_t':
        x = pair.get(key)
        if x is not None:
            tiny[key] = x[torch.arange(60) % x.size(0)]
    return tiny, known


def limit(budget: Budget) -> None:
    """Stops this process where it exceeds the budget, from here on."""
    room = status_field('VmData') + int(budget.gigabytes * 2**30)
    for what, most in ((resource.RLIMIT_CORE, 0),
                       (resource.RLIMIT_CPU, int(cpu() + budget.seconds) + 1),
                       (resource.RLIMIT_DATA, room)):
        resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


def worker(pipe: Connection, *args: Any) -> None:
    """The process of one run."""
    torch.set_num_threads(1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        pipe.send(dict(status='ok', **measure(*args)))
    except NotInstalled as error:
        pipe.send(dict(status='not installed', why=str(error)))
    except Exception as error:
        # PyTorch says so with an error of its own.
        full = (isinstance(error, MemoryError)
                or 'allocate' in str(error).lower())
        pipe.send(dict(
            status='over budget: memory' if full else 'failed',
            why=f'{type(error).__name__}: {error}'.splitlines()[0][:200]))


def run(*args: Any, budget: Budget) -> dict[str, Any]:
    """One run in a process of its own."""
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=worker, args=(theirs, *args, budget))
    process.start()
    theirs.close()
    result = None
    # Wall time, on a machine that others use too.
    if ours.poll(20 * budget.seconds + 600):
        with contextlib.suppress(EOFError):
            result = ours.recv()
    else:
        process.kill()
    process.join()
    if result is not None:
        return result
    if process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL):
        return dict(status='over budget: time')
    return dict(status='failed', why=f'exit code {process.exitcode}')


def bound(pair: GraphPair) -> dict[str, Any]:
    """What no method can exceed on average, from one thing alone: nodes of a
    graph with the same neighbours can change places without any trace, so
    the best that is left is to guess among them. Also, the edge correctness
    of the true matches.
    """
    shares = []
    for view in (pair.source, pair.target):
        near: dict[int, set[int]] = {}
        for u, v in view.edge_index.t().tolist():
            near.setdefault(u, set()).add(v)
        size = dict.fromkeys(range(view.num_nodes), 1)
        for closed in False, True:  # not joined to each other, and joined
            groups: dict[frozenset[int], list[int]] = {}
            for u in range(view.num_nodes):
                key = frozenset(near.get(u, set()) | ({u} if closed else set()))
                groups.setdefault(key, []).append(u)
            for nodes in groups.values():
                if len(nodes) > 1:
                    size.update(dict.fromkeys(nodes, len(nodes)))
        gold = pair.match_index[len(shares)].tolist()
        shares.append(statistics.mean(1 / size[u] for u in gold))
    truth = Alignment(pair.match_index, torch.ones(pair.match_index.size(1)),
                      pair.source.ptr, pair.target.ptr)
    return dict(
        status='ok', argmax=min(shares), lap=min(shares), hits10=None,
        mrr=None, seconds=0, decode_seconds=0, memory=0,
        ec=metrics.edge_correctness(truth, pair.source, pair.target))


# Records #####################################################################


def fingerprint(pair: GraphPair, seeds: torch.Tensor) -> str:
    """A hash of everything that a method sees of a pair."""
    digest = hashlib.sha256(seeds.numpy().tobytes())
    for key in ('edge_index_s', 'edge_index_t', 'match_index', 'x_s', 'x_t'):
        value = pair.get(key)
        if value is not None:
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:10]


def identity(name: str, method: Method, pair: str, seed: int,
             digest: str) -> dict[str, Any]:
    """What a run is known by."""
    return dict(method=name, pair=pair, seed=seed, settings=method.settings,
                code=method.code, input=digest)


class Records:
    """All runs, in a file that is written after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: list[dict[str, Any]] = []
        if path.is_file():
            self.runs = json.loads(path.read_text(encoding='utf-8'))['runs']

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The run with this identity; one under another budget counts."""
        key = json.loads(json.dumps(key))
        for item in self.runs:
            if all(item.get(name) == value for name, value in key.items()):
                return item
        return None

    def add(self, key: dict[str, Any], result: dict[str, Any]) -> None:
        same = 'method', 'pair', 'seed'
        others = [item for item in self.runs
                  if any(item[name] != key[name] for name in same)]
        if result['status'] == 'not installed' and len(others) < len(
                self.runs):
            return  # What was run where it is installed stays.
        self.runs = [*others, {**key, **result}]
        self.save()

    def save(self) -> None:
        order = list(PAIRS)
        self.runs.sort(key=lambda item: (
            order.index(item['pair']) if item['pair'] in order else 99,
            item['method'], item['seed']))
        write_json(self.path, dict(
            benchmark=STEM, versions=versions(), runs=self.runs))


def versions() -> dict[str, str]:
    return dict(
        mmgraph=mmgraph.__version__, torch=torch.__version__,
        numpy=np.__version__, scipy=scipy.__version__,
        python=platform.python_version(), system=platform.system(),
        machine=platform.machine())


def run_all(args: argparse.Namespace, records: Records) -> None:
    """Runs what is asked for and not there yet."""
    jobs = []
    for name, method in args.methods.items():
        if isinstance(method, str):
            print(f'left out: {name} ({method})', file=sys.stderr)
    for pair in args.pairs:
        for name, method in args.methods.items():
            if isinstance(method, str):
                continue
            if method.suits(PAIRS[pair]):
                jobs += [(pair, name, seed) for seed in args.seeds]
    for pair in args.pairs:
        if PAIRS[pair].known or PAIRS[pair].features:
            continue  # Then equal neighbours do not make nodes equal.
        for seed in args.seeds:
            graphs, seeds = PAIRS[pair].build(seed, args.data)
            key = dict(method=BOUND, pair=pair, seed=seed, settings={},
                       code='', input=fingerprint(graphs, seeds))
            if records.find(key) is None:
                records.add(key, bound(graphs))
    bar = tqdm(jobs, unit='run', dynamic_ncols=True, disable=None,
               smoothing=0.05)
    built: dict[tuple[str, int], Any] = {}
    for pair, name, seed in bar:
        bar.set_postfix_str(f'{name} on {pair}, seed {seed}')
        if (pair, seed) not in built:
            built = {key: value for key, value in built.items()
                     if key[0] == pair}
            built[pair, seed] = PAIRS[pair].build(seed, args.data)
        graphs, seeds = built[pair, seed]
        method = args.methods[name]
        key = identity(name, method, pair, seed, fingerprint(graphs, seeds))
        known = records.find(key)
        again = any(fnmatch.fnmatch(name, pattern) for pattern in args.rerun)
        if known is not None and not again and not (
                known['status'] == 'not installed'
                or known['status'].startswith('over budget')
                and known['budget'][0] < args.budget_seconds):
            continue
        stopped = [item for item in records.runs
                   if item['method'] == name and item['pair'] == pair
                   and item['seed'] < seed and item['code'] == method.code
                   and item['status'].startswith('over budget')]
        budget = Budget(args.budget_seconds, args.budget_gigabytes)
        if stopped and stopped[0]['budget'][0] >= budget.seconds:
            result = dict(status=stopped[0]['status'],
                          why=f'as seed {stopped[0]["seed"]}; not tried')
        else:
            result = run(method, graphs, seeds, seed, budget=budget)
        records.add(key, {**result, 'budget': list(budget)})
        if bar.disable:
            text = ': '.join([result['status'], *([result['why']]
                                                 if 'why' in result else [])])
            if text == 'ok':
                text = f"{result['lap']:.3f}, {result['seconds']:.2f} s"
            print(f'{pair}, {name}, seed {seed}: {text}', flush=True)


# Tables and plots ############################################################


def grouped(runs: list[dict[str, Any]]) -> dict[tuple[str, str],
                                                list[dict[str, Any]]]:
    out: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in runs:
        out.setdefault((item['pair'], item['method']), []).append(item)
    return out


def trouble(group: Sequence[dict[str, Any]]) -> str:
    """What is written where a method has no figures on some seed."""
    for item in group:
        status = item['status']
        if status.startswith('over budget'):
            most = (f"{item['budget'][0]:g} s" if status.endswith('time')
                    else f"{item['budget'][1]:g} GiB")
            return f'stopped: over {most}'
        if status != 'ok':
            return status
    return ''


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean ± standard deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return '–'
    text = f'{statistics.mean(known):.{digits}f}'
    if len(known) > 1:
        text += f' ± {statistics.stdev(known):.{digits}f}'
    return text


def seconds_text(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    return f'{mean:.2f}' if mean < 10 else f'{mean:.0f}'


def column(group: Sequence[dict[str, Any]], key: str) -> list[Any]:
    return [item[key] for item in group if item['status'] == 'ok']


def accuracy_cell(group: Sequence[dict[str, Any]]) -> str:
    """Accuracy by LAP: mean and, if it is elsewhere, the worst seed."""
    if not group:
        return '–'
    if trouble(group):
        return trouble(group)
    values = column(group, 'lap')
    return f'{statistics.mean(values):.3f} (min {min(values):.3f})'


LEGEND = (
    'x-5: the network and a permuted copy without 5 % of its edges, no node '
    'isolated; x-90: with 90 % of its edges; x+10: with 10 % more (real '
    'noise: lower-confidence edges). A seed draws noise, numbering and what '
    'the method draws.')
SETTINGS = (
    'One setting a method on all pairs: published defaults for peers, ours '
    'as in benchmarks/aligners_networks.py. Methods marked * are of mmgraph. '
    'One thread, CPU seconds, every run a process of its own; imports and a '
    'first call on a tiny pair do not count. "Stopped" is over the budget of '
    'CPU time or memory.')


def matrix(title: str, pairs: Sequence[str], names: Sequence[str],
           groups: dict[Any, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Methods against pairs: accuracy by LAP, and the time of all pairs."""
    rows = []
    for name in names:
        found = [groups.get((pair, name), []) for pair in pairs]
        cells = [accuracy_cell(group) for group in found]
        if all(cell == '–' for cell in cells):
            continue
        total = '–'
        if name != BOUND and all(group and not trouble(group)
                                 for group in found):
            total = seconds_text([sum(
                statistics.mean(column(group, key)) for group in found
                for key in ('seconds', 'decode_seconds'))])
        rows.append([label(name), *cells, total])
    return dict(title=title, columns=['method', *pairs, 'CPU s in all'],
                rows=rows, notes=list(notes), versions=versions())


def label(name: str) -> str:
    return f'{name} *' if name in OURS else name


def detail(title: str, pairs: Sequence[str], names: Sequence[str],
           groups: dict[Any, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Every figure of every method on every pair."""
    rows = []
    for pair in pairs:
        for name in names:
            group = groups.get((pair, name), [])
            if not group:
                continue
            row = [pair, label(name), len(group)]
            if name == BOUND:
                rows.append([*row, '', spread(column(group, 'lap')), '', '',
                             '', spread(column(group, 'ec')), '', '', ''])
                continue
            if trouble(group):
                rows.append([*row, trouble(group), *[''] * 8])
                continue
            lap = column(group, 'lap')
            rows.append([
                *row, spread(column(group, 'argmax')), spread(lap),
                f'{min(lap):.3f}', spread(column(group, 'hits10')),
                spread(column(group, 'mrr')), spread(column(group, 'ec')),
                seconds_text(column(group, 'seconds')),
                seconds_text(column(group, 'decode_seconds')),
                f"{statistics.mean(column(group, 'memory')) / 2**20:.0f}"])
    return dict(
        title=title, rows=rows, notes=list(notes), versions=versions(),
        columns=['pair', 'method', 'seeds', 'argmax', 'LAP', 'LAP, worst',
                 'Hits@10', 'MRR', 'EC', 'CPU s', 'decoder CPU s',
                 'MiB more'])


def render(records: Records, args: argparse.Namespace) -> list[Path]:
    """Writes the tables and plots that the runs allow."""
    folder, groups = records.path.parent, grouped(records.runs)
    there = {pair for pair, _ in groups}
    names = [name for name in (BOUND, *OURS, *PEERS)
             if any(name == method for _, method in groups)]
    absent = [f'{name} ({method})' for name, method in args.all_methods.items()
              if isinstance(method, str)]
    peers = sorted({item['code'] for item in records.runs
                    if item['method'] in PEERS and item['code']})
    notes = [LEGEND, SETTINGS, f'Peers: {", ".join(peers)}.']
    never = [name for name in PEERS if any(
        item['method'] == name and item['status'] == 'not installed'
        for item in records.runs)]
    if never or absent:
        notes.append(f'Not installed or not there: '
                     f'{", ".join([*never, *absent])}.')
    notes.insert(1, (
        'The bound is what no method can exceed on average, since nodes with '
        'the same neighbours cannot be told apart (where there are other '
        'symmetries it is lower), with the edge correctness of the true '
        'matches. Luck with such nodes moves the mean of three seeds by '
        '0.01 or so, and over the bound.'))
    columns = (
        'Accuracy over source nodes with a known partner: argmax (credit is '
        'shared in ties) and LAP, the one-to-one matching with the highest '
        'sum of scores; the worst seed; Hits@10 and mean reciprocal rank '
        'with expected ranks in ties (not for methods that give a mapping '
        'only); edge correctness of the LAP matching; CPU seconds of the '
        'aligner and of the LAP decoder; peak memory above what the process '
        'held before.')

    def only(group: str) -> list[str]:
        return [pair for pair in GROUPS[group] if pair in there]

    written = []

    def write(suffix: str, table: dict[str, Any]) -> None:
        if table['rows']:
            path = folder / f'{STEM}{suffix}.json'
            write_json(path, table)
            written.append(path)
            show(table)

    structure = [*only('main'), *only('noise'), *only('more')]
    write('', matrix(
        'Aligners on networks, structure only: accuracy by LAP, mean and '
        'worst seed', only('main') or only('quick'), names, groups, notes))
    curve = [f'{network}-{level}' for network in ('arenas', 'celegans',
                                                  'netscience')
             for level in (0, 1, 5, 10, 25)]
    write('_noise', matrix(
        'Aligners under edge removal (x-p: p % of the edges): accuracy by '
        'LAP, mean and worst seed', [pair for pair in curve if pair in there],
        names, groups, notes[:3]))
    write('_more', matrix(
        'Aligners on further pairs, structure only: accuracy by LAP, mean '
        'and worst seed', only('more'), names, groups, notes[:3]))
    write('_seeded', detail(
        'Aligners on networks with node attributes (x) or known matches '
        '(20 %)', only('seeded'), names, groups, [columns, SETTINGS]))
    write('_columns', detail(
        'Aligners on networks, structure only: all figures (mean ± standard '
        'deviation)', structure, names, groups, [columns, *notes[:3]]))
    if len(there) > 1:
        written += plot(folder, groups, names)
    return written


def plot(folder: Path, groups: dict[Any, Any],
         names: Sequence[str]) -> list[Path]:
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from PIL import Image

    styles: dict[str, Any] = {BOUND: dict(color='grey', linestyle=':')}
    for kind, marker, line in ((OURS, 'o', '-'), (PEERS, 's', '--')):
        for i, name in enumerate(name for name in names if name in kind):
            styles[name] = dict(color=plt.get_cmap('tab20')(i % 20),
                                marker=marker, linestyle=line)
    if DEFAULT in styles:
        styles[DEFAULT]['color'] = 'black'
    written = []

    def finish(figure: Any, handles: dict[str, Any], suffix: str) -> None:
        figure.legend(handles.values(), [label(name) for name in handles],
                      loc='outside right upper', fontsize=7)
        path = folder / f'{STEM}_{suffix}.png'
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=90)
        plt.close(figure)
        image = Image.open(buffer).convert('RGB')
        image.quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)
        written.append(path)

    levels = (0, 1, 5, 10, 25)
    networks = [network for network in ('arenas', 'celegans', 'netscience')
                if any(pair.startswith(f'{network}-1') for pair, _ in groups)]
    if networks:
        figure, axes = plt.subplots(
            1, len(networks), figsize=(4 * len(networks) + 2.2, 4),
            sharey=True, squeeze=False, layout='constrained')
        handles: dict[str, Any] = {}
        for axis, network in zip(axes[0], networks):
            for name in names:
                points = [(level, statistics.mean(column(group, 'lap')))
                          for level in levels
                          if (group := groups.get(
                              (f'{network}-{level}', name)))
                          and not trouble(group)]
                if len(points) > 1:
                    handles[name], = axis.plot(*zip(*points), markersize=4,
                                               **styles[name])
            axis.set(title=network, xlabel='edges removed, %')
        axes[0, 0].set(ylabel='accuracy by LAP')
        finish(figure, handles, 'noise')

    pairs = [pair for pair in GROUPS['main']
             if any(pair == known for known, _ in groups)]
    if pairs:
        figure, axes = plt.subplots(
            2, 3, figsize=(12, 7), sharex=True, sharey=True,
            layout='constrained')
        handles = {}
        for axis, pair in zip(axes.flat, pairs):
            for name in names:
                group = groups.get((pair, name))
                if not group or trouble(group):
                    continue
                lap = column(group, 'lap')
                mean = statistics.mean(lap)
                if name == BOUND:
                    handles[name] = axis.axhline(mean, **styles[name])
                    continue
                seconds = [max(a + b, 1e-3) for a, b in zip(
                    column(group, 'seconds'),
                    column(group, 'decode_seconds'))]
                handles[name] = axis.errorbar(
                    [statistics.mean(seconds)], [mean],
                    yerr=[[mean - min(lap)], [max(lap) - mean]],
                    markersize=5, capsize=2,
                    color=styles[name]['color'],
                    marker=styles[name]['marker'], linestyle='')
            axis.set(title=pair, xscale='log')
        for axis in axes[1]:
            axis.set(xlabel='CPU seconds, decoder included')
        for axis in axes[:, 0]:
            axis.set(ylabel='accuracy by LAP (mean, range)')
        finish(figure, handles, 'seconds')
    return written


# The command line ############################################################


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--data', type=Path, default=data_dir(),
                        help='data folder (default: $MMGRAPH_DATA)')
    parser.add_argument('--peers', type=Path,
                        default=os.environ.get('MMGRAPH_PEERS'),
                        help='folder of peers (default: $MMGRAPH_PEERS)')
    parser.add_argument('--methods', nargs='+', default=['*'],
                        metavar='PATTERN', help='default: all')
    parser.add_argument('--pairs', nargs='+', metavar='PATTERN',
                        default=['main', 'noise', 'more', 'seeded'],
                        help=f'of {", ".join(PAIRS)}; or the groups '
                        f'{", ".join(GROUPS)}')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--rerun', nargs='+', default=[], metavar='PATTERN',
                        help='methods that are run again')
    parser.add_argument('--budget-seconds', type=float, default=300,
                        help='CPU seconds a run (default: 300)')
    parser.add_argument('--budget-gigabytes', type=float, default=8,
                        help='memory a run, GiB (default: 8)')
    parser.add_argument('--render', action='store_true',
                        help='run nothing; make tables and plots')
    parser.add_argument('--quick', action='store_true',
                        help='a tiny pair, one seed, 20 s a run')
    parser.add_argument('--list', action='store_true',
                        help='list methods and pairs')
    parser.add_argument('--output', type=Path, default=RESULTS,
                        help='folder of the results')
    args = parser.parse_args(argv)
    args.all_methods = methods(args.peers and Path(args.peers))
    args.methods = {name: method for name, method in args.all_methods.items()
                    if any(fnmatch.fnmatch(name, pattern)
                           for pattern in args.methods)}
    if args.quick:
        args.pairs, args.seeds, args.budget_seconds = ['quick'], [0], 20
        if args.output == RESULTS:
            args.output = None
    args.pairs = list(dict.fromkeys(
        pair for pattern in args.pairs for pair in (
            GROUPS[pattern] if pattern in GROUPS
            else fnmatch.filter(PAIRS, pattern))))
    if not args.pairs or not args.methods:
        parser.error('no such pair' if args.methods else 'no such method')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.list:
        for name, method in args.all_methods.items():
            print(name if isinstance(method, Method) else f'{name}: {method}')
        print('\n' + '\n'.join(PAIRS))
        return 0
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        if args.output is None:
            import tempfile
            args.output = Path(stack.enter_context(
                tempfile.TemporaryDirectory()))
        records = Records(args.output / f'{STEM}_runs.json')
        if not args.render:
            try:
                run_all(args, records)
            except KeyboardInterrupt:
                print('stopped; what was done is kept', file=sys.stderr)
        for path in render(records, args):
            print(f'written: {path.name}', file=sys.stderr)
    return 0


if __name__ == '__main__':
    sys.exit(main())
