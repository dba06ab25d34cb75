"""EEGA: word pairs of a post, read with its image's scene graph."""
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mmgraph.data import GraphView, Post, batch_view
from mmgraph.models.jmere.base import JointModel, WordPairOutput
from mmgraph.models.rows import image_rows, word_states
from mmgraph.nn.align import Aligner, Alignment, EdgeEnhancedAligner
from mmgraph.nn.attention import MultiHeadAttention, TransformerLayer
from mmgraph.nn.conv import AttributeConv, PairChannelConv
from mmgraph.nn.encoders import TextEncoder
from mmgraph.nn.heads import SpanRule, WordPairHead
from mmgraph.nn.ragged import pad_rows, rows_of
from mmgraph.parse.word_pairs import upper_triangle
from mmgraph.typing import OptTensor
from mmgraph.utils import check_choice, check_not_negative

__all__ = ['EEGA']

AlignmentTerms = Literal['both', 'node', 'edge', 'none']
Channel = Literal['pos', 'distance', 'pmi']
GraphLayer = Literal['attribute', 'transformer']
Fusion = Literal['attention', 'alignment']

#: Number of PMI ids of :class:`~mmgraph.transforms.WordPairs`.
_NUM_PMI = 11


class EEGA(JointModel):
    r"""Entities and relations in one pass, from the `"Joint Multimodal
    Entity-Relation Extraction Based on Edge-enhanced Graph Alignment Network
    and Word-pair Relation Tagging"
    <https://doi.org/10.1609/aaai.v37i9.26309>`_ paper (AAAI 2023).

    Words :math:`\mathbf{X}^T` and detected objects :math:`\mathbf{X}^I` pass
    an attention over their own graph, whose keys and values carry the edge's
    label (Eq. 3-4); words then hear the objects (Eq. 8)

    .. math::
        \mathbf{H}^T = \mathrm{AttributeConv}(\mathbf{X}^T), \quad
        \mathbf{H}^I = \mathrm{AttributeConv}(\mathbf{X}^I), \quad
        \mathbf{O} = \mathrm{LN}(\mathbf{H}^T +
            \mathrm{MHA}(\mathbf{H}^T, \mathbf{H}^I))

    Three linguistic channels :math:`l`, parts of speech, distances in the tree
    and co-occurrence, mix the words by what is known of each pair (Eq. 9-10),
    and each pair of words is classified (Eq. 11)

    .. math::
        \mathbf{S} = \mathbf{W} [\mathbf{S}^{Pos}; \mathbf{S}^{Sd};
            \mathbf{S}^{Co}], \qquad
        \mathbf{y}_{ij} = \mathbf{A} \mathbf{s}_i + \mathbf{B} \mathbf{s}_j
            + \textstyle\sum_l \mathbf{C}^l \mathbf{r}^l_{ij} + \mathbf{b}

    The alignment of the two graphs, node by node (WD) and edge by edge (GWD),
    acts as a loss only (Eq. 5-7):

    .. math::
        \mathcal{L} = \mathcal{L}_{\text{pairs}} + \lambda \left(
            \alpha \, \mathrm{WD} + (1 - \alpha) \, \mathrm{GWD} \right)

    The rows of its tables of ablations are settings of this class:

    ============================ ===========================================
    row                          setting
    ============================ ===========================================
    nodes only, edges only       :obj:`alignment='node'`, :obj:`'edge'`
    no graph transport           :obj:`alignment='none'`
    plain transformer            :obj:`graph_layer='transformer'`
    no linguistic channels       :obj:`channels=()`
    no image                     :obj:`object_channels=None`
    ============================ ===========================================

    Any other :class:`~mmgraph.nn.align.Aligner` may give the loss. With
    :obj:`fusion='alignment'` its scores, and not an attention of their own,
    carry the objects to the words, so that aligners without a loss serve, too.

    .. note:: **Where paper and published code differ**, and what is done
        here. The code weighs WD and GWD with 0.2 each and never reads its
        :math:`\alpha`: the paper's 0.4 and :math:`\lambda` = 0.6 are the
        defaults (the code is :obj:`alpha=0.5, align_weight=0.4`). Heads of
        the attention to the image are as wide as the model there
        (:obj:`attention_channels=768`). The pair classifier reads the
        channels' embeddings there, not in the paper
        (:obj:`pair_features=False`). In both, a linear map, ReLU and dropout
        follow the encoder.

        **Not reproduced**, as it is at fault: the table is built on word
        pieces, the non-entity ones among them in the loss; special pieces
        are nodes of the graph joined with everything; padding takes part in
        transport and attention; transport depends on the other posts of the
        batch; an object without relations hears all objects.

    Args:
        encoder (TextEncoder): States of the text.
        num_types (int): Number of types of mentions.
        num_relations (int): Number of relations.
        signatures (list, optional): What the direction of a relation is read
            from; see :class:`~mmgraph.nn.heads.WordPairHead`.
            (default: :obj:`None`)
        object_channels (int, optional): Size of an object feature (4096 in
            the paper); :obj:`None` leaves the image out.
            (default: :obj:`None`)
        num_dependencies (int, optional): Number of labels of dependencies.
            (default: :obj:`1`)
        num_predicates (int, optional): Number of labels of scene edges.
            (default: :obj:`1`)
        num_pos (int, optional): Number of parts of speech.
            (default: :obj:`1`)
        max_distance (int, optional): As in
            :class:`~mmgraph.transforms.WordPairs`. (default: :obj:`10`)
        hidden_channels (int, optional): Size :math:`d` of a state; that of
            the encoder if :obj:`None`. (default: :obj:`None`)
        edge_dim (int, optional): Size of the embedding of a label or of a
            pair's id. (default: :obj:`100`)
        num_heads (int, optional): Heads of every attention.
            (default: :obj:`12`)
        num_layers (int, optional): Blocks of graph layers, alignment and
            attention. (default: :obj:`1`)
        channels (tuple of str, optional): Which of :obj:`'pos'`,
            :obj:`'distance'` and :obj:`'pmi'` there are; without any,
            :math:`\mathbf{S} = \mathbf{O}`.
            (default: :obj:`('pos', 'distance', 'pmi')`)
        pair_features (bool, optional): Whether the classifier reads the
            channels' embeddings. (default: :obj:`True`)
        graph_layer (str, optional): :obj:`'attribute'`, or
            :obj:`'transformer'`: all words (or objects) hear each other, no
            edge is read. (default: :obj:`'attribute'`)
        alignment (str, optional): Terms of the alignment loss:
            :obj:`'both'`, :obj:`'node'`, :obj:`'edge'` or :obj:`'none'`.
            (default: :obj:`'both'`)
        alpha (float, optional): :math:`\alpha`, for both terms.
            (default: :obj:`0.4`)
        align_weight (float, optional): :math:`\lambda`.
            (default: :obj:`0.6`)
        aligner (Aligner, optional): Takes the place of
            :meth:`EdgeEnhancedAligner.eega
            <mmgraph.nn.align.EdgeEnhancedAligner.eega>`.
            (default: :obj:`None`)
        fusion (str, optional): How words hear objects: by
            :obj:`'attention'`, or by the scores of the :obj:`'alignment'`:
            :math:`\mathbf{O} = \mathrm{LN}(\mathbf{H}^T + \mathbf{T}
            \mathbf{H}^I \mathbf{W}^V)`. (default: :obj:`'attention'`)
        attention_channels (int, optional): Size of a head of the attention to
            the image; :math:`d` over the heads if :obj:`None`.
            (default: :obj:`None`)
        update_image (bool, optional): Whether the next block reads this
            block's objects, rather than the image's own.
            (default: :obj:`False`)
        directed (bool, optional): As in
            :class:`~mmgraph.nn.heads.WordPairHead`. (default: :obj:`False`)
        span_rule (str, optional): Likewise. (default: :obj:`'triangle'`)
        dropout (float, optional): Of words, of the attention to the image
            and before the classifier. (default: :obj:`0.2`)
        graph_dropout (float, optional): Of the attention in graphs and
            channels. (default: :obj:`0.3`)
        image_dropout (float, optional): Of objects. (default: :obj:`0.4`)

    Shapes:
        - **input:** a batch of posts with :math:`n_b` words and :math:`m_b`
          objects, with :obj:`word.pos_id` and the store :obj:`(word, pairs,
          word)` of :class:`~mmgraph.transforms.WordPairs` where channels read
          them. A post may lack an image, objects or words
        - **output:** :class:`WordPairOutput` with one row of logits for each
          of the :math:`\sum_b n_b (n_b + 1) / 2` pairs
          (:math:`\sum_b n_b^2` if :obj:`directed`)

    Raises:
        ShapeError: If object features have another size.
        ValueError: If an option is unknown, or what an option needs is not in
            the posts.

    Complexity: with :math:`E` edges, :math:`O((N + M) d^2 + E d)` in the
    graph layers and :math:`O(\sum_b n_b^2 (d + C))` in channels and
    classifier; nothing is of size :math:`n \times n \times d`.
    """
    def __init__(
        self,
        encoder: TextEncoder,
        num_types: int,
        num_relations: int,
        signatures: list[list[int]] | None = None,
        object_channels: int | None = None,
        num_dependencies: int = 1,
        num_predicates: int = 1,
        num_pos: int = 1,
        max_distance: int = 10,
        hidden_channels: int | None = None,
        edge_dim: int = 100,
        num_heads: int = 12,
        num_layers: int = 1,
        channels: Sequence[Channel] = ('pos', 'distance', 'pmi'),
        pair_features: bool = True,
        graph_layer: GraphLayer = 'attribute',
        alignment: AlignmentTerms = 'both',
        alpha: float = 0.4,
        align_weight: float = 0.6,
        aligner: Aligner | None = None,
        fusion: Fusion = 'attention',
        attention_channels: int | None = None,
        update_image: bool = False,
        directed: bool = False,
        span_rule: SpanRule = 'triangle',
        dropout: float = 0.2,
        graph_dropout: float = 0.3,
        image_dropout: float = 0.4,
    ) -> None:
        super().__init__()
        check_choice('graph_layer', graph_layer, get_args(GraphLayer))
        check_choice('alignment', alignment, get_args(AlignmentTerms))
        check_choice('fusion', fusion, get_args(Fusion))
        for name in channels:
            check_choice('channels', name, get_args(Channel))
        check_not_negative(align_weight=align_weight)
        if alignment == 'none' and (fusion == 'alignment'
                                    or aligner is not None):
            raise ValueError("'alignment' must not be 'none' where an aligner "
                             "is given or carries the objects")
        d = hidden_channels or encoder.out_channels
        self.encoder = encoder
        self.object_channels = object_channels
        self.align_weight = align_weight
        self.fusion = fusion
        self.update_image = update_image
        self.text = nn.Sequential(
            nn.Linear(encoder.out_channels, d), nn.ReLU(),
            nn.Dropout(dropout))

        def graph(num_types: int) -> nn.ModuleList:
            return nn.ModuleList(
                AttributeConv(d, max(num_types, 1), edge_dim, num_heads,
                              graph_dropout)
                if graph_layer == 'attribute' else
                TransformerLayer(d, num_heads, dropout=graph_dropout)
                for _ in range(num_layers))

        self.text_layers = graph(num_dependencies)
        self.aligner: Aligner | None = None
        if object_channels is not None:
            self.image = nn.Sequential(
                nn.Linear(object_channels, d), nn.ReLU(),
                nn.Dropout(image_dropout), nn.Linear(d, d), nn.ReLU(),
                nn.Dropout(image_dropout))
            self.image_layers = graph(num_predicates)
            if alignment != 'none':
                weight = {'both': alpha, 'node': 1., 'edge': 0.}[alignment]
                self.aligner = aligner or EdgeEnhancedAligner.eega(
                    alpha=weight)
            self.cross = nn.ModuleList(
                MultiHeadAttention(d, num_heads, dropout,
                                   head_channels=attention_channels,
                                   bias=False)
                if fusion == 'attention' else nn.Linear(d, d, bias=False)
                for _ in range(num_layers))
            self.norms = nn.ModuleList(nn.LayerNorm(d)
                                       for _ in range(num_layers))
        sizes = dict(pos=num_pos, distance=max_distance + 2, pmi=_NUM_PMI)
        self.channels = nn.ModuleDict({
            name: PairChannelConv(d, max(sizes[name], 1), edge_dim, num_heads,
                                  graph_dropout, additive=name == 'pos')
            for name in channels})
        self.merge = nn.Linear(len(channels) * d, d) if channels else None
        self.dropout = nn.Dropout(dropout)
        self.pair_features = pair_features
        self.head = WordPairHead(
            d, num_types, num_relations,
            [edge_dim] * len(channels) if pair_features else (),
            directed, span_rule, signatures, dropout)
        for part in (self.text, self.image if object_channels else None):
            for layer in part or ():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)

    def forward(self, batch: Post) -> WordPairOutput:
        x = self.encoder(batch)
        states, word, _ = word_states(batch, x, self.encoder.node_type)
        # A word that the encoder did not see hears its neighbours only.
        full = states.new_zeros(int(batch['word'].num_nodes), states.size(1))
        x, loss, alignment = self._layers(batch, self.text(
            full.index_copy(0, word, states)))
        logits, pairs = self._pairs(batch, x)
        return WordPairOutput(logits, pairs, loss, alignment)

    def _layers(
        self,
        batch: Post,
        x: Tensor,
    ) -> tuple[Tensor, OptTensor, Alignment | None]:
        r"""The words after the blocks :math:`\mathbf{O}`, the loss of the
        alignments and the last one of them.
        """
        own = alignment = loss = None
        if self.object_channels is not None:
            y, graph, ptr = image_rows(batch, 'object', self.object_channels,
                                       'object_channels', x)
            own = self.image(y)
        objects = own
        for i, layer in enumerate(self.text_layers):
            x = _hear_graph(layer, batch_view(batch, 'word', x=x))
            if own is None:
                continue
            start = objects if self.update_image else own
            objects = _hear_graph(self.image_layers[i],
                                  batch_view(batch, 'object', x=start))
            if self.aligner is not None:
                alignment = self.aligner(batch_view(batch, 'word', x=x),
                                         batch_view(batch, 'object',
                                                    x=objects))
                if alignment.loss is not None:
                    term = self.align_weight * alignment.loss
                    loss = term if loss is None else loss + term
                elif self.fusion == 'attention':
                    raise ValueError(
                        f"'{type(self.aligner).__name__}' has no loss, and "
                        f"is not heard otherwise: set fusion='alignment'")
            heard = (self._attend(i, batch, x, objects, graph, ptr)
                     if self.fusion == 'attention'
                     else self._carry(i, x, objects, alignment))
            x = self.norms[i](x + heard)
        return x, loss, alignment

    def _attend(
        self,
        i: int,
        batch: Post,
        x: Tensor,
        objects: Tensor,
        graph: Tensor,
        ptr: Tensor,
    ) -> Tensor:
        text, mask = pad_rows(x, *rows_of(batch, 'word'))
        image, seen = pad_rows(objects, graph, ptr)
        return self.dropout(self.cross[i](text, seen, image)[mask])

    def _carry(
        self,
        i: int,
        x: Tensor,
        objects: Tensor,
        alignment: Alignment | None,
    ) -> Tensor:
        assert alignment is not None
        word, item = alignment.match_index
        row = self.cross[i](objects)[item]
        score = alignment.match_score.to(row.dtype).unsqueeze(1)
        return self.dropout(torch.zeros_like(x).index_add(0, word,
                                                          row * score))

    def _pairs(self, batch: Post, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""The logits of all pairs of words, and the pairs."""
        graph, ptr = rows_of(batch, 'word')
        pairs = self.head.pair_index(ptr)
        upper = None
        if self.head.directed and set(self.channels) - {'pos'}:
            upper = upper_triangle(pairs, ptr)
        states, features = [], []
        for name, channel in self.channels.items():
            assert isinstance(channel, PairChannelConv)
            if name == 'pos':
                ids = _ids(batch['word'], 'pos_id', channel.num_ids)
                states.append(channel(x, ids, graph, ptr))
                index = ids[pairs]
            else:
                store = _pair_store(batch)
                ids = _ids(store, f'{name}_id', channel.num_ids)
                states.append(channel(x, ids, graph, ptr, store.edge_index))
                index = ids if upper is None else ids[upper]
            features.append((channel.embedding.weight, index))
        if self.merge is not None:
            x = self.dropout(self.merge(torch.cat(states, dim=1)))
        return self.head(x, pairs, features if self.pair_features
                         else ()), pairs


def _hear_graph(layer: nn.Module, view: GraphView) -> Tensor:
    r"""One layer over the nodes of each graph."""
    assert view.x is not None
    if isinstance(layer, AttributeConv):
        return layer(view.x, view.edge_index, view.edge_type)
    x, mask = pad_rows(view.x, view.batch, view.ptr)
    return layer(x, mask)[mask] if x.size(1) else view.x


def _pair_store(batch: Post) -> Post:
    kind = ('word', 'pairs', 'word')
    if kind not in batch.edge_types:
        raise ValueError("the posts have no ids of word pairs: give the data "
                         'module pairs=WordPairs(), or leave out the '
                         "channels 'distance' and 'pmi'")
    return batch[kind]


def _ids(store: Post, name: str, size: int) -> Tensor:
    ids = store.get(name)
    if ids is None:
        raise ValueError(f"the words have no '{name}': read a corpus with "
                         f"graph='dependency', or leave out its channel")
    if ids.numel() and int(ids.max()) >= size:
        raise ValueError(f"'{name}' must be in [0, {size}) (got "
                         f'{int(ids.max())}); was the model built for '
                         f'another vocabulary?')
    return ids
