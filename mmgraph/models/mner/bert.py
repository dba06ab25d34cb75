"""Pretrained encoder and a tag a word: BERT and BERT-CRF."""
from mmgraph.models.mner.base import SequenceTagger
from mmgraph.nn.encoders import TextEncoder
from mmgraph.nn.heads import CRFHead, SoftmaxHead

__all__ = ['BertCRF', 'BertSoftmax']


class BertSoftmax(SequenceTagger):
    r"""A pretrained encoder with a softmax over the tags of each word, from
    the `"BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding" <https://arxiv.org/abs/1810.04805>`_ paper (Section 5.3);
    the row "BERT" of the multimodal tables.

    A word's state is that of its first piece. The other pieces are no steps
    of the sequence; published code for Twitter-2015/2017 tags them with an
    extra label ``X`` and removes it before scoring.

    Args:
        encoder (TextEncoder): States of the text.
        num_types (int): Number of types of mentions.
        dropout (float, optional): Before the classifier.
            (default: :obj:`0.1`)

    Shapes:
        - **input:** a batch of posts
        - **output:** :class:`~mmgraph.models.mner.TagOutput` with emissions
          :math:`(M, 1 + 2 \cdot \text{num\_types})`
    """
    def __init__(
        self,
        encoder: TextEncoder,
        num_types: int,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(encoder, num_types,
                         SoftmaxHead(encoder.out_channels, num_types), dropout)


class BertCRF(SequenceTagger):
    r"""As :class:`BertSoftmax`, with a linear-chain CRF over the words of a
    post in the softmax's place; the row "BERT-CRF" of the multimodal tables.

    Args and shapes are those of :class:`BertSoftmax`.
    """
    def __init__(
        self,
        encoder: TextEncoder,
        num_types: int,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(encoder, num_types,
                         CRFHead(encoder.out_channels, num_types), dropout)
