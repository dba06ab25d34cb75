"""The relation-enhanced GCN for multimodal NER."""
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmgraph.data import Post, RelationGraph
from mmgraph.data.relation_graph import MATCHES, RESEMBLES
from mmgraph.errors import ShapeError
from mmgraph.models.mner.base import TaggingModel, TagOutput
from mmgraph.models.rows import check_columns, image_rows, word_states
from mmgraph.nn.attention import TransformerLayer
from mmgraph.nn.conv import CrossSampleConv
from mmgraph.nn.encoders import TextEncoder
from mmgraph.nn.fusion import GatedResidual
from mmgraph.nn.heads import CRFHead
from mmgraph.nn.ragged import pad_rows, rows_of
from mmgraph.utils import check_choice, check_positive

__all__ = ['CrossSampleNER']


class CrossSampleNER(TaggingModel):
    r"""The relation-enhanced graph convolutional network ("R-GCN") of the
    `"Learning from Different text-image Pairs: A Relation-enhanced Graph
    Convolutional Network for Multimodal NER"
    <https://doi.org/10.1145/3503161.3548228>`_ paper (ACM MM 2022).

    Images of *other* posts help to read a post: those that show what its text
    speaks of (:obj:`matches`, the paper's InterRG), and those that show the
    same kinds of objects as its own image (:obj:`resembles`, IntraRG). With
    text states :math:`\mathbf{T}`, regions :math:`\mathbf{V}` of the own image
    and one :class:`~mmgraph.nn.conv.CrossSampleConv` a relation,

    .. math::
        \mathbf{p} &= \mathrm{Conv}_{inter}(\bar{\mathbf{t}} \mathbf{W}_t,
        \{ \bar{\mathbf{v}}_j \}) \, \mathbf{W}_p, \qquad
        \mathbf{P} = \mathrm{Conv}_{intra}(\mathbf{V}, \{ \mathbf{V}_j \})

        \mathbf{T}^{\prime} &= \mathbf{T} + \sigma(\mathbf{T} \mathbf{W}_g +
        \mathbf{p} \mathbf{W}_g) \odot \mathbf{p}, \qquad
        \mathbf{V}^{\prime} = \mathbf{V} + \sigma(\mathbf{V} \mathbf{W}_v +
        \mathbf{P} \mathbf{W}_v) \odot \mathbf{P}

        \mathbf{H} &= \mathrm{CL}(\mathrm{TL}(\mathbf{T}^{\prime}),
        \mathrm{TL}(\mathbf{V}^{\prime})), \qquad
        \mathcal{L} = \mathrm{CRF}(\mathbf{H} \mathbf{W}_o + \mathbf{b}_o)

    where :math:`\bar{\mathbf{t}}` and :math:`\bar{\mathbf{v}}` are means over
    a text and over an image's regions, :math:`\mathbf{p}` goes to all
    positions of the text, and :math:`\mathrm{TL}` and :math:`\mathrm{CL}` are
    :class:`~mmgraph.nn.attention.TransformerLayer`, the second with the
    image's regions as its memory. Words are tagged by the state of their
    first piece.

    Neighbours are read from :obj:`batch.neighbours`, a
    :class:`~mmgraph.data.RelationGraph` with one text a post, of which one hop
    is read. Without it, and for a post that has no neighbours, the convolution
    adds nothing; without an image there is nothing to attend to.

    ========================= ==============================================
    row of the tables         setting
    ========================= ==============================================
    R-GCN                     the default; :obj:`**CrossSampleNER.PUBLISHED`
                              is nearest to the published code
    w/o Gate                  :obj:`use_gate=False` (:math:`\sigma = 1`)
    w/o InterRG               :obj:`use_inter=False`
    w/o IntraRG               :obj:`use_intra=False`
    w/o InterRG, IntraRG      both
    ========================= ==============================================

    .. note:: **Paper and published code differ.** By default this is the
        paper's figure: the text, or the own image, is the centre of its star,
        and one vector a post enters all text positions. In the published code
        (:attr:`PUBLISHED`) neither text nor own image is part of a star (see
        :class:`~mmgraph.nn.conv.CrossSampleConv`), and text position
        :math:`t` takes half of region :math:`\lfloor t / 2 \rfloor` of the
        result (:obj:`fusion='position'`; 98 positions for 49 regions, which is
        why its texts are padded to 98; here later positions take nothing).
        With these settings, and a graph that keeps scores of zero
        (:obj:`drop_zero=False`), :math:`\mathbf{T}^{\prime}` and
        :math:`\mathbf{V}^{\prime}` are exactly those of the code.

        **Not reproduced:** its attention blocks have a ReLU on queries, keys
        and values, no residual connection around their feed-forward part, and
        attend to padding; its CRF has no scores for start and end and tags
        word pieces (``X``), which changes the metric; its epoch is chosen
        with dropout on. The published figures were made so, and scored as a
        mean over batches that leaves out the last one: they cannot be
        compared with figures of corpus-level F1 to the first decimal.

    Args:
        encoder (TextEncoder): States of the text, of size :math:`d`.
        num_types (int): Number of types of mentions.
        region_channels (int, optional): Size :math:`D` of a region's features.
            (default: :obj:`2048`)
        num_heads (int, optional): Heads of each layer; divides :math:`d` and
            :math:`D`. (default: :obj:`8`)
        dropout (float, optional): On :math:`\mathbf{T}^{\prime}` and in each
            layer. (default: :obj:`0.1`)
        use_inter (bool, optional): Whether images that match the text are
            heard. (default: :obj:`True`)
        use_intra (bool, optional): Whether images that resemble the own one
            are heard. (default: :obj:`True`)
        use_gate (bool, optional): If :obj:`False`, what is heard is added as
            it is. (default: :obj:`True`)
        fusion (str, optional): How the text takes up its neighbours:
            :obj:`'broadcast'` or :obj:`'position'` (see the note).
            (default: :obj:`'broadcast'`)
        center (str, optional): Of :class:`~mmgraph.nn.conv.CrossSampleConv`,
            as the rest. (default: :obj:`'query'`)
        readout (str, optional): See there. (default: :obj:`'center'`)
        norm (str, optional): See there. (default: :obj:`'row'`)
        temperature (float, optional): See there. (default: :obj:`0.1`)

    Shapes:
        - **input:** a batch of :math:`B` posts, with :obj:`region.x`
          :math:`(\sum_b r_b, D)` where images have features, and
          :obj:`neighbours` with images :math:`(S, D)` or :math:`(S, R, D)`,
          in which case an image of the batch has :math:`R` regions, too
        - **output:** :class:`~mmgraph.models.mner.TagOutput` with emissions
          :math:`(M, 1 + 2 \cdot \text{num\_types})`

    Raises:
        ShapeError: If regions or images have another size.
        ValueError: If :obj:`neighbours` is not of the batch's posts, or an
            option is unknown.

    Complexity: :math:`O(B (L^2 + L R + R^2) (d + D) + B R D^2)` and
    :math:`O(R D)` an edge.
    """
    #: The settings of the published code.
    PUBLISHED: ClassVar[dict[str, Any]] = dict(
        center='top1', readout='ref_regions', norm='none', temperature=None,
        fusion='position')

    def __init__(
        self,
        encoder: TextEncoder,
        num_types: int,
        region_channels: int = 2048,
        num_heads: int = 8,
        dropout: float = 0.1,
        use_inter: bool = True,
        use_intra: bool = True,
        use_gate: bool = True,
        fusion: Literal['broadcast', 'position'] = 'broadcast',
        center: Literal['query', 'top1'] = 'query',
        readout: Literal['center', 'mean_nodes', 'ref_regions'] = 'center',
        norm: Literal['row', 'none'] = 'row',
        temperature: float | None = 0.1,
    ) -> None:
        super().__init__()
        check_positive(num_types=num_types, region_channels=region_channels)
        check_choice('fusion', fusion, ['broadcast', 'position'])
        width = region_channels
        if fusion == 'position':
            if region_channels % 2:
                raise ValueError(f"'region_channels' must be even where a "
                                 f'position takes half a region (got '
                                 f'{region_channels})')
            width = region_channels // 2
        d = encoder.out_channels

        def conv() -> CrossSampleConv:
            return CrossSampleConv(region_channels, region_channels, center,
                                   readout, norm, temperature)

        self.encoder = encoder
        self.num_types = num_types
        self.region_channels = region_channels
        self.fusion = fusion
        self.inter = conv() if use_inter else None
        self.intra = conv() if use_intra else None
        self.lin_text = (nn.Linear(d, region_channels)
                         if use_inter and center == 'query' else None)
        # No bias: what adds nothing must stay zero.
        self.lin_inter = (nn.Linear(width, d, bias=False) if use_inter
                          else None)
        self.text_gate = (GatedResidual(d) if use_inter and use_gate
                          else None)
        self.image_gate = (GatedResidual(region_channels)
                           if use_intra and use_gate else None)
        self.dropout = nn.Dropout(dropout)
        self.text_layer = TransformerLayer(d, num_heads, d, dropout, 'relu')
        self.image_layer = TransformerLayer(
            region_channels, num_heads, region_channels, dropout, 'relu')
        self.cross_layer = TransformerLayer(
            d, num_heads, d, dropout, 'relu', memory_channels=region_channels)
        self.head = CRFHead(d, num_types)

    def forward(self, batch: Post) -> TagOutput:
        node_type = self.encoder.node_type
        text, mask = pad_rows(self.encoder(batch), *rows_of(batch, node_type))
        image, seen = pad_rows(*image_rows(
            batch, 'region', self.region_channels, 'region_channels', text))
        graph = batch.neighbours if 'neighbours' in batch else None
        if graph is not None:
            self._check(graph, text.size(0))
            text = self._hear_matches(graph, text, mask)
            image = self._hear_resembling(graph, image)
        text = self.text_layer(self.dropout(text), mask)
        if image.size(1):
            image = self.image_layer(image, seen)
        text = self.cross_layer(text, mask, image, seen)
        x, word, ptr = word_states(batch, text[mask], node_type)
        return TagOutput(self.head(x), word, ptr)

    def _check(self, graph: RelationGraph, size: int) -> None:
        if int(graph['text'].num_nodes) != size:
            raise ValueError(f"'neighbours' must hold one text a post of the "
                             f"batch (got {graph['text'].num_nodes} for "
                             f'{size}): gather it for these posts')
        if graph['image'].get('x') is None:
            raise ValueError("the images of 'neighbours' have no features: "
                             "give the relation graph 'image.x'")
        check_columns(graph['image'].x, self.region_channels,
                      'region_channels', "neighbours['image'].x")

    def _hear_matches(
        self,
        graph: RelationGraph,
        text: Tensor,
        mask: Tensor,
    ) -> Tensor:
        r""":math:`\mathbf{T}^{\prime}`."""
        if self.inter is None or MATCHES not in graph.edge_types:
            return text
        assert self.lin_inter is not None
        image = graph['image'].x.to(text.dtype)
        if image.dim() == 3 and self.fusion == 'broadcast':
            image = image.mean(dim=1)
        elif image.dim() == 2 and self.fusion == 'position':
            image = image.unsqueeze(1)
        query = text.new_empty(text.size(0), 0)
        if self.lin_text is not None:
            count = mask.sum(dim=1, keepdim=True).clamp(min=1)
            query = self.lin_text(text.sum(dim=1) / count)  # Padding is zero.
            if image.dim() == 3:
                query = query.unsqueeze(1).expand(-1, image.size(1), -1)
        store = graph[MATCHES]
        context = self.inter((query, image), store.edge_index,
                             store.get('edge_weight'))
        # One row for all positions, or half a region for each.
        context = self.lin_inter(context.view(
            text.size(0), -1, self.lin_inter.in_features))
        if self.fusion == 'position':
            short = max(text.size(1) - context.size(1), 0)
            context = F.pad(context[:, :text.size(1)], (0, 0, 0, short))
        if self.text_gate is None:
            return text + context
        return self.text_gate(text, context)

    def _hear_resembling(self, graph: RelationGraph, image: Tensor) -> Tensor:
        r""":math:`\mathbf{V}^{\prime}`."""
        x = graph['image'].x.to(image.dtype)
        if self.intra is None or RESEMBLES not in graph.edge_types \
                or not image.size(1) or not x.size(0):
            return image
        own = graph['text'].image_index
        # Two posts may have one image, and only own images are queries.
        rows, place = own.unique(return_inverse=True)
        known = rows >= 0
        query = rows.new_full((x.size(0), ), -1)
        query[rows[known]] = known.nonzero().view(-1)
        row, col = graph[RESEMBLES].edge_index
        kept = query[row] >= 0
        weight = graph[RESEMBLES].get('edge_weight')
        context = self.intra(
            (x[rows.clamp(min=0)], x),
            torch.stack([query[row[kept]], col[kept]]),
            None if weight is None else weight[kept])[place]
        if context.dim() == 2:
            context = context.unsqueeze(1)
        elif context.size(1) != image.size(1):
            raise ShapeError(
                f"an image of the batch must have as many regions as one of "
                f"'neighbours' (got {image.size(1)} and {context.size(1)})",
                context.shape, image.shape)
        if self.image_gate is None:
            return image + context
        return self.image_gate(image, context)
