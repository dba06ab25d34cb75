r"""Graph neural networks for multimodal information extraction."""
from mmgraph import data, errors, typing, utils
from mmgraph.utils import checks, seed_everything

__version__ = '0.1.0'

__all__ = [
    '__version__', 'checks', 'data', 'errors', 'seed_everything', 'typing',
    'utils'
]
