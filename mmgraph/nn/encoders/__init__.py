r"""Encoders: text in, one state a token or word out."""
from mmgraph.nn.encoders.base import TextEncoder
from mmgraph.nn.encoders.char_word import CharEmbedding, CharWordEncoder
from mmgraph.nn.encoders.transformer import TransformerTextEncoder
from mmgraph.nn.encoders.word import (
    WordEmbedding,
    load_word_vectors,
    words_of,
)

classes = [
    'CharEmbedding', 'CharWordEncoder', 'TextEncoder',
    'TransformerTextEncoder', 'WordEmbedding'
]

__all__ = [
    'CharEmbedding', 'CharWordEncoder', 'TextEncoder', 'TransformerTextEncoder',
    'WordEmbedding', 'load_word_vectors', 'words_of'
]
