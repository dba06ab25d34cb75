r"""Published systems, by task."""
from mmgraph.models import mner, mre
from mmgraph.models.base import Entity, Relation, TaskModel

classes = ['Entity', 'Relation', 'TaskModel']

__all__ = ['Entity', 'Relation', 'TaskModel', 'mner', 'mre']
