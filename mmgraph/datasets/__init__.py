r"""Corpora: one file each."""
from mmgraph.datasets.base import PostDataset, Row
from mmgraph.datasets.features import (
    FeatureBank,
    FeatureFile,
    StandInFeatures,
)
from mmgraph.datasets.jmere import JMERE
from mmgraph.datasets.manifest import Manifest
from mmgraph.datasets.mnre import MNRE
from mmgraph.datasets.network_alignment import NetworkAlignment
from mmgraph.datasets.planted import PlantedPairs
from mmgraph.datasets.synthetic import SyntheticPosts
from mmgraph.datasets.twitter import Twitter2015, Twitter2017

__all__ = [
    'FeatureBank', 'FeatureFile', 'JMERE', 'MNRE', 'Manifest',
    'NetworkAlignment', 'PlantedPairs', 'PostDataset', 'Row',
    'StandInFeatures', 'SyntheticPosts', 'Twitter2015', 'Twitter2017'
]

classes = __all__
