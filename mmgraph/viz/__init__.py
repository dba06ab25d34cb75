r"""Pictures of posts."""
from mmgraph.viz.alignment import draw_alignment, save_alignment

classes: list[str] = []

__all__ = ['draw_alignment', 'save_alignment']
