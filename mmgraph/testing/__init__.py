"""Helpers for tests: slow oracles written from the published formulas."""
from mmgraph.testing.cross_sample import (
    cross_sample_oracle,
    published_image_oracle,
    published_star_oracle,
    published_text_oracle,
)
from mmgraph.testing.eega import attribute_conv_oracle, pair_channel_oracle
from mmgraph.testing.mega import mega_oracle
from mmgraph.testing.oracles import (
    degree_histogram_oracle,
    landmark_embedding_oracle,
    structural_score_oracle,
    structural_similarity_oracle,
    topk_oracle,
)
from mmgraph.testing.word_pairs import (
    word_pair_quintuples_oracle,
    word_pair_spans_oracle,
    word_pair_table_oracle,
)

__all__ = [
    'attribute_conv_oracle', 'cross_sample_oracle',
    'degree_histogram_oracle', 'landmark_embedding_oracle', 'mega_oracle',
    'pair_channel_oracle', 'published_image_oracle', 'published_star_oracle',
    'published_text_oracle', 'structural_score_oracle',
    'structural_similarity_oracle', 'topk_oracle',
    'word_pair_quintuples_oracle', 'word_pair_spans_oracle',
    'word_pair_table_oracle'
]
