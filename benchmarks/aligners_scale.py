r"""Aligners on pairs of growing networks: a graph of n nodes and a permuted
copy of it with 1 % of the edges removed, n from a thousand to a million.

Two random graphs: *barabasi-albert* (3 edges a new node; a few double edges
are merged) has hubs, *block-model* (10 equal communities, mean degree 10, of
which 8 inside) has none, and its nodes look much alike. Every method gives ten
targets a node, or one where it decides one-to-one.

Every run is a process of its own with one thread and a budget of CPU seconds
and of memory, and counts after imports and a first call on a tiny pair; peak
memory is that of the process, the graphs and PyTorch (0.4 GiB) included. A
method that exceeds its budget on a pair is not tried on larger ones. Each run
is written at once, and runs that are there already are skipped, so the script
can be stopped and started again.

    python -m benchmarks.aligners_scale --sizes 1000 10000 100000
    python -m benchmarks.aligners_scale --methods refined tree
    python -m benchmarks.aligners_scale --render          # tables and plots
    python -m benchmarks.aligners_scale --quick           # tiny, seconds
"""
import argparse
import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.transforms import Compose

from benchmarks.common import machine, processor, show, supervise, write_json
from mmgraph.data import GraphPair
from mmgraph.data.view import GraphView
from mmgraph.metrics.alignment import hits_at_k
from mmgraph.nn.align import Aligner, Alignment, StructuralAligner
from mmgraph.nn.align.degree import DegreeAligner
from mmgraph.nn.align.quadratic import QuadraticAligner
from mmgraph.nn.align.refined import RefinedAligner
from mmgraph.transforms import DropEdges, PermutedCopy
from mmgraph.utils import optional_import

RESULT = Path(__file__).parent / 'results' / 'aligners_scale.json'
SIZES = [10**3, 10**4, 10**5, 10**6]
NOISE = 0.01
#: The exponent is fitted from this size on: below it, calls dominate.
FIT_FROM = 10**4
COLUMNS = ['graph', 'method', 'nodes a side', 'CPU s', 'wall s', 'peak GiB',
           'Hits@1', 'Hits@10', 'CPU s ~ n^']


# The graphs ##################################################################


