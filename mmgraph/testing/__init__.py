"""Helpers for tests: slow oracles written from the published formulas."""
from mmgraph.testing.mega import mega_oracle
from mmgraph.testing.oracles import (
    degree_histogram_oracle,
    landmark_embedding_oracle,
    structural_score_oracle,
    structural_similarity_oracle,
    topk_oracle,
)

__all__ = [
    'degree_histogram_oracle', 'landmark_embedding_oracle',
    'mega_oracle', 'structural_score_oracle', 'structural_similarity_oracle',
    'topk_oracle'
]
