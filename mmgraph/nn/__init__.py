r"""Reusable layers."""
from mmgraph.nn import align, encoders, heads
from mmgraph.nn.configurable import Configurable, build_from_config

__all__ = ['Configurable', 'align', 'build_from_config', 'encoders', 'heads']
