"""Attention along edges whose labels are part of keys and values."""
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.utils import softmax

from mmgraph.errors import ShapeError
from mmgraph.nn.configurable import Configurable
from mmgraph.typing import OptTensor
from mmgraph.utils import check_positive, checks_enabled

__all__ = ['AttributeConv']


class AttributeConv(Configurable, nn.Module):
    r"""The *attribute transformer* of the `"Joint Multimodal Entity-Relation
    Extraction Based on Edge-enhanced Graph Alignment Network and Word-pair
    Relation Tagging" <https://doi.org/10.1609/aaai.v37i9.26309>`_ paper (AAAI
    2023, Eq. 3-4): nodes attend to their neighbours, and the label of an edge
    is part of what is compared and of what is heard

    .. math::
        \mathbf{k}_{ij} &= \mathbf{W}_K \mathbf{x}_j + \mathbf{W}_z
            \mathbf{z}_{ij}, \qquad
        \mathbf{v}_{ij} = \mathbf{W}_V \mathbf{x}_j + \mathbf{W}_r
            \mathbf{z}_{ij}

        \alpha_{ij} &= \mathrm{softmax}_{j \in \mathcal{N}(i)} \left(
            \mathbf{W}_Q \mathbf{x}_i \cdot \mathbf{k}_{ij} / \sqrt{d / H}
            \right)

        \mathbf{u}_i &= \mathrm{LN} \Big( \mathbf{x}_i +
            \sum_{j \in \mathcal{N}(i)} \alpha_{ij} \mathbf{v}_{ij} \Big),
            \qquad
        \mathbf{x}^{\prime}_i = \mathrm{LN}(\mathbf{u}_i + \mathbf{W}_o
            \mathbf{u}_i)

    for each of :math:`H` heads, joined (each map with a bias but
    :math:`\mathbf{W}_o`, behind which there is no non-linearity), with one
    embedding :math:`\mathbf{z}` a label.

    Edges are heard both ways, and every node hears itself under a label of
    its own, so that :math:`\mathcal{N}(i)` is never empty. The graph is a
    *set* of labelled edges: two edges between the same nodes are two messages
    if their labels differ and one if not (so that an :obj:`edge_index` that
    holds both directions already changes nothing), and self loops in
    :obj:`edge_index` are not read.

    .. note:: **Paper and published code differ.** The paper multiplies logits
        by the adjacency before the softmax, which leaves absent edges at
        logit zero, and the code fills them with a large negative number, so
        that a node without edges averages over all positions, padding
        included; here the softmax runs over edges. The paper scales by
        :math:`\sqrt{d}`; this is the code's :math:`\sqrt{d / H}`. In the code
        the graph is a matrix of labels in which the last edge of a pair wins,
        its label serves both directions (:obj:`inverse_types=True` tells them
        apart), and the image graph has no self loops.

        Labels are projected once each, not once an edge, and no tensor over
        all pairs of nodes is made.

    Args:
        channels (int): Size :math:`d` of a node; a multiple of
            :obj:`num_heads`.
        num_edge_types (int): Number of labels.
        edge_dim (int, optional): Size of a label's embedding
            :math:`\mathbf{z}`. (default: :obj:`100`)
        num_heads (int, optional): Number of heads :math:`H`.
            (default: :obj:`12`)
        dropout (float, optional): Of the attention weights.
            (default: :obj:`0.3`)
        inverse_types (bool, optional): The label of an edge that is heard
            against its direction is another one. (default: :obj:`False`)
        share_edge_proj (bool, optional): :math:`\mathbf{W}_r =
            \mathbf{W}_z`. (default: :obj:`False`)

    Shapes:
        - **input:** nodes :math:`(N, d)`, edge indices
          :math:`(2, |\mathcal{E}|)`, row 0 the source, row 1 the target;
          labels :math:`(|\mathcal{E}|)` in :math:`[0, R)` *(optional:
          without them* :math:`\mathbf{z} = \mathbf{0}` *on edges)*
        - **output:** :math:`(N, d)`

    Raises:
        ShapeError: If nodes, edges or labels have another size.
        ValueError: If an argument is out of range, or a label or node index
            is.

    Complexity: :math:`O(N d^2 + |\mathcal{E}| d + N R d)` with :math:`R`
    labels; two rows of :math:`d` numbers an edge are kept for the gradient.

    Example:
        >>> x, edge_index = torch.randn(3, 8), torch.tensor([[0, 1], [1, 2]])
        >>> conv = AttributeConv(8, num_edge_types=5, num_heads=2)
        >>> conv(x, edge_index, torch.tensor([4, 0])).shape
        torch.Size([3, 8])
    """
    def __init__(
        self,
        channels: int,
        num_edge_types: int,
        edge_dim: int = 100,
        num_heads: int = 12,
        dropout: float = 0.3,
        inverse_types: bool = False,
        share_edge_proj: bool = False,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, num_edge_types=num_edge_types,
                       edge_dim=edge_dim, num_heads=num_heads)
        if channels % num_heads:
            raise ValueError(f"'channels' must be divisible by 'num_heads' "
                             f'(got {channels} and {num_heads})')
        self.channels = channels
        self.num_edge_types = num_edge_types
        self.num_heads = num_heads
        self.inverse_types = inverse_types
        # Labels, their inverses if they have any, and that of self loops.
        self.embedding = nn.Embedding(
            num_edge_types * (2 if inverse_types else 1) + 1, edge_dim)
        self.lin_query = nn.Linear(channels, channels)
        self.lin_key = nn.Linear(channels, channels)
        self.lin_value = nn.Linear(channels, channels)
        self.lin_edge_key = nn.Linear(edge_dim, channels)
        self.lin_edge_value = (None if share_edge_proj
                               else nn.Linear(edge_dim, channels))
        self.norm_1 = nn.LayerNorm(channels)
        self.lin_out = nn.Linear(channels, channels, bias=False)
        self.norm_2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws new parameters."""
        for module in self.children():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_type: OptTensor = None,
    ) -> Tensor:
        r"""Runs the layer.

        Args:
            x (torch.Tensor): Nodes :obj:`[N, d]`.
            edge_index (torch.Tensor): Edges :obj:`[2, E]`.
            edge_type (torch.Tensor, optional): Their labels, :obj:`[E]`.
                (default: :obj:`None`)
        """
        self._check(x, edge_index, edge_type)
        if x.size(0) > 0:
            x = x + self._attend(x, *self._messages(x, edge_index, edge_type))
        x = self.norm_1(x)
        return self.norm_2(x + self.lin_out(x))

    def _messages(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_type: OptTensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Who hears whom under which label, each once, sorted by who."""
        n, loop = x.size(0), self.embedding.num_embeddings - 1
        row, col = edge_index
        if edge_type is None:  # Behind all labels: none.
            forth = back = torch.full_like(row, loop + 1)
        else:
            forth = back = edge_type
            if self.inverse_types:
                back = edge_type + self.num_edge_types
        keep = row != col
        row, col, forth, back = (t[keep] for t in (row, col, forth, back))
        node = torch.arange(n, device=x.device)
        target = torch.cat([col, row, node])
        source = torch.cat([row, col, node])
        label = torch.cat([forth, back, torch.full_like(node, loop)])
        key = torch.unique((target * n + source) * (loop + 2) + label)
        pair = key // (loop + 2)
        return pair // n, pair % n, key % (loop + 2)

    def _attend(
        self,
        x: Tensor,
        target: Tensor,
        source: Tensor,
        label: Tensor,
    ) -> Tensor:
        r"""The heads, joined. What labels add to logits and values depends on
        a node and a label alone: it is computed for these and looked up.
        """
        n, h, count = x.size(0), self.num_heads, target.numel()
        query, key, value = self.lin_query(x), self.lin_key(x), \
            self.lin_value(x)
        z = F.pad(self.embedding.weight, (0, 0, 0, 1))
        edge_key = self.lin_edge_key(z).view(len(z), h, -1)
        edge_value = (edge_key if self.lin_edge_value is None
                      else self.lin_edge_value(z).view(len(z), h, -1))

        logit = (query.index_select(0, target) * key.index_select(0, source)
                 ).view(count, h, -1).sum(2)
        place = target * len(z) + label
        by_label = torch.einsum('nhc,lhc->nlh', query.view(n, h, -1), edge_key)
        logit = logit + by_label.reshape(-1, h).index_select(0, place)
        alpha = self.dropout(softmax(
            logit / math.sqrt(x.size(1) / h), target, num_nodes=n))

        mass = alpha.new_zeros(n * len(z), h).index_add(0, place, alpha)
        out = torch.einsum('nlh,lhc->hnc', mass.view(n, -1, h), edge_value)
        # A weighted sum of rows a node and head, without a copy of the rows.
        value = value.view(n, h, -1).transpose(0, 1)
        head = torch.arange(h, device=x.device).unsqueeze(1)
        first = torch.searchsorted(target, torch.arange(n, device=x.device))
        heard = F.embedding_bag(
            (head * n + source).view(-1), value.reshape(h * n, -1),
            (head * count + first).view(-1), mode='sum',
            per_sample_weights=alpha.t().reshape(-1).to(value.dtype))
        return (out + heard.view(h, n, -1)).transpose(0, 1).flatten(1)

    def _check(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_type: OptTensor,
    ) -> None:
        if x.dim() != 2 or x.size(1) != self.channels:
            raise ShapeError(f"'x' must have shape [N, {self.channels}] (got "
                             f'{list(x.shape)})', ('N', self.channels),
                             x.shape)
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise ShapeError(f"'edge_index' must have shape [2, E] (got "
                             f'{list(edge_index.shape)})', (2, 'E'),
                             edge_index.shape)
        num_edges = edge_index.size(1)
        if edge_type is not None and edge_type.shape != (num_edges, ):
            raise ShapeError(f"'edge_type' must have one label an edge, shape "
                             f'[{num_edges}] (got {list(edge_type.shape)})',
                             (num_edges, ), edge_type.shape)
        if not checks_enabled():
            return
        check_range('edge_index', edge_index, x.size(0))
        if edge_type is not None:
            check_range('edge_type', edge_type, self.num_edge_types,
                        'Was the graph built with another vocabulary?')

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self.channels}, '
                f'num_edge_types={self.num_edge_types}, '
                f'num_heads={self.num_heads})')


def check_range(
    name: str,
    value: Tensor,
    size: int,
    advice: str = '',
) -> None:
    r"""Refuses ids outside of :math:`[0, \mathrm{size})`; the last axis of
    :obj:`value` is that of edges, words or pairs.

    Raises:
        ValueError: With the first of them and its place.
    """
    wrong = (value < 0) | (value >= size)
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"'{name}' must be in [0, {size}) (got {int(value[tuple(place)])} "
            f'at {place[-1]}). {advice}'.rstrip())
