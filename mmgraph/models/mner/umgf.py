"""UMGF: a graph of words and objects."""
from typing import Literal

import torch
from torch import Tensor, nn

from mmgraph.data import Post
from mmgraph.models.mner.base import TaggingModel, TagOutput
from mmgraph.models.rows import image_rows, word_states
from mmgraph.nn.align.base import ragged_pairs
from mmgraph.nn.attention import MultiHeadAttention
from mmgraph.nn.encoders import TextEncoder
from mmgraph.nn.fusion import EdgeGate
from mmgraph.nn.heads import CRFHead
from mmgraph.nn.ragged import pad_rows, rows_of
from mmgraph.utils import check_at_least, check_choice, check_positive

__all__ = ['UMGF']


class _Half(nn.Module):
    r"""What one layer does to one kind of node.

    Args:
        channels (int): Size of a node's state.
        num_heads (int): Of the attention inside a modality.
        ff_channels (int): Width of the feed-forward part.
        dropout (float): Of attention weights and of each part's output.
        project_values (bool): As in :class:`MultiHeadAttention`.
        fuse (bool): Whether there is a second step, :meth:`across`.
    """
    def __init__(
        self,
        channels: int,
        num_heads: int,
        ff_channels: int,
        dropout: float,
        project_values: bool,
        fuse: bool,
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(channels, num_heads, dropout,
                                            project_values=project_values)
        self.dropout = nn.Dropout(dropout)
        self.norm_1 = nn.LayerNorm(channels)
        self.fuse = fuse
        if fuse:
            self.gate = EdgeGate(channels)
            self.ff = nn.Sequential(nn.Linear(channels, ff_channels),
                                    nn.ReLU(),
                                    nn.Linear(ff_channels, channels))
            self.norm_2 = nn.LayerNorm(channels)
            self.norm_3 = nn.LayerNorm(channels)

    def inside(self, x: Tensor, graph: Tensor, ptr: Tensor) -> Tensor:
        r"""Each node attends to the nodes of its kind."""
        padded, mask = pad_rows(x, graph, ptr)
        mixed = self.attention(padded, mask)[mask]
        return self.norm_1(x + self.dropout(mixed))

    def across(self, x: Tensor, other: Tensor, edge_index: Tensor) -> Tensor:
        r"""Each node hears the nodes of the other kind."""
        if not self.fuse:
            return x
        x = self.norm_2(x + self.dropout(self.gate((other, x), edge_index)))
        return self.norm_3(x + self.dropout(self.ff(x)))


class _Layer(nn.Module):
    r"""One layer: both kinds of node, first apart, then together."""
    def __init__(
        self,
        channels: int,
        num_heads: int,
        ff_channels: int,
        dropout: float,
        last: bool,
    ) -> None:
        super().__init__()
        self.text = _Half(channels, num_heads, ff_channels, dropout,
                          project_values=True, fuse=True)
        # Nothing reads the objects after the last layer.
        self.object = _Half(channels, num_heads, ff_channels, dropout,
                            project_values=False, fuse=not last)

    def forward(
        self,
        x: Tensor,
        o: Tensor,
        text_rows: tuple[Tensor, Tensor],
        object_rows: tuple[Tensor, Tensor],
        pairs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        x = self.text.inside(x, *text_rows)
        o = self.object.inside(o, *object_rows)
        return (self.text.across(x, o, pairs.flip(0)),
                self.object.across(o, x, pairs))


class UMGF(TaggingModel):
    r"""The unified multimodal graph fusion of the `"Multi-modal Graph Fusion
    for Named Entity Recognition with Targeted Visual Guidance"
    <https://ojs.aaai.org/index.php/AAAI/article/view/17687>`_ paper (AAAI
    2021), by the equations of its published code.

    The nodes of a post are its text rows :math:`\mathbf{x}_i` and its visual
    objects :math:`\mathbf{o}_j`; nodes of a kind are fully connected, and so
    is every text node with every object. Each of :math:`K` layers first
    attends inside a modality,

    .. math::
        \tilde{\mathbf{x}} = \mathrm{LN}(\mathbf{x} + \mathrm{MHA}(
        \mathbf{x})), \qquad
        \tilde{\mathbf{o}} = \mathrm{LN}(\mathbf{o} + \mathrm{MHA}^{\prime}(
        \mathbf{o}))

    (:math:`\mathrm{MHA}^{\prime}` without value and output projections), then
    sends gated messages across,

    .. math::
        \hat{\mathbf{x}}_i &= \mathrm{LN}\Big( \tilde{\mathbf{x}}_i + \sum_j
        \sigma(\mathbf{W} [\tilde{\mathbf{x}}_i; \tilde{\mathbf{o}}_j] +
        \mathbf{b}) \odot \tilde{\mathbf{o}}_j \Big)

        \hat{\mathbf{o}}_j &= \mathrm{LN}\Big( \tilde{\mathbf{o}}_j + \sum_i
        \sigma(\mathbf{W}^{\prime} [\tilde{\mathbf{o}}_j;
        \tilde{\mathbf{x}}_i] + \mathbf{b}^{\prime}) \odot
        \tilde{\mathbf{x}}_i \Big)

    and ends with :math:`\mathrm{LN}(\hat{\mathbf{x}} +
    \mathrm{FFN}(\hat{\mathbf{x}}))`, the same for objects; every sum is over
    a term with dropout. A CRF tags the words by :math:`[\mathbf{h}_i;
    \mathbf{x}_i^{(K)}]`, the encoder's own state and the graph's, of each
    word's first piece.

    A post may have any number of objects. One without any gets no message:
    its text nodes attend to each other only.

    .. note:: **Paper and published code differ from this class, or from each
        other:**

        - Objects are four crops an image there, found by a visual grounding
          model that was asked for *person*, *miscellaneous*, *location* and
          *organization*, through a ResNet-152 that is fine-tuned, with a
          linear layer of its own on top. Here they are the rows of the
          :obj:`object` store, features given; two linear layers in a row are
          one.
        - The code sums the CRF's loss over a batch, we take the mean over
          posts. Adam hardly sees the difference; gradient clipping does.
        - Nodes of the text are word pieces in the code (special pieces too),
          as here, and words in the paper. The code also tags each of them
          (``X``, ``[CLS]``, ``[SEP]``, ``PAD``); here words are tagged.
        - Objects of the last layer are not read any more: what the code
          computes for them there has no gradient and is left out.
        - The code's layers start as copies of one another (Xavier); ours are
          drawn independently, by the defaults of their parts.

        **Not reproduced:** training without shuffling, and gold labels of its
        own: the code reads a copy of the corpora with edited labels (70 posts
        of Twitter-2015's test split, 21 of Twitter-2017's), and joins all test
        posts to one sequence before it looks for mentions.

    Args:
        encoder (TextEncoder): States of the text.
        num_types (int): Number of types of mentions.
        object_channels (int, optional): Size of an object's features.
            (default: :obj:`2048`)
        hidden_channels (int, optional): Size of a node's state; a multiple of
            :obj:`num_heads`. (default: :obj:`512`)
        num_layers (int, optional): :math:`K`. (default: :obj:`6`)
        num_heads (int, optional): Number of heads. (default: :obj:`8`)
        ff_channels (int, optional): Width of the feed-forward parts.
            (default: :obj:`256`)
        dropout (float, optional): In the graph's layers and of the objects'
            projection. (default: :obj:`0.4`)
        image_nodes (str, optional): The store that holds the visual nodes:
            :obj:`'object'`, or :obj:`'region'` for a grid of the whole image.
            (default: :obj:`'object'`)

    Shapes:
        - **input:** a batch of posts with :obj:`object.x` (or
          :obj:`region.x`) :math:`(\sum_b m_b, D)`
        - **output:** :class:`~mmgraph.models.mner.TagOutput` with emissions
          :math:`(M, 1 + 2 \cdot \text{num\_types})`

    Raises:
        ShapeError: If objects have another size.
        ValueError: If the posts have no object features, :obj:`num_heads`
            does not divide :obj:`hidden_channels`, or a size is not positive.

    Complexity: :math:`O(K \sum_b (n_b^2 + m_b^2 + n_b m_b) d)` beside the
    linear maps, which run once a node and not once an edge.
    """
    def __init__(
        self,
        encoder: TextEncoder,
        num_types: int,
        object_channels: int = 2048,
        hidden_channels: int = 512,
        num_layers: int = 6,
        num_heads: int = 8,
        ff_channels: int = 256,
        dropout: float = 0.4,
        image_nodes: Literal['object', 'region'] = 'object',
    ) -> None:
        super().__init__()
        check_choice('image_nodes', image_nodes, ('object', 'region'))
        check_positive(num_types=num_types, object_channels=object_channels,
                       hidden_channels=hidden_channels,
                       ff_channels=ff_channels)
        check_at_least(1, num_layers=num_layers)
        width, d = encoder.out_channels, hidden_channels
        self.encoder = encoder
        self.num_types = num_types
        self.object_channels = object_channels
        self.image_nodes = image_nodes
        self.text = nn.Linear(width, d)
        self.object = nn.Sequential(
            nn.Linear(object_channels, d), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(d, d), nn.ReLU(), nn.Dropout(dropout))
        self.layers = nn.ModuleList(
            _Layer(d, num_heads, ff_channels, dropout,
                   last=i + 1 == num_layers) for i in range(num_layers))
        self.head = CRFHead(width + d, num_types)

    def forward(self, batch: Post) -> TagOutput:
        node_type = self.encoder.node_type
        states = self.encoder(batch)
        x = self.text(states)
        objects, post, ptr = image_rows(
            batch, self.image_nodes, self.object_channels, 'object_channels',
            states)
        o, object_rows = self.object(objects), (post, ptr)
        rows = rows_of(batch, node_type)
        pairs = ragged_pairs(rows[1], object_rows[1])
        for layer in self.layers:
            x, o = layer(x, o, rows, object_rows, pairs)
        words, word, ptr = word_states(batch, torch.cat([states, x], dim=-1),
                                       node_type)
        return TagOutput(self.head(words), word, ptr)
