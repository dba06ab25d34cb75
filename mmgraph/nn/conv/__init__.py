r"""Convolutions.

**Two layers are called R-GCN.** The *relational* GCN of Schlichtkrull et al.
has one weight a relation of a knowledge graph: it is PyG's
:class:`~torch_geometric.nn.conv.RGCNConv`, which is found here under its own
name. The *relation-enhanced* GCN of multimodal NER (Zhao et al., 2022) mixes
the features of similar posts: it is :class:`CrossSampleConv`.
"""
from torch_geometric.nn import RGCNConv

from mmgraph.nn.conv.attribute import AttributeConv
from mmgraph.nn.conv.cross_sample import CrossSampleConv
from mmgraph.nn.conv.pair_channel import PairChannelConv

classes = ['AttributeConv', 'CrossSampleConv', 'PairChannelConv']

__all__ = ['AttributeConv', 'CrossSampleConv', 'PairChannelConv', 'RGCNConv']
