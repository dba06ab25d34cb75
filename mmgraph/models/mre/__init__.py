r"""Relation extraction."""
from mmgraph.models.mre.base import RelationModel, RelationOutput
from mmgraph.models.mre.cnn import PCNN, GloveCNN
from mmgraph.models.mre.mega import MEGA

classes = ['GloveCNN', 'MEGA', 'PCNN', 'RelationModel', 'RelationOutput']

__all__ = ['GloveCNN', 'MEGA', 'PCNN', 'RelationModel', 'RelationOutput']
