"""Training, scoring and writing mentions and relations at once."""
import json
import sys

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from mmgraph.data import Post, TextGraph, Vocabulary
from mmgraph.datasets import PostDataset, StandInFeatures, SyntheticPosts
from mmgraph.datasets.base import Row
from mmgraph.errors import InputError
from mmgraph.metrics import QuintupleMetric
from mmgraph.models import Entity, Extraction, Relation, TaskModel
from mmgraph.models.jmere import EEGA
from mmgraph.nn.encoders import CharWordEncoder
from mmgraph.train import (
    PostDataModule,
    PostModule,
    from_pretrained,
    save_pretrained,
)
from mmgraph.train.cli import JsonLinesWriter, PostCLI
from mmgraph.train.tasks import TASKS
from mmgraph.transforms import WordPairs

TYPES = Vocabulary(['per', 'org', 'loc'])
RELATIONS = Vocabulary(['member_of', 'peer', 'locate_at'])
VOCABULARIES = dict(entity=TYPES, relation=RELATIONS, dependency=Vocabulary(
    ['root', 'dep']), pos=Vocabulary(['X'] * 1))
PAIRS = ('word', 'pairs', 'word')

#: Words, mentions and relations of a post, by split.
TEXTS = {
    'train': [('Ann and Bob left Delta FC', [(0, 1, 0), (2, 3, 0), (4, 6, 1)],
               [(0, 1, 1), (0, 2, 0)]),
              ('Delta FC signs Cat', [(0, 2, 1), (3, 4, 0)], [(1, 0, 0)]),
              ('nothing here', [], [])],
    'val': [('Dan meets Eve in Oslo', [(0, 1, 0), (2, 3, 0), (4, 5, 2)],
             [(1, 0, 1)]),
            ('Orbit Labs of Oslo', [(0, 2, 1), (3, 4, 2)], [(0, 1, 2)])],
    'test': [('Bob of Delta FC nothing here', [(0, 1, 0), (2, 4, 1)],
              [(0, 1, 0)])]}


class Corpus(PostDataset):
    """A corpus for joint extraction, made by hand."""
    symmetric = ('peer', )

    def __init__(self, split='train', transform=None):
        posts, rows = [], []
        for i, (text, entities, relations) in enumerate(TEXTS[split]):
            words = text.split()
            heads = [-1, *range(len(words) - 1)]  # A chain.
            posts.append(Post.build(TextGraph.from_heads(
                words, heads, ['root'] + ['dep'] * (len(words) - 1),
                VOCABULARIES['dependency']), post_id=f'{split}-{i}',
                has_image=True))
            rows.append(Row(i, entities, relations))
        super().__init__(posts, rows, VOCABULARIES, transform)
        self.split = split


def annotation(batch, keep=None, swap=False):
    """The gold annotation as a model's result, the first relations of it."""
    found = []
    for post in batch.to_data_list():
        mentions = [Entity(start, end, kind, ' '.join(post.words[start:end]))
                    for start, end, kind in post.entities]
        relations = []
        for *ends, relation in post.relations[:keep]:
            head, tail = (mentions[i] for i in ends)
            if swap:
                head, tail = tail, head
            relations.append(Relation(head, tail, relation, 0.75))
        found.append(Extraction(mentions, relations))
    return found


class GivesBack(TaskModel):
    """Knows the answer; decodes all of it, or heads for tails."""
    task = 'joint'

    def __init__(self, swap: bool = False, ceiling: int | None = None):
        super().__init__()
        self.swap = swap
        self.ceiling = ceiling
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return self.weight

    def loss(self, output, batch):
        return (output - 1).square().sum()

    def decode(self, output, batch):
        return annotation(batch, swap=self.swap)

    def decode_gold(self, batch):
        if self.ceiling is None:
            return None
        return annotation(batch, keep=self.ceiling)


def make(model=None, corpus=None, **kwargs):
    data = PostDataModule(corpus or Corpus(), batch_size=2, **kwargs)
    return PostModule(model or GivesBack(), data.vocabularies, data.negative,
                      data.symmetric, lr=0.1), data


# --- scores ------------------------------------------------------------------


def test_labels_and_metric():
    module, _ = make()
    assert module.labels == dict(entity=TYPES, relation=RELATIONS)
    assert list(module.labels) == ['entity', 'relation']
    for metric in module.metrics.values():
        assert isinstance(metric, QuintupleMetric)
        assert metric.symmetric_ids == {1}


@pytest.mark.parametrize('swap, directed', [(False, 1.0), (True, 0.5)])
def test_scores(tiny_trainer, swap, directed):
    module, data = make(GivesBack(swap))
    trainer = tiny_trainer(max_epochs=2)
    trainer.fit(module, data)
    found = trainer.callback_metrics
    names = [f'{kind}{name}' for kind in ('', 'directed_', 'entity_',
                                          'relation_')
             for name in ('precision', 'recall', 'f1')]
    for name in names:
        assert found[f'val_{name}'] == (
            directed if name.startswith('directed') else 1)
    assert 0 < float(found['val_loss']) < 1
    assert not [name for name in found if 'ceiling' in name]
    trainer.test(module, data, verbose=False)
    assert trainer.callback_metrics['test_f1'] == 1


