"""Speed of the conditional random field: mmgraph's against pytorch-crf.

Both get the same emissions, gold tags and parameters, and take turns in one
process on one thread; the figures are CPU milliseconds of a call, the median
over all rounds. Ours reads ragged rows, pytorch-crf the padded batch and a
mask; neither is timed for making them. Losses, gradients and decoded tags of
the two are compared before anything is timed.

    pip install pytorch-crf
    python -m benchmarks.crf_speed
    python -m benchmarks.crf_speed --quick --output /tmp/crf_speed.json
"""
import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import mmgraph
from benchmarks.common import write_json
from mmgraph.nn.crf import LinearChainCRF

RESULT = Path(__file__).parent / 'results' / 'crf_speed.json'
KINDS = ['loss', 'loss and gradient', 'decoding']


class Case(NamedTuple):
    """A batch of posts."""
    posts: int
    words: int  # of the longest post
    tags: int
    ragged: bool = False
    scale: float = 1.  # of the emissions

    @property
    def name(self) -> str:
        length = (f'{max(1, self.words // 10)} to {self.words} words'
                  if self.ragged else f'{self.words} words')
        wide = '' if self.scale == 1 else f', scores × {self.scale:g}'
        return f'{self.posts} posts, {length}, {self.tags} tags{wide}'


CASES = [
    Case(32, 64, 9),
    Case(32, 64, 13),
    Case(32, 40, 9, ragged=True),
    Case(32, 64, 9, ragged=True),
    Case(1, 16, 9),
    Case(8, 32, 9),
    Case(32, 16, 9),
    Case(128, 64, 9),
    Case(32, 256, 9),
    Case(32, 64, 41),
    Case(32, 64, 9, scale=1000.),
]
QUICK = [Case(4, 8, 5), Case(4, 12, 5, ragged=True)]

Calls = dict[str, Callable[[], Any]]


