import numpy as np
import torch
from torch_geometric.data import Dataset
from torch_geometric.transforms import BaseTransform

from mmgraph.data.pair import GraphPair

__all__ = ['PlantedPairs']


class PlantedPairs(Dataset):
    r"""Pairs of a tree of words and a scene graph of objects in which the
    right matches are known, because they were planted.

    * The tree: the parent of a word is one of the 6 words before it. Each
      word is of one of :obj:`num_types` types: its feature is the Gaussian
      prototype of the type plus Gaussian noise of size :obj:`spread`. Each
      tree edge has one of :obj:`num_edge_types` labels.
    * The objects: :obj:`num_objects` words drawn without repetition; the
      feature of the word plus Gaussian noise of size :obj:`noise`. A share
      :obj:`unmatched` of them is drawn like words that are not in the tree,
      and has no match.
    * Scene edges: pairs of objects whose words are at most
      :obj:`max_distance` apart in the tree, of which a share :obj:`drop` is
      missing; other pairs are joined with probability :obj:`add`. An object
      without a word is joined to others as often as two words drawn from the
      tree would be, so that its degree tells nothing. The label of a scene edge
      is that of one of the tree edges on the path between its words, drawn
      evenly; with probability :obj:`label_noise`, and where there is no such
      path, any label.

    All draws follow from :obj:`seed`. Edges are stored once, in any direction
    (the tree's from parent to child).

    Args:
        num_pairs (int, optional): Number of pairs. (default: :obj:`1000`)
        num_words (int, optional): Size of the tree. (default: :obj:`30`)
        num_objects (int, optional): Number of objects. (default: :obj:`10`)
        num_types (int, optional): Number of types of words.
            (default: :obj:`8`)
        channels (int, optional): Size of features. (default: :obj:`64`)
        spread (float, optional): Standard deviation inside a type.
            (default: :obj:`0.1`)
        noise (float, optional): Standard deviation of what an object's
            feature adds. (default: :obj:`0.5`)
        max_distance (int, optional): How far words of joined objects may be
            apart. (default: :obj:`3`)
        drop (float, optional): Share of scene edges that are missing.
            (default: :obj:`0.15`)
        add (float, optional): Share of other pairs that are joined.
            (default: :obj:`0.05`)
        unmatched (float, optional): Share of objects without a word.
            (default: :obj:`0.0`)
        num_edge_types (int, optional): Number of edge labels.
            (default: :obj:`8`)
        label_noise (float, optional): Share of labels drawn anew.
            (default: :obj:`0.1`)
        edge_dim (int, optional): Size of :obj:`edge_attr`: a Gaussian
            prototype of unit length on average for each label, plus noise of
            a tenth of that. (default: :obj:`16`)
        seed (int, optional): Seed. (default: :obj:`0`)
        transform (callable, optional): Applied at each access.
            (default: :obj:`None`)

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> PlantedPairs(num_pairs=2)[0]
        GraphPair(30 nodes, 29 edges | 10 nodes, ... edges, 10 gold matches)
    """
    def __init__(
        self,
        num_pairs: int = 1000,
        num_words: int = 30,
        num_objects: int = 10,
        num_types: int = 8,
        channels: int = 64,
        spread: float = 0.1,
        noise: float = 0.5,
        max_distance: int = 3,
        drop: float = 0.15,
        add: float = 0.05,
        unmatched: float = 0.0,
        num_edge_types: int = 8,
        label_noise: float = 0.1,
        edge_dim: int = 16,
        seed: int = 0,
        transform: BaseTransform | None = None,
    ) -> None:
        super().__init__(None, transform)
        for name, size in (
            ('num_pairs', num_pairs), ('num_words', num_words),
            ('num_objects', num_objects), ('num_types', num_types),
            ('channels', channels), ('max_distance', max_distance),
            ('num_edge_types', num_edge_types), ('edge_dim', edge_dim),
        ):
            if size < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {size})")
        for name, share in (('drop', drop), ('add', add),
                            ('unmatched', unmatched),
                            ('label_noise', label_noise)):
            if not 0 <= share <= 1:
                raise ValueError(f"'{name}' must be in [0, 1] (got {share})")
        for name, scale in (('spread', spread), ('noise', noise)):
            if scale < 0:
                raise ValueError(f"'{name}' must not be negative "
                                 f'(got {scale})')
        self.num_matched = num_objects - round(unmatched * num_objects)
        if self.num_matched > num_words:
            raise ValueError(
                f"'num_objects' must leave each object a word of its own (got "
                f'{self.num_matched} matched objects for {num_words} words)')
        self.num_words = num_words
        self.num_objects = num_objects
        self.spread = spread
        self.noise = noise
        self.max_distance = max_distance
        self.drop = drop
        self.add = add
        self.num_edge_types = num_edge_types
        self.label_noise = label_noise
        self.seed = seed
        rng = np.random.default_rng(seed)
        self._types = rng.normal(size=(num_types, channels))
        self._labels = rng.normal(size=(num_edge_types, edge_dim))
        self._labels /= edge_dim**0.5
        self._pairs = [self._draw(rng) for _ in range(num_pairs)]

    def len(self) -> int:
        return len(self._pairs)

    def get(self, idx: int) -> GraphPair:
        return self._pairs[idx]

    def _draw(self, rng: np.random.Generator) -> GraphPair:
        n, m, k = self.num_words, self.num_objects, self.num_matched
        parent = np.array([-1] + [rng.integers(max(0, i - 6), i)
                                  for i in range(1, n)])
        label = rng.integers(self.num_edge_types, size=n)  # of the edge above
        distance = np.zeros((n, n), dtype=int)
        for i in range(1, n):
            distance[i, :i] = distance[:i, i] = distance[parent[i], :i] + 1
        x_s = self._word(rng, n)
        words = rng.permutation(n)[:k]
        place = rng.permutation(m)[:k]  # of the matched objects
        x_t = self._word(rng, m)
        x_t[place] = x_s[words]
        x_t = x_t + self.noise * rng.normal(size=x_t.shape)
        word = np.full(m, -1)
        word[place] = words
        near = distance <= self.max_distance
        share = (near.sum() - n) / max(n * (n - 1), 1)
        share = share * (1 - self.drop) + (1 - share) * self.add
        ends, types = [], []
        for a in range(m):
            for b in range(a + 1, m):
                i, j = word[a], word[b]
                known = i >= 0 and j >= 0
                chance = share
                if known:
                    chance = 1 - self.drop if near[i, j] else self.add
                if rng.random() >= chance:
                    continue
                ends.append((a, b))
                if (known and near[i, j]
                        and rng.random() >= self.label_noise):
                    types.append(rng.choice(label[_path(parent, i, j)]))
                else:
                    types.append(rng.integers(self.num_edge_types))
        child = np.arange(1, n)
        type_t = np.array(types, dtype=int)
        return GraphPair(
            x_s=_float(x_s), x_t=_float(x_t),
            edge_index_s=torch.from_numpy(np.stack([parent[1:], child])),
            edge_index_t=torch.tensor(ends, dtype=torch.long).view(-1, 2).t()
            .contiguous(),
            edge_type_s=torch.from_numpy(label[1:]),
            edge_type_t=torch.from_numpy(type_t),
            edge_attr_s=self._attributes(rng, label[1:]),
            edge_attr_t=self._attributes(rng, type_t),
            match_index=torch.from_numpy(np.stack([words, place])))

    def _word(self, rng: np.random.Generator, size: int) -> np.ndarray:
        x = self._types[rng.integers(len(self._types), size=size)]
        return x + self.spread * rng.normal(size=x.shape)

    def _attributes(self, rng: np.random.Generator,
                    label: np.ndarray) -> torch.Tensor:
        x = self._labels[label]
        noise = rng.normal(size=x.shape) / max(x.shape[1], 1)**0.5
        return _float(x + 0.1 * noise)

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({len(self)} pairs, '
                f'{self.num_words} words, {self.num_objects} objects, '
                f'{self.num_matched} matched)')


def _path(parent: np.ndarray, i: int, j: int) -> list[int]:
    r"""The words whose edge to their parent is on the path from i to j. A
    parent comes before its children.
    """
    out = []
    while i != j:
        out.append(max(i, j))
        i, j = min(i, j), parent[max(i, j)]
    return out


def _float(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).float()
