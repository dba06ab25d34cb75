"""UMT: a unified multimodal transformer with entity span detection."""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgraph.data import Post
from mmgraph.models.mner.base import TaggingModel, TagOutput, kept_tags
from mmgraph.models.rows import image_rows, word_states
from mmgraph.nn.attention import TransformerLayer
from mmgraph.nn.encoders import TextEncoder
from mmgraph.nn.fusion import ConcatGate
from mmgraph.nn.heads import CRFHead
from mmgraph.nn.ragged import pad_rows, rows_of
from mmgraph.typing import OptTensor
from mmgraph.utils import check_not_negative, check_positive

__all__ = ['UMT', 'UMTOutput', 'span_conversion', 'span_tags']


@dataclass
class UMTOutput(TagOutput):
    r"""What :class:`UMT` computed.

    Args:
        emissions (torch.Tensor): A score a word and tag, :obj:`[M, T]`.
        word (torch.Tensor): The row of each in the batch's :obj:`word` store,
            :obj:`[M]`.
        ptr (torch.Tensor): Where the words of each post start,
            :obj:`[B + 1]`.
        span_emissions (torch.Tensor, optional): A score a word and span tag
            (O, B, I), :obj:`[M, 3]`; :obj:`None` without the auxiliary task.
            (default: :obj:`None`)
    """
    span_emissions: OptTensor = None


def span_tags(tags: Tensor) -> Tensor:
    r"""Tags without their types: 0 is ``O``, 1 is ``B``, 2 is ``I``.

    Example:
        >>> span_tags(torch.tensor([0, 1, 2, 3, 4]))
        tensor([0, 1, 2, 1, 2])
    """
    return torch.where(tags > 0, 2 - tags % 2, 0)


def span_conversion(num_types: int) -> Tensor:
    r"""The conversion matrix :math:`\mathbf{M}`, :obj:`[3, T]`: how much a
    span tag says about a tag if all :obj:`num_types` types are equally likely.

    Example:
        >>> span_conversion(2)
        tensor([[1.0000, 0.0000, 0.0000, 0.0000, 0.0000],
                [0.0000, 0.5000, 0.0000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.5000, 0.0000, 0.5000]])
    """
    matrix = torch.zeros(3, 1 + 2 * num_types)
    matrix[0, 0] = 1
    matrix[1, 1::2] = matrix[2, 2::2] = 1 / num_types
    return matrix


