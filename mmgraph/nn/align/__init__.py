"""Aligners: what joins the nodes of two graphs."""
from mmgraph.nn.align import functional
from mmgraph.nn.align.base import Aligner, Alignment
from mmgraph.nn.align.dense import DenseAligner
from mmgraph.nn.align.semantic import SemanticAligner
from mmgraph.nn.align.structural import StructuralAligner

__all__ = [
    'Aligner', 'Alignment', 'DenseAligner', 'SemanticAligner',
    'StructuralAligner', 'functional'
]

classes = [
    'Aligner', 'Alignment', 'DenseAligner', 'SemanticAligner',
    'StructuralAligner'
]
