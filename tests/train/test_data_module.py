from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch_geometric.transforms import BaseTransform, Compose

from mmgraph.datasets import MNRE, SyntheticPosts
from mmgraph.datasets.base import PostDataset
from mmgraph.train import LengthBatchSampler, PostDataModule

ROOT = Path(__file__).parent.parent / 'resources' / 'mnre'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMGRAPH_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def data():
    return PostDataModule(SyntheticPosts(num_posts=50), batch_size=8)


def test_splits_are_made_once_and_when_needed(data, monkeypatch):
    made = []
    original = SyntheticPosts.with_split

    def with_split(self, split):
        made.append(split)
        return original(self, split)

    monkeypatch.setattr(SyntheticPosts, 'with_split', with_split)
    data.setup('fit')
    assert made == ['val']  # 'train' was given
    data.setup('validate')
    assert made == ['val']
    data.setup('test')
    data.setup('predict')
    assert made == ['val', 'test']
    assert data.split('train') is data.dataset


def test_predict_split():
    data = PostDataModule(SyntheticPosts(num_posts=20), predict_split='val')
    data.setup('predict')
    batch = next(iter(data.predict_dataloader()))
    assert batch.post_id[:2] == ['val-0', 'val-1']  # unsorted


def test_vocabularies(data):
    assert data.num_relations == len(data.vocabularies['relation'])
    assert data.num_types == len(data.vocabularies['entity'])
    assert data.negative == 'None'
    assert data.vocabularies is data.dataset.vocabularies
    assert data.tokenizer is None
    words = data.words
    assert words is data.words  # collected once
    train = {word for post in data.dataset for word in post.words}
    assert set(words) == train | {words.unknown}


def test_words_come_from_training_even_when_testing():
    data = PostDataModule(SyntheticPosts('test', num_posts=30))
    expected = PostDataModule(SyntheticPosts('train', num_posts=30))
    assert data.words == expected.words


def test_rare_and_lower_case_words():
    dataset = SyntheticPosts(num_posts=30)
    words = PostDataModule(dataset).words
    lower = PostDataModule(dataset, lower_case=True).words
    rare = PostDataModule(dataset, min_count=3).words
    assert {w.lower() for w in words} == {w.lower() for w in lower}
    assert all(w == w.lower() for w in lower if w != lower.unknown)
    assert len(rare) < len(words)


def test_lengths_are_words_or_pieces():
    dataset = MNRE(ROOT, graph='none')
    data = PostDataModule(dataset)
    assert data.lengths(dataset).tolist() == dataset.num_words().tolist()

    class Pieces(BaseTransform):
        def num_tokens(self, words):
            return sum(map(len, words))

        def forward(self, data):
            return data

    for transform in Pieces(), Compose([Pieces()]):
        dataset = MNRE(ROOT, graph='none', transform=transform)
        lengths = PostDataModule(dataset).lengths(dataset)
        assert lengths.tolist() == [
            sum(map(len, post.words)) for post in dataset]


def test_tokenizer_of_the_transform(minilm):
    from mmgraph.transforms import WordPieces
    transform = WordPieces(str(minilm))
    for found in transform, Compose([transform]):
        data = PostDataModule(MNRE(ROOT, graph='none', transform=found))
        assert data.tokenizer is transform.hf_tokenizer


def test_training_loader(data):
    loader = data.train_dataloader()
    assert isinstance(loader.batch_sampler, LengthBatchSampler)
    assert len(loader) == 7
    first = [batch.post_id for batch in loader]
    assert sorted(sum(first, [])) == sorted(p.post_id for p in data.dataset)
    assert [batch.post_id for batch in loader] == first
    loader.batch_sampler.set_epoch(1)
    assert [batch.post_id for batch in loader] != first
    # Another seed, another order; batches of equal length either way.
    other = PostDataModule(data.dataset, batch_size=8, seed=1)
    assert [b.post_id for b in other.train_dataloader()] != first
    random = PostDataModule(data.dataset, batch_size=8, bucket=False)
    assert int(random.train_dataloader().batch_sampler.lengths.max()) == 0


def test_loaders_leave_the_global_random_state_alone(data):
    state = torch.get_rng_state()
    for loader in data.train_dataloader(), data.val_dataloader():
        next(iter(loader))
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluation_loaders(data):
    for loader in data.val_dataloader(), data.test_dataloader():
        sizes = [len(words) for batch in loader for words in batch.words]
        assert sizes == sorted(sizes, reverse=True) and len(sizes) == 50


def test_predictions_keep_the_order_of_the_corpus(data):
    ids = [i for batch in data.predict_dataloader() for i in batch.post_id]
    assert ids == [post.post_id for post in data.split('test')]


def test_workers(data):
    data.num_workers = 1
    expected = [batch.post_id for batch in PostDataModule(
        data.dataset, batch_size=8).train_dataloader()]
    assert [b.post_id for b in data.train_dataloader()] == expected


class Counting(BaseTransform):
    calls = 0

    def forward(self, data):
        Counting.calls += 1
        return data


@pytest.mark.parametrize('cache, calls', [(False, 60), (True, 20)])
def test_cache(monkeypatch, cache, calls):
    monkeypatch.setattr(Counting, 'calls', 0)
    data = PostDataModule(SyntheticPosts(num_posts=20, transform=Counting()),
                          batch_size=8, cache=cache)
    orders = [[batch.post_id for batch in loader]
              for loader in [data.train_dataloader()] * 2]
    assert sum(1 for _ in data.train_dataloader()) == 3
    assert orders[0] == orders[1] and Counting.calls == calls
    # Splits are kept apart.
    assert next(iter(data.val_dataloader())).post_id[0].startswith('val-')


@pytest.mark.parametrize('name, value, least', [
    ('batch_size', 0, 1), ('eval_batch_size', -1, 1), ('num_workers', -1, 0)])
def test_wrong_sizes(name, value, least):
    with pytest.raises(ValueError, match=rf"'{name}' must be at least {least} "
                                         rf'\(got {value}\)'):
        PostDataModule(SyntheticPosts(num_posts=4), **{name: value})


def test_a_corpus_without_splits():
    source = SyntheticPosts(num_posts=4)
    plain = PostDataset([source.post(0)], [], source.vocabularies)
    with pytest.raises(ValueError, match='has no splits'):
        PostDataModule(plain).setup('test')


class Seen(pl.Callback):
    def __init__(self):
        self.epochs = []

    def on_train_epoch_start(self, *args):
        self.epochs.append([])

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.epochs[-1].append(tuple(batch.post_id))


@pytest.mark.parametrize('workers', [0, 1])
def test_another_order_every_epoch(tiny_run, tiny_trainer, workers):
    # Lightning knows the epoch only after it has made the iterator.
    module, data = tiny_run(num_workers=workers, num_posts=40)
    seen = Seen()
    tiny_trainer([seen], max_epochs=2, limit_val_batches=0).fit(module, data)
    sampler = data.train_dataloader().batch_sampler
    for epoch, batches in enumerate(seen.epochs):
        sampler.set_epoch(epoch)
        assert batches == [tuple(f'train-{i}' for i in b) for b in sampler]
    assert seen.epochs[0] != seen.epochs[1]
