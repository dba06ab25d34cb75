r"""Scores."""
from mmgraph.metrics.alignment import match_accuracy
from mmgraph.metrics.relation import (
    RelationMetric,
    confusion_matrix,
    relation_scores,
)

classes = ['RelationMetric']

__all__ = [
    'RelationMetric', 'confusion_matrix', 'match_accuracy', 'relation_scores'
]
