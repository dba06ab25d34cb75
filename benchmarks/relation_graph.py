r"""Building a corpus graph from a thousand to a million posts, and training on
it.

``build``: texts and images with features of 512 channels; every text is linked
to the five most similar images of other posts, every image to the five most
similar images. Each method makes the same graph, in a process of its own on
one thread, and reads the features from files that are mapped into memory.
Methods: ``mmgraph`` (exact), ``mmgraph, index`` (inverted file of faiss),
``scikit-learn`` (``NearestNeighbors``, brute force, cosine) and ``faiss flat``
(``IndexFlatIP``). CPU seconds are those of the process; peak memory is
anonymous memory above what the process held before, as sampled (pages of the
mapped files, which the system can take back, are left out). Recall is the
share of the exact five neighbours that are found, over 1,000 texts and 1,000
images. From a million posts on (peers: from a hundred thousand) a sample of
the queries is run; the time for all is extrapolated and marked with ``~``.

``train``: batches of 32 of 2,048 texts with their neighbours within two hops
(``RelationLoader``), and an epoch of training two layers on them, as the
corpus around them grows.

    $ python -m benchmarks.relation_graph            # adds what is missing
    $ python -m benchmarks.relation_graph --quick    # under a minute
    $ python -m benchmarks.relation_graph --render   # only tables and plots
"""
import argparse
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import machine, processor, show, supervise, write_json
from mmgraph.data import RelationGraph, RelationLoader
from mmgraph.data.neighbours import Keys, Pool, distinct_rows, nearest

RESULT = Path(__file__).parent / 'results' / 'relation_graph.json'
SIZES = [1_000, 10_000, 100_000, 1_000_000]
K, DIM, CLUSTER, NOISE = 5, 512, 50, 0.8
#: Posts from which on a method runs on a sample of this many queries of each
#: relation, and queries over which recall is measured.
SAMPLE_FROM = dict(exact=10**6, index=10**6, flat=10**5, sklearn=10**5)
SAMPLE = dict(exact=8_192, index=8_192, flat=2_048, sklearn=2_048)
RECALL = 1_000
BATCHES, BATCH, HOPS, HIDDEN = 64, 32, 2, 64
METHODS = {'exact': 'mmgraph', 'index': 'mmgraph, index',
           'flat': 'faiss flat', 'sklearn': 'scikit-learn'}
COLUMNS = ['posts', 'method', 'CPU s', 'x mmgraph', 'peak GiB', 'recall@5']
TRAIN_COLUMNS = ['posts', 'images a batch', 'ms to gather a batch',
                 'epoch, CPU s', 'x smallest']

Arrays = tuple[Any, Any]
Ready = Callable[[], None]


# Features ####################################################################


