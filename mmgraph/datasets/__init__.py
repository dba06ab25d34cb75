r"""Corpora: one file each."""
from mmgraph.datasets.base import PostDataset, Row
from mmgraph.datasets.manifest import Manifest
from mmgraph.datasets.mnre import MNRE
from mmgraph.datasets.network_alignment import NetworkAlignment
from mmgraph.datasets.planted import PlantedPairs
from mmgraph.datasets.synthetic import SyntheticPosts

__all__ = [
    'MNRE', 'Manifest', 'NetworkAlignment', 'PlantedPairs', 'PostDataset',
    'Row', 'SyntheticPosts'
]

classes = __all__