class UMT(TaggingModel):
    r"""The unified multimodal transformer of the `"Improving Multimodal Named
    Entity Recognition via Entity Span Detection with Unified Multimodal
    Transformer" <https://aclanthology.org/2020.acl-main.306>`_ paper (ACL
    2020), by the equations of its published code.

    With text states :math:`\mathbf{S}` and image regions :math:`\mathbf{V}`,

    .. math::
        \mathbf{A} &= \mathrm{TL}(\mathbf{S}), \quad
        \mathbf{R} = \mathrm{TL}(\mathbf{S})

        \mathbf{B} &= \mathrm{CL}(\mathbf{R}, \mathbf{V} \mathbf{W}_1)
        \quad \text{(word-aware visual states)}

        \mathbf{H} &= \mathrm{CL}(\mathbf{R}, \mathrm{CL}(\mathbf{V}
        \mathbf{W}_2, \mathbf{R})) \quad \text{(image-aware word states)}

        \mathbf{g} &= \sigma([\mathbf{H}; \mathbf{B}] \mathbf{W}_g +
        \mathbf{b}_g), \quad \mathbf{F} = [\mathbf{H}; \mathbf{g} \odot
        \mathbf{B}]

        \mathbf{E}_a &= \mathbf{A} \mathbf{W}_a + \mathbf{b}_a, \quad
        \mathbf{E} = (1 - \alpha) (\mathbf{F} \mathbf{W}_c + \mathbf{b}_c) +
        \alpha \, \mathbf{E}_a \mathbf{M}

        \mathcal{L} &= \mathrm{CRF}(\mathbf{E}, \mathbf{y}) + \beta \,
        \mathrm{CRF}_a(\mathbf{E}_a, \mathbf{y}_a)

    where each :math:`\mathrm{TL}` and each :math:`\mathrm{CL}` is a
    :class:`~mmgraph.nn.attention.TransformerLayer` of its own, the second
    with keys and values from its second argument, and the auxiliary task's
    tags :math:`\mathbf{y}_a` say where mentions are but not of which type.
    The matrix :math:`\mathbf{M}` (:math:`3 \times T`) carries their scores
    over: :math:`\mathrm{O}` to :math:`\mathrm{O}` in full, :math:`\mathrm{B}`
    and :math:`\mathrm{I}` to each type in equal shares.

    ============================= =====================================
    ablation                      setting
    ============================= =====================================
    w/o auxiliary task            :obj:`use_auxiliary=False`
    w/o conversion matrix         :obj:`conversion_weight=0.0`
    w/o visual gate               :obj:`use_gate=False`
    w/o image (text stream only)  :obj:`use_image=False`
    ============================= =====================================

    Attention runs over all text rows (pieces, special pieces too) and all
    regions of a post; words are scored by the state of their first piece.

    Without an image, there is nothing to attend to: the layers that read the
    image add nothing to :math:`\mathbf{R}`, and :math:`\mathbf{B} =
    \mathbf{0}`.

    .. note:: **The published code differs from this class:**

        - It tags word pieces: beside the BIO tags there are ``PAD``, ``X`` (a
          word's further pieces), ``[CLS]`` and ``[SEP]`` (13 labels, 7 for
          the auxiliary task), which :math:`\mathbf{M}` maps to themselves and
          whose transitions are learned. Our CRF walks over words: none of
          them is needed, and no ``X`` stands between two words of a mention.
        - :math:`\mathbf{M}` is no weight there, and none here; its shares are
          :math:`1/4` there, one over the number of types here.
        - For an image that cannot be read it takes one fixed placeholder
          picture. Here such a post has no image.

        **Not reproduced:** the code crops and flips images at random once,
        when it builds its features, validation and test included, so that
        scores depend on the seed; and it runs its frozen ResNet-152 in
        training mode, so that batch statistics of other images enter the
        features and its running statistics drift. Here, regions are given
        with the posts and do not change.

    Args:
        encoder (TextEncoder): States of the text, of size :math:`d`.
        num_types (int): Number of types of mentions.
        region_channels (int, optional): Size of a region's features.
            (default: :obj:`2048`)
        num_heads (int, optional): Of each layer; divides :math:`d`.
            (default: :obj:`12`)
        ff_channels (int, optional): Width inside each layer; :math:`4 d` if
            :obj:`None`. (default: :obj:`None`)
        dropout (float, optional): Of the encoder's states and in each layer.
            (default: :obj:`0.1`)
        use_auxiliary (bool, optional): Whether spans are detected, too.
            (default: :obj:`True`)
        use_gate (bool, optional): If :obj:`False`, :math:`\mathbf{g} = 1`.
            (default: :obj:`True`)
        use_image (bool, optional): If :obj:`False`, :math:`\mathbf{F} =
            \mathbf{R}` and regions are not read. (default: :obj:`True`)
        auxiliary_weight (float, optional): :math:`\beta`.
            (default: :obj:`0.5`)
        conversion_weight (float, optional): :math:`\alpha`, in
            :math:`[0, 1]`. (default: :obj:`0.5`)

    Shapes:
        - **input:** a batch of posts with :obj:`region.x`
          :math:`(\sum_b r_b, D)`
        - **output:** :class:`UMTOutput` with emissions
          :math:`(M, 1 + 2 \cdot \text{num\_types})`

    Raises:
        ShapeError: If regions have another size.
        ValueError: If the posts have no :obj:`region` store, :obj:`num_heads`
            does not divide :math:`d`, or an argument is out of its range.

    Complexity: :math:`O(B (L^2 + L r) d)` for attention over :math:`L` rows
    of text and :math:`r` regions.
    """
    def __init__(
        self,
        encoder: TextEncoder,
        num_types: int,
        region_channels: int = 2048,
        num_heads: int = 12,
        ff_channels: int | None = None,
        dropout: float = 0.1,
        use_auxiliary: bool = True,
        use_gate: bool = True,
        use_image: bool = True,
        auxiliary_weight: float = 0.5,
        conversion_weight: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive(num_types=num_types, region_channels=region_channels)
        check_not_negative(auxiliary_weight=auxiliary_weight)
        if not 0 <= conversion_weight <= 1:
            raise ValueError(f"'conversion_weight' must be in [0, 1] "
                             f'(got {conversion_weight})')
        d = encoder.out_channels

        def layer() -> TransformerLayer:
            return TransformerLayer(d, num_heads, ff_channels, dropout)

        self.encoder = encoder
        self.num_types = num_types
        self.region_channels = region_channels
        self.use_auxiliary = use_auxiliary
        self.use_image = use_image
        self.auxiliary_weight = auxiliary_weight
        self.conversion_weight = conversion_weight
        self.dropout = nn.Dropout(dropout)
        self.text_layer = layer()
        self.gate = None
        if use_image:
            self.lin_key = nn.Linear(region_channels, d)
            self.lin_query = nn.Linear(region_channels, d)
            self.visual_layer = layer()
            self.region_layer = layer()
            self.word_layer = layer()
            self.gate = ConcatGate(d) if use_gate else None
        self.head = CRFHead(2 * d if use_image else d, num_types)
        if use_auxiliary:
            self.span_layer = layer()
            self.span_head = CRFHead(d, num_types=1)
            self.register_buffer('conversion', span_conversion(num_types),
                                 persistent=False)

    def forward(self, batch: Post) -> UMTOutput:
        node_type = self.encoder.node_type
        states = self.dropout(self.encoder(batch))
        x, mask = pad_rows(states, *rows_of(batch, node_type))
        text = self.text_layer(x, mask)
        if self.use_image:
            text = self._look(batch, text, mask)
        words, word, ptr = word_states(batch, text[mask], node_type)
        emissions, span_emissions = self.head(words), None
        if self.use_auxiliary:
            words, _, _ = word_states(batch, self.span_layer(x, mask)[mask],
                                      node_type)
            span_emissions = self.span_head(words)
            alpha = self.conversion_weight
            emissions = (1 - alpha) * emissions + alpha * (
                span_emissions @ self.conversion.to(span_emissions))
        return UMTOutput(emissions, word, ptr, span_emissions=span_emissions)

    def _look(self, batch: Post, text: Tensor, mask: Tensor) -> Tensor:
        r""":math:`\mathbf{F}`, padded as the text states are."""
        x, post, ptr = image_rows(batch, 'region', self.region_channels,
                                  'region_channels', text)
        key, seen = pad_rows(self.lin_key(x), post, ptr)
        query, _ = pad_rows(self.lin_query(x), post, ptr)
        visual = self.visual_layer(text, memory=key, memory_mask=seen)
        regions = self.region_layer(query, memory=text, memory_mask=mask)
        words = self.word_layer(text, memory=regions, memory_mask=seen)
        blind = ~seen.any(dim=1)
        visual = visual.masked_fill(blind[:, None, None], 0)
        if self.gate is None:
            return torch.cat([words, visual], dim=-1)
        return self.gate(words, visual)

    def loss(self, output: TagOutput, batch: Post) -> Tensor:
        r"""The CRF's loss of the gold tags and, weighted, that of the spans
        (both: mean over posts).

        Raises:
            ValueError: If the posts have no gold tags, or one is not a tag of
                the model.
        """
        loss = super().loss(output, batch)
        if not isinstance(output, UMTOutput) or output.span_emissions is None:
            return loss
        gold = span_tags(kept_tags(batch['word'].tag_id, output))
        return loss + self.auxiliary_weight * self.span_head.loss(
            output.span_emissions, gold, output.ptr)
