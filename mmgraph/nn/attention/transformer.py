"""The standard transformer layer, for self- and cross-attention."""
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmgraph.errors import ShapeError
from mmgraph.nn.configurable import Configurable
from mmgraph.typing import OptTensor
from mmgraph.utils import check_choice, check_positive

__all__ = ['MultiHeadAttention', 'TransformerLayer']

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    'gelu': F.gelu, 'relu': F.relu}


def _reset_linear(module: nn.Module) -> None:
    r"""BERT's initialisation."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class MultiHeadAttention(Configurable, nn.Module):
    r"""Multi-head scaled dot-product attention from the `"Attention Is All You
    Need" <https://arxiv.org/abs/1706.03762>`_ paper (Section 3.2) over padded
    rows

    .. math::
        \mathrm{head}_h &= \mathrm{softmax}\left( \frac{\mathbf{X}
            \mathbf{W}^Q_h (\mathbf{M} \mathbf{W}^K_h)^{\top}}{\sqrt{d_h}}
            \right) \mathbf{M} \mathbf{W}^V_h

        \mathbf{X}^{\prime} &= [\mathrm{head}_1; \ldots; \mathrm{head}_H]
            \mathbf{W}^O

    (each map with a bias) where queries :math:`\mathbf{X}` attend to a memory
    :math:`\mathbf{M}`, themselves if there is none, and a head is
    :math:`d_h = d / H` wide.

    A query whose keys are all masked, or that has no key at all, gets zeros:
    what attends to nothing adds nothing.

    Args:
        channels (int): Size :math:`d` of a query and of an output; a multiple
            of :obj:`num_heads` where a head's size follows from it.
        num_heads (int): Number of heads :math:`H`.
        dropout (float, optional): Of the attention weights.
            (default: :obj:`0.0`)
        memory_channels (int, optional): Size of a memory row;
            :obj:`channels` if :obj:`None`. (default: :obj:`None`)
        project_values (bool, optional): If :obj:`False`, there is no
            :math:`\mathbf{W}^V` and no :math:`\mathbf{W}^O`: each head mixes
            its own part of the memory's channels. (default: :obj:`True`)
        head_channels (int, optional): Another size :math:`d_h` of a head:
            maps then lead to :math:`H d_h` channels and :math:`\mathbf{W}^O`
            back to :math:`d`. (default: :obj:`None`)
        bias (bool, optional): Whether maps have a bias.
            (default: :obj:`True`)

    Shapes:
        - **input:** queries :math:`(B, L, d)`, key mask :math:`(B, L)` or
          :math:`(B, M)`, memory :math:`(B, M, d_m)`
        - **output:** :math:`(B, L, d)`; rows of padding hold no meaning

    Raises:
        ShapeError: If the memory (or what takes its place) has another size,
            or the mask is not one of the keys.
        ValueError: If a size is not positive, :obj:`channels` is no multiple
            of :obj:`num_heads` where it must be, or the memory has another
            size than :obj:`channels` and is not projected.

    Complexity: :math:`O(B H d_h (L M + (L + M) d))`.

    Example:
        >>> x, memory = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
        >>> MultiHeadAttention(8, num_heads=2)(x, memory=memory).shape
        torch.Size([2, 5, 8])
        >>> wide = MultiHeadAttention(8, 2, head_channels=8, bias=False)
        >>> wide.lin_query.weight.shape, wide(x, memory=memory).shape
        (torch.Size([16, 8]), torch.Size([2, 5, 8]))
    """
    def __init__(
        self,
        channels: int,
        num_heads: int,
        dropout: float = 0.0,
        memory_channels: int | None = None,
        project_values: bool = True,
        head_channels: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, num_heads=num_heads,
                       memory_channels=memory_channels,
                       head_channels=head_channels)
        if channels % num_heads and (head_channels is None
                                     or not project_values):
            raise ValueError(f"'channels' must be divisible by 'num_heads' "
                             f'(got {channels} and {num_heads})')
        size = memory_channels or channels
        if size != channels and not project_values:
            raise ValueError(f"'memory_channels' must be 'channels' where "
                             f'values are not projected (got {size} and '
                             f'{channels})')
        self.channels = channels
        self.num_heads = num_heads
        self.memory_channels = size
        self.dropout = dropout
        width = num_heads * (head_channels or channels // num_heads)
        self.lin_query = nn.Linear(channels, width, bias)
        self.lin_key = nn.Linear(size, width, bias)
        self.lin_value: nn.Linear | None = None
        self.lin_out: nn.Linear | None = None
        if project_values:
            self.lin_value = nn.Linear(size, width, bias)
            self.lin_out = nn.Linear(width, channels, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws new parameters, as BERT does."""
        self.apply(_reset_linear)

    def forward(
        self,
        x: Tensor,
        mask: OptTensor = None,
        memory: OptTensor = None,
    ) -> Tensor:
        r"""Attends.

        Args:
            x (torch.Tensor): Queries :obj:`[B, L, d]`.
            mask (torch.Tensor, optional): Which keys there are: of the memory
                :obj:`[B, M]`, or :obj:`[B, L]` without one; all if
                :obj:`None`. (default: :obj:`None`)
            memory (torch.Tensor, optional): What is attended to,
                :obj:`[B, M, d_m]`; :obj:`x` if :obj:`None`.
                (default: :obj:`None`)
        """
        memory = x if memory is None else memory
        if memory.size(-1) != self.memory_channels:
            raise ShapeError(
                f"'memory' must have 'memory_channels' = "
                f'{self.memory_channels} columns (got {memory.size(-1)})',
                (*memory.shape[:-1], self.memory_channels), memory.shape)
        if mask is not None and mask.shape != memory.shape[:2]:
            raise ShapeError(
                f'the mask must have shape {list(memory.shape[:2])}, one a '
                f'key (got {list(mask.shape)})', memory.shape[:2], mask.shape)
        if memory.size(1) == 0:  # One key that nobody sees.
            memory = F.pad(memory, (0, 0, 0, 1))
            mask = memory.new_zeros(memory.shape[:2], dtype=torch.bool)
        key_mask, has_key = None, None
        if mask is not None:
            has_key = mask.any(dim=1)[:, None, None]
            # Softmax over nothing is NaN in some kernels: those rows see all
            # keys here and are zeroed below.
            key_mask = (mask[:, None, None] | ~has_key.unsqueeze(3))
        value = memory if self.lin_value is None else self.lin_value(memory)
        out = F.scaled_dot_product_attention(
            self._split(self.lin_query(x)), self._split(self.lin_key(memory)),
            self._split(value), attn_mask=key_mask,
            dropout_p=self.dropout if self.training else 0.0)
        out = out.transpose(1, 2).flatten(2)
        if self.lin_out is not None:
            out = self.lin_out(out)
        return out if has_key is None else out.masked_fill(~has_key, 0)

    def _split(self, x: Tensor) -> Tensor:
        r""":obj:`[B, L, H d_h]` to :obj:`[B, H, L, d_h]`."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def extra_repr(self) -> str:
        return f'{self.channels}, num_heads={self.num_heads}'


class TransformerLayer(Configurable, nn.Module):
    r"""One layer of the `"BERT: Pre-training of Deep Bidirectional
    Transformers for Language Understanding"
    <https://arxiv.org/abs/1810.04805>`_ paper, with self-attention, or with
    cross-attention where a memory is given

    .. math::
        \mathbf{Z} &= \mathrm{LN}\left( \mathbf{X} + \mathrm{dropout}(
            \mathrm{MHA}(\mathbf{X}, \mathbf{M})) \right)

        \mathbf{X}^{\prime} &= \mathrm{LN}\left( \mathbf{Z} +
            \mathrm{dropout}(\mathbf{W}_2 \, \sigma(\mathbf{W}_1 \mathbf{Z}
            )) \right)

    where :math:`\mathrm{MHA}` is :class:`MultiHeadAttention`: queries from
    :math:`\mathbf{X}`, keys and values from the memory :math:`\mathbf{M}`, or
    from :math:`\mathbf{X}` itself. With the weights of a
    :class:`transformers.BertLayer` it gives that layer's states.

    A post whose keys are all masked (no image, say) gets no attention output,
    only the layer's other half: no NaN, and what lies under the mask has no
    influence.

    Args:
        channels (int): Size :math:`d` of a state; a multiple of
            :obj:`num_heads`.
        num_heads (int): Number of heads.
        ff_channels (int, optional): Size between :math:`\mathbf{W}_1` and
            :math:`\mathbf{W}_2`; :math:`4 d` if :obj:`None`.
            (default: :obj:`None`)
        dropout (float, optional): Of both outputs and of the attention
            weights. (default: :obj:`0.1`)
        activation (str, optional): :math:`\sigma`: :obj:`'gelu'` or
            :obj:`'relu'`. (default: :obj:`'gelu'`)
        memory_channels (int, optional): Size of a memory row;
            :obj:`channels` if :obj:`None`. (default: :obj:`None`)
        eps (float, optional): Of the layer norms. (default: :obj:`1e-12`)

    Shapes:
        - **input:** states :math:`(B, L, d)`, their mask :math:`(B, L)`,
          memory :math:`(B, M, d_m)`, its mask :math:`(B, M)`
        - **output:** :math:`(B, L, d)`; rows of padding hold no meaning

    Raises:
        ShapeError: If the memory (or what takes its place) has another size,
            or the mask is not one of the keys.
        ValueError: If a size is not positive, :obj:`channels` is no multiple
            of :obj:`num_heads`, or the activation is unknown.

    Complexity: :math:`O(B (L M d + (L + M) d^2))` with :obj:`ff_channels` in
    the order of :math:`d`.

    Example:
        >>> words, regions = torch.randn(2, 5, 8), torch.randn(2, 3, 6)
        >>> TransformerLayer(8, num_heads=2)(words).shape
        torch.Size([2, 5, 8])
        >>> layer = TransformerLayer(8, num_heads=2, memory_channels=6)
        >>> layer(words, memory=regions).shape
        torch.Size([2, 5, 8])
    """
    def __init__(
        self,
        channels: int,
        num_heads: int,
        ff_channels: int | None = None,
        dropout: float = 0.1,
        activation: Literal['gelu', 'relu'] = 'gelu',
        memory_channels: int | None = None,
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        check_positive(ff_channels=ff_channels)
        check_choice('activation', activation, list(_ACTIVATIONS))
        self.attention = MultiHeadAttention(channels, num_heads, dropout,
                                            memory_channels)
        self.activation = activation
        width = ff_channels or 4 * channels
        self.lin_1 = nn.Linear(channels, width)
        self.lin_2 = nn.Linear(width, channels)
        self.norm_1 = nn.LayerNorm(channels, eps=eps)
        self.norm_2 = nn.LayerNorm(channels, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws new parameters, as BERT does."""
        self.apply(_reset_linear)
        self.norm_1.reset_parameters()
        self.norm_2.reset_parameters()

    def forward(
        self,
        x: Tensor,
        mask: OptTensor = None,
        memory: OptTensor = None,
        memory_mask: OptTensor = None,
    ) -> Tensor:
        r"""Runs the layer.

        Args:
            x (torch.Tensor): States :obj:`[B, L, d]`.
            mask (torch.Tensor, optional): Which of them there are,
                :obj:`[B, L]`, bool; all if :obj:`None`. Only keys are masked,
                so that it is not read if there is a memory.
                (default: :obj:`None`)
            memory (torch.Tensor, optional): What is attended to,
                :obj:`[B, M, d_m]`; :obj:`x` if :obj:`None`.
                (default: :obj:`None`)
            memory_mask (torch.Tensor, optional): Which rows of the memory
                there are, :obj:`[B, M]`, bool; all if :obj:`None`.
                (default: :obj:`None`)
        """
        key_mask = mask if memory is None else memory_mask
        x = self.norm_1(x + self.dropout(self.attention(x, key_mask, memory)))
        hidden = _ACTIVATIONS[self.activation](self.lin_1(x))
        return self.norm_2(x + self.dropout(self.lin_2(hidden)))