def make_features(folder: Path, number: int, seed: int = 0) -> None:
    """Texts and images of clusters of about fifty posts, block by block."""
    rng = np.random.default_rng(seed)
    clusters = max(2, number // CLUSTER)
    cluster = rng.integers(clusters, size=number)
    centers = rng.standard_normal((clusters, DIM), dtype=np.float32)
    for name in ('text', 'image'):
        out = np.lib.format.open_memmap(
            folder / f'{name}.npy', mode='w+', dtype=np.float32,
            shape=(number, DIM))
        for low in range(0, number, 10_000):
            part = centers[cluster[low:low + 10_000]]
            out[low:low + 10_000] = part + NOISE * rng.standard_normal(
                part.shape, dtype=np.float32)
        out.flush()


def load(folder: Path) -> Arrays:
    text, image = (np.load(folder / f'{name}.npy', mmap_mode='r')
                   for name in ('text', 'image'))
    return text, image


# Methods #####################################################################
#
# Each takes features, for a sample rows of queries, and what to call once it
# has done what does not depend on the queries; each gives the rows that were
# found by texts and by images, [Q, 5].


def ours(text: Any, image: Any, rows: Any, ready: Ready,
         index: str) -> Arrays:
    if rows is None:
        graph = RelationGraph.from_features(text, image, k=K, index=index,
                                            log=False)
        matches = graph['text', 'matches', 'image'].edge_index[1]
        resembles = graph['image', 'resembles', 'image'].edge_index[1]
        return matches.view(-1, K).numpy(), resembles.view(-1, K).numpy()
    keys = Keys(image, 'image_x')
    everything = np.arange(len(image))
    pool = Pool(keys, everything, distinct_rows(image).group)
    texts = Keys(text, 'text_x')
    nearest(keys, rows[:1], pool, K, index=index)  # builds the index
    ready()
    found = [nearest(queries, rows, pool, K, own=rows, index=index)
             for queries in (texts, keys)]
    return found[0][1].reshape(-1, K), found[1][1].reshape(-1, K)


def others(found: Any, rows: Any) -> Any:
    """The first five of six that are not the query itself."""
    keep = found != rows[:, None]
    keep[:, -1] &= keep[:, :-1].all(1) == False  # noqa: E712
    return found[keep].reshape(-1, K)


def flat(text: Any, image: Any, rows: Any, ready: Ready) -> Arrays:
    import faiss
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(DIM)

    def blocks(table: Any) -> Any:
        for low in range(0, len(table), 4096):
            block = np.array(table[low:low + 4096], np.float32)
            faiss.normalize_L2(block)
            yield block

    for block in blocks(image):
        index.add(block)
    ready()
    if rows is not None:
        text, image = text[rows], image[rows]
    rows = np.arange(len(image)) if rows is None else rows
    out = [np.concatenate([index.search(block, K + 1)[1]
                           for block in blocks(table)])
           for table in (text, image)]
    return others(out[0], rows), others(out[1], rows)


def scikit(text: Any, image: Any, rows: Any, ready: Ready) -> Arrays:
    from sklearn.neighbors import NearestNeighbors
    model = NearestNeighbors(n_neighbors=K + 1, algorithm='brute',
                             metric='cosine').fit(image)
    ready()
    if rows is not None:
        text, image = text[rows], image[rows]
    rows = np.arange(len(image)) if rows is None else rows
    return (others(model.kneighbors(text, return_distance=False), rows),
            others(model.kneighbors(image, return_distance=False), rows))


RUN: dict[str, Callable[[Any, Any, Any, Ready], Arrays]] = {
    'exact': lambda *args: ours(*args, 'exact'),
    'index': lambda *args: ours(*args, 'faiss'),
    'flat': flat,
    'sklearn': scikit,
}


def recall_rows(number: int) -> Any:
    some = np.random.default_rng(1).permutation(number)
    return np.sort(some[:RECALL])


def recall(found: Arrays, rows: Any, folder: Path) -> float:
    """Against an exact search for the same queries, by a plain product in
    double precision.
    """
    text, image = load(folder)
    hit = 0
    chosen = recall_rows(len(image))
    place = chosen if rows is None else np.searchsorted(rows, chosen)
    for queries, answer in zip((text, image), found):
        query = queries[chosen].astype(np.float64)
        query /= np.linalg.norm(query, axis=1, keepdims=True)
        best = np.full((len(chosen), K), -np.inf)
        who = np.full((len(chosen), K), -1)
        for low in range(0, len(image), 10_000):
            part = image[low:low + 10_000].astype(np.float64)
            part /= np.linalg.norm(part, axis=1, keepdims=True)
            score = query @ part.T
            own = chosen - low
            here = np.flatnonzero((own >= 0) & (own < len(part)))
            score[here, own[here]] = -np.inf
            score = np.concatenate([best, score], 1)
            label = np.concatenate([who, np.broadcast_to(
                np.arange(low, low + len(part)), (len(chosen), len(part)))], 1)
            top = np.argpartition(score, -K, 1)[:, -K:]
            best = np.take_along_axis(score, top, 1)
            who = np.take_along_axis(label, top, 1)
        hit += sum(len(set(a) & set(b)) for a, b in zip(
            who.tolist(), answer[place].tolist()))
    return hit / (2 * K * len(chosen))


# One run, in a process of its own ############################################


def anonymous() -> float:
    """Anonymous memory of this process in GiB."""
    try:
        status = Path('/proc/self/status').read_text()
    except OSError:
        return math.nan
    line = next(x for x in status.splitlines() if x.startswith('RssAnon'))
    return int(line.split()[1]) / 2**20


class Peak(threading.Thread):
    """The most anonymous memory while it runs."""
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.most = anonymous()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.most = max(self.most, anonymous())

    def close(self) -> float:
        self.over.set()
        self.join()
        return max(self.most, anonymous()) - self.before


def child(kind: str, method: str, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    if kind == 'train':
        return train(folder)
    rng = np.random.default_rng(0)
    tiny = rng.standard_normal((300, DIM), dtype=np.float32)
    RUN[method](tiny, tiny, None, lambda: None)  # imports, kernels
    text, image = load(folder)
    number = len(image)
    rows = None
    if number >= SAMPLE_FROM[method]:
        more = np.random.default_rng(2).permutation(number)[:SAMPLE[method]]
        rows = np.sort(np.concatenate([recall_rows(number), np.setdiff1d(
            more, recall_rows(number))])[:SAMPLE[method]])
    peak = Peak()
    peak.start()
    cpu, wall = time.process_time(), time.perf_counter()
    once: list[float] = [cpu]
    found = RUN[method](text, image, rows,
                        lambda: once.append(time.process_time()))
    end = time.process_time()
    out: dict[str, Any] = dict(cpu=end - cpu, wall=time.perf_counter() - wall,
                               peak=peak.close())
    if rows is not None:
        scale = number / len(rows)
        out.update(cpu=once[-1] - cpu + (end - once[-1]) * scale,
                   sample=len(rows), cpu_sample=end - cpu)
    out['recall'] = recall(found, rows, folder)
    return out


def train(folder: Path) -> dict[str, Any]:
    """An epoch over a fixed number of texts of a large corpus."""
    from mmgraph.nn.conv import CrossSampleConv
    _, image = load(folder)
    number = len(image)
    rng = np.random.default_rng(0)
    graph = RelationGraph()
    for kind in ('text', 'image'):
        store = graph[kind]
        store.num_nodes = number
        store.post_id = [str(i) for i in range(number)]
        for split in ('train', 'val', 'test'):
            store[f'{split}_mask'] = torch.ones(number, dtype=torch.bool)
    graph['text'].image_index = torch.arange(number)
    graph['image'].x = Keys(image, 'image_x').x
    for relation in (('text', 'matches', 'image'),
                     ('image', 'resembles', 'image')):
        # Neighbours from anywhere: the worst case for caches.
        step = rng.integers(1, number, size=(number, K))
        row = np.arange(number)[:, None]
        graph[relation].edge_index = torch.from_numpy(np.stack(
            [np.broadcast_to(row, step.shape), (row + step) % number]
            )).reshape(2, -1)
        graph[relation].edge_weight = torch.rand(
            number * K, generator=torch.Generator().manual_seed(0))
    rows = torch.from_numpy(rng.permutation(number)[:BATCHES * BATCH])
    loader = RelationLoader(graph, rows, batch_size=BATCH, num_hops=HOPS,
                            shuffle=True)
    convs = torch.nn.ModuleList([CrossSampleConv(DIM, HIDDEN),
                                 CrossSampleConv(HIDDEN, HIDDEN)])
    optimizer = torch.optim.Adam(convs.parameters())
    gather, epoch = [], []
    for turn in range(4):
        start = time.process_time()
        images = [batch['image'].num_nodes for batch in loader]
        middle = time.process_time()
        for batch in loader:
            store = batch['image', 'resembles', 'image']
            x = batch['image'].x
            for conv in convs:
                x = conv(x, store.edge_index, store.edge_weight)
            loss = x[batch['text'].image_index].square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if turn > 0:
            gather.append(middle - start)
            epoch.append(time.process_time() - middle)
    batches = len(loader)
    return dict(images=float(np.mean(images)),
                gather=float(np.median(gather)) / batches,
                epoch=float(np.median(epoch)) * BATCHES / batches)


# Tables and plots ############################################################


def of(runs: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    order = list(METHODS)
    return sorted((r for r in runs if r['kind'] == kind), key=lambda r: (
        r['posts'], order.index(r['method']) if r['method'] in order else 0))


def render(runs: list[dict[str, Any]]) -> dict[str, Any]:
    rows = []
    for r in of(runs, 'build'):
        head = [f"{r['posts']:,}", METHODS[r['method']]]
        if 'cpu' not in r:
            rows.append([*head, f"stopped: {r['stopped']}", '', '', ''])
            continue
        exact = next((o['cpu'] for o in runs if o['kind'] == 'build' and (
            o['posts'], o['method']) == (r['posts'], 'exact') and 'cpu' in o),
            None)
        mark = '~' if 'sample' in r else ''
        rows.append([
            *head, f"{mark}{r['cpu']:.3g}",
            '' if exact is None else f"{r['cpu'] / exact:.2f}",
            f"{r['peak']:.2f}", f"{r['recall']:.4f}"])
    return dict(
        title='Corpus graphs: five neighbours of each text and each image, '
              '512 channels',
        columns=COLUMNS, rows=rows,
        notes=f'{processor()}, one thread. Seeded Gaussian clusters of about '
              f'{CLUSTER} posts, noise {NOISE:g} (not real features). '
              f'Times marked ~ are extrapolated from {SAMPLE["exact"]:,} '
              f'(peers: {SAMPLE["flat"]:,}) queries a relation. '
              f'Peak memory is anonymous memory above that before the run. '
              f'Where the CPU has matrix units, exact search of large pools '
              f'compares in half precision first and settles what that '
              f'leaves open in double precision. How many lists the index '
              f'looks into was chosen on features of this kind at 100,000 '
              f'posts. Rows come from several sittings on a machine that did '
              f'other work too.')


def render_train(runs: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [r for r in of(runs, 'train') if 'epoch' in r]
    rows = [[f"{r['posts']:,}", f"{r['images']:.0f}",
             f"{r['gather'] * 1e3:.2f}", f"{r['epoch']:.2f}",
             f"{r['epoch'] / mine[0]['epoch']:.2f}"] for r in mine]
    return dict(
        title=f'Training on a corpus graph: {BATCHES * BATCH:,} texts, '
              f'batches of {BATCH}, {HOPS} hops',
        columns=TRAIN_COLUMNS, rows=rows,
        notes='CPU time of one thread. Neighbours come from anywhere in the '
              'corpus, features from a mapped file. In a small corpus the '
              'neighbourhoods of a batch overlap, and it has fewer texts to '
              'load: its epoch is scaled to as many batches.')


def plot(runs: list[dict[str, Any]], folder: Path) -> list[Path]:
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout='constrained')
    for i, (method, label) in enumerate(METHODS.items()):
        mine = [r for r in of(runs, 'build')
                if r['method'] == method and 'cpu' in r]
        style = dict(color=plt.get_cmap('tab10')(i), marker='o',
                     linestyle='-' if label.startswith('mmgraph') else '--')
        for axis, key in zip(axes, ('cpu', 'peak')):
            points = [(r['posts'], max(r[key], 1e-3)) for r in mine]
            if points:
                axis.plot(*zip(*points), label=label, **style)
    for key, label, scale in (('gather', 'gather a batch', 1e3),
                              ('epoch', 'train on a batch', 1e3 / BATCHES)):
        points = [(r['posts'], r[key] * scale) for r in of(runs, 'train')
                  if key in r]
        if points:
            axes[2].plot(*zip(*points), marker='o', label=label)
    for axis, what in zip(axes, ('build: CPU seconds', 'build: peak GiB',
                                 'train: CPU ms a batch')):
        axis.set(xscale='log', xlabel='posts', ylabel=what)
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0].set(yscale='log')
    axes[1].set(yscale='log')
    axes[2].set(ylim=(0, None))
    written = []
    for suffix in ('png', 'svg'):
        path = folder / f'{RESULT.stem}.{suffix}'
        figure.savefig(path, dpi=90)
        written.append(path)
    plt.close(figure)
    return written


# All runs ####################################################################


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--sizes', type=int, nargs='+', default=None,
                        help='posts (default: 10^3 ... 10^6, or 200 and 500 '
                        'with --quick)')
    parser.add_argument('--methods', nargs='+', choices=METHODS,
                        default=list(METHODS), help='(default: all)')
    parser.add_argument('--kinds', nargs='+', choices=['build', 'train'],
                        default=['build', 'train'], help='(default: both)')
    parser.add_argument('--budget-seconds', type=float, default=3600,
                        help='CPU seconds of a run (default: 3600)')
    parser.add_argument('--folder', type=Path, default=None,
                        help='where features are written (default: a '
                        'temporary folder; 4 GB for a million posts)')
    parser.add_argument('--quick', action='store_true',
                        help='tiny sizes, nothing written')
    parser.add_argument('--render', action='store_true',
                        help='only tables and plots of what is recorded')
    parser.add_argument('--output', type=Path, default=None,
                        help='JSON file (default: the recorded result, or '
                        'none with --quick)')
    parser.add_argument('--child', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.output is None and not args.quick:
        args.output = RESULT
    if args.sizes is None:
        args.sizes = [200, 500] if args.quick else SIZES
    if min(args.sizes) < 100:
        parser.error(f'--sizes must be at least 100 (got {min(args.sizes)})')
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.child is not None:
        kind, method, folder = args.child
        print(json.dumps(child(kind, method, Path(folder))))
        return 0
    result: dict[str, Any] = dict(benchmark=RESULT.stem, k=K, channels=DIM,
                                  runs=[])
    if args.output is not None and args.output.is_file():
        result = json.loads(args.output.read_text(encoding='utf-8'))
    runs = result['runs']

    def write() -> None:
        if args.output is None:
            return
        result.update(render(runs), machine=machine(threads=1))
        write_json(args.output, result)
        more = args.output.with_name(f'{args.output.stem}_training.json')
        write_json(more, render_train(runs))

    plan = [] if args.render else [
        (size, kind, method) for size in sorted(args.sizes)
        for kind in args.kinds
        for method in (args.methods if kind == 'build' else ['train'])]
    plan = [item for item in plan if not any(
        (r['posts'], r['kind'], r['method']) == item for r in runs)]
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        made = None
        for i, (size, kind, method) in enumerate(plan):
            print(f'[{i + 1}/{len(plan)}] {size:,} {kind} {method} ...',
                  flush=True)
            if made != size:
                make_features(Path(name), size)
                made = size
            out = supervise('benchmarks.relation_graph',
                            [kind, method, name], args.budget_seconds)
            print('    ' + ', '.join(
                f'{key} {value:.4g}' if isinstance(value, float) else
                f'{key}: {value}' for key, value in out.items()), flush=True)
            runs.append(dict(posts=size, kind=kind, method=method, **out))
            write()
    show(render(runs))
    show(render_train(runs))
    write()
    if args.output is not None:
        for path in plot(runs, args.output.parent):
            print(f'written to {path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
