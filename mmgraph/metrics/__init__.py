r"""Scores."""
from mmgraph.metrics.alignment import (
    MatchScores,
    alignment_report,
    edge_correctness,
    hits_at_k,
    induced_conserved_structure,
    match_accuracy,
    match_scores,
    matched_neighborhood_consistency,
    mean_reciprocal_rank,
    one_to_one_accuracy,
    symmetric_substructure_score,
)
from mmgraph.metrics.quintuple import QuintupleMetric
from mmgraph.metrics.relation import (
    RelationMetric,
    confusion_matrix,
    relation_scores,
)
from mmgraph.metrics.span import SpanMetric, span_scores

classes = ['MatchScores', 'QuintupleMetric', 'RelationMetric', 'SpanMetric']

__all__ = [
    'MatchScores', 'QuintupleMetric', 'RelationMetric', 'SpanMetric',
    'alignment_report', 'confusion_matrix', 'edge_correctness', 'hits_at_k',
    'induced_conserved_structure', 'match_accuracy', 'match_scores',
    'matched_neighborhood_consistency', 'mean_reciprocal_rank',
    'one_to_one_accuracy', 'relation_scores', 'span_scores',
    'symmetric_substructure_score'
]