def simple(u: np.ndarray, v: np.ndarray, num_nodes: int) -> Tensor:
    """Every edge once, no loops."""
    key = np.minimum(u, v) * num_nodes + np.maximum(u, v)
    key = np.unique(key[u != v])
    return torch.from_numpy(np.stack([key // num_nodes, key % num_nodes]))


def barabasi_albert(num_nodes: int, seed: int, m: int = 3) -> Tensor:
    """Each new node draws m ends from the list of the ends of all edges so far
    (and of the first m nodes). A draw that hits an end not known yet is
    followed to where that one was drawn from, for all at once (Batagelj and
    Brandes, Physical Review E 71, 2005).
    """
    rng = np.random.default_rng(seed)
    edge = np.arange((num_nodes - m) * m)
    head = m + edge // m
    # Places: the first m nodes, then head and tail of each edge.
    place = (rng.random(edge.size) * (2 * edge + m)).astype(np.int64) - m
    tail = np.where(place < 0, place + m, -1)
    at_head = (place >= 0) & (place % 2 == 0)
    tail[at_head] = head[place[at_head] // 2]
    left = np.flatnonzero(tail < 0)
    origin = place[left] // 2
    while left.size > 0:
        found = tail[origin]
        tail[left] = found
        left, origin = left[found < 0], origin[found < 0]
    return simple(head, tail, num_nodes)


def block_model(num_nodes: int, seed: int, blocks: int = 10,
                degree: float = 10.0, inside: float = 0.8) -> Tensor:
    """A Poisson number of edges inside equal blocks, and anywhere."""
    rng = np.random.default_rng(seed)
    size = num_nodes // blocks
    number = rng.poisson(num_nodes * degree / 2 * np.array(
        [inside, 1 - inside]))
    u = rng.integers(size * blocks, size=number[0])
    v = u // size * size + rng.integers(size, size=number[0])
    a, b = rng.integers(num_nodes, size=(2, number[1]))
    return simple(np.r_[u, a], np.r_[v, b], num_nodes)


GRAPHS = {'barabasi-albert': barabasi_albert, 'block-model': block_model}


def make_pair(graph: str, num_nodes: int, seed: int) -> GraphPair:
    edges = GRAPHS[graph](num_nodes, seed)
    return Compose([DropEdges(NOISE, seed=seed), PermutedCopy(seed=seed)])(
        GraphPair(edge_index_s=edges, edge_index_t=edges.clone(),
                  num_nodes_s=num_nodes, num_nodes_t=num_nodes,
                  match_index=torch.arange(num_nodes).repeat(2, 1)))


# The methods #################################################################


def robust(**kwargs: Any) -> StructuralAligner:
    return StructuralAligner(
        landmark_factor=None, discount=1.0, separate_hops=True,
        count_scale='sqrt', top_k=10, ties='first', **kwargs)


def adjacency(view: GraphView) -> np.ndarray:
    out = np.zeros((view.num_nodes, view.num_nodes))
    u, v = view.edge_index.numpy()
    out[u, v] = out[v, u] = 1
    return out


def scipy_faq(source: GraphView, target: GraphView) -> Tensor:
    from scipy.optimize import quadratic_assignment
    return torch.from_numpy(quadratic_assignment(
        adjacency(source), adjacency(target), method='faq',
        options=dict(maximize=True)).col_ind)


def pot_gw(source: GraphView, target: GraphView) -> Tensor:
    ot = optional_import('ot', 'ot')
    plan = ot.gromov.gromov_wasserstein(adjacency(source), adjacency(target),
                                        symmetric=True)
    return torch.from_numpy(plan.argmax(1))


Peer = Callable[[GraphView, GraphView], Tensor]
#: From cheap to dear; the letters are the label in tables and plots.
METHODS: dict[str, tuple[str, Callable[[], Aligner] | Peer]] = {
    'degree': ('degree', lambda: DegreeAligner(top_k=10)),
    'tree': ('structural, no landmarks, k-d tree', lambda: StructuralAligner(
        landmark_factor=None, top_k=10, ties='first')),
    'ann': ('structural, separate hops and roots, index', lambda: robust(
        search='ann')),
    'regal-exact': ('REGAL, landmarks, exact', lambda: StructuralAligner(
        top_k=10, ties='first', search='exact')),
    'regal-ann': ('REGAL, landmarks, index', lambda: StructuralAligner(
        top_k=10, ties='first', search='ann')),
    'refined': ('refined (5 steps) after separate hops',
                lambda: RefinedAligner(robust(search='ann'), num_iters=5,
                                       top_k=10)),
    'quadratic': ('quadratic (dense)', QuadraticAligner),
    'scipy-faq': ('FAQ of SciPy (dense)', scipy_faq),
    'pot-gw': ('Gromov-Wasserstein of POT (dense)', pot_gw),
}
PEERS = {'scipy-faq', 'pot-gw'}


def settings(method: str) -> str:
    """What a method is, so that a recorded run of other settings is redone."""
    if method in PEERS:
        return method
    made = METHODS[method][1]()  # type: ignore[call-arg]
    return json.dumps(made.get_config(), sort_keys=True, default=str)


def run(method: str, source: GraphView, target: GraphView) -> Alignment:
    call = METHODS[method][1]
    if method not in PEERS:
        return call()(source, target)  # type: ignore[call-arg,operator]
    found = call(source, target)  # type: ignore[call-arg]
    assert isinstance(found, Tensor)
    return Alignment(torch.stack([torch.arange(found.numel()), found]),
                     torch.ones(found.numel()), source.ptr, target.ptr)


# One run, in a process of its own ############################################


def peak_gib() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(used) / (2**30 if sys.platform == 'darwin' else 2**20)


def child(method: str, path: Path) -> None:
    torch.set_num_threads(1)
    tiny = make_pair('barabasi-albert', 300, 0)
    run(method, tiny.source, tiny.target)
    pair = GraphPair(**torch.load(path))
    source, target = pair.source, pair.target
    print('start', flush=True)
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        out = run(method, source, target)
    except (ValueError, MemoryError) as error:
        print(json.dumps(dict(stopped=str(error).split('. ')[0])))
        return
    result = dict(cpu=time.process_time() - cpu,
                  wall=time.perf_counter() - wall, peak=peak_gib())
    for k in (1, 10):
        if k == 1 or out.num_matches > out.num_source:
            result[f'hits{k}'] = hits_at_k(out, pair.match_index, k)
    print(json.dumps(result))


# Tables and plots ############################################################


def exponent(runs: list[dict[str, Any]]) -> float | None:
    """Slope of log seconds against log nodes."""
    points = [(math.log(r['nodes']), math.log(max(r['cpu'], 1e-6)))
              for r in runs if r['nodes'] >= FIT_FROM and 'cpu' in r]
    if len({x for x, _ in points}) < 2:
        return None
    return float(np.polyfit(*zip(*points), 1)[0])


def render(runs: list[dict[str, Any]]) -> dict[str, Any]:
    rows = []
    for graph in GRAPHS:
        for method, (label, _) in METHODS.items():
            mine = sorted((r for r in runs if (r['graph'], r['method']) == (
                graph, method)), key=lambda r: (r['nodes'], r['seed']))
            slope = exponent(mine)
            for i, r in enumerate(mine):
                if 'cpu' not in r:
                    rows.append([graph, label, f"{r['nodes']:,}",
                                 f"stopped: {r['stopped']}",
                                 *[''] * (len(COLUMNS) - 4)])
                    continue
                last = slope is not None and not any(
                    'cpu' in other for other in mine[i + 1:])
                rows.append([
                    graph, label, f"{r['nodes']:,}", f"{r['cpu']:.3g}",
                    f"{r['wall']:.3g}" if 'wall' in r else '',
                    f"{r['peak']:.2f}",
                    *(f'{r[key]:.4f}' if key in r else ''
                      for key in ('hits1', 'hits10')),
                    f'{slope:.2f}' if last else ''])
    return dict(
        title='Aligners on growing networks (permuted copy, 1 % of the edges '
              'removed)',
        columns=COLUMNS, rows=rows,
        notes=f'{processor()}, one thread. Hits are expected values under '
              f'ties, over all nodes. The exponent is fitted from '
              f'{FIT_FROM:,} nodes on. Wall time is that of a machine shared '
              f'with other work.')


def plot(runs: list[dict[str, Any]], folder: Path) -> list[Path]:
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    written = []
    figure, axes = plt.subplots(len(GRAPHS), 3, figsize=(15, 8), sharex=True,
                                layout='constrained')
    handles = {}
    for line, graph in zip(axes, GRAPHS):
        for i, (method, (label, _)) in enumerate(METHODS.items()):
            mine = sorted((r for r in runs if (r['graph'], r['method']) == (
                graph, method) and 'cpu' in r), key=lambda r: r['nodes'])
            style = dict(color=plt.get_cmap('tab10')(i), markersize=4,
                         marker='s' if method in PEERS else 'o',
                         linestyle='--' if method in PEERS else '-')
            for axis, key in zip(line, ('cpu', 'peak', 'hits1')):
                points = [(r['nodes'], r[key]) for r in mine if key in r]
                if points:
                    handles[label], = axis.plot(*zip(*points), **style)
        for axis, what in zip(line, ('CPU seconds', 'peak memory, GiB',
                                     'Hits@1')):
            axis.set(title=graph, ylabel=what, xscale='log',
                     xlabel='nodes a side')
            if what != 'Hits@1':
                axis.set(yscale='log')
            axis.grid(alpha=0.3)
    figure.legend(handles.values(), handles.keys(), loc='outside lower center',
                  ncols=3)
    for suffix in ('png', 'svg'):
        path = folder / f'{RESULT.stem}.{suffix}'
        figure.savefig(path, dpi=90)
        written.append(path)
    plt.close(figure)
    return written


# All runs ####################################################################


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--sizes', type=int, nargs='+', default=None,
                        help='nodes a side (default: 10^3 ... 10^6, or 300 '
                        'and 1000 with --quick)')
    parser.add_argument('--methods', nargs='+', choices=METHODS,
                        default=list(METHODS), help='(default: all)')
    parser.add_argument('--graphs', nargs='+', choices=GRAPHS,
                        default=list(GRAPHS), help='(default: both)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0],
                        help='(default: 0)')
    parser.add_argument('--budget-seconds', type=float, default=1800,
                        help='CPU seconds of a run (default: 1800)')
    parser.add_argument('--budget-gib', type=float, default=18,
                        help='memory of a run (default: 18)')
    parser.add_argument('--quick', action='store_true',
                        help='tiny sizes, 20 s a run, nothing written')
    parser.add_argument('--render', action='store_true',
                        help='only tables and plots of what is recorded')
    parser.add_argument('--output', type=Path, default=None,
                        help='JSON file (default: the recorded result, or '
                        'none with --quick)')
    parser.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.output is None and not args.quick:
        args.output = RESULT
    if args.sizes is None:
        args.sizes = [300, 1000] if args.quick else SIZES
    if args.quick:
        args.budget_seconds = min(args.budget_seconds, 20)
    if min(args.sizes) < 100:
        parser.error(f'--sizes must be at least 100 (got {min(args.sizes)})')
    return args


def main() -> int:
    args = parse_args()
    if args.child is not None:
        child(args.child[0], Path(args.child[1]))
        return 0
    result: dict[str, Any] = dict(benchmark=RESULT.stem, noise=NOISE, runs=[])
    if args.output is not None and args.output.is_file():
        result = json.loads(args.output.read_text(encoding='utf-8'))
    runs = result['runs']

    def write() -> None:
        if args.output is None:
            return
        result.update(render(runs), machine=machine(threads=1))
        write_json(args.output, result)

    plan = [] if args.render else [
        (size, graph, seed, method) for size in sorted(args.sizes)
        for graph in args.graphs for seed in args.seeds
        for method in args.methods]
    made: tuple[Any, ...] | None = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'pair.pt'
        for i, (size, graph, seed, method) in enumerate(plan):
            known = dict(graph=graph, method=method, seed=seed,
                         settings=settings(method))
            same = [r for r in runs
                    if all(r[key] == known[key] for key in known)]
            if any(r['nodes'] == size for r in same):
                continue
            head = f'[{i + 1}/{len(plan)}] {graph} {size:,} {method}'
            before = [r for r in same if r['nodes'] < size and 'stopped' in r]
            if before:
                print(f"{head}: stopped at {before[0]['nodes']:,} already",
                      flush=True)
                continue
            if made != (size, graph, seed):
                torch.save(make_pair(graph, size, seed).to_dict(), path)
                made = size, graph, seed
            print(f'{head} ...', flush=True)
            out = supervise('benchmarks.aligners_scale',
                            [method, str(path)], args.budget_seconds,
                            args.budget_gib, sets_up=True)
            print('    ' + ', '.join(
                f'{key} {value:.4g}' if isinstance(value, float) else
                f'{key}: {value}' for key, value in out.items()), flush=True)
            runs[:] = [r for r in runs if (
                r['graph'], r['method'], r['seed'], r['nodes']) != (
                graph, method, seed, size)]
            runs.append(dict(known, nodes=size, **out))
            write()
    table = render(runs)
    show(table)
    write()
    if args.output is not None:
        for written in plot(runs, args.output.parent):
            print(f'written to {written}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
