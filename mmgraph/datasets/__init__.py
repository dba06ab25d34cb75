r"""Corpora: one file each."""
from mmgraph.datasets.base import PostDataset, Row
from mmgraph.datasets.manifest import Manifest
from mmgraph.datasets.mnre import MNRE

__all__ = ['MNRE', 'Manifest', 'PostDataset', 'Row']

classes = __all__
