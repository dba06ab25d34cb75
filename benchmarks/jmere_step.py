"""One training step of EEGA's layers: mmgraph's against a dense formulation.

Forward pass, loss (word pairs and alignment) and backward pass of all that
follows the text encoder: the projection of word states (which are given),
attention along the edges of both graphs, the alignment loss, attention to the
image, three linguistic channels, the pair classifier, and the cross-entropy of
the upper triangle. Ours is ``mmgraph.models.jmere.EEGA`` as it trains, its
gold tables included; the peer (``benchmarks/peers/eega_dense.py``) is written
from the formulas over padded posts, with tensors over all pairs of words. Both
get the same posts and parameters, and their logits, losses and gradients are
compared, without dropout, before anything is measured.

Times are those of one process and one thread, in which both take turns, with
dropout. Peak memory is measured in a process for each, on one such step: what
it takes above the model, the posts and PyTorch, gradients included.

    python -m benchmarks.jmere_step
    python -m benchmarks.jmere_step --quick --output /tmp/jmere_step.json
"""
import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from benchmarks.common import (
    machine,
    reset_peak,
    show,
    status_field,
    supervise,
    write_json,
)
from benchmarks.peers.eega_dense import DenseBatch, DenseEEGA
from mmgraph.data import Post, SceneGraph, TextGraph, Vocabulary, batch_view
from mmgraph.models.jmere import EEGA
from mmgraph.nn.encoders import TextEncoder
from mmgraph.nn.ragged import pad_rows, rows_of
from mmgraph.transforms import WordPairs

RESULT = Path(__file__).parent / 'results' / 'jmere_step.json'
NUM_TYPES, NUM_RELATIONS, NUM_POS, NUM_PREDICATES = 4, 21, 17, 50
DEPENDENCIES = Vocabulary(['root', *(f'label{i}' for i in range(45))])
NAMES = ['mmgraph', 'dense']


class Case(NamedTuple):
    """A batch of posts and the width of the model."""
    posts: int
    words: int  # of the longest post
    ragged: bool = False  # down to a third of it
    objects: int = 10
    relations: int = 20  # of the objects
    object_channels: int = 4096
    width: int = 768
    heads: int = 12

    @property
    def name(self) -> str:
        first = f'{self.words // 3} to ' if self.ragged else ''
        return f'{self.posts} posts, {first}{self.words} words'


CASES = [Case(16, 70), Case(16, 70, ragged=True), Case(16, 17)]
QUICK = [Case(4, 9, True, 4, 5, 24, 24, 2)]


# The posts and the two models ################################################


class GivenStates(TextEncoder):
    """Takes the place of a text encoder: the posts hold its states."""
    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.node_type = 'word'
        self.out_channels = out_channels

    def forward(self, batch: Post) -> Tensor:
        return batch['word'].x


def make_posts(case: Case, seed: int = 0) -> Post:
    """Random trees, scenes and annotation; frequent and rare words."""
    g = torch.Generator().manual_seed(seed)

    def draw(high: int, size: int) -> Tensor:
        return torch.randint(high, (size, ), generator=g)

    low = case.words // 3 if case.ragged else case.words
    sizes = (low + draw(case.words - low + 1, case.posts)).tolist()
    sizes[0] = case.words
    rank = torch.arange(1., 2001)
    posts = []
    for b, n in enumerate(sizes):
        words = torch.multinomial(1 / rank, n, replacement=True, generator=g)
        heads = [-1] + [int(draw(i, 1)) for i in range(1, n)]
        text = TextGraph.from_heads(
            [f'w{int(i)}' for i in words], heads,
            [DEPENDENCIES.to_label(int(i)) for i in draw(46, n)],
            DEPENDENCIES, pos_id=draw(NUM_POS, n),
            x=torch.randn(n, case.width, generator=g))
        # One predicate a pair of objects: a matrix holds no more.
        pairs = torch.combinations(torch.arange(case.objects)).t()
        pairs = pairs[:, torch.randperm(pairs.size(1), generator=g)]
        pairs = pairs[:, :case.relations]
        scene = SceneGraph.build(
            pairs, case.objects, draw(NUM_PREDICATES, pairs.size(1)),
            x=torch.randn(case.objects, case.object_channels, generator=g))
        posts.append(Post.build(text, scene, [(0, 2, 0), (n - 1, n, 1)],
                                [(1, 0, 3)], post_id=f'p{b}'))
    transform = WordPairs().fit([post.words for post in posts])
    return Batch.from_data_list([transform(post) for post in posts])


def make_ours(case: Case) -> EEGA:
    return EEGA(
        GivenStates(case.width), NUM_TYPES, NUM_RELATIONS,
        object_channels=case.object_channels,
        num_dependencies=len(DEPENDENCIES), num_predicates=NUM_PREDICATES,
        num_pos=NUM_POS, num_heads=case.heads)