def make_calls(case: Case, seed: int) -> tuple[Calls, Calls]:
    """What is timed of ours and of the peer, after they have agreed."""
    import torchcrf
    generator = torch.Generator().manual_seed(seed)
    low = max(1, case.words // 10) if case.ragged else case.words
    sizes = torch.randint(low, case.words + 1, (case.posts, ),
                          generator=generator)
    sizes[0] = case.words
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    n = int(ptr[-1])
    rows = torch.randn(n, case.tags, generator=generator) * case.scale
    gold = torch.randint(case.tags, (n, ), generator=generator)
    mask = torch.arange(case.words) < sizes.unsqueeze(1)

    ours = LinearChainCRF(case.tags)
    for parameter in ours.parameters():
        parameter.data.uniform_(-0.1, 0.1, generator=generator)
    peer = torchcrf.CRF(case.tags, batch_first=True)
    peer.start_transitions.data = ours.start.data.clone()
    peer.end_transitions.data = ours.end.data.clone()
    peer.transitions.data = ours.transitions.data.clone()

    def padded(x: Tensor) -> Tensor:
        return pad_sequence(x.split(sizes.tolist()), batch_first=True)

    x, wide = rows.requires_grad_(), padded(rows.detach()).requires_grad_()
    wide_gold = padded(gold)

    def backward(crf: torch.nn.Module, x: Tensor,
                 loss: Callable[[], Tensor]) -> None:
        crf.zero_grad()
        x.grad = None
        loss().backward()

    def our_loss() -> Tensor:
        return ours(x, gold, ptr).mean()

    def peer_loss() -> Tensor:
        return -peer(wide, wide_gold, mask, reduction='mean')

    def calls(crf: torch.nn.Module, x: Tensor, loss: Callable[[], Tensor],
              decode: Callable[[], Any]) -> Calls:
        return dict(zip(KINDS, (torch.no_grad()(loss),
                                lambda: backward(crf, x, loss), decode)))

    both = (calls(ours, x, our_loss, lambda: ours.decode(x, ptr)),
            calls(peer, wide, peer_loss, lambda: peer.decode(wide, mask)))
    torch.testing.assert_close(our_loss(), peer_loss(), rtol=1e-4, atol=1e-4)
    for run in both:
        run['loss and gradient']()
    torch.testing.assert_close(x.grad, wide.grad[mask], rtol=1e-3, atol=1e-3)
    # Near ties are decided by rounding, and pytorch-crf adds in float32.
    cost, other = (ours(x.double(), torch.tensor(sum(run['decoding'](), [])),
                        ptr) for run in both)
    torch.testing.assert_close(cost, other, rtol=1e-4, atol=1e-4)
    if bool((cost > other + 1e-9).any()):
        raise RuntimeError(f'tags are less probable ({case.name})')
    return both


def clock(call: Callable[[], Any], repeats: int) -> float:
    """CPU milliseconds of a call."""
    start = time.process_time()
    for _ in range(repeats):
        call()
    return 1e3 * (time.process_time() - start) / repeats


def measure(case: Case, rounds: int, budget: float) -> dict[str, Any]:
    """All times of one case; the two take turns in each round."""
    ours, peer = make_calls(case, seed=0)
    times: dict[str, dict[str, list[float]]] = {}
    for kind in KINDS:
        pair = dict(ours=ours[kind], peer=peer[kind])
        repeats = {name: max(1, int(budget / max(clock(call, 2), 1e-3)))
                   for name, call in pair.items()}
        times[kind] = {name: [] for name in pair}
        for _ in range(rounds):
            for name, call in pair.items():
                times[kind][name].append(clock(call, repeats[name]))
    return dict(case=case._asdict(), milliseconds=times)


def table(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row a case and kind of call."""
    rows = []
    for result in results:
        for kind, sides in result['milliseconds'].items():
            ours, peer = (statistics.median(sides[name])
                          for name in ('ours', 'peer'))
            each = [a / b for a, b in zip(sides['peer'], sides['ours'])]
            rows.append([Case(**result['case']).name, kind, f'{ours:.2f}',
                         f'{peer:.2f}', f'{peer / ours:.1f}',
                         f'{min(each):.1f} to {max(each):.1f}'])
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--quick', action='store_true',
                        help='two small batches, few rounds')
    parser.add_argument('--rounds', type=int, default=None,
                        help='(default: 15, or 3 with --quick)')
    parser.add_argument('--output', type=Path, default=None,
                        help=f'(default: {RESULT.name} in the results, '
                             f'nothing with --quick)')
    args = parser.parse_args(argv)
    try:
        import torchcrf  # noqa: F401
    except ModuleNotFoundError:
        print("error: pytorch-crf is not installed: pip install 'pytorch-crf'",
              file=sys.stderr)
        return 2
    rounds = args.rounds or (3 if args.quick else 15)
    output = args.output or (None if args.quick else RESULT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = []
        for case in QUICK if args.quick else CASES:
            results.append(measure(case, rounds, 2. if args.quick else 60.))
            for row in table(results[-1:]):
                print(f'{row[0]:42}{row[1]:20}{row[2]:>9}{row[3]:>9}'
                      f'{row[4]:>7} ×  ({row[5]})', flush=True)
    finally:
        torch.set_num_threads(threads)
    if output is not None:
        write_json(output, dict(
            title='Conditional random field: CPU milliseconds of a call',
            columns=['batch', 'what', 'mmgraph', 'pytorch-crf', 'ratio',
                     'ratio, all rounds'],
            rows=table(results),
            notes=f'Median over {rounds} rounds in turns, one process, one '
                  f'thread, float32, mmgraph with its checks on. Loss and '
                  f'gradient of both agree, and so do the decoded tags, but '
                  f'for ties that rounding decides. Scores × 1000 is where '
                  f'mmgraph leaves probabilities for log-space.',
            quick=args.quick, results=results,
            versions=dict(mmgraph=mmgraph.__version__,
                          torch=torch.__version__,
                          pytorch_crf=version('pytorch-crf'),
                          python=platform.python_version())))
        print(f'written to {output}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
