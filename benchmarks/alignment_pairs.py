r"""Structural alignment of many small text-image pairs in one call.

Three things are timed on the same pairs:

* *peer*: a pair-by-pair implementation of xNetMF/REGAL of our own, written
  from a description of how the published code works: Python sets for hops, a
  Python loop over nodes and landmarks, a pseudo-inverse and its SVD, a k-d
  tree;
* *ours*: `mmgraph.nn.align.StructuralAligner` on the batch of all pairs;
* *floor*: the time this machine needs for the counted work alone. Each step's
  elements are counted from the pairs and pushed through one primitive each
  (copies and additions in streams, gathers in pieces of 8 bytes, square roots
  and exponentials), into buffers that are already there, without any of the
  bookkeeping between them. *roofline* is stricter still: compulsory bytes at
  streaming speed and arithmetic at the speed of a matrix product.

Reading files and building graphs is not timed, and nothing is cached between
repeats. Example:

    python -m benchmarks.alignment_pairs --data ../data --repeats 50
    python -m benchmarks.alignment_pairs --quick
"""
import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
import torch_geometric
from scipy.spatial import KDTree

import mmgraph
from benchmarks.common import processor, write_json
from mmgraph.data.view import GraphView, ptr_from_sizes
from mmgraph.nn.align import Alignment, StructuralAligner
from mmgraph.utils import data_dir

FILE = Path('mega') / 'combined_edges_test.jsonl'
RESULT = Path(__file__).parent / 'results' / 'alignment_pairs.json'
NUM_SLOTS = 10
PIECE = 32000  # scores worked on at once
REPORTED = {
    'seconds': 8.4,
    'pairs': 1282,
    'what': 'published code, as reported with the task; not run here'
}


class Pair(NamedTuple):
    num_words: int
    num_objects: int
    text: list[list[int]]
    scene: list[list[int]]


# Input #######################################################################


def read_pairs(path: Path) -> list[Pair]:
    pairs = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        text, scene = row['text_edges'], row['scene_edges']
        num_words = row['n_text']
        if num_words is None:  # not recorded where the scene graph is empty
            num_words = 1 + max((max(edge) for edge in text), default=0)
        pairs.append(Pair(num_words, NUM_SLOTS, text, scene))
    return pairs