def make_peer(case: Case, ours: EEGA) -> DenseEEGA:
    peer = DenseEEGA(
        case.width, NUM_TYPES, NUM_RELATIONS, case.object_channels,
        len(DEPENDENCIES), NUM_PREDICATES, NUM_POS, WordPairs().num_distances,
        WordPairs.num_pmi, case.width, num_heads=case.heads)
    peer.load_state_dict(ours.state_dict())
    return peer


def dense_batch(batch: Post, ours: EEGA) -> DenseBatch:
    """The same posts, padded, with matrices of labels."""
    word, ptr = rows_of(batch, 'word')
    words, word_mask = pad_rows(batch['word'].x.detach(), word, ptr)
    pairs = batch['word', 'pairs', 'word']
    graph = word[pairs.edge_index[0]]
    row, col = pairs.edge_index - ptr[graph]
    shape = len(ptr) - 1, words.size(1), words.size(1)

    def square(value: Tensor) -> Tensor:
        out = value.new_zeros(shape)
        out[graph, row, col] = out[graph, col, row] = value
        return out

    target = torch.full(shape, -1)
    target[graph, row, col] = ours.head.labels(
        batch, torch.arange(len(word)), pairs.edge_index)
    objects, object_mask = pad_rows(batch['object'].x,
                                    *rows_of(batch, 'object'))
    return DenseBatch(
        words, word_mask, label_matrix(batch, 'word', len(DEPENDENCIES)),
        objects, object_mask, label_matrix(batch, 'object', NUM_PREDICATES),
        pad_rows(batch['word'].pos_id, word, ptr)[0],
        square(pairs.distance_id), square(pairs.pmi_id), target)


def label_matrix(batch: Post, kind: str, loop: int) -> Tensor:
    """Under which label a node hears another; -1: not at all."""
    view = batch_view(batch, kind)
    assert view.edge_type is not None
    size = int(view.sizes.max())
    out = torch.full((view.num_graphs, size, size), -1)
    graph = view.batch[view.edge_index[0]]
    row, col = view.edge_index - view.ptr[graph]
    out[graph, row, col] = out[graph, col, row] = view.edge_type
    node = torch.arange(view.num_nodes) - view.ptr[view.batch]
    out[view.batch, node, node] = loop
    return out


class Side(NamedTuple):
    """One of the two that are compared."""
    model: nn.Module
    words: Tensor  # the leaf that stands for the text encoder's states
    outputs: Callable[[], tuple[Tensor, Tensor]]  # logits and loss

    def step(self) -> tuple[Tensor, Tensor]:
        self.model.zero_grad()
        self.words.grad = None
        logits, loss = self.outputs()
        loss.backward()
        return logits, loss


def make_side(name: str, case: Case, batch: Post | None = None) -> Side:
    """One of :obj:`NAMES`, with parameters and posts that both share."""
    batch = (make_posts(case) if batch is None else batch).clone()
    dtype = batch['word'].x.dtype
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = make_ours(case).to(dtype)
    if name == 'mmgraph':
        def our_outputs() -> tuple[Tensor, Tensor]:
            output = ours(batch)
            return output.logits, ours.loss(output, batch)

        return Side(ours, batch['word'].x.requires_grad_(), our_outputs)
    peer = make_peer(case, ours).to(dtype)
    dense = dense_batch(batch, ours)

    def peer_outputs() -> tuple[Tensor, Tensor]:
        logits, align = peer(dense)
        return logits, peer.loss(logits, align, dense.target)

    return Side(peer, dense.words.requires_grad_(), peer_outputs)


def compare(ours: Side, peer: Side, batch: Post, atol: float = 1e-4) -> None:
    """Both give the same logits, loss and gradients.

    Raises:
        AssertionError: If not.
    """
    for side in (ours, peer):
        side.model.eval()
    logits, loss = ours.step()
    table, other = peer.step()
    word, ptr = rows_of(batch, 'word')
    pairs = batch['word', 'pairs', 'word'].edge_index
    graph = word[pairs[0]]
    row, col = pairs - ptr[graph]
    torch.testing.assert_close(logits, table[graph, row, col], rtol=0,
                               atol=atol)
    torch.testing.assert_close(loss, other, rtol=0, atol=atol)
    mine = dict(ours.model.named_parameters())
    assert peer.words.grad is not None
    place = torch.arange(len(word)) - ptr[word]
    grads = [(ours.words.grad, peer.words.grad[word, place])]
    grads += [(mine[name].grad, parameter.grad)
              for name, parameter in peer.model.named_parameters()]
    for grad, other in grads:
        torch.testing.assert_close(grad, other, rtol=1e-4, atol=atol)
    for side in (ours, peer):
        side.model.train()


# Time and memory #############################################################


