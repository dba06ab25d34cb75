r"""What a graph is: posts, their parts, corpora, pairs, views, vocabularies.
"""
import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import (
    BaseStorage,
    EdgeStorage,
    GlobalStorage,
    NodeStorage,
)

from mmgraph.data.neighbours import Keys, Pool
from mmgraph.data.pair import GraphPair
from mmgraph.data.post import Post
from mmgraph.data.relation_bank import RelationBank
from mmgraph.data.relation_graph import RelationGraph
from mmgraph.data.relation_loader import RelationLoader
from mmgraph.data.relation_report import RelationReport, RelationStatistics
from mmgraph.data.scene_graph import SceneGraph
from mmgraph.data.text_graph import TextGraph
from mmgraph.data.view import GraphView, batch_view, ptr_from_sizes
from mmgraph.data.vocabulary import Vocabulary

# So that ``torch.load(..., weights_only=True)`` reads our graphs; the PyG
# classes named here are those that PyG itself leaves out.
torch.serialization.add_safe_globals([
    BaseStorage, DataEdgeAttr, DataTensorAttr, EdgeStorage, GlobalStorage,
    GraphPair, GraphView, HeteroData, Keys, NodeStorage, Pool, Post,
    RelationBank, RelationGraph, SceneGraph, TextGraph, Vocabulary
])

classes = [
    'GraphPair', 'GraphView', 'Post', 'RelationGraph', 'RelationLoader',
    'RelationReport', 'RelationStatistics', 'SceneGraph', 'TextGraph',
    'Vocabulary'
]

__all__ = [
    'GraphPair', 'GraphView', 'Post', 'RelationGraph', 'RelationLoader',
    'RelationReport', 'RelationStatistics', 'SceneGraph', 'TextGraph',
    'Vocabulary', 'batch_view', 'ptr_from_sizes'
]