def random_pairs(number: int, seed: int) -> list[Pair]:
    """Random trees and scene graphs of the sizes of MNRE v1."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(number):
        n = int(np.clip(rng.normal(16.5, 5.5), 3, 31))
        text = [[int(rng.integers(max(0, i - 5), i)), i] for i in range(1, n)]
        scene = []
        if rng.random() > 0.2:
            used = int(np.clip(rng.normal(7, 2), 2, NUM_SLOTS))
            for _ in range(int(np.clip(rng.normal(13, 7), 1, 59))):
                a, b = rng.choice(used, 2, replace=False)
                scene.append([int(a), int(b)])
        pairs.append(Pair(n, NUM_SLOTS, text, scene))
    return pairs


def as_views(pairs: list[Pair]) -> tuple[GraphView, GraphView]:
    def view(sizes: list[int], edges: list[list[list[int]]]) -> GraphView:
        size = torch.tensor(sizes)
        ptr = ptr_from_sizes(size)
        index = [torch.tensor(e).view(-1, 2).t() + p
                 for e, p in zip(edges, ptr) if e]
        return GraphView(
            None, torch.cat(index, dim=1).contiguous(), None, None,
            torch.arange(len(sizes)).repeat_interleave(size), ptr)

    return (view([p.num_words for p in pairs], [p.text for p in pairs]),
            view([p.num_objects for p in pairs], [p.scene for p in pairs]))


# The peer ####################################################################


def peer(pair: Pair, seed: int = 42) -> list[tuple[int, float]]:
    """The best object of each word and its distance, one node at a time.
    Objects without an edge are masked, as ours are.
    """
    shift = pair.num_words
    n = shift + pair.num_objects
    if not pair.scene:
        return []
    neighbors: dict[int, set[int]] = {u: set() for u in range(n)}
    edges = pair.text + [[a + shift, b + shift] for a, b in pair.scene]
    for u, v in edges:
        if u != v:
            neighbors[u].add(v)
            neighbors[v].add(u)
    degree = [len(neighbors[u]) for u in range(n)]
    num_buckets = int(math.log2(max(degree))) + 1
    features = np.zeros((n, num_buckets))
    for u in range(n):
        seen, ring = {u}, {u}
        for hop in range(3):
            for v in ring:
                if degree[v] > 0:
                    bucket = int(math.log2(degree[v]))
                    features[u, bucket] += 0.01**hop
            ring = {w for v in ring for w in neighbors[v]} - seen
            seen |= ring
    p = min(n, int(10 * math.log2(n)))
    landmarks = np.random.default_rng(seed).permutation(n)[:p]
    kernel = np.zeros((n, p))
    for u in range(n):
        for i in range(p):
            kernel[u, i] = np.exp(
                -np.linalg.norm(features[u] - features[landmarks[i]]))
    left, value, _ = np.linalg.svd(np.linalg.pinv(kernel[landmarks]))
    y = kernel @ left @ np.diag(np.sqrt(value))
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    kept = [v for v in range(shift, n) if degree[v] > 0]
    tree = KDTree(y[kept])
    found = []
    for i in range(shift):
        distance, place = tree.query(y[i])
        found.append((kept[place] - shift, float(distance)))
    return found


def disagreements(
    pairs: list[Pair],
    found: list[list[tuple[int, float]]],
    alignment: Alignment,
) -> int:
    """Words whose best object of the peer is not in our tie set, or at another
    distance, and words only one of both aligns.
    """
    dense = alignment.dense()
    wrong = 0
    for b, (pair, peers) in enumerate(zip(pairs, found, strict=True)):
        ours = dense[b, :pair.num_words]
        if not peers:
            wrong += int((ours.sum(1) > 0).sum())
            continue
        for i, (j, distance) in enumerate(peers):
            tied = ours[i] > 0
            # Split ties carry score / number each, so they sum to the score.
            total = float(ours[i].sum())
            # The peer's factorisation rounds: twins come out 1e-7 apart.
            good = bool(tied[j]) and abs(
                total - math.exp(-distance)) < 1e-5
            wrong += not good
    return wrong


# The floor ###################################################################


class Work(NamedTuple):
    """What has to be done, counted from the pairs."""
    edges: int
    nodes: int
    columns: int
    hops: int
    width: int  # bits of a neighbourhood
    scores: int  # pairs of a word and an object that competes
    matches: int


def count_work(
    source: GraphView,
    target: GraphView,
    alignment: Alignment,
    max_hops: int,
) -> Work:
    degree = torch.zeros(target.num_nodes, dtype=torch.long)
    degree[target.edge_index.reshape(-1)] = 1
    kept = torch.zeros(target.num_graphs, dtype=torch.long)
    kept.index_add_(0, target.batch, degree)
    columns = 0
    for view in (source, target):
        key = torch.cat([view.edge_index, view.edge_index.flip(0)], dim=1)
        simple = torch.unique(key[:, key[0] != key[1]], dim=1)
        largest = int(torch.bincount(simple[0]).max())
        columns = max(columns, largest.bit_length())
    largest = int(torch.cat([source.sizes, target.sizes]).max())
    return Work(
        edges=source.edge_index.size(1) + target.edge_index.size(1),
        nodes=source.num_nodes + target.num_nodes,
        columns=columns,
        hops=max_hops,
        width=1 << max(3, (largest - 1).bit_length()),
        scores=int((source.sizes * kept).sum()),
        matches=alignment.num_matches,
    )


def in_pieces(
    total: int,
    piece: int,
    call: Callable[[int], object],
) -> Callable[[], None]:
    full, rest = divmod(total, piece)

    def run() -> None:
        for _ in range(full):
            call(piece)
        if rest:
            call(rest)

    return run


def floor_steps(work: Work, piece: int) -> list[dict[str, Any]]:
    """Each step with its bytes, its operations and a primitive that does as
    much: no index is built, nothing is allocated, no tie is looked at.
    """
    rng = np.random.default_rng(0)
    ends = 2 * work.edges + work.nodes
    cells = work.nodes * work.columns
    word = work.width // 8
    table = np.zeros(work.nodes * work.width, np.uint8)
    places = rng.integers(table.size, size=ends)
    words = rng.integers(2**31, size=work.nodes).astype(f'<u{word}')
    near = np.sort(rng.integers(work.nodes, size=2 * work.edges))
    grid = rng.integers(2**31, size=(work.columns, work.nodes))
    grid = grid.astype(words.dtype)
    bits = np.empty_like(grid)
    counts = np.empty(grid.shape, np.uint8)
    hist = np.zeros(grid.shape)
    part = np.zeros(grid.shape)

    piece = min(piece, work.scores)
    a, b = (torch.rand(piece, dtype=torch.double) for _ in range(2))
    out = torch.empty(piece, dtype=torch.double)
    column = torch.rand(work.nodes, dtype=torch.double)
    index = torch.randint(work.nodes, (piece, )).sort()[0]
    rows = torch.empty_like(index)
    mask = torch.empty(piece, dtype=torch.bool)
    index_out = torch.empty(2, work.matches, dtype=torch.long)
    index_in = torch.zeros(2, work.matches, dtype=torch.long)
    score_out = torch.empty(work.matches)
    score_in = torch.zeros(work.matches)

    def put() -> None:
        table[places] = 1

    def hop() -> None:
        for _ in range(work.hops - 1):
            np.bitwise_or(words.take(near), words.take(near))

    def histogram() -> None:
        for _ in range(work.hops):
            np.bitwise_and(grid, words, out=bits)
            np.bitwise_count(bits, out=counts)
            np.multiply(counts, 0.01, out=part)
            np.add(hist, part, out=hist)

    def enumerate_pairs(n: int) -> None:
        torch.add(index[:n], index[:n], out=rows[:n])
        torch.add(index[:n], index[:n], out=rows[:n])

    def fetch(n: int) -> None:
        for _ in range(2 * work.columns):
            torch.index_select(column, 0, index[:n], out=out[:n])

    def distance(n: int) -> None:
        for _ in range(work.columns):
            torch.sub(a[:n], b[:n], out=out[:n])
            out[:n].addcmul_(a[:n], b[:n])

    def kernel(n: int) -> None:
        x = out[:n]
        torch.sqrt(a[:n], out=x)
        torch.expm1(a[:n], out=x)
        torch.sqrt(a[:n], out=x)
        torch.exp(a[:n], out=x)

    def select(n: int) -> None:
        torch.maximum(a[:n], b[:n], out=out[:n])
        torch.ge(a[:n], b[:n], out=mask[:n])

    def write() -> None:
        index_out.copy_(index_in)
        score_out.copy_(score_in)

    p, d, h = work.scores, work.columns, work.hops
    return [
        dict(step='mark neighbours', bytes=8 * ends + ends, operations=ends,
             run=put),
        dict(step='pack bits', bytes=table.size + word * work.nodes,
             operations=table.size,
             run=lambda: np.packbits(table, bitorder='little')),
        dict(step='one hop more', bytes=(h - 1) * 2 * work.edges * (8 + word),
             operations=(h - 1) * 2 * work.edges, run=hop),
        dict(step='histograms', bytes=h * cells * (3 * word + 34),
             operations=h * cells * 4, run=histogram),
        dict(step='list pairs', bytes=p * 32, operations=p * 2,
             run=in_pieces(p, piece, enumerate_pairs)),
        dict(step='fetch features', bytes=p * 2 * d * 24, operations=0,
             run=in_pieces(p, piece, fetch)),
        dict(step='distances', bytes=p * d * 48, operations=p * d * 3,
             run=in_pieces(p, piece, distance)),
        dict(step='square roots, exponentials', bytes=p * 64,
             operations=p * 4, run=in_pieces(p, piece, kernel)),
        dict(step='best target', bytes=p * 41, operations=p * 2,
             run=in_pieces(p, piece, select)),
        dict(step='write matches', bytes=work.matches * 40, operations=0,
             run=write),
    ]


def roofline(work: Work) -> tuple[Callable[[], None], dict[str, int]]:
    """Compulsory traffic and arithmetic only, at full speed."""
    inputs = work.edges * 16 + work.nodes * 8
    features = 2 * work.nodes * work.columns * 8
    outputs = work.matches * 20
    total = inputs + features + outputs
    flops = work.scores * work.columns * 3 + 2 * work.hops * work.edges
    here = torch.zeros(total // 2, dtype=torch.uint8)
    there = torch.empty_like(here)
    side = max(1, round((flops / 2)**(1 / 3)))
    a, b, c = (torch.rand(side, side, dtype=torch.double) for _ in range(3))
    x = torch.rand(work.scores, dtype=torch.double)
    y = torch.empty_like(x)

    def run() -> None:
        there.copy_(here)
        torch.mm(a, b, out=c)
        torch.sqrt(x, out=y)
        torch.expm1(x, out=y)
        torch.sqrt(x, out=y)
        torch.exp(x, out=y)

    return run, dict(bytes=total, multiply_adds=flops // 2,
                     transcendental=4 * work.scores)


# The run #####################################################################


def clock(call: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return dict(median_ms=statistics.median(ordered), min_ms=ordered[0],
                p90_ms=ordered[int(0.9 * (len(ordered) - 1))],
                repeats=len(ordered))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--data', type=Path, default=data_dir(),
                        help='folder of real corpora (default: $MMGRAPH_DATA)')
    parser.add_argument('--quick', action='store_true',
                        help='few repeats; random pairs of the same sizes '
                        'where no data is there')
    parser.add_argument('--repeats', type=int, default=None,
                        help='timed calls of ours and of the floor '
                        '(default: 100, or 20 with --quick)')
    parser.add_argument('--peer-pairs', type=int, default=None,
                        help='pairs the peer does (default: all, or 100 with '
                        '--quick)')
    parser.add_argument('--threads', type=int, default=None,
                        help='threads of PyTorch (default: its own choice)')
    parser.add_argument('--seed', type=int, default=0,
                        help='seed of random pairs (default: 0)')
    parser.add_argument('--output', type=Path, default=None,
                        help='JSON file (default: the recorded result, or '
                        'none with --quick)')
    args = parser.parse_args()
    if args.output is None and not args.quick:
        args.output = RESULT
    for name in ('repeats', 'peer_pairs', 'threads'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1 '
                         f'(got {value})')
    return args


def main() -> int:
    args = parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    repeats = args.repeats or (20 if args.quick else 100)
    path = None if args.data is None else args.data / FILE
    if path is not None and path.is_file():
        pairs = read_pairs(path)
        data = dict(file=FILE.as_posix(), corpus='MNRE v1 test',
                    sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    elif args.quick:
        pairs = random_pairs(REPORTED['pairs'], args.seed)
        data = dict(corpus='random pairs of the sizes of MNRE v1 test',
                    seed=args.seed)
    else:
        where = "'$MMGRAPH_DATA' is not set" if path is None else f"'{path}'"
        print(f'error: no pairs found ({where}). Pass --data FOLDER, or '
              f'--quick for random pairs', file=sys.stderr)
        return 2
    source, target = as_views(pairs)
    aligner = StructuralAligner(ties='split')

    num_peer = min(len(pairs),
                   args.peer_pairs or (100 if args.quick else len(pairs)))
    start = time.perf_counter()
    found = [peer(pair) for pair in pairs[:num_peer]]
    peer_ms = 1e3 * (time.perf_counter() - start)

    alignment = aligner(source, target)
    some = as_views(pairs[:num_peer])
    wrong = disagreements(pairs[:num_peer], found, aligner(*some))
    num_words = sum(pair.num_words for pair in pairs[:num_peer])

    work = count_work(source, target, alignment, max_hops=2)
    steps = floor_steps(work, PIECE)
    ideal, ideal_work = roofline(work)
    calls: dict[str, Callable[[], object]] = {
        'ours': lambda: aligner(source, target), 'roofline': ideal,
        **{step['step']: step['run'] for step in steps}}
    times: dict[str, list[float]] = {name: [] for name in calls}
    with mmgraph.checks(False):
        for call in calls.values():
            clock(call, 3)
        for _ in range(repeats):  # in turns: a busy machine slows all alike
            for name, call in calls.items():
                times[name] += clock(call, 1)
    checked = clock(calls['ours'], repeats)

    ours = spread(times['ours'])
    each = [dict(step=s['step'], bytes=s['bytes'], operations=s['operations'],
                 median_ms=statistics.median(times[s['step']]),
                 min_ms=min(times[s['step']])) for s in steps]
    floor = dict(median_ms=sum(s['median_ms'] for s in each),
                 min_ms=sum(s['min_ms'] for s in each),
                 bytes=sum(s['bytes'] for s in each),
                 operations=sum(s['operations'] for s in each), steps=each)
    ideal_ms = spread(times['roofline'])
    n = len(pairs)
    peer_pair = peer_ms / num_peer
    best = ours['median_ms']
    result = dict(
        benchmark='alignment_pairs', quick=args.quick, data=data,
        pairs=n, work=work._asdict(),
        ours=dict(**ours, ms_per_pair=best / n,
                  with_checks=spread(checked)),
        peer=dict(pairs=num_peer, total_ms=peer_ms, ms_per_pair=peer_pair,
                  words=num_words, disagreements=wrong),
        reported=dict(**REPORTED, ms_per_pair=1e3 * REPORTED['seconds'] /
                      REPORTED['pairs']),
        floor=floor, roofline=dict(**ideal_work, **ideal_ms),
        ratio=dict(peer=peer_pair * n / best,
                   floor=best / floor['median_ms'],
                   floor_min=ours['min_ms'] / floor['min_ms'],
                   roofline=best / ideal_ms['median_ms']),
        machine=dict(
            processor=processor(), cores=os.cpu_count(), device='cpu',
            threads=torch.get_num_threads(), system=platform.platform(),
            python=platform.python_version(), torch=torch.__version__,
            torch_geometric=torch_geometric.__version__,
            numpy=np.__version__, scipy=scipy.__version__,
            mmgraph=mmgraph.__version__,
            deterministic=torch.are_deterministic_algorithms_enabled()),
    )

    reported_ms = 1e3 * REPORTED['seconds']
    ratio = result['ratio']
    rows = [
        ('published code, reported', reported_ms, REPORTED['pairs'],
         'not run here'),
        ('peer, pair by pair', peer_pair * n, n,
         f"{ratio['peer']:.0f} × ours"
         + ('' if num_peer == n else f' (from {num_peer} pairs)')),
        ('ours, one call', best, n,
         f"best {ours['min_ms']:.2f}, 90th percentile {ours['p90_ms']:.2f}"),
        ('floor, counted work', floor['median_ms'], n,
         f"ours is {ratio['floor']:.2f} × it (best: "
         f"{ratio['floor_min']:.2f})"),
        *(('  ' + step['step'], step['median_ms'], n,
           f"{step['bytes'] / 1e6:.2f} MB") for step in each),
        ('roofline, compulsory work', ideal_ms['median_ms'], n,
         f"ours is {ratio['roofline']:.1f} × it"),
    ]
    threads = torch.get_num_threads()
    result.update(
        title=f"Structural alignment of {n} pairs ({data['corpus']})",
        columns=['what', 'ms in all', 'µs a pair', 'note'],
        rows=[[name.strip(), f'{ms:.2f}', f'{1e3 * ms / count:.2f}', note]
              for name, ms, count, note in rows],
        notes=f'{processor()}, threads: {threads}. Medians of {repeats} '
              f'repeats, all in turns. Peer and ours disagree on {wrong} of '
              f'{num_words} words. The floor is the time of the counted work '
              f'alone, step by step; the roofline counts only bytes that must '
              f'move and arithmetic at the speed of a matrix product.')
    print(f"{result['title']}, threads: {threads}, {processor()}\n\n"
          f"{'':<28}{'ms in all':>12}{'µs a pair':>12}")
    for name, ms, count, note in rows:
        print(f'{name:<28}{ms:12.2f}{1e3 * ms / count:12.2f}   {note}')
    print(f'\npeer and ours disagree on {wrong} of {num_words} words')
    if args.output is not None:
        write_json(args.output, result)
        print(f'written to {args.output}')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
