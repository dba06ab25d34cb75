r"""Which other posts a model sees beside the one it reads."""
from typing import Any, Literal

from mmgraph.data import Post, RelationGraph
from mmgraph.datasets.base import PostDataset
from mmgraph.datasets.features import FeatureBank
from mmgraph.utils import check_at_least, check_choice

__all__ = ['Neighbours']


class Neighbours:
    r"""The corpus graph that :class:`PostDataModule` takes the neighbours of
    each batch from: :obj:`batch.neighbours` is
    :meth:`RelationGraph.gather <mmgraph.data.RelationGraph.gather>` of the
    batch's posts.

    Args:
        k (int, optional): Most neighbours of a post in each relation.
            (default: :obj:`5`)
        pool (str, optional): Whose images may be neighbours:
            :obj:`'train'` (inductive: those of the training split) or
            :obj:`'all'` (transductive, as published: images of validation and
            test posts are seen while training, their texts and labels are
            not). (default: :obj:`'train'`)
        num_hops (int, optional): Hops from a post. (default: :obj:`1`)
        shuffle (bool, optional): The control: every post gets the neighbours
            of another. (default: :obj:`False`)
        seed (int, optional): Seed of the control. (default: :obj:`0`)
        options (dict, optional): Further arguments of the corpus's
            :meth:`relation_graph`. (default: :obj:`None`)

    Raises:
        ValueError: If a number is not positive or :obj:`pool` is unknown.
    """
    def __init__(
        self,
        k: int = 5,
        pool: Literal['train', 'all'] = 'train',
        num_hops: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        options: dict[str, Any] | None = None,
    ) -> None:
        check_at_least(1, k=k, num_hops=num_hops)
        check_choice('pool', pool, ('train', 'all'))
        self.k = k
        self.pool = pool
        self.num_hops = num_hops
        self.shuffle = shuffle
        self.seed = seed
        self.options = options or {}

    def graph(
        self,
        dataset: PostDataset,
        features: FeatureBank | None = None,
    ) -> RelationGraph:
        r"""The graph of a corpus, of which :obj:`dataset` is one split.

        Args:
            dataset (PostDataset): The split.
            features (FeatureBank, optional): What its images are given to be
                read by a model. (default: :obj:`None`)

        Raises:
            ValueError: If the corpus has no such graph.
        """
        options = dict(self.options)
        if features is not None:
            options['features'] = features
        graph: RelationGraph = dataset.relation_graph(
            k=self.k, pool=self.pool, **options)
        return graph.shuffled(self.seed) if self.shuffle else graph

    def attach(self, batch: Post, graph: 'RelationGraph') -> Post:
        r"""Gives a batch of posts its neighbours."""
        batch.neighbours = graph.gather(batch.post_id, self.num_hops)
        return batch
