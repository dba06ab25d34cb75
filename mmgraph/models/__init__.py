r"""Published systems, by task."""
from mmgraph.models import jmere, mner, mre
from mmgraph.models.base import Entity, Extraction, Relation, TaskModel
from mmgraph.models.rows import image_rows, word_states

classes = ['Entity', 'Extraction', 'Relation', 'TaskModel']

__all__ = [
    'Entity', 'Extraction', 'Relation', 'TaskModel', 'image_rows', 'jmere',
    'mner', 'mre', 'word_states'
]
