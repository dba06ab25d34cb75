"""Does joint extraction use the image, and does aligning the graphs help?

`SyntheticPosts(clauses=2)`: two clauses a post, each with two mentions and at
most one relation. 60 % of the clauses name the signs of two relations, and the
image shows which one holds, so that the best quintuple F1 of any function of
the text is known. EEGA is trained with the same encoder and budget

* *text only*;
* with the image and each setting of the alignment loss: none, nodes (WD),
  edges (GWD), both, with the paper's weight of 0.6 (beside a mean over pairs
  of words, as in the published code) and, both, with a hundredth of it;
* with the alignment carrying the objects to the words, by transport that lets
  words stay unmatched, with and without the loss of it;
* and, as the control, with the images of other posts.

Every seed draws a world of its own; the test split is scored once, after the
last epoch. Runs are recorded as they end and those recorded are skipped.

    python -m benchmarks.jmere_synthetic
    python -m benchmarks.jmere_synthetic --quick
"""
import argparse
import json
import logging
import platform
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch_geometric
from torch_geometric.transforms import BaseTransform

import mmgraph
from benchmarks.common import show, write_json
from mmgraph.data import Post
from mmgraph.datasets import SyntheticPosts
from mmgraph.metrics import QuintupleMetric, match_accuracy
from mmgraph.models.jmere import EEGA
from mmgraph.nn.align import TransportAligner
from mmgraph.nn.encoders import CharWordEncoder
from mmgraph.train import PostDataModule, PostModule
from mmgraph.transforms import WordPairs

RESULT = Path(__file__).parent / 'results' / 'jmere_synthetic.json'
NUM_POSTS, EPOCHS, SEEDS = 4000, 12, (0, 1, 2, 3, 4)
QUICK_POSTS, QUICK_EPOCHS = 200, 2
CLAUSES, VISUAL, DIM, WIDTH, EDGE_DIM, HEADS = 2, 0.6, 64, 64, 32, 4
DROPOUT, LR, WARMUP, BATCH_SIZE, MIN_COUNT = 0.1, 4e-3, 100, 32, 2

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    'text': ('text only', dict(object_channels=None)),
    'none': ('image, no alignment', dict(alignment='none')),
    'node': ('image, nodes aligned', dict(alignment='node')),
    'edge': ('image, edges aligned', dict(alignment='edge')),
    'both': ('image, both (EEGA)', dict(alignment='both')),
    'weak': ('the same, weight 0.006', dict(align_weight=0.006)),
    'carry': ('image, carried by partial transport',
              dict(fusion='alignment', align_weight=0.0)),
    'carry loss': ('the same with its loss', dict(fusion='alignment')),
    'other image': ('image of another post, both', dict(alignment='both')),
}
SCORES = ['f1', 'directed_f1', 'entity_f1', 'relation_f1']


class OtherImage(BaseTransform):
    """Gives a post the image of another one of its split."""

    def __init__(self, posts: SyntheticPosts) -> None:
        generator = torch.Generator().manual_seed(posts.seed)
        order = torch.randperm(posts.num_posts, generator=generator).tolist()
        other = dict(zip(order, order[1:] + order[:1], strict=True))
        self.posts = posts
        self.other = {posts.post(i).post_id: other[i] for i in order}

    def forward(self, post: Post) -> Post:
        other = self.posts.post(self.other[post.post_id])
        post['object'].update(other['object'].to_dict())
        kind = ('object', 'relates', 'object')
        post[kind].update(other[kind].to_dict())
        # Whatever the words matched is not in this image.
        matches = post['word', 'matches', 'object']
        matches.edge_index = matches.edge_index[:, :0]
        return post


def module(seed: int, num_posts: int, other_image: bool) -> PostDataModule:
    """The three splits of a seed's world."""
    posts = SyntheticPosts(num_posts=num_posts, clauses=CLAUSES,
                           visual=VISUAL, object_dim=DIM, seed=seed)
    data = PostDataModule(posts, batch_size=BATCH_SIZE, eval_batch_size=250,
                          cache=True, min_count=MIN_COUNT, pairs=WordPairs(),
                          seed=seed)
    if other_image:
        for name in ('train', 'val', 'test'):
            split = data.split(name)
            split.transform = OtherImage(split)
    return data


