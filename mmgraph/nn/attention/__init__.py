r"""Attention over padded rows."""
from mmgraph.nn.attention.transformer import (
    MultiHeadAttention,
    TransformerLayer,
)

classes = ['MultiHeadAttention', 'TransformerLayer']

__all__ = ['MultiHeadAttention', 'TransformerLayer']
