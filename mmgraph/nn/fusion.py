"""Gates: how much of another modality a state lets in."""
import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from mmgraph.nn.configurable import Configurable
from mmgraph.utils import check_positive

__all__ = ['ConcatGate', 'EdgeGate', 'GatedResidual']


class GatedResidual(Configurable, nn.Module):
    r"""Adds a gated context to a state, as the `"Learning from Different
    text-image Pairs" <https://doi.org/10.1145/3503161.3548228>`_ paper (ACM MM
    2022) joins what its graphs bring to the text and to the image

    .. math::
        \mathbf{h}^{\prime} = \mathbf{h} + \sigma(\mathbf{h} \mathbf{W} +
        \mathbf{p} \mathbf{W}^{\prime}) \odot \mathbf{p}

    with :math:`\mathbf{W} = \mathbf{W}^{\prime}` and no bias, as in the
    published code, unless :obj:`tied` is :obj:`False`. A context of zeros
    leaves the state as it is, to the last bit.

    Args:
        channels (int): Size of state and context.
        tied (bool, optional): Whether both go through the same weight.
            (default: :obj:`True`)

    Shapes:
        - **input:** states and context, two shapes
          :math:`(*, \text{channels})` that broadcast
        - **output:** :math:`(*, \text{channels})`

    Raises:
        ValueError: If :obj:`channels` is not positive.

    Example:
        >>> gate = GatedResidual(4)
        >>> x = torch.ones(3, 4)
        >>> torch.equal(gate(x, torch.zeros(3, 4)), x)
        True
    """
    def __init__(self, channels: int, tied: bool = True) -> None:
        super().__init__()
        check_positive(channels=channels)
        self.channels = channels
        self.lin = nn.Linear(channels, channels, bias=False)
        self.lin_context = (None if tied else
                            nn.Linear(channels, channels, bias=False))

    def reset_parameters(self) -> None:
        r"""Draws new parameters."""
        self.lin.reset_parameters()
        if self.lin_context is not None:
            self.lin_context.reset_parameters()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        if self.lin_context is None:
            gate = self.lin(x + context)
        else:
            gate = self.lin(x) + self.lin_context(context)
        return x + gate.sigmoid() * context

    def extra_repr(self) -> str:
        return f'{self.channels}, tied={self.lin_context is None}'


class ConcatGate(Configurable, nn.Module):
    r"""Joins a state and a gated context, from the `"Improving Multimodal
    Named Entity Recognition via Entity Span Detection with Unified Multimodal
    Transformer" <https://aclanthology.org/2020.acl-main.306>`_ paper (ACL
    2020, the *visual gate*)

    .. math::
        \mathbf{g} = \sigma([\mathbf{h}; \mathbf{p}] \mathbf{W} +
        \mathbf{b}), \qquad
        \mathbf{h}^{\prime} = [\mathbf{h}; \mathbf{g} \odot \mathbf{p}]

    Args:
        channels (int): Size of a state.
        context_channels (int, optional): Size of a context; that of a state
            if left out. (default: :obj:`None`)
        bias (bool, optional): Whether the gate has a bias.
            (default: :obj:`True`)

    Attributes:
        out_channels (int): Size of the output,
            :obj:`channels + context_channels`.

    Shapes:
        - **input:** states :math:`(*, \text{channels})`, context
          :math:`(*, \text{context\_channels})`, the same :math:`*`
        - **output:** :math:`(*, \text{out\_channels})`

    Raises:
        ValueError: If a size is not positive.

    Example:
        >>> ConcatGate(4)(torch.ones(3, 4), torch.ones(3, 4)).shape
        torch.Size([3, 8])
    """
    def __init__(
        self,
        channels: int,
        context_channels: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, context_channels=context_channels)
        self.channels = channels
        self.context_channels = context_channels or channels
        self.out_channels = channels + self.context_channels
        self.lin = nn.Linear(self.out_channels, self.context_channels, bias)

    def reset_parameters(self) -> None:
        r"""Draws new parameters."""
        self.lin.reset_parameters()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        gate = self.lin(torch.cat([x, context], dim=-1)).sigmoid()
        return torch.cat([x, gate * context], dim=-1)

    def extra_repr(self) -> str:
        return f'{self.channels}, {self.context_channels}'


class EdgeGate(Configurable, MessagePassing):
    r"""Messages gated channel by channel by both ends of their edge, the
    inter-modal fusion of the `"Multi-modal Graph Fusion for Named Entity
    Recognition with Targeted Visual Guidance"
    <https://ojs.aaai.org/index.php/AAAI/article/view/17687>`_ paper (AAAI
    2021)

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{j \in \mathcal{N}(i)}
        \sigma(\mathbf{W} [\mathbf{x}_i; \mathbf{x}_j] + \mathbf{b}) \odot
        \mathbf{x}_j

    :math:`\mathbf{W} [\mathbf{x}_i; \mathbf{x}_j] = \mathbf{W}_1 \mathbf{x}_i
    + \mathbf{W}_2 \mathbf{x}_j`, so every node is projected once and not once
    an edge.

    Args:
        in_channels (int or tuple): Size of a source node's features (and of
            the output), and of a target node's; one number for both.
        bias (bool, optional): Whether the gate has a bias.
            (default: :obj:`True`)

    Shapes:
        - **input:** node features :math:`(|\mathcal{V}|, F)`, or
          :math:`((|\mathcal{V}_s|, F_s), (|\mathcal{V}_t|, F_t))` of a
          bipartite graph, edge indices :math:`(2, |\mathcal{E}|)` (source,
          target)
        - **output:** :math:`(|\mathcal{V}_t|, F_s)`; a node without incoming
          edge gets zeros

    Raises:
        ValueError: If a size is not positive.

    Complexity: :math:`O(|\mathcal{V}| F^2 + |\mathcal{E}| F)`.

    Example:
        >>> objects, words = torch.randn(2, 8), torch.randn(3, 8)
        >>> edge_index = torch.tensor([[0, 1, 1], [0, 0, 2]])
        >>> EdgeGate(8)((objects, words), edge_index).shape
        torch.Size([3, 8])
    """
    def __init__(
        self,
        in_channels: int | tuple[int, int],
        bias: bool = True,
    ) -> None:
        super().__init__(aggr='sum')
        if isinstance(in_channels, int):
            in_channels = (in_channels, in_channels)
        source, target = in_channels
        check_positive(in_channels=min(source, target))
        self.in_channels = (source, target)
        self.lin_src = nn.Linear(source, source, bias=False)
        self.lin_dst = nn.Linear(target, source, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws new parameters, as one linear layer over
        :math:`[\mathbf{x}_i; \mathbf{x}_j]` would.
        """
        super().reset_parameters()
        bound = sum(self.in_channels)**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edge_index: Tensor,
    ) -> Tensor:
        source, target = (x, x) if isinstance(x, Tensor) else x
        return self.propagate(
            edge_index, x=source, gate=(self.lin_src(source),
                                        self.lin_dst(target)),
            size=(source.size(0), target.size(0)))

    def message(self, x_j: Tensor, gate_i: Tensor, gate_j: Tensor) -> Tensor:
        return (gate_i + gate_j).sigmoid() * x_j

    def __repr__(self) -> str:
        return f'{type(self).__name__}{self.in_channels}'
