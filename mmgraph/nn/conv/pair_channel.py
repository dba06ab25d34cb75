"""Attention whose weights depend on what is known of a pair of words."""
import torch
from torch import Tensor, nn

from mmgraph.errors import ShapeError
from mmgraph.nn.configurable import Configurable
from mmgraph.nn.conv.attribute import check_range
from mmgraph.nn.ragged import pad_rows
from mmgraph.typing import OptTensor
from mmgraph.utils import check_positive, checks_enabled

__all__ = ['PairChannelConv']


class PairChannelConv(Configurable, nn.Module):
    r"""A linguistic channel of the `"Joint Multimodal Entity-Relation
    Extraction Based on Edge-enhanced Graph Alignment Network and Word-pair
    Relation Tagging" <https://doi.org/10.1609/aaai.v37i9.26309>`_ paper (AAAI
    2023, Eq. 9-10): every word hears every word of its post, with weights
    that depend on an id of the pair (their distance in the dependency tree,
    say) and not on the words

    .. math::
        s_{ij} &= \mathrm{ReLU} \left( \mathbf{w} \cdot \mathbf{W}_e
            \mathbf{r}_{ij} \right), \qquad
        \alpha_{ij} = \mathrm{softmax}_{j \in \mathrm{post}(i)} (s_{ij})

        \mathbf{x}^{\prime}_i &= \mathrm{ReLU} \Big( \mathbf{x}_i +
            \sum_j \alpha_{ij} \mathbf{W}_V \mathbf{x}_j \Big)

    for each of :math:`H` heads, joined, with :math:`\mathbf{w} \in
    \mathbb{R}^{d / H}` shared by heads and no bias. :math:`\mathbf{r}_{ij}`
    is the embedding of the pair's id or, with :obj:`additive`, the sum of
    those of its words' ids (their parts of speech).

    .. note:: This is the published code's form. The paper has one score a
        pair with a bias, no heads, and no :math:`\mathbf{x}_i` in the sum.
        The code leaves pairs whose words do not occur together more often
        than by chance out of the softmax, because their id is that of
        padding, so that a word that never does hears all positions alike;
        here this is an id as any other, and only words of other posts are
        left out.

        Scores are computed once an id and looked up; no tensor of embeddings
        over pairs is made.

    Args:
        channels (int): Size :math:`d` of a word; a multiple of
            :obj:`num_heads`.
        num_ids (int): Number :math:`K` of ids.
        edge_dim (int, optional): Size of :math:`\mathbf{r}_{ij}`.
            (default: :obj:`100`)
        num_heads (int, optional): Number of heads :math:`H`.
            (default: :obj:`12`)
        dropout (float, optional): Of the attention weights.
            (default: :obj:`0.3`)
        additive (bool, optional): Ids are of words, not of pairs.
            (default: :obj:`False`)

    Shapes:
        - **input:** words :math:`(N, d)`; ids :math:`(P)`, one a pair of
          :obj:`pair_index` :math:`(2, P)`, which holds the pairs :math:`i
          \leq j` of every post, or with :obj:`additive` :math:`(N)`; the post
          of each word :math:`(N)`, offsets :math:`(B + 1)`
        - **output:** :math:`(N, d)`

    Raises:
        ShapeError: If words, ids or pairs have another size.
        ValueError: If an argument is out of range, an id is, or pairs are
            missing.

    Complexity: :math:`O(N d^2 + B L^2 d + K d)` time, :math:`O(B H L^2)`
    memory, for :math:`L` words in the longest post.

    Example:
        >>> x, batch = torch.randn(3, 8), torch.tensor([0, 0, 1])
        >>> ptr = torch.tensor([0, 2, 3])
        >>> pair_index = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 2]])
        >>> conv = PairChannelConv(8, num_ids=5, num_heads=2)
        >>> conv(x, torch.tensor([0, 4, 0, 0]), batch, ptr, pair_index).shape
        torch.Size([3, 8])
        >>> conv = PairChannelConv(8, num_ids=5, num_heads=2, additive=True)
        >>> conv(x, torch.tensor([3, 1, 1]), batch, ptr).shape
        torch.Size([3, 8])
    """
    def __init__(
        self,
        channels: int,
        num_ids: int,
        edge_dim: int = 100,
        num_heads: int = 12,
        dropout: float = 0.3,
        additive: bool = False,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, num_ids=num_ids, edge_dim=edge_dim,
                       num_heads=num_heads)
        if channels % num_heads:
            raise ValueError(f"'channels' must be divisible by 'num_heads' "
                             f'(got {channels} and {num_heads})')
        self.channels = channels
        self.num_ids = num_ids
        self.num_heads = num_heads
        self.additive = additive
        self.embedding = nn.Embedding(num_ids, edge_dim)
        self.lin_edge = nn.Linear(edge_dim, channels, bias=False)
        self.score = nn.Parameter(torch.empty(channels // num_heads))
        self.lin_value = nn.Linear(channels, channels, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws new parameters."""
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.xavier_uniform_(self.lin_edge.weight)
        nn.init.xavier_uniform_(self.lin_value.weight)
        nn.init.xavier_uniform_(self.score.unsqueeze(0))

    def forward(
        self,
        x: Tensor,
        ids: Tensor,
        batch: Tensor,
        ptr: Tensor,
        pair_index: OptTensor = None,
    ) -> Tensor:
        r"""Runs the layer.

        Args:
            x (torch.Tensor): Words :obj:`[N, d]`, sorted by post.
            ids (torch.Tensor): Ids of pairs :obj:`[P]`, or of words
                :obj:`[N]` with :obj:`additive`.
            batch (torch.Tensor): The post of each word, :obj:`[N]`.
            ptr (torch.Tensor): Offsets :obj:`[B + 1]`.
            pair_index (torch.Tensor, optional): The pairs, :obj:`[2, P]`, as
                :func:`mmgraph.parse.pair_index` lists them; not read with
                :obj:`additive`. (default: :obj:`None`)
        """
        self._check(x, ids, ptr, pair_index)
        if x.size(0) == 0:
            return self.lin_value(x)
        value, real = pad_rows(self.lin_value(x), batch, ptr)
        table = self.lin_edge(self.embedding.weight).view(
            self.num_ids, self.num_heads, -1) @ self.score
        if self.additive:
            term = pad_rows(table.index_select(0, ids), batch, ptr)[0]
            score = term.unsqueeze(2) + term.unsqueeze(1)
        else:
            score = self._look_up(table, ids, batch, ptr, pair_index, real)
        score = score.relu().masked_fill(
            ~real[:, None, :, None], torch.finfo(score.dtype).min)
        alpha = self.dropout(score.permute(0, 3, 1, 2).softmax(3))
        value = value.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        heard = (alpha.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return (x + heard[real]).relu()

    @staticmethod
    def _look_up(
        table: Tensor,
        ids: Tensor,
        batch: Tensor,
        ptr: Tensor,
        pair_index: OptTensor,
        real: Tensor,
    ) -> Tensor:
        r"""Rows of the table for all pairs, :obj:`[B, L, L, H]`."""
        assert pair_index is not None
        post = batch[pair_index[0]]
        row, col = pair_index - ptr[post]
        size, length = real.shape
        index = ids.new_zeros(size, length, length)
        index[post, row, col] = ids
        index[post, col, row] = ids
        return table.index_select(0, index.view(-1)).view(*index.shape, -1)

    def _check(
        self,
        x: Tensor,
        ids: Tensor,
        ptr: Tensor,
        pair_index: OptTensor,
    ) -> None:
        if x.dim() != 2 or x.size(1) != self.channels:
            raise ShapeError(f"'x' must have shape [N, {self.channels}] (got "
                             f'{list(x.shape)})', ('N', self.channels),
                             x.shape)
        if self.additive:
            what, size = 'word', x.size(0)
        elif pair_index is None:
            raise ValueError("'pair_index' must be given where ids are of "
                             "pairs (got None)")
        else:
            what, size = 'pair', pair_index.size(1)
        if ids.shape != (size, ):
            raise ShapeError(f"'ids' must have one id a {what}, shape "
                             f'[{size}] (got {list(ids.shape)})', (size, ),
                             ids.shape)
        if not checks_enabled():
            return
        check_range('ids', ids, self.num_ids)
        n = ptr.diff()
        expected = int((n * (n + 1) // 2).sum())
        if not self.additive and size != expected:
            raise ShapeError(f"'pair_index' must list the {expected} pairs "
                             f'i <= j of all posts (got {size})',
                             (2, expected), (2, size))

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self.channels}, '
                f'num_ids={self.num_ids}, num_heads={self.num_heads}, '
                f'additive={self.additive})')