def build(options: dict[str, Any], data: PostDataModule) -> EEGA:
    """A model with the shared encoder and sizes."""
    kinds = data.vocabularies
    width = 2 * WIDTH
    if options.get('fusion') == 'alignment':
        options = dict(options, aligner=TransportAligner(width, width, width))
    encoder = CharWordEncoder(data.words, word_dim=WIDTH,
                              hidden_channels=WIDTH, dropout=DROPOUT)
    return EEGA(
        encoder, data.num_types, data.num_relations, data.signatures,
        **dict(dict(object_channels=DIM), **options),
        num_dependencies=len(kinds['dependency']),
        num_predicates=len(kinds['predicate']), num_pos=len(kinds['pos']),
        edge_dim=EDGE_DIM, num_heads=HEADS, dropout=DROPOUT,
        graph_dropout=DROPOUT, image_dropout=DROPOUT)


def run(name: str, seed: int, num_posts: int, epochs: int,
        split: str = 'test') -> dict[str, Any]:
    """Trains a model and scores it once."""
    # Seconds of this process: other work on the machine counts less.
    start = time.process_time()
    data = module(seed, num_posts, name == 'other image')
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Advice for other machines.
        torch.manual_seed(seed)
        model = build(MODELS[name][1], data)
        trainer = pl.Trainer(
            max_epochs=epochs, gradient_clip_val=1.0, logger=False,
            enable_checkpointing=False, enable_model_summary=False,
            enable_progress_bar=False, use_distributed_sampler=False,
            num_sanity_val_steps=0, limit_val_batches=0, accelerator='cpu')
        trainer.fit(PostModule(model, data.vocabularies, lr=LR,
                               warmup_steps=WARMUP), data)
    seconds = time.process_time() - start
    scored = data.split(split)
    return dict(
        model=name, seed=seed, **score(model.eval(), data, split),
        text_ceiling=scored.text_only_quintuple_ceiling,
        seconds=round(seconds, 1))


@torch.no_grad()
def score(model: EEGA, data: PostDataModule,
          split: str) -> dict[str, float | None]:
    """The scores of a split, and the share of objects whose best word is
    right by the last alignment, where there is one.
    """
    kinds = data.vocabularies
    metrics = [QuintupleMetric(kinds['entity'], kinds['relation'],
                               data.symmetric) for _ in range(2)]
    hits = total = 0.0
    loader = data.val_dataloader() if split == 'val' else (
        data.test_dataloader())
    for batch in loader:
        output = model(batch)
        metrics[0].update(model.decode(output, batch), batch)
        metrics[1].update(model.decode_gold(batch), batch)
        gold = batch['word', 'matches', 'object'].edge_index
        if output.alignment is not None and gold.numel():
            share, count = match_accuracy(output.alignment, gold)
            hits, total = hits + share * count, total + count
    found, ceiling = (metric.compute() for metric in metrics)
    return dict(**{key: found[key] for key in SCORES},
                precision=found['precision'], recall=found['recall'],
                ceiling=ceiling['f1'],
                aligned=hits / total if total else None)


