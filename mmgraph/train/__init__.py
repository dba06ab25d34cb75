r"""Training: the Lightning module, the data module, and saved models."""
from typing import TYPE_CHECKING, Any

from mmgraph.train.checkpoint import from_pretrained, save_pretrained
from mmgraph.train.neighbours import Neighbours
from mmgraph.train.sampler import LengthBatchSampler
from mmgraph.utils import optional_import

if TYPE_CHECKING:
    from mmgraph.train.data_module import PostDataModule
    from mmgraph.train.module import PostModule

# Lightning is an extra: these two are imported when first asked for.
_LAZY = {'PostDataModule': 'data_module', 'PostModule': 'module'}

classes = [
    'LengthBatchSampler', 'Neighbours', 'PostDataModule', 'PostModule'
]

__all__ = [
    'LengthBatchSampler', 'Neighbours', 'PostDataModule', 'PostModule',
    'from_pretrained', 'save_pretrained'
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    optional_import('pytorch_lightning', 'train')
    module = optional_import(f'{__name__}.{_LAZY[name]}', 'train')
    return getattr(module, name)