def test_ceiling(tiny_trainer):
    # One of the three relations of training cannot be decoded.
    class Train(Corpus):
        def with_split(self, split):
            return Corpus('train' if split == 'val' else split)

    module, data = make(GivesBack(ceiling=1), Train())
    trainer = tiny_trainer(max_epochs=3)  # Counts are not added up.
    trainer.fit(module, data)
    found = trainer.callback_metrics
    assert found['val_ceiling_f1'] == pytest.approx(0.8)
    assert found['val_ceiling_directed_f1'] == pytest.approx(0.8)
    assert found['val_ceiling_relation_f1'] == pytest.approx(0.8)
    assert found['val_ceiling_entity_f1'] == found['val_f1'] == 1
    assert {name for name in found if 'ceiling' in name} == {
        f'val_ceiling_{kind}f1' for kind in ('', 'directed_', 'entity_',
                                             'relation_')}
    assert int(module.ceilings['val'].counts[:3, 2].sum()) == 3
    trainer.test(module, data, verbose=False)
    assert trainer.callback_metrics['test_ceiling_f1'] == 1


def test_a_corpus_with_a_negative_relation():
    data = PostDataModule(SyntheticPosts(num_posts=4))
    with pytest.raises(InputError, match="joint extraction needs .* or 'None'"):
        PostModule(GivesBack(), data.vocabularies, data.negative)


# --- predictions -------------------------------------------------------------


def test_a_line_a_post(tiny_trainer, tmp_path):
    path = tmp_path / 'found.jsonl'
    module, data = make(predict_split='train')
    tiny_trainer(callbacks=[JsonLinesWriter(str(path))]).predict(
        module, data, return_predictions=False)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row['post_id'] for row in rows] == ['train-0', 'train-1',
                                                'train-2']
    assert set(rows[0]) == {'post_id', 'words', 'entities', 'relations'}
    cat = dict(text='Cat', start=3, end=4, type='per')
    club = dict(text='Delta FC', start=0, end=2, type='org')
    assert rows[1]['entities'] == [club, cat]
    assert rows[1]['relations'] == [
        dict(head=cat, tail=club, relation='member_of', score=0.75)]
    assert rows[2]['entities'] == rows[2]['relations'] == []


# --- checkpoints -------------------------------------------------------------


def checkpoint_of(module):
    saved = dict(state_dict=module.state_dict())
    module.on_save_checkpoint(saved)
    return saved


def test_checkpoints_know_all_labels():
    module, _ = make()
    saved = checkpoint_of(module)
    assert {name: Vocabulary.from_dict(state) for name, state
            in saved['mmgraph']['vocabularies'].items()} == module.labels
    module.on_load_checkpoint(saved)
    for name, message in (('entity', r'\(2: a, b, …\) than this data set has '
                                     r'\(3: per, org, loc, …\)'),
                          ('relation', r'\(2: a, b, …\) than this data set '
                                       r'has \(3: member_of, peer, ')):
        other = PostModule(GivesBack(), {**VOCABULARIES,
                                         name: Vocabulary(['a', 'b'])})
        with pytest.raises(InputError, match='trained on other labels '
                           + message):
            module.on_load_checkpoint(checkpoint_of(other))


class Mentions(GivesBack):
    task = 'entity'


def test_checkpoints_of_another_task():
    mentions, joint = make(Mentions())[0], make()[0]
    with pytest.raises(InputError, match='of another task: it knows entity '
                                         'labels, but no relation labels'):
        joint.on_load_checkpoint(checkpoint_of(mentions))


def test_checkpoints_from_before():
    module = make(Mentions())[0]
    saved = checkpoint_of(module)
    state = saved['mmgraph']
    state['labels'] = state.pop('vocabularies')['entity']
    module.on_load_checkpoint(saved)
    state['labels'] = Vocabulary(['a', 'b']).to_dict()
    with pytest.raises(InputError, match='trained on other labels'):
        module.on_load_checkpoint(saved)
    with pytest.raises(InputError, match='trained on other labels'):
        make()[0].on_load_checkpoint(saved)


# --- data --------------------------------------------------------------------


def test_what_models_are_told():
    data = PostDataModule(Corpus(split='test'))
    assert (data.num_types, data.num_relations, data.num_dependencies,
            data.num_predicates, data.num_pos) == (3, 3, 2, 0, 1)
    assert data.symmetric == ('peer', ) and data.negative is None
    # Of the training split, whatever split was given.
    assert data.signatures == [[0, 0, 1, 1, 1], [1, 0, 0, 1, 0]]
    assert data.signatures == Corpus(split='train').signatures


@pytest.mark.parametrize('stage, loaders', [
    ('fit', ['train_dataloader', 'val_dataloader']),
    ('test', ['test_dataloader']), ('predict', ['predict_dataloader'])])
