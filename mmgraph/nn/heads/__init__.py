r"""Heads: states in, tags or relations out."""
from mmgraph.nn.heads.marker_pair import MarkerPairHead, relation_rows

classes = ['MarkerPairHead']

__all__ = ['MarkerPairHead', 'relation_rows']
