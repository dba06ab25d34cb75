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
from mmgraph.parse.word_pairs import (
    PairReading,
    head_comes_first,
    pair_index,
    pairs_of_annotation,
    read_pairs,
    read_table,
    table_of,
    upper_triangle,
    word_pair_vocabulary,
)
from mmgraph.parse.word_pieces import (
    WordTokenizer,
    fit_pieces,
    insert_markers,
)

__all__ = [
    'CLEAR', 'DependencyParser', 'Detections', 'EdgeList', 'NeighbourRecord',
    'PairReading', 'UD', 'UPOS', 'WordTokenizer', 'fit_pieces',
    'head_comes_first', 'insert_markers', 'pair_index', 'pairs_of_annotation',
    'read_conllu', 'read_detections', 'read_edge_list', 'read_graphml',
    'read_name_pairs', 'read_neighbour_lists', 'read_pairs',
    'read_slot_relations', 'read_table', 'table_of', 'upper_triangle',
    'word_pair_vocabulary', 'write_conllu'
]

classes = [
    'DependencyParser', 'Detections', 'EdgeList', 'NeighbourRecord',
    'PairReading', 'WordTokenizer'
]
