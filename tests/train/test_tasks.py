"""Training, scoring and writing mentions rather than relations."""
import pytest
import torch

from mmgraph.data import Vocabulary
from mmgraph.datasets import SyntheticPosts
from mmgraph.errors import InputError
from mmgraph.metrics import RelationMetric, SpanMetric
from mmgraph.models import Entity
from mmgraph.models.mner import BiLSTMCRF
from mmgraph.train import PostDataModule, PostModule
from mmgraph.train.tasks import TASKS


@pytest.fixture
def run():
    torch.manual_seed(0)
    data = PostDataModule(SyntheticPosts(num_posts=160), batch_size=16)
    model = BiLSTMCRF(data.words, data.num_types, word_dim=24, char_dim=8,
                      char_channels=16, hidden_channels=24, dropout=0.1)
    return PostModule(model, data.vocabularies, data.negative, lr=2e-2), data


def test_the_task_chooses_labels_and_metric(run, tiny_run):
    module, data = run
    assert module.labels == dict(entity=data.vocabularies['entity'])
    assert isinstance(module.metrics['val'], SpanMetric)
    module, data = tiny_run()
    assert module.labels == dict(relation=data.vocabularies['relation'])
    assert isinstance(module.metrics['val'], RelationMetric)
    assert module.metrics['val'].negative_id == 0


def test_a_tagger_learns_is_scored_and_predicts(run, tiny_trainer):
    module, data = run
    trainer = tiny_trainer(max_epochs=20)
    trainer.fit(module, datamodule=data)
    score = trainer.callback_metrics['val_f1']
    assert score > 0.7 and 'val_loss' in trainer.callback_metrics
    batches = trainer.predict(module, datamodule=data)
    rows = [row for rows in batches for row in rows]
    assert rows and set(rows[0]) == {'post_id', 'words', 'text', 'start',
                                     'end', 'type'}
    right = 0
    gold = {post.post_id: post.entities for post in data.split('test')}
    types = data.vocabularies['entity']
    for row in rows:
        assert row['text'] == ' '.join(row['words'][row['start']:row['end']])
        right += ((row['start'], row['end'], types.to_id(row['type']))
                  in gold[row['post_id']])
    assert right / len(rows) > 0.7


def test_rows_of_a_batch():
    class Batch:
        post_id, words = ['a', 'b'], [['Ann', 'ran'], ['no']]

    rows = list(TASKS['entity'].rows(
        [[Entity(0, 1, 1, 'Ann')], []], Batch, Vocabulary(['ORG', 'PER'])))
    assert rows == [dict(post_id='a', words=['Ann', 'ran'], text='Ann',
                         start=0, end=1, type='PER')]


def test_a_corpus_without_the_labels(run):
    module, data = run
    with pytest.raises(InputError, match='BiLSTMCRF needs a corpus with '
                                         r'entity labels \(this one has a, '
                                         r'relation\)'):
        PostModule(module.model, dict(relation=data.vocabularies['relation'],
                                      a=Vocabulary(['x'])))
