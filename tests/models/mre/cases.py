"""Posts that try every corner of a relation model."""
from typing import Any

import torch
from torch import Tensor

from mmgraph.data import GraphView, Post
from mmgraph.nn.align import Aligner, Alignment
from mmgraph.nn.align.base import ragged_pairs
from tests.data.cases import make_scene, make_text
from tests.nn.encoders.cases import with_tokens

OBJECT_DIM = 5


def marked(text: str, m: int, entities: Any, relations: Any,
           heads: list[int] | None = None, **kwargs: Any) -> Post:
    """With its mentions marked: mention i by the first piece of its word."""
    generator = torch.Generator().manual_seed(len(text) + m)
    scene = make_scene(m, OBJECT_DIM)
    scene.x = torch.randn(m, OBJECT_DIM, generator=generator)
    post = Post.build(make_text(text, heads), scene, entities, relations,
                      **kwargs)
    with_tokens(post, seed=len(text))
    piece, word = post['token', 'part_of', 'word'].edge_index.tolist()
    post['entity', 'marked_by', 'token'].edge_index = torch.tensor(
        [[i, piece[word.index(start)]]
         for i, (start, *_) in enumerate(entities)],
        dtype=torch.long).view(-1, 2).t().contiguous()
    return post


def make_posts() -> list[Post]:
    """Ordinary; no objects; no image; one word; two pairs, nested mentions;
    nothing at all; more objects than words.
    """
    return [
        marked('Mira Vance joins Orbit', 3, [(0, 2, 1), (3, 4, 2)],
               [(0, 1, 4)], [1, 2, -1, 2], post_id='a'),
        marked('no objects here', 0, [(0, 1), (2, 3)], [(1, 0, 2)]),
        marked('nor an image', 0, [(0, 1), (1, 3)], [(0, 1, 0)],
               has_image=False),
        marked('one', 2, [(0, 1), (0, 1)], [(0, 1, 3)]),
        marked('Lake Ola Band plays and sings', 4,
               [(0, 3), (0, 2), (5, 6)], [(0, 1, 1), (2, 0, 2)]),
        marked('', 0, [], [], has_image=False),
        marked('two words', 6, [(1, 2), (0, 1)], [(0, 1, 1)]),
    ]


class Planted(Aligner):
    """Scores that tell every pair of places apart, with a loss if asked."""
    def __init__(self, loss: float | None = None) -> None:
        super().__init__()
        self.value = loss
        self.seen: list[GraphView] = []

    def forward(self, source: GraphView, target: GraphView) -> Alignment:
        self.seen = [source, target]
        index = ragged_pairs(source.ptr, target.ptr)
        graph = source.batch[index[0]]
        i = index[0] - source.ptr[graph]
        j = index[1] - target.ptr[graph]
        assert source.x is not None
        loss = None
        if self.value is not None:
            loss = source.x.new_tensor(self.value)
        return Alignment(index, planted(i, j).to(source.x), source.ptr,
                         target.ptr, loss)


def planted(i: Tensor, j: Tensor) -> Tensor:
    """The score of word i and object j: not symmetric."""
    return torch.cos(1.0 + 3 * i.double() + 7 * j.double())
