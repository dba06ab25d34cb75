"""The steps of alignment as plain functions."""
from mmgraph.nn.align.functional.structural import (
    HistogramMethod,
    degree_histogram,
    landmark_embedding,
    structural_similarity,
)
from mmgraph.nn.align.functional.transport import (
    GWSolver,
    Marginals,
    Solver,
    gromov_wasserstein,
    gromov_wasserstein_cost,
    ipot,
    round_plan,
    sinkhorn,
)

__all__ = [
    'GWSolver', 'HistogramMethod', 'Marginals', 'Solver', 'degree_histogram',
    'gromov_wasserstein', 'gromov_wasserstein_cost', 'ipot',
    'landmark_embedding', 'round_plan', 'sinkhorn', 'structural_similarity'
]
