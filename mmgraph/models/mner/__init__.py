r"""Named entity recognition in posts with an image."""
from mmgraph.models.mner.base import TaggingModel, TagOutput
from mmgraph.models.mner.bert import BertCRF, BertSoftmax
from mmgraph.models.mner.bilstm_crf import BiLSTMCRF
from mmgraph.models.mner.cross_sample_ner import CrossSampleNER
from mmgraph.models.mner.umgf import UMGF
from mmgraph.models.mner.umt import UMT, UMTOutput

classes = [
    'BertCRF', 'BertSoftmax', 'BiLSTMCRF', 'CrossSampleNER', 'TagOutput',
    'TaggingModel', 'UMGF', 'UMT', 'UMTOutput'
]

__all__ = [
    'BertCRF', 'BertSoftmax', 'BiLSTMCRF', 'CrossSampleNER', 'TagOutput',
    'TaggingModel', 'UMGF', 'UMT', 'UMTOutput'
]
