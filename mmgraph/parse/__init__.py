r"""From raw text or pictures to graphs."""
from mmgraph.parse.conllu import read_conllu, write_conllu
from mmgraph.parse.edge_list import (
    EdgeList,
    read_edge_list,
    read_graphml,
    read_name_pairs,
)
from mmgraph.parse.labels import CLEAR, UD, UPOS
from mmgraph.parse.neighbour_lists import (
    NeighbourRecord,
    read_neighbour_lists,
)
from mmgraph.parse.parser import DependencyParser
from mmgraph.parse.scene_graph import (
    Detections,
    read_detections,
    read_slot_relations,
)
from mmgraph.parse.word_pieces import (
    WordTokenizer,
    fit_pieces,
    insert_markers,
)

__all__ = [
    'CLEAR', 'DependencyParser', 'Detections', 'EdgeList', 'NeighbourRecord',
    'UD', 'UPOS', 'WordTokenizer', 'fit_pieces', 'insert_markers',
    'read_conllu', 'read_detections', 'read_edge_list', 'read_graphml',
    'read_name_pairs', 'read_neighbour_lists', 'read_slot_relations',
    'write_conllu'
]

classes = [
    'DependencyParser', 'Detections', 'EdgeList', 'NeighbourRecord',
    'WordTokenizer'
]
