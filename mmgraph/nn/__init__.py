r"""Reusable layers."""
from mmgraph.nn import align, attention, conv, encoders, heads
from mmgraph.nn.configurable import Configurable, build_from_config
from mmgraph.nn.crf import LinearChainCRF
from mmgraph.nn.fusion import ConcatGate, EdgeGate, GatedResidual

classes = ['ConcatGate', 'EdgeGate', 'GatedResidual', 'LinearChainCRF']

__all__ = ['ConcatGate', 'Configurable', 'EdgeGate', 'GatedResidual',
           'LinearChainCRF', 'align', 'attention', 'build_from_config', 'conv',
           'encoders', 'heads']
