r"""Named entity recognition in posts with an image."""
from mmgraph.models.mner.base import TaggingModel, TagOutput, word_states
from mmgraph.models.mner.bert import BertCRF, BertSoftmax
from mmgraph.models.mner.bilstm_crf import BiLSTMCRF
from mmgraph.models.mner.cross_sample_ner import CrossSampleNER
from mmgraph.models.mner.umgf import UMGF
from mmgraph.models.mner.umt import UMT, UMTOutput

classes = [
    'UMGF', 'UMT', 'BertCRF', 'BertSoftmax', 'BiLSTMCRF', 'CrossSampleNER',
    'TagOutput', 'TaggingModel', 'UMTOutput'
]

__all__ = [
    'UMGF', 'UMT', 'BertCRF', 'BertSoftmax', 'BiLSTMCRF', 'CrossSampleNER',
    'TagOutput', 'TaggingModel', 'UMTOutput', 'word_states'
]
