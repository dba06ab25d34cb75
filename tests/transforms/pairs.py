"""Pairs of networks for the tests of noise transforms."""
import torch

from mmgraph.data import GraphPair


def edge_set(edge_index):
    """Undirected edges, however they are stored."""
    return {tuple(sorted(edge)) for edge in edge_index.t().tolist()}


def graph(n, m, generator, both=True):
    """Different undirected edges, some stored twice, in random order."""
    low, high = torch.triu_indices(n, n, 1)
    pick = torch.randperm(low.numel(), generator=generator)[:m]
    edges = torch.stack([low[pick], high[pick]])
    if both:
        edges = torch.cat([edges, edges.flip(0), edges[:, :3]], dim=1)
        order = torch.randperm(edges.size(1), generator=generator)
        edges = edges[:, order]
    return edges


def make_pair(n=30, m=60, seed=0, both=True, num_target=None):
    """A pair in which every edge column has attributes of its own."""
    generator = torch.Generator().manual_seed(seed)
    n_t = num_target or n
    sides = {}
    for side, size in ('s', n), ('t', n_t):
        edges = graph(size, m, generator, both)
        sides[f'edge_index_{side}'] = edges
        # The edge tells its own ends, so that mix-ups show.
        sides[f'edge_attr_{side}'] = edges.t().float()
        sides[f'edge_type_{side}'] = edges.sum(dim=0)
        sides[f'x_{side}'] = torch.randint(3, (size, 2), generator=generator)
    gold = torch.randperm(n_t, generator=generator)[:min(n, n_t)]
    return GraphPair(**sides, match_index=torch.stack(
        [torch.arange(gold.numel()), gold]))


EMPTY = [
    GraphPair(edge_index_s=torch.empty(2, 0, dtype=torch.long),
              edge_index_t=torch.empty(2, 0, dtype=torch.long),
              x_s=torch.zeros(n, 1, dtype=torch.long),
              x_t=torch.zeros(m, 1, dtype=torch.long))
    for n, m in ((0, 0), (1, 1), (3, 0))
]
