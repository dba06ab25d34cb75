"""What is known of each pair of words of a post before any model reads it."""
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mmgraph.data import Post
from mmgraph.errors import InputError
from mmgraph.parse.word_pairs import pair_index
from mmgraph.utils import check_at_least

__all__ = ['WordPairs']


@functional_transform('word_pairs')
class WordPairs(BaseTransform):  # type: ignore[misc]
    r"""Adds the pairs of words of a post with their distance in the dependency
    tree and how much more often than by chance they stand together
    (functional name: :obj:`word_pairs`): two of the three linguistic channels
    of the `"Joint Multimodal Entity-Relation Extraction Based on Edge-enhanced
    Graph Alignment Network and Word-pair Relation Tagging"
    <https://doi.org/10.1609/aaai.v37i9.26309>`_ paper (appendix A); the third,
    parts of speech, is :obj:`post['word'].pos_id`.

    The store (word, pairs, word) holds the pairs :math:`i \le j` in the order
    of :func:`~mmgraph.parse.word_pairs.pair_index`, both ids being symmetric:

    - :obj:`edge_index [2, n(n+1)/2]`
    - :obj:`distance_id`: hops between the two words in the undirected tree;
      0 for the word itself, :obj:`max_distance` for all that is farther,
      :obj:`max_distance + 1` for words of different trees (in a post without
      dependencies, all pairs but the diagonal)
    - :obj:`pmi_id`: the pointwise mutual information of the two words in the
      texts given to :meth:`fit`, in eleven bins,

      .. math::
          \mathrm{PMI}_{ab} = \log_2 \frac{c_{ab} \sum_{a'b'} c_{a'b'}}
          {\sum_{b'} c_{ab'} \sum_{a'} c_{a'b}}, \qquad
          \mathrm{id} = \min \left( \left\lceil \tfrac{1}{2}
          \max(\mathrm{round}(\mathrm{PMI}), 0) \right\rceil, 10 \right)

      where :math:`c_{ab} = c_{ba}` counts how often :math:`a` stands 1 to
      :obj:`window` positions before or after :math:`b`. Zero is "no positive
      association": negative ones, words that never stood together and words
      never seen. A post whose own text was counted has the ids that the
      *other* texts give it.

    .. note::
        Published code measures distances between word pieces, counts in
        validation and test texts, too, overwrites counts instead of adding
        them, and hides pairs with id zero from the model. Here distances are
        of words, only the texts of :meth:`fit` count (those of the training
        split; :class:`~mmgraph.train.PostDataModule` sees to it), and zero is
        an id like any other.

    .. note::
        Most pairs of words stand together in one post only. Counted in its own
        favour, half of the pairs of a training post of JMERE are associated,
        but 15 % of those of a test post: a model would learn from what it
        never sees again. Leaving a post's own text out makes both alike;
        :obj:`leave_one_out=False` is the published way.

    .. note::
        A data set's cache is keyed by :func:`repr`. A hash of what was
        counted is therefore part of it, once there is one.

    A post costs one search a word of its tree, :math:`O(n^2)`, and a binary
    search or two a pair of words.

    Args:
        max_distance (int, optional): The longest distance that is told from
            longer ones. (default: :obj:`10`)
        window (int, optional): How many positions apart words still stand
            together. (default: :obj:`7`)
        lower_case (bool, optional): Take words for the same whatever their
            case. (default: :obj:`True`)
        leave_one_out (bool, optional): Leave a post's own text out of what is
            counted for it. (default: :obj:`True`)

    Raises:
        ValueError: If a number is not positive.
        InputError: If it is used before :meth:`fit`.

    Example:
        >>> from mmgraph.data import TextGraph, Vocabulary
        >>> text = TextGraph.from_heads(['Ann', 'met', 'Bob'], [1, -1, 1],
        ...                             ['nsubj', 'root', 'obj'],
        ...                             Vocabulary(['nsubj', 'root', 'obj']))
        >>> pairs = WordPairs().fit([['Ann', 'and', 'Bob'], ['so', 'long']])
        >>> store = pairs(Post.build(text))['word', 'pairs', 'word']
        >>> store.edge_index
        tensor([[0, 0, 0, 1, 1, 2],
                [0, 1, 2, 1, 2, 2]])
        >>> store.distance_id
        tensor([0, 1, 2, 0, 1, 0])
        >>> store.pmi_id
        tensor([0, 0, 1, 0, 0, 0])
    """
    #: Number of different :obj:`pmi_id`.
    num_pmi = 11

    def __init__(
        self,
        max_distance: int = 10,
        window: int = 7,
        lower_case: bool = True,
        leave_one_out: bool = True,
    ) -> None:
        check_at_least(1, max_distance=max_distance, window=window)
        self.leave_one_out = leave_one_out
        self.max_distance = max_distance
        self.window = window
        self.lower_case = lower_case
        self._word_ids: dict[str, int] | None = None

    @property
    def num_distances(self) -> int:
        r"""Number of different :obj:`distance_id`."""
        return self.max_distance + 2

    def fit(self, texts: Iterable[Sequence[str]]) -> 'WordPairs':
        r"""Counts which words stand together; what was counted before is
        forgotten.

        Args:
            texts (iterable): The words of each text, once a text.
        """
        word_ids: dict[str, int] = {}
        rows = [[word_ids.setdefault(self._key(word), len(word_ids))
                 for word in words] for words in texts]
        # One more word than there are: the one that was never seen.
        self._num_words = len(word_ids) + 1
        self._texts = {tuple(row) for row in rows}
        self._counts = self._count(
            np.concatenate([np.array(row, int) for row in rows])
            if rows else np.empty(0, int),
            np.repeat(np.arange(len(rows)), [len(row) for row in rows]))
        self._word_ids = word_ids
        return self

    def _count(self, ids: np.ndarray, text: np.ndarray | None = None
               ) -> '_Counts':
        r"""How often words stand together in the same text."""
        parts = [np.empty((2, 0), int)]
        for step in range(1, min(self.window, ids.size - 1) + 1):
            pair = np.stack([ids[:-step], ids[step:]])
            parts.append(pair if text is None else
                         pair[:, text[:-step] == text[step:]])
        a, b = np.concatenate(parts, axis=1)
        code, count = np.unique(_code(a, b, self._num_words),
                                return_counts=True)
        # A word beside itself is so in both roles.
        twice = code % self._num_words == code // self._num_words
        return _Counts(
            np.append(code, np.iinfo(int).max), np.append(
                count * np.where(twice, 2, 1), 0),
            np.bincount(np.concatenate([a, b]), minlength=self._num_words))

    def forward(self, data: Post) -> Post:
        if self._word_ids is None:
            raise InputError(
                "'WordPairs' has counted no texts yet: call "
                "'fit(dataset.texts())' with those of the training split, or "
                "give it to 'PostDataModule' as 'pairs'")
        n = len(data.words)
        index = pair_index(torch.tensor([0, n]))
        i, j = index.numpy()
        unseen = self._num_words - 1
        ids = np.array([self._word_ids.get(self._key(word), unseen)
                        for word in data.words], int)
        code = _code(ids[i], ids[j], self._num_words)
        count, degree = self._counts.of(code), self._counts.degree
        if self.leave_one_out and tuple(ids.tolist()) in self._texts:
            own = self._count(ids)
            count, degree = count - own.of(code), degree - own.degree
        pmi = _bins(count, degree[ids][i], degree[ids][j], degree.sum())
        store = data['word', 'pairs', 'word']
        store.edge_index = index
        store.distance_id = torch.from_numpy(self._distances(data, n)[i, j])
        store.pmi_id = torch.from_numpy(pmi)
        return data

    def _distances(self, data: Post, n: int) -> np.ndarray:
        governor, word = data['word', 'governs', 'word'].edge_index.numpy()
        if n == 0:
            return np.empty((0, 0), int)
        tree = csr_array((np.ones(word.size), (governor, word)), shape=(n, n))
        hops = shortest_path(tree, directed=False, unweighted=True)
        far = self.max_distance
        return np.where(np.isinf(hops), far + 1,
                        np.minimum(hops, far)).astype(int)

    def _key(self, word: str) -> str:
        return word.lower() if self.lower_case else word

    def __repr__(self) -> str:
        more = ''
        if self._word_ids is not None:
            digest = hashlib.sha256(repr(list(self._word_ids)).encode())
            digest.update(self._counts.code.tobytes())
            digest.update(self._counts.times.tobytes())
            more = f', digest={digest.hexdigest()[:16]}'
        return (f'{type(self).__name__}(max_distance={self.max_distance}, '
                f'window={self.window}, lower_case={self.lower_case}, '
                f'leave_one_out={self.leave_one_out}{more})')


def _code(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    r"""A number for each unordered pair."""
    return np.minimum(a, b) * size + np.maximum(a, b)


def _bins(
    count: np.ndarray,
    degree_a: np.ndarray,
    degree_b: np.ndarray,
    total: int,
) -> np.ndarray:
    r"""The ids of pairs of words, from their counts and each word's."""
    together = count > 0
    pmi = np.zeros(count.shape)
    pmi[together] = np.log2(count[together] * float(total) / (
        degree_a[together] * degree_b[together]))
    return np.minimum(np.ceil(np.maximum(np.round(pmi), 0) / 2),
                      WordPairs.num_pmi - 1).astype(int)


class _Counts(NamedTuple):
    r"""Sorted codes of pairs of words, the last one no pair's; how often each
    stands together; and in how many such pairs a word is.
    """
    code: np.ndarray
    times: np.ndarray
    degree: np.ndarray

    def of(self, code: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self.code, code)
        return np.where(self.code[place] == code, self.times[place], 0)
