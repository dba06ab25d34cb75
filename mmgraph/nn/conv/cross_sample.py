"""Messages across posts: the relation-enhanced graph convolution."""
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.resolver import activation_resolver
from torch_geometric.utils import softmax

from mmgraph.errors import ShapeError
from mmgraph.nn.configurable import Configurable
from mmgraph.nn.ragged import first_of_group
from mmgraph.typing import OptTensor
from mmgraph.utils import check_choice, check_positive

__all__ = ['CrossSampleConv']


class CrossSampleConv(Configurable, MessagePassing):
    r"""The *relation-enhanced* graph convolution of the `"Learning from
    Different text-image Pairs: A Relation-enhanced Graph Convolutional Network
    for Multimodal NER" <https://doi.org/10.1145/3503161.3548228>`_ paper (ACM
    MM 2022): a query hears the samples that a
    :class:`~mmgraph.data.RelationGraph` found for it. (The *relational* GCN
    of knowledge graphs, also called R-GCN, is
    :class:`~torch_geometric.nn.conv.RGCNConv`.)

    Each query :math:`i` is the centre of a star whose leaves are its
    neighbours:

    .. math::
        \mathbf{x}^{\prime}_i = \mathrm{ReLU} \left( \frac{1}{d_i} \Big(
        \mathbf{x}_i + \sum_{j \in \mathcal{N}(i)} w_{ij} \mathbf{x}_j \Big)
        \mathbf{W} + \mathbf{b} \right), \qquad
        d_i = 1 + \sum_{j \in \mathcal{N}(i)} |w_{ij}|

    with :math:`w_{ij} = \mathrm{softmax}_j(e_{ij} / \tau)` of the edge weights
    :math:`e_{ij}`. An edge of weight zero is none, and **a query without
    edges gets zeros**, whatever the bias. Features may have more axes (the
    regions of an image): those are mixed one by one. For more hops, stack
    layers: a query's result after :math:`L` layers depends on the samples
    within :math:`L` hops only.

    .. note:: **Paper and published code differ.** In the figure of the paper
        the query is a node of the graph and nodes are averaged
        (:obj:`readout='mean_nodes'`, where leaves hear the centre with the
        weight of their edge). In the code the query is *absent*: its best
        neighbour stands at the centre, with its own score as the self weight
        (:obj:`center='top1'`), scores are used as they are
        (:obj:`temperature=None`) and not normalised (:obj:`norm='none'`), and
        a ``reshape`` averages runs of consecutive regions instead of nodes
        (:obj:`readout='ref_regions'`): with nodes one after the other, each
        with its :math:`R` regions, row :math:`g` of the result is the mean of
        rows :math:`cg, \ldots, cg + c - 1` of the :math:`cR` rows of
        :math:`c` nodes. The published figures were made so. The published
        code keeps zero scores, and so does :obj:`center='top1'`.

        There is no :math:`\mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}`: a
        neighbour's degree would count the queries that happen to be in the
        batch.

    Args:
        in_channels (int): Size of each feature of queries and neighbours.
        out_channels (int): Size of each output feature.
        center (str, optional): Who stands at the centre: :obj:`'query'` or
            :obj:`'top1'`, its first edge's neighbour, in which case features
            of queries are not read. (default: :obj:`'query'`)
        readout (str, optional): What of the star is returned: its
            :obj:`'center'`, :obj:`'mean_nodes'`, or :obj:`'ref_regions'`
            (see the note). (default: :obj:`'center'`)
        norm (str, optional): :obj:`'row'` divides by the weighted degree of
            the node in its star, :obj:`'none'` does not.
            (default: :obj:`'row'`)
        temperature (float, optional): :math:`\tau` of the softmax over a
            query's edges; :obj:`None` takes edge weights as they are. Weights
            of real neighbour lists differ by about 0.02, which is next to
            nothing without it. (default: :obj:`0.1`)
        act (str, optional): The activation; :obj:`None` for none.
            (default: :obj:`'relu'`)
        bias (bool, optional): Whether there is a bias.
            (default: :obj:`True`)

    Shapes:
        - **input:** features :math:`((T, *, F_{in}), (S, *, F_{in}))` of
          queries and neighbours, or :math:`(T, *, F_{in})` where they are the
          same nodes; edge indices :math:`(2, |\mathcal{E}|)`, row 0 a query,
          row 1 its neighbour, a query's edges in the order of their rank;
          edge weights :math:`(|\mathcal{E}|)` *(optional, one by default)*
        - **output:** :math:`(T, *, F_{out})`

    Raises:
        ShapeError: If features or weights have another size.
        ValueError: If an option is unknown or a number not positive.

    Complexity: :math:`O(|\mathcal{E}| F_{in} + T F_{in} F_{out})` a region
    with :obj:`readout='center'` (neighbours are summed, then projected), else
    :math:`O(|\mathcal{E}| F_{out} + (T + S) F_{in} F_{out})`.

    Example:
        >>> text, images = torch.randn(3, 8), torch.randn(5, 8)
        >>> edge_index = torch.tensor([[0, 0, 2], [4, 1, 0]])
        >>> conv = CrossSampleConv(8, 16)
        >>> out = conv((text, images), edge_index, torch.tensor([.9, .8, .7]))
        >>> out.shape, int(out[1].count_nonzero())
        (torch.Size([3, 16]), 0)
    """
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        center: Literal['query', 'top1'] = 'query',
        readout: Literal['center', 'mean_nodes', 'ref_regions'] = 'center',
        norm: Literal['row', 'none'] = 'row',
        temperature: float | None = 0.1,
        act: str | None = 'relu',
        bias: bool = True,
    ) -> None:
        check_positive(in_channels=in_channels, out_channels=out_channels,
                       temperature=temperature)
        check_choice('center', center, ['query', 'top1'])
        check_choice('readout', readout,
                     ['center', 'mean_nodes', 'ref_regions'])
        check_choice('norm', norm, ['row', 'none'])
        super().__init__(aggr='sum', flow='target_to_source', node_dim=0)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.center = center
        self.readout = readout
        self.norm = norm
        self.temperature = temperature
        self.act = nn.Identity() if act is None else activation_resolver(act)
        self.lin = Linear(in_channels, out_channels, bias=False,
                          weight_initializer='glorot')
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels))
        else:
            self.register_parameter('bias', None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws new parameters."""
        super().reset_parameters()
        self.lin.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edge_index: Tensor,
        edge_weight: OptTensor = None,
    ) -> Tensor:
        query, neighbour = (x, x) if isinstance(x, Tensor) else x
        self._check(query, neighbour, edge_index, edge_weight)
        row, col = edge_index
        size = (query.size(0), neighbour.size(0))
        weight, real = self._weights(row, edge_weight, query.size(0),
                                     neighbour.dtype)
        hub: OptTensor = query if self.center == 'query' else None
        if self.readout != 'center':  # Every node is heard: project them all.
            neighbour = self.lin(neighbour)
            hub = None if hub is None else self.lin(hub)
        total = self.propagate(edge_index, x=neighbour, weight=weight,
                               size=size)
        if hub is not None:
            total = total + hub
        degree = self._sum(weight.abs(), row, size[0])
        out = self._finish(
            self.lin(total) if self.readout == 'center' else total,
            degree + (self.center == 'query'))
        if self.readout != 'center':
            out = self._read_out(out, hub, neighbour, row, col, weight, real)
        linked = self._sum(real.to(weight.dtype), row, size[0]) > 0
        return out.masked_fill(~_like(linked, out), 0)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return _like(weight, x_j) * x_j

    def _check(
        self,
        query: Tensor,
        neighbour: Tensor,
        edge_index: Tensor,
        edge_weight: OptTensor,
    ) -> None:
        for name, x in ('queries', query), ('neighbours', neighbour):
            if name == 'queries' and self.center == 'top1':
                continue
            if x.dim() < 2 or x.size(-1) != self.in_channels:
                raise ShapeError(
                    f"features of {name} must have 'in_channels' = "
                    f'{self.in_channels} columns (got shape {list(x.shape)})',
                    ('N', '*', self.in_channels), x.shape)
        if self.center == 'query' and query.dim() != neighbour.dim():
            raise ShapeError(
                f'features of queries must have as many axes as those of '
                f'neighbours (got {list(query.shape)} and '
                f'{list(neighbour.shape)})', neighbour.shape, query.shape)
        if edge_weight is not None \
                and edge_weight.shape != edge_index.shape[1:]:
            raise ShapeError(
                f"'edge_weight' must have one value an edge, shape "
                f'[{edge_index.size(1)}] (got {list(edge_weight.shape)})',
                (edge_index.size(1), ), edge_weight.shape)

    def _weights(
        self,
        row: Tensor,
        edge_weight: OptTensor,
        size: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        r"""The weight of each edge, and whether there is one."""
        if edge_weight is None:
            edge_weight = torch.ones(row.shape, dtype=dtype, device=row.device)
        real = edge_weight != 0
        if self.center == 'top1':
            real = torch.ones_like(real)
        if self.temperature is not None:
            wide = torch.promote_types(torch.promote_types(
                edge_weight.dtype, dtype), torch.float)
            logit = edge_weight.to(wide) / self.temperature
            # A finite fill: a query with nothing but zeros stays free of NaN.
            logit = logit.masked_fill(~real, torch.finfo(wide).min)
            edge_weight = softmax(logit, row, num_nodes=size)
        return edge_weight.to(dtype), real

    def _finish(self, total: Tensor, degree: Tensor) -> Tensor:
        if self.norm == 'row':
            degree = degree.masked_fill(degree == 0, 1)
            total = total / _like(degree, total)
        return self.act(total if self.bias is None else total + self.bias)

    def _read_out(
        self,
        center: Tensor,
        hub: OptTensor,
        neighbour: Tensor,
        row: Tensor,
        col: Tensor,
        weight: Tensor,
        real: Tensor,
    ) -> Tensor:
        r"""Joins the centre of each star with its leaves."""
        size = center.size(0)
        if hub is None:  # The first edge leads to the centre, not to a leaf.
            place = torch.arange(row.numel(), device=row.device)
            first = first_of_group(row, place, size)
            real = place != first[row]
        kept = real.nonzero().view(-1)
        row, weight = row[kept], weight[kept]
        middle = neighbour[col[first[row]]] if hub is None else hub[row]
        own = neighbour[col[kept]]
        leaf = self._finish(_like(weight, own) * middle + own,
                            1 + weight.abs())
        count = 1 + self._sum(torch.ones_like(weight), row, size)
        if self.readout == 'mean_nodes':
            return (center + self._sum(leaf, row, size)) / _like(count, center)
        return self._ref_regions(center, leaf, row, count.long())

    @staticmethod
    def _ref_regions(
        center: Tensor,
        leaf: Tensor,
        row: Tensor,
        count: Tensor,
    ) -> Tensor:
        size, width = center.size(0), center.size(-1)
        regions = center.shape[1:-1].numel()
        node = torch.cat([center, leaf]).view(-1, regions, width)
        row = torch.cat([torch.arange(size, device=row.device), row])
        row, order = row.sort(stable=True)  # The centre, then leaves by rank.
        rank = torch.arange(row.numel(), device=row.device)
        rank = rank - (count.cumsum(0) - count)[row]
        flat = (rank.unsqueeze(1) * regions
                + torch.arange(regions, device=row.device))
        slot = row.unsqueeze(1) * regions + flat // count[row].unsqueeze(1)
        node = node[order] / _like(count[row], node)
        out = node.new_zeros(size * regions, width)
        return out.index_add(0, slot.view(-1),
                             node.view(-1, width)).view(center.shape)

    @staticmethod
    def _sum(x: Tensor, index: Tensor, size: int) -> Tensor:
        return x.new_zeros(size, *x.shape[1:]).index_add(0, index, x)

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self.in_channels}, '
                f'{self.out_channels}, center={self.center!r}, '
                f'readout={self.readout!r}, norm={self.norm!r}, '
                f'temperature={self.temperature})')


def _like(value: Tensor, x: Tensor) -> Tensor:
    r"""One value a row, shaped to multiply rows of :obj:`x`."""
    return value.view(-1, *[1] * (x.dim() - 1))
