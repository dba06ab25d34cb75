"""Characters and words, trained from scratch."""
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmgraph.data import Post, Vocabulary
from mmgraph.nn.configurable import Configurable
from mmgraph.nn.encoders.base import TextEncoder
from mmgraph.nn.encoders.word import WordEmbedding, words_of
from mmgraph.nn.ragged import pad_rows, rows_of

__all__ = ['CharEmbedding', 'CharWordEncoder']

CHARACTERS = Vocabulary(
    ['<pad>', '<unk>', *(chr(code) for code in range(32, 127))],
    scheme='ascii', unknown='<unk>')


class CharEmbedding(Configurable, nn.Module):
    r"""A vector a word, read off its characters, from the `"Neural
    Architectures for Named Entity Recognition"
    <https://arxiv.org/abs/1603.01360>`_ paper (Section 4.1; LSTM: last state
    of each direction) or by convolution and max pooling.

    Equal words of a batch are read once.

    Args:
        chars (Vocabulary, optional): The characters; the first one pads.
            (default: printable ASCII)
        dim (int, optional): Size of a character's vector.
            (default: :obj:`25`)
        out_channels (int, optional): Size of a word's vector, even for
            :obj:`'lstm'`. (default: :obj:`50`)
        kind (str, optional): :obj:`'lstm'` or :obj:`'cnn'` (width 3).
            (default: :obj:`'lstm'`)
        max_chars (int, optional): Longer words are cut.
            (default: :obj:`32`)

    Shapes:
        - **input:** a list of :math:`n` words
        - **output:** :math:`(n, F_{out})`

    Raises:
        ValueError: If :obj:`kind` is unknown or :obj:`out_channels` odd.
    """
    def __init__(
        self,
        chars: Vocabulary | None = None,
        dim: int = 25,
        out_channels: int = 50,
        kind: Literal['lstm', 'cnn'] = 'lstm',
        max_chars: int = 32,
    ) -> None:
        super().__init__()
        if kind not in ('lstm', 'cnn'):
            raise ValueError(f"'kind' must be 'lstm' or 'cnn' (got {kind!r})")
        if kind == 'lstm' and out_channels % 2:
            raise ValueError(f"'out_channels' must be even for two directions "
                             f'(got {out_channels})')
        self.chars = CHARACTERS if chars is None else chars
        self.max_chars = max_chars
        self.out_channels = out_channels
        self.embedding = nn.Embedding(len(self.chars), dim, padding_idx=0)
        self.reader: nn.LSTM | nn.Conv1d
        if kind == 'lstm':
            self.reader = nn.LSTM(dim, out_channels // 2, batch_first=True,
                                  bidirectional=True)
        else:
            self.reader = nn.Conv1d(dim, out_channels, 3, padding=1)

    def forward(self, words: list[str]) -> Tensor:
        weight = self.embedding.weight
        if not words:
            return weight.new_empty(0, self.out_channels)
        unique = {word: i for i, word in enumerate(dict.fromkeys(words))}
        back = torch.tensor([unique[word] for word in words],
                            device=weight.device)
        rows = [self.chars.to_ids(word[:self.max_chars]) or [0]
                for word in unique]
        sizes = torch.tensor([len(row) for row in rows])
        ids = torch.zeros(len(rows), int(sizes.max()), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, :len(row)] = torch.tensor(row)
        x = self.embedding(ids.to(weight.device))
        if isinstance(self.reader, nn.LSTM):
            packed = pack_padded_sequence(x, sizes, batch_first=True,
                                          enforce_sorted=False)
            _, (last, _) = self.reader(packed)
            out = torch.cat([last[0], last[1]], dim=-1)
        else:
            states = self.reader(x.transpose(1, 2)).transpose(1, 2)
            real = torch.arange(x.size(1)) < sizes.unsqueeze(1)
            out = states.masked_fill(
                ~real.to(x.device).unsqueeze(2), float('-inf')).amax(1)
        return out[back]


class CharWordEncoder(TextEncoder):
    r"""A BiLSTM over word vectors joined to character vectors, trained from
    scratch, from the `"Neural Architectures for Named Entity Recognition"
    <https://arxiv.org/abs/1603.01360>`_ paper (Sections 2.1 and 4).

    .. note:: The paper's LSTM couples the input and forget gates and has
        peepholes; later work found a standard LSTM as good, and this one is
        the library's.

    Args:
        words (Vocabulary): The words, with an unknown label.
        word_dim (int, optional): Size of a word's vector.
            (default: :obj:`100`)
        char (CharEmbedding, optional): Reads characters; without it only words
            are used. (default: :obj:`None`)
        hidden_channels (int, optional): Size of one direction.
            (default: :obj:`100`)
        num_layers (int, optional): Number of LSTM layers.
            (default: :obj:`1`)
        dropout (float, optional): Applied to the joined input.
            (default: :obj:`0.5`)
        vectors (str, optional): A file of pretrained word vectors.
            (default: :obj:`None`)
        unknown_rate (float, optional): See :class:`WordEmbedding`.
            (default: :obj:`0.0`)

    Shapes:
        - **input:** a batch of posts with :math:`n` words
        - **output:** states :math:`(n, 2 \cdot \text{hidden\_channels})`
    """
    #: The weights hold what the file of vectors gave.
    not_in_config = ('vectors', )

    def __init__(
        self,
        words: Vocabulary,
        word_dim: int = 100,
        char: CharEmbedding | None = None,
        hidden_channels: int = 100,
        num_layers: int = 1,
        dropout: float = 0.5,
        vectors: str | None = None,
        unknown_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.node_type = 'word'
        self.word = WordEmbedding(words, word_dim, vectors, unknown_rate)
        self.char = char
        self.dropout = nn.Dropout(dropout)
        width = word_dim + (0 if char is None else char.out_channels)
        self.lstm = nn.LSTM(width, hidden_channels, num_layers,
                            batch_first=True, bidirectional=True)
        self.out_channels = 2 * hidden_channels

    def forward(self, batch: Post) -> Tensor:
        words = words_of(batch)
        x = self.word(words)
        if self.char is not None:
            x = torch.cat([x, self.char(words)], dim=-1)
        x = self.dropout(x)
        graph, ptr = rows_of(batch, 'word')
        padded, mask = pad_rows(x, graph, ptr)
        sizes = mask.sum(1)
        real = sizes > 0  # A post may have no word; the LSTM wants one.
        if not bool(real.any()):
            return x.new_empty(0, self.out_channels)
        packed = pack_padded_sequence(padded[real], sizes[real].cpu(),
                                      batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0],
                                        batch_first=True)
        return states[mask[real]]
