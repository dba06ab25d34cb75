"""Batches of a corpus graph."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mmgraph.data.relation_graph import RelationGraph
from mmgraph.utils import check_at_least

__all__ = ['RelationLoader']


class RelationLoader(DataLoader[Any]):
    r"""Loads texts of a corpus graph in batches, each with its neighbourhood:
    :meth:`RelationGraph.gather`. As every query has at most :math:`k`
    neighbours, nothing is sampled and no compiled extension is needed; a
    batch costs the same in a corpus of any size.

    Args:
        graph (RelationGraph): The corpus.
        queries (optional): The texts to load: a split (:obj:`'train'`,
            :obj:`'val'`, :obj:`'test'`), a mask, rows (int64) or a list of
            post ids; all texts by default. (default: :obj:`None`)
        batch_size (int, optional): Texts a batch. (default: :obj:`1`)
        num_hops (int, optional): Hops from a text. (default: :obj:`1`)
        seed (int, optional): Seed of the order of :obj:`shuffle=True`; each
            epoch has another. (default: :obj:`0`)
        **kwargs (optional): Further arguments of
            :class:`torch.utils.data.DataLoader`, such as :obj:`shuffle` and
            :obj:`num_workers`.

    Example:
        >>> x = torch.eye(4) + .1
        >>> graph = RelationGraph.from_features(
        ...     x, x, k=2, text_split=['train', 'train', 'train', 'val'])
        >>> for batch in RelationLoader(graph, 'train', batch_size=2):
        ...     print(batch)
        RelationGraph(2 texts, 3 images | 4 matches, 4 resembles | k=2)
        RelationGraph(1 texts, 3 images | 2 matches, 2 resembles | k=2)
    """
    def __init__(
        self,
        graph: RelationGraph,
        queries: str | Tensor | Sequence[str] | None = None,
        batch_size: int = 1,
        num_hops: int = 1,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_at_least(1, batch_size=batch_size, num_hops=num_hops)
        self.graph = graph
        self.num_hops = num_hops
        kwargs.pop('dataset', None)
        kwargs.pop('collate_fn', None)
        # A loader draws from it even where nothing is shuffled.
        kwargs.setdefault('generator', torch.Generator().manual_seed(seed))
        rows: Any = graph.query_rows(queries).tolist()
        super().__init__(rows, batch_size=batch_size,
                         collate_fn=self._collate, **kwargs)

    def _collate(self, rows: list[int]) -> RelationGraph:
        return self.graph.gather(torch.tensor(rows, dtype=torch.long),
                                 self.num_hops)