def transport_seconds(side: Side, case: Case, repeats: int) -> float:
    """CPU seconds of the alignment loss, forward, on given features."""
    batch = make_posts(case)
    g = torch.Generator().manual_seed(1)
    x, y = (torch.randn(int(batch[kind].num_nodes), case.width, generator=g)
            for kind in ('word', 'object'))
    if isinstance(side.model, EEGA):
        aligner = side.model.aligner
        assert aligner is not None
        views = batch_view(batch, 'word', x=x), batch_view(batch, 'object',
                                                           x=y)

        def call() -> Any:
            return aligner(*views)
    else:
        peer = side.model
        assert isinstance(peer, DenseEEGA)
        dense = dense_batch(batch, make_ours(case))
        padded = (pad_rows(x, *rows_of(batch, 'word'))[0],
                  pad_rows(y, *rows_of(batch, 'object'))[0])

        def call() -> Any:
            return peer.alignment_loss(*padded, dense)
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Times of both, in turns, and peak memory of each."""
    sides = {name: make_side(name, case) for name in NAMES}
    compare(sides['mmgraph'], sides['dense'], make_posts(case))
    cpu: dict[str, list[float]] = {name: [] for name in NAMES}
    wall: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(rounds + 1):  # The first one warms up.
        for name, side in sides.items():
            start = time.process_time(), time.perf_counter()
            side.step()
            cpu[name].append(time.process_time() - start[0])
            wall[name].append(time.perf_counter() - start[1])
    aligning = {name: transport_seconds(side, case, 3)
                for name, side in sides.items()}
    del sides, side
    memory = {}
    for name in NAMES:
        answer = supervise('benchmarks.jmere_step',
                           [name, json.dumps(case)], seconds=600)
        if 'stopped' in answer:
            raise RuntimeError(f'{name}, {case.name}: {answer["stopped"]}')
        memory[name] = answer['bytes']
    return dict(case=case._asdict(), memory=memory, aligning=aligning,
                **{key: {name: each[1:] for name, each in value.items()}
                   for key, value in (('cpu', cpu), ('wall', wall))})


def child(name: str, case: Case) -> None:
    """Prints the peak memory of one step."""
    torch.set_num_threads(1)
    tiny = case._replace(posts=1, words=4)
    make_side(name, tiny).step()  # What is loaded at a first call.
    side = make_side(name, case)
    reset_peak()
    before = status_field('VmRSS')
    side.step()
    print(json.dumps(dict(bytes=status_field('VmHWM') - before)))


# The table and the command line ##############################################


def table(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row a case and quantity."""
    rows = []
    for result in results:
        case = Case(**result['case'])
        for what, scale, digits, figures in (
            ('step, CPU ms', 1e3, 0, result['cpu']),
            ('step, wall ms', 1e3, 0, result['wall']),
            ('peak memory, MiB', 2**-20, 0, result['memory']),
            ('alignment loss, forward, CPU ms', 1e3, 1, result['aligning']),
        ):
            ours, peer = (
                statistics.median(value) if isinstance(value, list) else value
                for value in (figures[name] for name in NAMES))
            rows.append([case.name, what, f'{scale * ours:.{digits}f}',
                         f'{scale * peer:.{digits}f}', f'{peer / ours:.2f}'])
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--quick', action='store_true',
                        help='one small batch and a narrow model, few rounds')
    parser.add_argument('--rounds', type=int, default=None,
                        help='steps of each (default: 7, or 2 with --quick)')
    parser.add_argument('--output', type=Path, default=None,
                        help=f'(default: {RESULT.name} in the results, '
                             f'nothing with --quick)')
    parser.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child is not None:
        child(args.child[0], Case(*json.loads(args.child[1])))
        return 0
    rounds = args.rounds or (2 if args.quick else 7)
    output = args.output or (None if args.quick else RESULT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = [measure(case, rounds)
                   for case in (QUICK if args.quick else CASES)]
    finally:
        torch.set_num_threads(threads)
    first = (QUICK if args.quick else CASES)[0]
    result = dict(
        title='A training step of EEGA without its text encoder',
        columns=['batch', 'what', 'mmgraph', 'dense', 'ratio'],
        rows=table(results),
        notes=f'{first.objects} objects of {first.object_channels} a post, '
              f'width {first.width}, {first.heads} heads, dropout as '
              f'published. Times: median over {rounds} rounds in turns, one '
              f'process, one thread, float32, mmgraph with its checks on; wall '
              f'times count what else the machine did. '
              f'Memory: the peak of one step in a process of its own, above '
              f'the model and the posts. Without dropout, logits, losses '
              f'and all gradients of both are the same to 1e-4.',
        quick=args.quick, results=results, machine=machine(threads=1))
    show(result)
    if output is not None:
        write_json(output, result)
        print(f'written to {output}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
