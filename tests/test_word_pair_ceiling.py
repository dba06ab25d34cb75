"""What a table of word pairs can hold of a real corpus.

The gold labels of JMERE are read back and scored against the annotation. The
figures of `'v1'` are those that were measured for the published tables; those
of `'merged'` are our own.
"""
from functools import cache

import pytest
import torch
from torch_geometric.data import Batch

from mmgraph.datasets import JMERE
from mmgraph.metrics import QuintupleMetric
from mmgraph.nn.heads import WordPairHead
from mmgraph.nn.ragged import first_of_group, rows_of
from mmgraph.parse.word_pairs import head_comes_first

pytestmark = pytest.mark.real_data

#: F1 of entities and of quintuples (%).
CEILING = {
    ('v1', 'train', 'diagonal'): (99.11, 99.28),
    ('v1', 'train', 'triangle'): (99.42, 99.41),
    ('v1', 'val', 'diagonal'): (99.16, 99.03),
    ('v1', 'val', 'triangle'): (99.91, 99.76),
    ('v1', 'test', 'diagonal'): (99.57, 99.53),
    ('v1', 'test', 'triangle'): (99.71, 99.61),
    ('merged', 'train', 'diagonal'): (99.09, 99.26),
    ('merged', 'train', 'triangle'): (99.41, 99.40),
    ('merged', 'val', 'diagonal'): (99.13, 98.87),
    ('merged', 'val', 'triangle'): (99.90, 99.76),
    ('merged', 'test', 'diagonal'): (99.56, 99.53),
    ('merged', 'test', 'triangle'): (99.71, 99.61),
}


@cache
def corpus(variant, split):
    """The data set, and all its posts as one batch."""
    dataset = JMERE(variant=variant, split=split, graph='none')
    return dataset, Batch.from_data_list(list(dataset))


def make_head(**options):
    dataset, _ = corpus('merged', 'train')
    return WordPairHead(4, len(dataset.vocabularies['entity']),
                        len(dataset.vocabularies['relation']), **options)


class Extraction:
    """What a joint model decodes, as the metric reads it."""
    def __init__(self, found):
        self.entities = [Mention(*span) for span in found.spans]
        self.relations = [Relation(self.entities[head], self.entities[tail],
                                   relation_id)
                          for head, tail, relation_id, _ in found.relations]


class Mention:
    def __init__(self, start, end, type_id):
        self.start, self.end, self.type_id = start, end, type_id


class Relation:
    def __init__(self, head, tail, relation_id):
        self.head, self.tail, self.relation_id = head, tail, relation_id


def scores_of(head, variant, split):
    dataset, batch = corpus(variant, split)
    ptr = rows_of(batch, 'word')[1]
    pairs = head.pair_index(ptr)
    labels = head.labels(batch, torch.arange(int(ptr[-1])), pairs)
    metric = QuintupleMetric(dataset.vocabularies['entity'],
                             dataset.vocabularies['relation'],
                             dataset.symmetric)
    metric.update([Extraction(found) for found
                   in head.decode_labels(labels, pairs, ptr)], batch)
    return metric.compute()


@pytest.mark.usefixtures('data_root')
@pytest.mark.parametrize('variant, split, rule', CEILING)
def test_ceiling(variant, split, rule):
    scores = scores_of(make_head(span_rule=rule), variant, split)
    assert (100 * scores['entity_f1'], 100 * scores['f1']) == pytest.approx(
        CEILING[variant, split, rule], abs=0.00501)


@pytest.mark.usefixtures('data_root')
@pytest.mark.parametrize('split, right, total', [('val', 412, 448),
                                                 ('test', 411, 433)])
def test_types_tell_the_direction(split, right, total):
    dataset, batch = corpus('merged', split)
    store = batch['entity', 'relation', 'entity']
    symmetric = [dataset.vocabularies['relation'].to_id(name)
                 for name in dataset.symmetric]
    kept = ~torch.isin(store.relation_id, torch.tensor(symmetric))
    head, tail = store.edge_index[:, kept]
    relation = store.relation_id[kept]

    # As it was measured: of two mentions that start together (one pair a
    # split, nested, which no table can hold) the tail is first.
    entity, word = batch['entity', 'covers', 'word'].edge_index
    start = first_of_group(entity, word, int(batch['entity'].num_nodes))
    head_first = start[head] < start[tail]
    kind = batch['entity'].type_id
    first = torch.where(head_first, kind[head], kind[tail])
    second = torch.where(head_first, kind[tail], kind[head])
    table = head_comes_first(corpus('merged', 'train')[0].signatures, 4, 21)
    found = table[relation, first, second] == head_first
    assert (int(found.sum()), found.numel()) == (right, total)


@pytest.mark.usefixtures('data_root')
def test_a_directed_table_holds_the_direction():
    dataset, _ = corpus('merged', 'train')
    blind, typed, directed = (
        scores_of(make_head(**options), 'merged', 'test')
        for options in ({}, {'signatures': dataset.signatures},
                        {'directed': True}))
    assert blind['f1'] == typed['f1']
    assert blind['directed_f1'] < typed['directed_f1'] < directed[
        'directed_f1'] == directed['f1']
