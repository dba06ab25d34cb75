r"""Heads: states in, tags or relations out."""
from mmgraph.nn.heads.crf import CRFHead
from mmgraph.nn.heads.marker_pair import MarkerPairHead, relation_rows
from mmgraph.nn.heads.softmax import SoftmaxHead
from mmgraph.nn.heads.word_pair import DecodedPairs, WordPairHead
from mmgraph.parse.word_pairs import SpanRule

classes = [
    'CRFHead', 'DecodedPairs', 'MarkerPairHead', 'SoftmaxHead', 'WordPairHead'
]

__all__ = [
    'CRFHead', 'DecodedPairs', 'MarkerPairHead', 'SoftmaxHead', 'SpanRule',
    'WordPairHead', 'relation_rows'
]
