"""The steps of alignment as plain functions."""
from mmgraph.nn.align.functional.structural import (
    HistogramMethod,
    degree_histogram,
    landmark_embedding,
    structural_similarity,
)

__all__ = [
    'HistogramMethod', 'degree_histogram', 'landmark_embedding',
    'structural_similarity'
]