@pytest.mark.parametrize('cache', [False, True])
def test_pairs_are_those_of_the_training_texts(stage, loaders, cache):
    data = PostDataModule(Corpus(split='val'), pairs=WordPairs(), cache=cache,
                          features=StandInFeatures(num_regions=2, channels=3))
    data.setup(stage)
    fitted = WordPairs().fit(text.split() for text, _, _ in TEXTS['train'])
    assert repr(data.pairs) == repr(fitted)
    for name in loaders:
        batch = next(iter(getattr(data, name)()))
        assert batch['region'].x.shape == (2 * batch.num_graphs, 3)
        found = 0
        for post in batch.to_data_list():
            expected = fitted(post)[PAIRS]
            for key in 'edge_index', 'distance_id', 'pmi_id':
                assert torch.equal(post[PAIRS][key], expected[key])
            found += int(expected.pmi_id.sum())
        # Of the validation texts alone, there would be none in test.
        assert found > 0 or name == 'val_dataloader'


def test_without_pairs():
    batch = next(iter(PostDataModule(Corpus()).train_dataloader()))
    assert PAIRS not in batch.edge_types


def test_posts_of_the_data_set_stay_as_they_are():
    data = PostDataModule(Corpus(), pairs=WordPairs())
    next(iter(data.train_dataloader()))
    assert PAIRS not in data.dataset[0].edge_types


# --- the real model ----------------------------------------------------------


def test_eega_learns_is_scored_and_kept(tiny_trainer, tmp_path):
    torch.manual_seed(0)
    data = PostDataModule(
        SyntheticPosts(num_posts=100, clauses=1, object_dim=8), batch_size=8,
        pairs=WordPairs(), cache=True)
    encoder = CharWordEncoder(data.words, word_dim=24, hidden_channels=24)
    model = EEGA(encoder, data.num_types, data.num_relations, data.signatures,
                 object_channels=8, num_dependencies=data.num_dependencies,
                 num_predicates=data.num_predicates, num_pos=data.num_pos,
                 edge_dim=12, num_heads=2, alignment='none', dropout=0.1,
                 graph_dropout=0.1, image_dropout=0.1)
    module = PostModule(model, data.vocabularies, data.negative,
                        data.symmetric, lr=1e-2)
    trainer = tiny_trainer(max_epochs=8, callbacks=[ModelCheckpoint(
        tmp_path, 'best', monitor='val_entity_f1', mode='max')])
    trainer.fit(module, data)
    found = trainer.callback_metrics
    assert found['val_entity_f1'] > 0.4
    # Mentions of a clause do not touch: the table holds all of them.
    assert found['val_ceiling_f1'] == found['val_ceiling_entity_f1'] == 1
    trainer.test(module, data, ckpt_path=str(tmp_path / 'best.ckpt'),
                 verbose=False)
    assert trainer.callback_metrics['test_entity_f1'] > 0.4
    folder = tmp_path / 'model'
    save_pretrained(module.model, folder, data.vocabularies)
    again, vocabularies = from_pretrained(folder)
    assert again.get_config() == model.get_config()
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        assert torch.equal(again(batch).logits, model.eval()(batch).logits)
    assert list(TASKS['joint'].rows(
        again.decode(again(batch), batch), batch, vocabularies['entity'],
        vocabularies['relation'])) == module.predict_step(batch, 0)


def test_the_command_line_fills_in_what_the_data_knows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['mmgraph'])
    model, data = '--model.model', '--data.dataset'
    cli = PostCLI([
        model, 'EEGA', f'{model}.encoder', 'CharWordEncoder',
        f'{model}.encoder.word_dim=12', f'{model}.encoder.hidden_channels=12',
        f'{model}.num_heads=2', f'{model}.edge_dim=6', '--data.pairs',
        'WordPairs', '--data.pairs.window=5', data, 'SyntheticPosts',
        f'{data}.num_posts=30', f'{data}.clauses=2',
        '--trainer.accelerator=cpu', '--trainer.logger=false'], run=False)
    module, data = cli.model, cli.datamodule
    assert data.pairs.window == 5
    args = module.model.get_config()['args']
    assert args['signatures'] == data.signatures != []
    for name, kind in (('num_dependencies', 'dependency'),
                       ('num_predicates', 'predicate'), ('num_pos', 'pos'),
                       ('num_types', 'entity'), ('num_relations', 'relation')):
        assert args[name] == len(data.vocabularies[kind]) > 1
    symmetric = {data.vocabularies['relation'].to_id(name)
                 for name in data.symmetric}
    assert module.metrics['test'].symmetric_ids == symmetric != set()
    batch = next(iter(data.val_dataloader()))
    assert len(module.model.decode(module(batch), batch)) == batch.num_graphs


def test_rows_of_a_batch():
    class Batch:
        post_id, words = ['a'], [['Ann', 'ran']]

    rows = list(TASKS['joint'].rows(
        [Extraction([Entity(0, 1, 2, 'Ann')], [])], Batch, TYPES, RELATIONS))
    assert rows == [dict(post_id='a', words=['Ann', 'ran'], relations=[],
                         entities=[dict(text='Ann', start=0, end=1,
                                        type='loc')])]
