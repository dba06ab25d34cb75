r"""Transforms: each adds something to a post."""
from mmgraph.transforms.align import Align
from mmgraph.transforms.word_pieces import WordPieces

__all__ = ['Align', 'WordPieces']

classes = __all__
