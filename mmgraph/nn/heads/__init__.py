r"""Heads: states in, tags or relations out."""
from mmgraph.nn.heads.crf import CRFHead
from mmgraph.nn.heads.marker_pair import MarkerPairHead, relation_rows
from mmgraph.nn.heads.softmax import SoftmaxHead

classes = ['CRFHead', 'MarkerPairHead', 'SoftmaxHead']

__all__ = ['CRFHead', 'MarkerPairHead', 'SoftmaxHead', 'relation_rows']
