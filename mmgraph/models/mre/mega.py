"""MEGA and the models of its table."""
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmgraph.data import GraphView, Post, batch_view
from mmgraph.errors import ShapeError
from mmgraph.models.mre.base import (
    RelationModel,
    RelationOutput,
    concat,
    post_of_relation,
    sum_by,
)
from mmgraph.nn.align import Aligner, Alignment, SemanticAligner
from mmgraph.nn.encoders import TextEncoder
from mmgraph.nn.heads import MarkerPairHead, relation_rows
from mmgraph.nn.ragged import first_of_group, pad_rows, rows_of
from mmgraph.typing import OptTensor

__all__ = ['MEGA']

ALIGNS = ('word', 'aligns', 'object')


class MEGA(RelationModel):
    r"""Multimodal relation extraction from the `"Multimodal Relation
    Extraction with Efficient Graph Alignment"
    <https://doi.org/10.1145/3474085.3476968>`_ paper (ACM MM 2021).

    The image acts in two ways, both of which weight words: *semantic*
    attention, in which objects query the text (Eq. 6-8), and a *structural*
    alignment :math:`\alpha` of the dependency tree and the scene graph, which
    no gradient reaches (Eq. 12-15). With text states :math:`\mathbf{H}`,
    objects :math:`\mathbf{Y}` and :math:`\tilde{\mathbf{H}} = \mathbf{W}_t
    \mathbf{H}`, :math:`\tilde{\mathbf{Y}} = \mathbf{W}_o \mathbf{Y}`:

    .. math::
        \boldsymbol{\beta} &= \mathrm{softmax}_{\text{text}}\left(
            \mathbf{Q} \mathbf{K}^{\top} / \sqrt{d_a} \right), \quad
        \mathbf{Y}_s = \boldsymbol{\beta} \mathbf{V}

        \mathbf{Y}_\alpha &= \boldsymbol{\alpha}^{\top} \tilde{\mathbf{H}}

        \hat{\mathbf{y}} &= \sum_{\text{objects}} \mathbf{W}_m
            [\mathbf{Y}_s ; \mathbf{Y}_\alpha]
            \quad (\text{'concat'}) \qquad \text{or} \qquad
            \sum_{\text{objects}} \mathbf{Y}_s + \mathbf{Y}_\alpha
            \quad (\text{'sum'})

    and :math:`[\mathbf{h}_{E1}; \mathbf{h}_{E2}; \hat{\mathbf{y}}]` is
    classified. Its table's other models are settings of this class:

    =================== ====================================================
    model               setting
    =================== ====================================================
    MTB                 :obj:`use_semantic=False, aligner=None`
    BERT+SG             the same with :obj:`use_objects=True`
    BERT+SG+Att         :obj:`use_semantic=True, aligner=None`
    MEGA (Top-1)        :obj:`use_semantic=True,
                        aligner=StructuralAligner(top_k=1)`
    MEGA Top-5, Top-10  the same with :obj:`top_k=5`, :obj:`top_k=10`
    =================== ====================================================

    Any :class:`~mmgraph.nn.align.Aligner` can take the structural one's
    place; it sees the words (states after :math:`\mathbf{W}_t`, mean over a
    word's pieces) and their tree, the objects (features after
    :math:`\mathbf{W}_o`, if any) and their scene graph. Posts that already
    carry an alignment (:class:`~mmgraph.transforms.Align`) keep theirs.

    .. note:: **Paper and published code differ**, and so do these switches:
        the paper sums both parts (:obj:`fusion='sum'`), the code concatenates
        them and puts a sigmoid on :math:`\mathbf{Y}_s`
        (:obj:`fusion='concat'`, the default, with which the published figures
        were made). As the code does, mentions are the encoder's own states,
        :math:`\boldsymbol{\alpha}` weights :math:`\tilde{\mathbf{H}}` rather
        than :math:`\mathbf{V}`, and the classifier has no non-linearity
        unless :obj:`activation` is given. The code computes
        :math:`\mathbf{Q}, \mathbf{K}, \mathbf{V}` from
        :math:`\tilde{\mathbf{Y}}, \tilde{\mathbf{H}}, \tilde{\mathbf{H}}`.

        Since :math:`\hat{\mathbf{y}}` sums over the objects and everything
        behind :math:`\boldsymbol{\alpha}` is linear, the structural part
        sees :math:`\boldsymbol{\alpha}` only through its row sums: *how
        strongly* a word is aligned counts, *to which* object does not. So we
        sum first and project one row a post; logits are the same.

        **Not reproduced:** the code views :math:`\boldsymbol{\alpha}` of
        shape :math:`l \times m` as :math:`m \times l` instead of transposing
        it, shifts its rows between word, token and piece positions, lets
        padding take part in the attention (:obj:`mask_padding=False` lets it)
        and adds a constant for every absent object.

    Args:
        encoder (TextEncoder): States of the text.
        num_relations (int): Number of classes.
        aligner (Aligner, optional): Aligns words to objects.
            (default: :obj:`None`)
        use_semantic (bool, optional): Objects query the text; needs
            :obj:`object_channels`. (default: :obj:`True`)
        use_objects (bool, optional): Adds the objects' own features,
            projected and summed (BERT+SG). (default: :obj:`False`)
        object_channels (int, optional): Size of an object feature (4096 in
            the paper); :obj:`None` where objects have none.
            (default: :obj:`None`)
        hidden_channels (int, optional): :math:`d_a`.
            (default: :obj:`1536`)
        fusion (str, optional): :obj:`'concat'` or :obj:`'sum'`.
            (default: :obj:`'concat'`)
        semantic_sigmoid (bool, optional): A sigmoid on
            :math:`\mathbf{Y}_s`; by default with :obj:`'concat'` only.
            (default: :obj:`None`)
        pieces (str, optional): Whether all word pieces of a word take its
            alignment or only the first. (default: :obj:`'all'`)
        dropout (float, optional): Before the classifier.
            (default: :obj:`0.5`)
        activation (torch.nn.Module, optional): Between the classifier's
            layers. (default: :obj:`None`)
        mask_padding (bool, optional): If :obj:`False`, every post is padded to
            128 text rows and 10 objects with zeros that take part as in the
            published code (whose padded text rows are the encoder's states of
            padding pieces, not zeros). (default: :obj:`True`)

    Shapes:
        - **input:** a batch of posts with :math:`R` marked pairs
        - **output:** :class:`RelationOutput` with logits
          :math:`(R, \text{num\_relations})`; a post without objects gets
          :math:`\hat{\mathbf{y}} = 0`

    Raises:
        ShapeError: If object features have another size.
        ValueError: If object features are asked for and
            :obj:`object_channels` is not given, or an option is unknown.
    """
    NUM_TEXT, NUM_OBJECTS = 128, 10

    def __init__(
        self,
        encoder: TextEncoder,
        num_relations: int,
        aligner: Aligner | None = None,
        use_semantic: bool = True,
        use_objects: bool = False,
        object_channels: int | None = None,
        hidden_channels: int = 1536,
        fusion: Literal['concat', 'sum'] = 'concat',
        semantic_sigmoid: bool | None = None,
        pieces: Literal['all', 'first'] = 'all',
        dropout: float = 0.5,
        activation: nn.Module | None = None,
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        if fusion not in ('concat', 'sum'):
            raise ValueError(f"'fusion' must be 'concat' or 'sum' "
                             f'(got {fusion!r})')
        if pieces not in ('all', 'first'):
            raise ValueError(f"'pieces' must be 'all' or 'first' "
                             f'(got {pieces!r})')
        if (use_semantic or use_objects) and object_channels is None:
            raise ValueError("'use_semantic' and 'use_objects' read object "
                             "features: give 'object_channels', their size")
        self.encoder = encoder
        self.num_relations = num_relations
        self.aligner = aligner
        self.use_objects = use_objects
        self.pieces = pieces
        self.fusion = fusion
        self.mask_padding = mask_padding
        self.sigmoid = (fusion == 'concat' if semantic_sigmoid is None
                        else semantic_sigmoid)
        width, d = encoder.out_channels, hidden_channels
        num_parts = use_semantic + (aligner is not None) + use_objects
        self.text = nn.Linear(width, d) if num_parts else None
        self.object = (None if object_channels is None or not num_parts
                       else nn.Linear(object_channels, d))
        self.semantic = SemanticAligner(d, d, d) if use_semantic else None
        self.value = nn.Linear(d, d) if use_semantic else None
        self.merge = (nn.Linear(num_parts * d, d)
                      if num_parts and fusion == 'concat' else None)
        self.head = MarkerPairHead(
            width, num_relations,
            context_channels=d if num_parts else 0,
            hidden_channels=d if num_parts else None,
            dropout=dropout, activation=activation)

    def forward(self, batch: Post) -> RelationOutput:
        x = self.encoder(batch)
        head, tail = relation_rows(batch, self.encoder.node_type)
        if self.text is None:
            return RelationOutput(self.head(x, head, tail))

        graph, ptr = rows_of(batch, 'object')
        size = ptr.numel() - 1
        objects = self._objects(batch, x)
        parts, semantic, alignment = [], None, None
        if self.semantic is not None and objects is not None:
            part, semantic = self._attend(batch, self.text(x), objects)
            part = part.sigmoid() if self.sigmoid else part
            parts.append(sum_by(part, graph, size))
        if self.aligner is not None:
            alignment = self._align(batch, x, objects)
            parts.append(self._carry(batch, x, alignment))
        if self.use_objects and objects is not None:
            parts.append(sum_by(objects, graph, size))
        count = ptr.diff()
        if not self.mask_padding:
            missing = (self.NUM_OBJECTS - count).clamp(min=0)
            count = count + missing
            parts = [part + missing.unsqueeze(1) * empty for part, empty in
                     zip(parts, self._empty_object(batch, x), strict=True)]
        context = self._fuse(parts, count)[post_of_relation(batch)]
        return RelationOutput(self.head(x, head, tail, context), alignment,
                              semantic)

    def _fuse(self, parts: list[Tensor], count: Tensor) -> Tensor:
        r"""Joins the parts, each of them already summed over a post's
        objects: the layer is linear, so its sum over rows is its value at the
        sum, with one bias a row.
        """
        if self.merge is None:
            return torch.stack(parts).sum(0)
        return (F.linear(concat(parts), self.merge.weight)
                + count.unsqueeze(1) * self.merge.bias)

    def _objects(self, batch: Post, like: Tensor) -> OptTensor:
        if self.object is None:
            return None
        x = batch['object'].get('x')
        if x is None:
            raise ValueError("the objects have no features: give 'object.x', "
                             "or build the model with object_channels=None")
        if x.size(1) != self.object.in_features:
            raise ShapeError(
                f"'object.x' must have 'object_channels' = "
                f'{self.object.in_features} columns (got {x.size(1)})',
                ('m', self.object.in_features), x.shape)
        return self.object(x.to(like.dtype))

    def _text_view(self, batch: Post, x: Tensor) -> GraphView:
        graph, ptr = rows_of(batch, self.encoder.node_type)
        none = graph.new_empty(2, 0)
        return GraphView(x, none, None, None, graph, ptr)

    def _attend(
        self,
        batch: Post,
        text: Tensor,
        objects: Tensor,
    ) -> tuple[Tensor, Alignment]:
        assert self.semantic is not None and self.value is not None
        source = self._text_view(batch, text)
        target = batch_view(batch, 'object', x=objects)
        value = self.value(text)
        if not self.mask_padding:
            source, text, value = self._padded_text(source, text)
        beta = self.semantic.attention(text, objects, source, target)
        values, _ = pad_rows(value, source.batch, source.ptr)
        mixed = beta @ values
        mask = (torch.arange(mixed.size(1), device=mixed.device)
                < target.sizes.unsqueeze(1))
        return mixed[mask], Alignment.from_dense(
            beta.transpose(1, 2), source, target)

    def _padded_text(
        self,
        source: GraphView,
        text: Tensor,
    ) -> tuple[GraphView, Tensor, Tensor]:
        assert self.text is not None and self.value is not None
        padded, mask = pad_rows(text, source.batch, source.ptr,
                                size=self.NUM_TEXT)
        padded = torch.where(mask.unsqueeze(2), padded, self.text.bias)
        size, length, width = padded.shape
        graph = torch.arange(size, device=text.device)
        flat = padded.view(-1, width)
        view = GraphView(flat, source.edge_index, None, None,
                         graph.repeat_interleave(length),
                         torch.arange(size + 1, device=text.device) * length)
        return view, flat, self.value(flat)

    def _empty_object(self, batch: Post, x: Tensor) -> list[Tensor]:
        r"""The parts of an empty object slot, as in the original."""
        assert self.text is not None
        parts, size = [], rows_of(batch, 'object')[1].numel() - 1
        if self.semantic is not None and self.object is not None:
            bias = self.object.bias.expand(size, -1)
            graph = torch.arange(size, device=x.device)
            target = GraphView(bias, graph.new_empty(2, 0), None, None, graph,
                               torch.arange(size + 1, device=x.device))
            text = self.text(x)
            source, flat, value = self._padded_text(
                self._text_view(batch, text), text)
            beta = self.semantic.attention(flat, bias, source, target)
            part = (beta @ value.view(size, -1, value.size(1))).squeeze(1)
            parts.append(part.sigmoid() if self.sigmoid else part)
        if self.aligner is not None:
            parts.append(x.new_zeros(size, self.text.out_features))
        if self.use_objects and self.object is not None:
            parts.append(self.object.bias.expand(size, -1))
        return parts

    def _align(
        self,
        batch: Post,
        x: Tensor,
        objects: OptTensor,
    ) -> Alignment:
        assert self.aligner is not None and self.text is not None
        if ALIGNS in batch.edge_types:
            store = batch[ALIGNS]
            return Alignment(store.edge_index, store.edge_weight,
                             rows_of(batch, 'word')[1],
                             rows_of(batch, 'object')[1])
        words = None
        if self.aligner.reads_features:
            total, count = self._words(batch, self.text(x))
            words = total / count.clamp(min=1).unsqueeze(1)
        return self.aligner(batch_view(batch, 'word', x=words),
                            batch_view(batch, 'object', x=objects))

    def _pieces(self, batch: Post) -> tuple[Tensor, Tensor]:
        r"""The word pieces that take their word's alignment, and the words."""
        piece, word = batch['token', 'part_of', 'word'].edge_index
        if self.pieces == 'first':
            piece = first_of_group(word, piece, int(batch['word'].num_nodes))
            word = torch.arange(piece.numel(), device=piece.device)
            word, piece = word[piece >= 0], piece[piece >= 0]
        return piece, word

    def _words(self, batch: Post, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""The sum of the text rows of each word, and how many there are."""
        n = int(batch['word'].num_nodes)
        if self.encoder.node_type == 'word':
            return x, x.new_ones(n)
        piece, word = self._pieces(batch)
        count = x.new_zeros(n).index_add(0, word, x.new_ones(word.numel()))
        return sum_by(x[piece], word, n), count

    def _carry(
        self,
        batch: Post,
        x: Tensor,
        alignment: Alignment,
    ) -> Tensor:
        r""":math:`\alpha^{\top} \tilde{H}` summed over the objects of each
        post. All of it is linear, so that what is projected is one row a post
        instead of one a token.
        """
        assert self.text is not None
        score = alignment.match_score
        score = score.to(torch.promote_types(x.dtype, torch.float))
        weight = score.new_zeros(int(batch['word'].num_nodes)).index_add(
            0, alignment.match_index[0], score)
        if self.encoder.node_type == 'token':
            piece, word = self._pieces(batch)
            weight = weight.new_zeros(x.size(0)).index_put(
                (piece, ), weight[word])
        weight = weight.unsqueeze(1)
        graph, ptr = rows_of(batch, self.encoder.node_type)
        pooled = sum_by(x * weight, graph, ptr.numel() - 1)
        mass = sum_by(weight, graph, ptr.numel() - 1)
        return F.linear(pooled, self.text.weight) + mass * self.text.bias
