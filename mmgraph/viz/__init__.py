r"""Pictures of posts."""
from mmgraph.viz.alignment import draw_alignment, save_alignment
from mmgraph.viz.word_pairs import draw_word_pairs

classes: list[str] = []

__all__ = ['draw_alignment', 'draw_word_pairs', 'save_alignment']
