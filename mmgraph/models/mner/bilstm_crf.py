"""Words, characters, BiLSTM and CRF, trained from scratch."""
from typing import Literal

from mmgraph.data import Vocabulary
from mmgraph.models.mner.base import SequenceTagger
from mmgraph.nn.encoders import CharEmbedding, CharWordEncoder
from mmgraph.nn.heads import CRFHead

__all__ = ['BiLSTMCRF']


class BiLSTMCRF(SequenceTagger):
    r"""The tagger of the `"Neural Architectures for Named Entity Recognition"
    <https://arxiv.org/abs/1603.01360>`_ paper (Section 2 and 4.1) and its
    siblings, which differ in how a word's characters are read:

    ====================== ========================= ========================
    :obj:`chars`           row of the tables         source
    ====================== ========================= ========================
    :obj:`None`            BiLSTM-CRF                Huang et al., 2015
    :obj:`'lstm'`          HBiLSTM-CRF               Lample et al., 2016
    :obj:`'cnn'`           CNN-BiLSTM-CRF            Ma and Hovy, 2016
    ====================== ========================= ========================

    Sizes are those of the baselines' public code (200-dimensional words, 30
    for a character, 50 for a word's characters, 100 units a direction).

    .. note:: Lample et al. put a :math:`\tanh` layer between BiLSTM and
        scores; the multimodal tables' code has none, and so has this. Without
        :obj:`vectors` all words are trained from scratch, which costs about
        seven points of F1 on CoNLL (Lample et al., Table 5).

    Args:
        words (Vocabulary): The words, with an unknown label.
        num_types (int): Number of types of mentions.
        chars (str, optional): :obj:`'lstm'`, :obj:`'cnn'` or :obj:`None`.
            (default: :obj:`'lstm'`)
        word_dim (int, optional): Size of a word's vector.
            (default: :obj:`200`)
        char_dim (int, optional): Size of a character's vector.
            (default: :obj:`30`)
        char_channels (int, optional): Size of what is read off a word's
            characters. (default: :obj:`50`)
        hidden_channels (int, optional): Size of one direction.
            (default: :obj:`100`)
        dropout (float, optional): On the BiLSTM's input and on its output.
            (default: :obj:`0.5`)
        vectors (str, optional): A file of pretrained word vectors.
            (default: :obj:`None`)
        unknown_rate (float, optional): While training, share of words
            replaced by the unknown word. (default: :obj:`0.0`)

    Shapes:
        - **input:** a batch of posts
        - **output:** :class:`~mmgraph.models.mner.TagOutput` with emissions
          :math:`(M, 1 + 2 \cdot \text{num\_types})`

    Raises:
        ValueError: If :obj:`chars` is unknown.
    """
    #: The weights hold what the file of vectors gave.
    not_in_config = ('vectors', )

    def __init__(
        self,
        words: Vocabulary,
        num_types: int,
        chars: Literal['lstm', 'cnn'] | None = 'lstm',
        word_dim: int = 200,
        char_dim: int = 30,
        char_channels: int = 50,
        hidden_channels: int = 100,
        dropout: float = 0.5,
        vectors: str | None = None,
        unknown_rate: float = 0.0,
    ) -> None:
        char = (None if chars is None else
                CharEmbedding(dim=char_dim, out_channels=char_channels,
                              kind=chars))
        encoder = CharWordEncoder(
            words, word_dim, char, hidden_channels, dropout=dropout,
            vectors=vectors, unknown_rate=unknown_rate)
        super().__init__(encoder, num_types,
                         CRFHead(encoder.out_channels, num_types), dropout)
