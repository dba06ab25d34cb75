"""What a corpus graph looks like: degrees, hubs, leakage, ties."""
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from mmgraph.data.neighbours import starts

__all__ = ['RelationReport', 'RelationStatistics', 'relation_statistics']

#: Rows and columns of :obj:`leakage`.
_NAMES = ('train', 'val', 'test', 'extra')


@dataclass(frozen=True)
class RelationStatistics:
    r"""Figures of one relation. Shares are between 0 and 1; those of nothing
    are 0.

    Args:
        relation (str): :obj:`'matches'` or :obj:`'resembles'`.
        num_queries (int): Queries that were counted.
        num_edges (int): Their edges.
        num_without (int): Queries without an edge.
        mean_degree (float): Edges a query.
        max_degree (int): Most edges of a query.
        distinct (int): Images that are found at all.
        skewness (float): Skewness of the number of queries that find an
            image, over all images: far above 0 where there are hubs.
        most_frequent (float): Share of the queries that find the most frequent
            image.
        top_10 (float): Share of the edges into the 10 most frequent images.
        top_100 (float): Share of the edges into the 100 most frequent ones.
        zero_lists (float): Share of the queries with edges whose weights are
            all zero.
        zero (float): Share of the edges of weight zero.
        tied (float): Share of the edges whose weight another edge of the same
            query has, too.
        leakage (tuple): Share of the edges of queries of a split (rows: train,
            val, test, none) into images of each (columns: train, val, test,
            none). A node of several splits counts for the first.
        components (int): Connected components of the counted queries and the
            images they find, joined by edges of a weight other than zero.
            (Texts and images are different nodes.)
        isolated (int): Components of one node.
        largest (int): Nodes of the largest component.
    """
    relation: str
    num_queries: int
    num_edges: int
    num_without: int
    mean_degree: float
    max_degree: int
    distinct: int
    skewness: float
    most_frequent: float
    top_10: float
    top_100: float
    zero_lists: float
    zero: float
    tied: float
    leakage: tuple[tuple[float, ...], ...]
    components: int
    isolated: int
    largest: int


@dataclass(frozen=True)
class RelationReport:
    r"""Figures of both relations of a :class:`~mmgraph.data.RelationGraph`.

    Args:
        matches (RelationStatistics): Text to images.
        resembles (RelationStatistics): Image to images.
    """
    matches: RelationStatistics
    resembles: RelationStatistics

    def __str__(self) -> str:
        both = self.matches, self.resembles
        lines = [f'{"":<34}' + ''.join(f'{s.relation:>12}' for s in both)]

        def line(label: str, cells: list[str]) -> None:
            lines.append(f'{label:<34}' + ''.join(f'{c:>12}' for c in cells))

        for label, name, style in (
                ('queries', 'num_queries', ','),
                ('edges', 'num_edges', ','),
                ('queries without edge', 'num_without', ','),
                ('edges a query, mean', 'mean_degree', '.2f'),
                ('edges a query, most', 'max_degree', ','),
                ('distinct images found', 'distinct', ','),
                ("skewness of images' counts", 'skewness', '.2f'),
                ('queries of the most frequent image', 'most_frequent', '.1%'),
                ('edges into the 10 most frequent', 'top_10', '.1%'),
                ('edges into the 100 most frequent', 'top_100', '.1%'),
                ('lists of zeros', 'zero_lists', '.1%'),
                ('weights of zero', 'zero', '.1%'),
                ('weights with a tie', 'tied', '.1%'),
                ('components', 'components', ','),
                ('isolated nodes', 'isolated', ','),
                ('nodes of the largest', 'largest', ',')):
            line(label, [format(getattr(s, name), style) for s in both])
        for s in both:
            lines.append(f'\n{s.relation + ": edges from":<22}into'
                         + ''.join(f'{name:>9}' for name in _NAMES))
            for name, row in zip(('train', 'val', 'test', 'none'), s.leakage):
                if any(row):
                    lines.append(f'{"  " + name:<26}'
                                 + ''.join(f'{x:>9.1%}' for x in row))
        return '\n'.join(lines)


def relation_statistics(
    relation: str,
    edge_index: Any,
    weight: Any,
    asked: Any,
    query_split: Any,
    image_split: Any,
    same: bool,
) -> RelationStatistics:
    r"""Counts the edges of the queries of a mask.

    Args:
        relation (str): Its name.
        edge_index (numpy.ndarray): Edges :obj:`[2, E]`, sorted by query.
        weight (numpy.ndarray): Weights :obj:`[E]`.
        asked (numpy.ndarray): Queries that count, a mask :obj:`[Q]`.
        query_split (numpy.ndarray): Split of each query, 3 for none.
        image_split (numpy.ndarray): Split of each image, likewise.
        same (bool): Whether queries are the images themselves.
    """
    keep = asked[edge_index[0]]
    row, col, weight = edge_index[0][keep], edge_index[1][keep], weight[keep]
    queries, images = len(query_split), len(image_split)
    edges, number = len(row), int(asked.sum())
    degree = np.bincount(row, minlength=queries)[asked]
    count = np.bincount(col, minlength=images)
    ranked = np.sort(count)[::-1]
    start = starts(row, queries)
    size = np.diff(start)
    with_edges = size > 0
    zeros = np.bincount(row, weight == 0, minlength=queries)
    order = np.lexsort((weight, row))
    same_row = row[order][1:] == row[order][:-1]
    equal = same_row & (weight[order][1:] == weight[order][:-1])
    tied = np.zeros(edges, bool)
    tied[1:] |= equal
    tied[:-1] |= equal
    leakage = np.zeros((4, 4))
    np.add.at(leakage, (query_split[row], image_split[col]), 1)
    leakage /= np.maximum(leakage.sum(1, keepdims=True), 1)
    real = weight != 0
    shift, nodes = (0, images) if same else (images, images + queries)
    matrix = sp.coo_matrix(
        (np.ones(int(real.sum())), (row[real] + shift, col[real])),
        shape=(nodes, nodes))
    _, label = connected_components(matrix, directed=False)
    there = np.unique(np.concatenate([np.flatnonzero(asked) + shift, col]))
    _, sizes = np.unique(label[there], return_counts=True)
    center = count - count.mean() if images else np.zeros(1)
    spread = float((center**2).mean())
    return RelationStatistics(
        relation=relation, num_queries=number, num_edges=edges,
        num_without=int((degree == 0).sum()),
        mean_degree=edges / max(number, 1),
        max_degree=int(degree.max(initial=0)),
        distinct=int((count > 0).sum()),
        skewness=float((center**3).mean()) / spread**1.5 if spread else 0.,
        most_frequent=int(count.max(initial=0)) / max(number, 1),
        top_10=int(ranked[:10].sum()) / max(edges, 1),
        top_100=int(ranked[:100].sum()) / max(edges, 1),
        zero_lists=int((zeros[with_edges] == size[with_edges]).sum())
        / max(int(with_edges.sum()), 1),
        zero=float((weight == 0).mean()) if edges else 0.,
        tied=float(tied.mean()) if edges else 0.,
        leakage=tuple(tuple(x) for x in leakage.tolist()),
        components=len(sizes), isolated=int((sizes == 1).sum()),
        largest=int(sizes.max(initial=0)))
