r"""Scores."""
from mmgraph.metrics.relation import (
    RelationMetric,
    confusion_matrix,
    relation_scores,
)

classes = ['RelationMetric']

__all__ = [*classes, 'confusion_matrix', 'relation_scores']
