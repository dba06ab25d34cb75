"""Helpers for tests: slow oracles written from the published formulas."""
from mmgraph.testing.cross_sample import (
    cross_sample_oracle,
    published_image_oracle,
    published_star_oracle,
    published_text_oracle,
)
from mmgraph.testing.mega import mega_oracle
from mmgraph.testing.oracles import (
    degree_histogram_oracle,
    landmark_embedding_oracle,
    structural_score_oracle,
    structural_similarity_oracle,
    topk_oracle,
)

__all__ = [
    'cross_sample_oracle', 'degree_histogram_oracle',
    'landmark_embedding_oracle', 'mega_oracle', 'published_image_oracle',
    'published_star_oracle', 'published_text_oracle',
    'structural_score_oracle', 'structural_similarity_oracle', 'topk_oracle'
]
