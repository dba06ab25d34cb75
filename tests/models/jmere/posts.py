"""Small posts with trees, scenes and annotation, drawn from a seed."""
import torch
from torch import Tensor
from torch_geometric.data import Batch

from mmgraph.data import Post, SceneGraph, TextGraph, Vocabulary
from mmgraph.nn.encoders import TextEncoder
from mmgraph.transforms import WordPairs

LABELS = Vocabulary(['root', 'a', 'b', 'c'])
NUM_TYPES, NUM_RELATIONS, NUM_POS, NUM_PREDICATES = 3, 4, 5, 3
WIDTH, OBJECT = 12, 6


class GivenStates(TextEncoder):
    """Reads the states of words from the posts."""
    def __init__(self, out_channels: int = WIDTH) -> None:
        super().__init__()
        self.node_type = 'word'
        self.out_channels = out_channels

    def forward(self, batch: Post) -> Tensor:
        return batch['word'].x


def post(n: int, m: int | None, seed: int,
         entities: tuple[tuple[int, int, int], ...] = (),
         relations: tuple[tuple[int, int, int], ...] = ()) -> Post:
    """A post with ``n`` words and ``m`` objects (``None``: no image)."""
    g = torch.Generator().manual_seed(seed)

    def draw(high: int, size: int) -> Tensor:
        return torch.randint(high, (size, ), generator=g)

    heads = [-1] + [int(draw(i, 1)) for i in range(1, n)]
    text = TextGraph.from_heads(
        [f'w{int(i)}' for i in draw(9, n)], heads[:n],
        [LABELS.to_label(int(i)) for i in draw(4, n)], LABELS,
        pos_id=draw(NUM_POS, n), x=torch.randn(n, WIDTH, generator=g))
    size = m or 0
    edge_index = draw(max(size, 1), 2 * size).view(2, -1)
    scene = SceneGraph.build(
        edge_index, size, draw(NUM_PREDICATES, size),
        x=torch.randn(size, OBJECT, generator=g))
    return Post.build(text, scene, entities, relations, post_id=f'p{seed}',
                      has_image=m is not None)


def posts() -> list[Post]:
    """Unequal ones: no image, no object, one word, no word."""
    found = [
        post(6, 4, 1, ((0, 1, 0), (2, 4, 1)), ((0, 1, 2), )),
        post(3, None, 2, ((0, 2, 2), ), ()),
        post(1, 2, 3),
        post(5, 0, 4, ((0, 1, 0), (3, 5, 1)), ((1, 0, 3), )),
        post(0, 3, 5),
        post(4, 1, 6, ((1, 2, 1), ), ()),
    ]
    transform = WordPairs().fit([one.words for one in found])
    return [transform(one) for one in found]


def batch_of(items: list[Post]) -> Post:
    return Batch.from_data_list(items)