def table(runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Mean ± standard deviation over seeds."""
    def cell(found: list[float | None]) -> str:
        values = [value for value in found if value is not None]
        if not values:
            return ''
        mean = 100 * statistics.fmean(values)
        if len(values) < 2:
            return f'{mean:.1f}'
        return f'{mean:.1f} ± {100 * statistics.stdev(values):.1f}'

    rows = []
    for name, (title, _) in MODELS.items():
        own = [item for item in runs if item['model'] == name]
        if own:
            rows.append([
                title, *(cell([item[key] for item in own])
                         for key in (*SCORES, 'aligned')), str(len(own)),
                f"{statistics.fmean(item['seconds'] for item in own):.0f}"])
    seeds = {item['seed']: item for item in runs}.values()
    rows.append(['most from the text (exact)',
                 cell([item['text_ceiling'] for item in seeds]),
                 *[''] * 6])
    rows.append(['most that decoding can reach',
                 cell([item['ceiling'] for item in seeds]), *[''] * 6])
    return rows


def main(args: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--quick', action='store_true',
                        help='few posts, one seed; nothing is written unless '
                        '--output is given')
    parser.add_argument('--seeds', type=int, nargs='+', default=None)
    parser.add_argument('--models', nargs='+', choices=list(MODELS),
                        default=list(MODELS))
    parser.add_argument('--output', type=Path, default=None,
                        help=f'default: results/{RESULT.name}')
    options = parser.parse_args(args)
    output = options.output or (None if options.quick else RESULT)
    num_posts, epochs = ((QUICK_POSTS, QUICK_EPOCHS) if options.quick
                         else (NUM_POSTS, EPOCHS))
    seeds = options.seeds or (SEEDS[:1] if options.quick else SEEDS)
    logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)
    runs = load(output)
    for seed in seeds:
        for name in options.models:
            if any((item['model'], item['seed']) == (name, seed)
                   for item in runs):
                continue
            item = run(name, seed, num_posts, epochs)
            # Read again: another process may have written meanwhile.
            runs = [*load(output), item] if output else [*runs, item]
            print(f"seed {seed}  {MODELS[name][0]:38}"
                  f"F1 {100 * item['f1']:5.1f}", flush=True)
            if output:
                write_json(output, result(runs, num_posts, epochs))
    found = result(runs, num_posts, epochs)
    show(found)
    if output:
        write_json(output, found)
        plot(runs, output.with_suffix('.png'))
        print(f'\nwrote {output} and its picture')
    return runs


def plot(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Quintuple F1 of each setting, and what the text can tell."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    found = {name: [100 * item['f1'] for item in runs
                    if item['model'] == name] for name in MODELS}
    names = [name for name in MODELS if found[name]]
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(names) + 1.2),
                                layout='constrained')
    for y, name in enumerate(names):
        axis.barh(y, statistics.fmean(found[name]), color='#56b4e9')
        axis.plot(found[name], [y] * len(found[name]), 'o', color='#28323f',
                  markersize=4)
    bound = 100 * statistics.fmean({
        item['seed']: item['text_ceiling'] for item in runs}.values())
    axis.axvline(bound, color='#d55e00', linestyle='--',
                 label='most from the text')
    axis.set(yticks=range(len(names)), xlabel='quintuple F1 (%)',
             yticklabels=[MODELS[name][0] for name in names], xlim=(0, 100))
    axis.invert_yaxis()
    axis.legend(loc='lower right')
    figure.savefig(path, dpi=90)
    plt.close(figure)


def load(path: Path | None) -> list[dict[str, Any]]:
    """What has been recorded."""
    if path is None or not path.is_file():
        return []
    # Earlier runs have a NaN where nothing is aligned.
    found = json.loads(path.read_text(encoding='utf-8'),
                       parse_constant=lambda _: None)
    runs: list[dict[str, Any]] = found['runs']
    return runs


def result(runs: list[dict[str, Any]], num_posts: int,
           epochs: int) -> dict[str, Any]:
    """The runs with their table."""
    return dict(
        title='Entities and relations jointly, on synthetic posts of two '
        'clauses (test split, %, mean ± deviation over seeds)',
        columns=['what', 'quintuple F1', 'directed F1', 'entity F1',
                 'relation F1', 'objects aligned', 'seeds', 'CPU seconds'],
        rows=table(runs),
        notes=f'{num_posts} posts a split, {epochs} epochs, one encoder '
        f'(words, BiLSTM) for all. 60 % of the clauses name the signs of two '
        f'relations and the image shows one of them. Objects aligned: share '
        f"of the objects with a gold word whose best word by the model's "
        f'alignment is that one. Every seed is a world of its own; the test '
        f'split is scored once, after the last epoch. Settings are one for '
        f'all models and were chosen on the validation split of another '
        f'world (seed 100); the number of epochs and the share of clauses '
        f'that the image decides after two shorter runs of seed 0 (half of '
        f'the clauses: 73.9 text only, 81.2 with the image). Seconds are '
        f'those of the process, on a machine that did other work too.',
        runs=runs,
        settings=dict(
            num_posts=num_posts, epochs=epochs, clauses=CLAUSES,
            visual=VISUAL, object_dim=DIM, width=WIDTH, edge_dim=EDGE_DIM,
            num_heads=HEADS, dropout=DROPOUT, lr=LR, warmup_steps=WARMUP,
            batch_size=BATCH_SIZE, min_count=MIN_COUNT,
            threads=torch.get_num_threads()),
        versions=dict(
            mmgraph=mmgraph.__version__, torch=torch.__version__,
            torch_geometric=torch_geometric.__version__,
            pytorch_lightning=pl.__version__,
            python=platform.python_version()))


if __name__ == '__main__':
    main()
