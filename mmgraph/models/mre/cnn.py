"""The convolutional baselines: Glove+CNN and PCNN."""
import torch
from torch import Tensor, nn

from mmgraph.data import Post, Vocabulary
from mmgraph.models.mre.base import (
    RelationModel,
    RelationOutput,
    post_of_relation,
)
from mmgraph.nn.encoders import WordEmbedding, words_of
from mmgraph.nn.heads import relation_rows
from mmgraph.nn.ragged import pad_rows, rows_of

__all__ = ['PCNN', 'GloveCNN']


class GloveCNN(RelationModel):
    r"""Words and positions → convolution → max pooling → softmax, from the
    `"Relation Classification via Convolutional Deep Neural Network"
    <https://aclanthology.org/C14-1220>`_ paper (COLING 2014); the baseline
    "Glove+CNN" of MEGA's table.

    Each word is its vector joined to two position vectors, one for its signed
    distance to the first word of the head mention and one for the tail's.
    Sizes are OpenNRE's defaults, the tree MEGA's code is built on; the
    baselines' own optimiser settings are not published. Without
    :obj:`vectors`, words are trained from scratch.

    Args:
        words (Vocabulary): The words, with an unknown label.
        num_relations (int): Number of classes.
        word_dim (int, optional): Size of a word's vector.
            (default: :obj:`50`)
        position_dim (int, optional): Size of a position's vector.
            (default: :obj:`5`)
        hidden_channels (int, optional): Number of filters.
            (default: :obj:`230`)
        kernel_size (int, optional): Width of a filter, odd.
            (default: :obj:`3`)
        dropout (float, optional): Before the classifier.
            (default: :obj:`0.5`)
        max_length (int, optional): Farther distances share a vector.
            (default: :obj:`128`)
        vectors (str, optional): A file of pretrained vectors (GloVe's text
            format). (default: :obj:`None`)
        unknown_rate (float, optional): While training, share of words
            replaced by the unknown word. (default: :obj:`0.0`)

    Shapes:
        - **input:** a batch of posts with :math:`R` marked pairs
        - **output:** :class:`RelationOutput` with logits
          :math:`(R, \text{num\_relations})`

    Raises:
        ValueError: If :obj:`kernel_size` is even.
    """
    num_pieces = 1

    #: The weights hold what the file of vectors gave.
    not_in_config = ('vectors', )

    def __init__(
        self,
        words: Vocabulary,
        num_relations: int,
        word_dim: int = 50,
        position_dim: int = 5,
        hidden_channels: int = 230,
        kernel_size: int = 3,
        dropout: float = 0.5,
        max_length: int = 128,
        vectors: str | None = None,
        unknown_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"'kernel_size' must be odd (got {kernel_size})")
        self.num_relations = num_relations
        self.max_length = max_length
        self.word = WordEmbedding(words, word_dim, vectors, unknown_rate)
        self.head_position = nn.Embedding(2 * max_length + 1, position_dim)
        self.tail_position = nn.Embedding(2 * max_length + 1, position_dim)
        self.conv = nn.Conv1d(word_dim + 2 * position_dim, hidden_channels,
                              kernel_size, padding=kernel_size // 2)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.num_pieces * hidden_channels,
                                    num_relations)

    def forward(self, batch: Post) -> RelationOutput:
        graph, ptr = rows_of(batch, 'word')
        words, mask = pad_rows(self.word(words_of(batch)), graph, ptr)
        if words.size(1) == 0:  # No word, hence no pair.
            none = words.new_empty(0, self.classifier.in_features)
            return RelationOutput(self.classifier(none))
        post = post_of_relation(batch)
        words, mask = words[post], mask[post]  # One row a pair.
        head, tail = (row - ptr[post]
                      for row in relation_rows(batch, 'word'))
        place = torch.arange(words.size(1), device=words.device)
        x = torch.cat([
            words,
            self.head_position(self._distance(place, head)),
            self.tail_position(self._distance(place, tail)),
        ], dim=-1)
        x = x * mask.unsqueeze(2)  # Padding is what lies beyond the text.
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        x = self._pool(x, mask, place, head, tail).relu()
        return RelationOutput(self.classifier(self.dropout(x)))

    def _distance(self, place: Tensor, mention: Tensor) -> Tensor:
        far = self.max_length
        return (place - mention.unsqueeze(1)).clamp(-far, far) + far

    def _pool(
        self,
        x: Tensor,
        mask: Tensor,
        place: Tensor,
        head: Tensor,
        tail: Tensor,
    ) -> Tensor:
        return _max(x, mask)


class PCNN(GloveCNN):
    r"""Piecewise max pooling, from the `"Distant Supervision for Relation
    Extraction via Piecewise Convolutional Neural Networks"
    <https://aclanthology.org/D15-1203>`_ paper (EMNLP 2015, Section 3.3).

    As :class:`GloveCNN`, with the maximum taken in three pieces: up to and
    with the first mention's first word, from there to the second mention's
    first word, and the rest. A piece without words gives zeros.

    Args and shapes are those of :class:`GloveCNN`.
    """
    num_pieces = 3

    def _pool(
        self,
        x: Tensor,
        mask: Tensor,
        place: Tensor,
        head: Tensor,
        tail: Tensor,
    ) -> Tensor:
        first = torch.minimum(head, tail).unsqueeze(1)
        second = torch.maximum(head, tail).unsqueeze(1)
        pieces = (place <= first, (place > first) & (place <= second),
                  place > second)
        return torch.cat([_max(x, mask & piece) for piece in pieces], dim=-1)


def _max(x: Tensor, mask: Tensor) -> Tensor:
    r"""Maximum over the rows of a mask; zeros where there is none."""
    low = torch.finfo(x.dtype).min
    best = x.masked_fill(~mask.unsqueeze(2), low).amax(dim=1)
    return best.masked_fill(~mask.any(dim=1, keepdim=True), 0)
