"""Aligners: what joins the nodes of two graphs."""
from mmgraph.nn.align import functional
from mmgraph.nn.align.attribute import AttributeAligner
from mmgraph.nn.align.base import Aligner, Alignment
from mmgraph.nn.align.cone import ConeAligner
from mmgraph.nn.align.consensus import ConsensusAligner, RelationalGNN
from mmgraph.nn.align.degree import DegreeAligner
from mmgraph.nn.align.dense import DenseAligner
from mmgraph.nn.align.edge_enhanced import EdgeEnhancedAligner
from mmgraph.nn.align.final import FinalAligner
from mmgraph.nn.align.fugal import FugalAligner
from mmgraph.nn.align.grasp import GraspAligner
from mmgraph.nn.align.isorank import IsoRankAligner
from mmgraph.nn.align.parrot import ParrotAligner
from mmgraph.nn.align.quadratic import QuadraticAligner
from mmgraph.nn.align.refined import RefinedAligner
from mmgraph.nn.align.semantic import SemanticAligner
from mmgraph.nn.align.structural import StructuralAligner
from mmgraph.nn.align.transport import Transport, TransportAligner

__all__ = [
    'Aligner', 'Alignment', 'AttributeAligner', 'ConeAligner',
    'ConsensusAligner', 'DegreeAligner', 'DenseAligner', 'EdgeEnhancedAligner',
    'FinalAligner', 'FugalAligner', 'GraspAligner', 'IsoRankAligner',
    'ParrotAligner', 'QuadraticAligner', 'RefinedAligner', 'RelationalGNN',
    'SemanticAligner', 'StructuralAligner', 'Transport', 'TransportAligner',
    'functional'
]

classes = [
    'Aligner', 'Alignment', 'AttributeAligner', 'ConeAligner',
    'ConsensusAligner', 'DegreeAligner', 'DenseAligner', 'EdgeEnhancedAligner',
    'FinalAligner', 'FugalAligner', 'GraspAligner', 'IsoRankAligner',
    'ParrotAligner', 'QuadraticAligner', 'RefinedAligner', 'RelationalGNN',
    'SemanticAligner', 'StructuralAligner', 'Transport', 'TransportAligner'
]
