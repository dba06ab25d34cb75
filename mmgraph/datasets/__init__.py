r"""Corpora: one file each."""
from mmgraph.datasets.base import PostDataset, Row
from mmgraph.datasets.manifest import Manifest
from mmgraph.datasets.mnre import MNRE
from mmgraph.datasets.synthetic import SyntheticPosts

__all__ = ['MNRE', 'Manifest', 'PostDataset', 'Row', 'SyntheticPosts']

classes = __all__
