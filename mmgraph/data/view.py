"""What an aligner sees of a graph, wherever the graph is kept."""
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData

from mmgraph.typing import OptTensor
from mmgraph.utils import suggest

__all__ = ['EDGES_OF', 'GraphView', 'batch_view', 'ptr_from_sizes']

#: The edges inside one kind of node of a :class:`~mmgraph.data.Post`.
EDGES_OF = {
    'word': ('word', 'governs', 'word'),
    'object': ('object', 'relates', 'object'),
    'entity': ('entity', 'relation', 'entity'),
}


class GraphView(NamedTuple):
    r"""A batch of :math:`B` graphs as an aligner or a convolution sees it:
    ragged rows, one after the other.

    Args:
        x (torch.Tensor, optional): Node features :obj:`[N, F]`.
        edge_index (torch.Tensor): Edges :obj:`[2, E]`, global positions.
        edge_type (torch.Tensor, optional): Label ids :obj:`[E]`.
        edge_attr (torch.Tensor, optional): Edge features :obj:`[E, D]`.
        batch (torch.Tensor): The graph of each node, :obj:`[N]`, sorted.
        ptr (torch.Tensor): Where each graph's nodes start, :obj:`[B + 1]`.

    Example:
        >>> view = GraphView.single(torch.tensor([[0, 1], [1, 2]]), 3)
        >>> view.num_nodes, view.num_graphs
        (3, 1)
    """
    x: OptTensor
    edge_index: Tensor
    edge_type: OptTensor
    edge_attr: OptTensor
    batch: Tensor
    ptr: Tensor

    @classmethod
    def single(
        cls,
        edge_index: Tensor,
        num_nodes: int,
        x: OptTensor = None,
        edge_type: OptTensor = None,
        edge_attr: OptTensor = None,
    ) -> 'GraphView':
        r"""A view of one graph."""
        return cls(x, edge_index, edge_type, edge_attr,
                   edge_index.new_zeros(num_nodes),
                   edge_index.new_tensor([0, num_nodes]))

    @property
    def num_nodes(self) -> int:
        r"""Number of nodes of all graphs together."""
        return self.batch.numel()

    @property
    def num_graphs(self) -> int:
        r"""Number of graphs :math:`B`."""
        return self.ptr.numel() - 1

    @property
    def sizes(self) -> Tensor:
        r"""Number of nodes of each graph, :obj:`[B]`."""
        return self.ptr[1:] - self.ptr[:-1]

    def unbatch(self) -> list['GraphView']:
        r"""The graphs of the batch as views of one graph each."""
        if self.num_graphs == 1:
            return [self]
        edge_graph = self.batch[self.edge_index[0]]
        order = torch.argsort(edge_graph, stable=True)
        edge_ptr = ptr_from_sizes(torch.bincount(
            edge_graph, minlength=self.num_graphs)).tolist()
        ptr = self.ptr.tolist()
        views = []
        for b in range(self.num_graphs):
            edges = order[edge_ptr[b]:edge_ptr[b + 1]]
            rows = slice(ptr[b], ptr[b + 1])
            x, edge_type, edge_attr = self.x, self.edge_type, self.edge_attr
            views.append(GraphView.single(
                self.edge_index[:, edges] - ptr[b], ptr[b + 1] - ptr[b],
                x=None if x is None else x[rows],
                edge_type=None if edge_type is None else edge_type[edges],
                edge_attr=None if edge_attr is None else edge_attr[edges]))
        return views


def batch_view(
    batch: Data | HeteroData,
    node_type: str | None = None,
    x: OptTensor = None,
) -> GraphView:
    r"""The nodes of one kind of a post, of a batch of posts, or of a plain
    (batch of) graph(s), as a :class:`GraphView`.

    Args:
        batch: A :class:`~mmgraph.data.Post`, a
            :class:`~mmgraph.data.TextGraph`, a
            :class:`~mmgraph.data.SceneGraph`, or a PyG batch of them.
        node_type (str, optional): :obj:`'word'`, :obj:`'object'` or
            :obj:`'entity'`; needed for posts. (default: :obj:`None`)
        x (torch.Tensor, optional): Takes the place of the stored features,
            *e.g.* the states of an encoder. (default: :obj:`None`)

    Raises:
        ValueError: If :obj:`node_type` is missing or unknown.
    """
    if isinstance(batch, HeteroData):
        if node_type not in EDGES_OF:
            raise ValueError(f"'node_type' must name the nodes of a view (got "
                             f"{node_type!r}); "
                             f"{suggest(node_type, list(EDGES_OF))}")
        nodes, edges = batch[node_type], batch[EDGES_OF[node_type]]
    else:
        nodes = edges = batch
    edge_index = edges.edge_index
    vector = nodes.get('batch')
    if vector is None:
        vector = edge_index.new_zeros(int(nodes.num_nodes or 0))
        ptr = edge_index.new_tensor([0, vector.numel()])
    else:
        ptr = nodes.ptr
    return GraphView(
        x=nodes.get('x') if x is None else x,
        edge_index=edge_index,
        edge_type=edges.get('edge_type'),
        edge_attr=edges.get('edge_attr'),
        batch=vector,
        ptr=ptr,
    )


def ptr_from_sizes(sizes: Tensor) -> Tensor:
    r"""Offsets :obj:`[B + 1]` from sizes :obj:`[B]`."""
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
