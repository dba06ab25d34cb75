r"""Transforms: each changes a post or a pair of networks."""
from mmgraph.transforms.align import Align
from mmgraph.transforms.drop_edges import DropEdges
from mmgraph.transforms.flip_attributes import FlipAttributes
from mmgraph.transforms.permuted_copy import PermutedCopy
from mmgraph.transforms.region_features import RegionFeatures
from mmgraph.transforms.rewire_edges import RewireEdges
from mmgraph.transforms.word_pairs import WordPairs
from mmgraph.transforms.word_pieces import WordPieces

__all__ = [
    'Align', 'DropEdges', 'FlipAttributes', 'PermutedCopy', 'RegionFeatures',
    'RewireEdges', 'WordPairs', 'WordPieces'
]

classes = __all__
