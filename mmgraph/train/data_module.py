"""Feeds a data set of posts to a trainer."""
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import BaseTransform

from mmgraph.data import Post, RelationGraph, Vocabulary
from mmgraph.datasets.base import PostDataset
from mmgraph.datasets.features import FeatureBank
from mmgraph.train.neighbours import Neighbours
from mmgraph.train.sampler import LengthBatchSampler
from mmgraph.transforms import RegionFeatures, WordPairs
from mmgraph.typing import Split

__all__ = ['PostDataModule']


class _Loader(DataLoader):
    r"""Draws its batches when the first one is asked for. Lightning makes the
    iterator before it has restored the epoch and the place inside it.
    """
    batches_had: Callable[[], int] | None = None
    finish: Callable[[Any], Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        if self.batches_had is not None:
            self.batch_sampler.skip = self.batches_had()
        batches = super().__iter__()
        yield from batches if self.finish is None else map(self.finish,
                                                           batches)


class PostDataModule(pl.LightningDataModule):
    r"""The three splits of a corpus of posts, in batches of similar length.

    Args:
        dataset (PostDataset): One split of the corpus; the others are made
            from its arguments. Vocabularies come from the training split.
        batch_size (int, optional): Posts a training batch.
            (default: :obj:`32`)
        eval_batch_size (int, optional): Posts an evaluation batch.
            (default: :obj:`64`)
        bucket (bool, optional): Batches of similar length
            (:class:`LengthBatchSampler`); else the batches are drawn at
            random. (default: :obj:`True`)
        num_workers (int, optional): Loader processes. (default: :obj:`0`)
        min_count (int, optional): Words rarer in the training split become
            unknown. (default: :obj:`1`)
        lower_case (bool, optional): Collect the words in lower case.
            (default: :obj:`False`)
        cache (bool, optional): Keep every post in memory as its transform
            left it, for small corpora and deterministic transforms.
            (default: :obj:`False`)
        features (FeatureBank, optional): Gives each post the regions of its
            image, as :class:`~mmgraph.transforms.RegionFeatures` after the
            data set's own transform, and the images of neighbours theirs.
            (default: :obj:`None`)
        neighbours (Neighbours, optional): Gives each batch the neighbours of
            its posts, from a graph over the whole corpus.
            (default: :obj:`None`)
        pairs (WordPairs, optional): Gives each post the pairs of its words,
            after the data set's own transform. Words that stand together are
            counted here, in the texts of the training split.
            (default: :obj:`None`)
        predict_split (str, optional): What ``mmgraph predict`` reads.
            (default: :obj:`'test'`)
        seed (int, optional): Seed of the batches' order.
            (default: :obj:`0`)

    Raises:
        ValueError: If a size is not positive.
    """
    def __init__(
        self,
        dataset: PostDataset,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        bucket: bool = True,
        num_workers: int = 0,
        min_count: int = 1,
        lower_case: bool = False,
        cache: bool = False,
        features: FeatureBank | None = None,
        neighbours: Neighbours | None = None,
        pairs: WordPairs | None = None,
        predict_split: Split = 'test',
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (('batch_size', batch_size, 1),
                                   ('eval_batch_size', eval_batch_size, 1),
                                   ('num_workers', num_workers, 0)):
            if value < least:
                raise ValueError(f"'{name}' must be at least {least} "
                                 f'(got {value})')
        self.dataset = dataset
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.bucket = bucket
        self.num_workers = num_workers
        self.min_count = min_count
        self.lower_case = lower_case
        self.cache = cache
        self.features = features
        self.neighbours = neighbours
        self.pairs = pairs
        self.predict_split = predict_split
        self.seed = seed
        self._splits: dict[str, PostDataset] = {}
        self._items: dict[str, Dataset[Post]] = {}

    def setup(self, stage: str) -> None:
        r"""Reads the splits of a stage before anything is written, so that
        bad input leaves nothing behind.
        """
        splits: dict[str, list[Split]] = {
            'fit': ['train', 'val'], 'validate': ['val'], 'test': ['test'],
            'predict': [self.predict_split]}
        for name in splits[stage]:
            self.split(name)
        if self.neighbours is not None:
            _ = self.graph
        _ = self._transforms

    def split(self, name: Split) -> PostDataset:
        r"""One split of the corpus."""
        if name not in self._splits:
            own = getattr(self.dataset, 'split', None) == name
            self._splits[name] = (self.dataset if own
                                  else self.dataset.with_split(name))
        return self._splits[name]

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        r"""The label vocabularies of the corpus."""
        return self.dataset.vocabularies

    @property
    def num_relations(self) -> int:
        r"""Number of relations; 0 in a corpus without any."""
        return len(self.vocabularies.get('relation', ()))

    @property
    def num_types(self) -> int:
        r"""Number of types of mentions; 0 in a corpus without any."""
        return len(self.vocabularies.get('entity', ()))

    @property
    def num_dependencies(self) -> int:
        r"""Number of dependency labels; 0 in a corpus without trees."""
        return len(self.vocabularies.get('dependency', ()))

    @property
    def num_predicates(self) -> int:
        r"""Number of predicates; 0 in a corpus without scene graphs."""
        return len(self.vocabularies.get('predicate', ()))

    @property
    def num_pos(self) -> int:
        r"""Number of parts of speech; 0 in a corpus without any."""
        return len(self.vocabularies.get('pos', ()))

    @property
    def max_distance(self) -> int:
        r"""The longest distance in a tree that the ids of word pairs tell
        (:obj:`pairs`); 0 without them.
        """
        return 0 if self.pairs is None else self.pairs.max_distance

    @property
    def negative(self) -> str | None:
        r"""The relation that means "none"."""
        return self.dataset.negative

    @property
    def symmetric(self) -> tuple[str, ...]:
        r"""The relations without direction."""
        return self.dataset.symmetric

    @cached_property
    def signatures(self) -> list[list[int]]:
        r"""Which types each relation joins, and in which order, in the
        training split (:attr:`PostDataset.signatures
        <mmgraph.datasets.PostDataset.signatures>`).
        """
        return self.split('train').signatures

    @cached_property
    def words(self) -> Vocabulary:
        r"""The words of the training split, the most frequent first."""
        words: Iterable[str] = self.split('train').words()
        if self.lower_case:
            words = (word.lower() for word in words)
        return Vocabulary.from_counts(words, 'words',
                                      min_count=self.min_count)

    @cached_property
    def graph(self) -> RelationGraph | None:
        r"""The graph that neighbours are taken from."""
        return (None if self.neighbours is None
                else self.neighbours.graph(self.dataset, self.features))

    @property
    def tokenizer(self) -> Any:
        r"""The tokenizer of the posts' word pieces, if they have any."""
        return _find(self.dataset.transform, 'hf_tokenizer')

    def lengths(self, dataset: PostDataset) -> Tensor:
        r"""What padding depends on: word pieces where the posts have them,
        words otherwise, :obj:`[len(dataset)]`.
        """
        count = _find(dataset.transform, 'num_tokens')
        if count is None:
            return dataset.num_words()
        index = dataset.post_index
        sizes = {i: count(dataset.post(i).words)
                 for i in index.unique().tolist()}
        return torch.tensor([sizes[i] for i in index.tolist()])

    def items(self, name: Split) -> Dataset[Post]:
        r"""The posts of a split as batches are made of them."""
        if name not in self._items:
            found: Dataset[Post] = self.split(name)
            if self._transforms:
                found = _Transformed(found, self._transforms)
            self._items[name] = _Remembered(found) if self.cache else found
        return self._items[name]

    @cached_property
    def _transforms(self) -> list[BaseTransform]:
        transforms: list[BaseTransform] = []
        if self.features is not None:
            transforms.append(RegionFeatures(self.features))
        if self.pairs is not None:
            transforms.append(self.pairs.fit(self.split('train').texts()))
        return transforms

    def _loader(self, name: Split, shuffle: bool, sort: bool) -> '_Loader':
        dataset = self.split(name)
        lengths = (self.lengths(dataset) if sort
                   else torch.zeros(len(dataset), dtype=torch.long))
        trainer = self.trainer
        sampler = LengthBatchSampler(
            lengths, self.batch_size if shuffle else self.eval_batch_size,
            shuffle, seed=self.seed,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size)
        # A generator of its own: making an iterator draws from the global
        # one otherwise, and a resumed run would see other dropout masks.
        loader = _Loader(
            self.items(name), batch_sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator().manual_seed(self.seed))
        if self.neighbours is not None and self.graph is not None:
            # Here rather than in the workers, each of which would hold a copy
            # of the graph.
            loader.finish = partial(self.neighbours.attach, graph=self.graph)
        return loader

    def train_dataloader(self) -> DataLoader:
        loader = self._loader('train', shuffle=True, sort=self.bucket)
        if self.trainer is not None:
            loop = self.trainer.fit_loop
            loader.batches_had = lambda: loop.batch_idx + 1
        return loader

    def val_dataloader(self) -> DataLoader:
        return self._loader('val', shuffle=False, sort=True)

    def test_dataloader(self) -> DataLoader:
        return self._loader('test', shuffle=False, sort=True)

    def predict_dataloader(self) -> DataLoader:
        # Unsorted, so that predictions come out in the order of the corpus.
        return self._loader(self.predict_split, shuffle=False, sort=False)


class _Transformed(Dataset[Post]):
    r"""A data set whose posts go through further transforms."""
    def __init__(self, dataset: Any, transforms: list[BaseTransform]) -> None:
        self.dataset = dataset
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Post:
        post: Post = self.dataset[index]
        for transform in self.transforms:
            post = transform(post)
        return post


class _Remembered(Dataset[Post]):
    r"""A data set that makes each of its posts once."""
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.items: list[Post | None] = [None] * len(dataset)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Post:
        item = self.items[index]
        if item is None:
            item = self.items[index] = self.dataset[index]
        return item


def _find(transform: Any, name: str) -> Any:
    r"""An attribute of a transform or of one of those it is composed of."""
    found = getattr(transform, name, None)
    for part in getattr(transform, 'transforms', None) or []:
        found = _find(part, name) or found
    return found
