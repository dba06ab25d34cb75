"""``mmgraph demo``: does the model use the image?"""
import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from mmgraph.data import GraphView, Post, batch_view
from mmgraph.datasets import SyntheticPosts
from mmgraph.metrics import match_accuracy
from mmgraph.models.mre import MEGA, RelationOutput
from mmgraph.nn.align import Alignment, StructuralAligner
from mmgraph.nn.encoders import CharWordEncoder
from mmgraph.utils import atomic_path, optional_import

__all__ = ['add_arguments', 'run']

# configs/demo.yaml says the same; a test compares them.
OBJECT_DIM, NUM_POSTS, EPOCHS = 64, 4000, 12
WIDTH, DROPOUT, LR, WARMUP, BATCH_SIZE = 96, 0.2, 2e-3, 20, 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    r"""The flags of ``mmgraph demo``."""
    parser.add_argument('--quick', action='store_true',
                        help='a smaller run that shows the same, less sharply')
    parser.add_argument('--visual', type=float, default=0.5,
                        help='share of relations that only the image decides '
                        '(default: 0.5)')
    parser.add_argument('--seed', type=int, default=0,
                        help='seed of the posts and the models (default: 0)')
    parser.add_argument('--output', type=Path, default=Path('demo'),
                        help='folder for the table and the picture '
                        '(default: demo)')


def run(args: argparse.Namespace) -> int:
    r"""Trains MEGA, its twin without structure and its text-only twin on
    :class:`~mmgraph.datasets.SyntheticPosts`, prints one table, and draws one
    aligned post.
    """
    optional_import('pytorch_lightning', 'train')
    num_posts, epochs = (2000, 10) if args.quick else (NUM_POSTS, EPOCHS)
    start = time.perf_counter()
    train = SyntheticPosts(split='train', num_posts=num_posts,
                           visual=args.visual, seed=args.seed,
                           object_dim=OBJECT_DIM)
    test = train.with_split('test')
    print(f'{num_posts} posts to train on and as many to test; the image '
          f'alone decides {test.visual_share:.0%} of the relations.',
          flush=True)

    models: dict[str, dict[str, Any]] = {
        'text only': dict(use_semantic=False),
        'MEGA without structural part': dict(object_channels=OBJECT_DIM),
        'MEGA': dict(object_channels=OBJECT_DIM, aligner=StructuralAligner()),
    }
    rows = [('majority', test.majority, 'no model')]
    trained = {}
    for name, settings in models.items():
        accuracy, model, seconds = _train(name, settings, train, epochs,
                                          args.seed)
        trained[name] = model
        rows.append((name, accuracy, f'{seconds:.0f} s'))
    rows.insert(1, ('text-only ceiling', test.text_only_ceiling, 'known'))

    alignments = _alignments(trained['MEGA'], test)
    _print('Relations of the test posts', 'accuracy (%)', rows)
    _print('Objects whose best word is right (gold is known)', 'accuracy (%)',
           alignments)
    picture = _draw(trained['MEGA'], test, args.output)
    report = args.output / 'demo.json'
    with atomic_path(report) as part:
        part.write_text(json.dumps(dict(
            seed=args.seed, visual=args.visual, quick=args.quick,
            relations=rows, alignments=alignments), indent=1) + '\n')
    print(f'\nPicture: {picture}\nFigures: {report}\n'
          f'{time.perf_counter() - start:.0f} s in all')
    return 0


def _train(
    name: str,
    settings: dict[str, Any],
    train: SyntheticPosts,
    epochs: int,
    seed: int,
) -> tuple[float, MEGA, float]:
    import pytorch_lightning as pl

    from mmgraph.train import PostDataModule, PostModule
    logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)
    start = time.perf_counter()
    data = PostDataModule(train, batch_size=BATCH_SIZE, eval_batch_size=250,
                          cache=True, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = CharWordEncoder(data.words, word_dim=WIDTH,
                                  hidden_channels=WIDTH, dropout=DROPOUT)
        model = MEGA(encoder, data.num_relations, hidden_channels=2 * WIDTH,
                     fusion='sum', dropout=DROPOUT, **settings)
        module = PostModule(model, data.vocabularies, data.negative, lr=LR,
                            warmup_steps=WARMUP)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Advice for other machines.
            trainer = pl.Trainer(
                max_epochs=epochs, logger=False, enable_checkpointing=False,
                enable_model_summary=False, use_distributed_sampler=False,
                num_sanity_val_steps=0, limit_val_batches=0,
                accelerator='cpu')
            print(f'\n{name}', flush=True)
            trainer.fit(module, data)
            trainer.test(module, data, verbose=False)
    accuracy = float(trainer.callback_metrics['test_accuracy'])
    return accuracy, model.eval(), time.perf_counter() - start


@torch.no_grad()
def _alignments(
    model: MEGA,
    test: SyntheticPosts,
) -> list[tuple[str, float, str]]:
    from torch_geometric.loader import DataLoader
    hits: dict[str, float] = {}
    total = 0
    for batch in DataLoader(test, batch_size=256):
        gold = batch['word', 'matches', 'object'].edge_index
        words, objects = batch_view(batch, 'word'), batch_view(batch, 'object')
        output: RelationOutput = model(batch)
        assert output.semantic is not None
        found = {
            'chance': _chance(words, objects),
            'structural (degrees, not trained)':
                StructuralAligner(top_k=None)(words, objects),
            'semantic (attention of the trained MEGA)': output.semantic,
        }
        for name, alignment in found.items():
            share, count = match_accuracy(alignment, gold)
            hits[name] = hits.get(name, 0.0) + share * count
        total += gold.size(1)
    return [(name, hit / total, f'{total} objects')
            for name, hit in hits.items()]


def _chance(words: GraphView, objects: GraphView) -> Alignment:
    shape = (words.num_graphs, int(words.sizes.max()),
             int(objects.sizes.max()))
    return Alignment.from_dense(torch.ones(shape), words, objects)


@torch.no_grad()
def _draw(model: MEGA, test: SyntheticPosts, folder: Path) -> Path | None:
    from mmgraph.errors import MissingExtraError
    from mmgraph.viz import save_alignment
    index = next((i for i in range(len(test)) if _shows(test[i])), 0)
    post = test[index]
    output = model(post)
    assert output.semantic is not None
    [[found]] = model.decode(output, post)
    path = folder / 'aligned_post.png'
    try:
        image = test.draw(index, names=False)
        save_alignment(post, path, alignment=output.semantic, image=image,
                       vocabularies=test.vocabularies,
                       predicted=found.relation_id)
    except MissingExtraError as error:
        print(f'no picture: {error}')
        return None
    return path


def _shows(post: Post) -> bool:
    return bool(post['image'].decides.any()) and len(post.words) < 16


def _print(
    title: str,
    column: str,
    rows: list[tuple[str, float, str]],
) -> None:
    width = max(len(name) for name, _, _ in rows)
    print(f'\n{title:{width}}  {column:>12}' if len(title) <= width
          else f'\n{title}\n{"":{width}}  {column:>12}')
    for name, value, note in rows:
        print(f'{name:{width}}  {100 * value:12.1f}  {note}')
