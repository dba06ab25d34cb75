r"""Joint extraction of entities and relations from posts with an image."""
from mmgraph.models.jmere.base import JointModel, WordPairOutput
from mmgraph.models.jmere.eega import EEGA

classes = ['EEGA', 'JointModel', 'WordPairOutput']

__all__ = ['EEGA', 'JointModel', 'WordPairOutput']
