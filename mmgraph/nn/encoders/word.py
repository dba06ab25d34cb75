"""Word vectors, trained from scratch or read from a file."""
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_geometric.data.batch import Batch

from mmgraph.data import Post, Vocabulary
from mmgraph.errors import InputError
from mmgraph.nn.configurable import Configurable
from mmgraph.typing import PathLike

__all__ = ['WordEmbedding', 'load_word_vectors', 'words_of']


def words_of(batch: Post) -> list[str]:
    r"""All words of a post or of a batch of posts, one after the other."""
    if isinstance(batch, Batch):
        return [word for words in batch.words for word in words]
    return list(batch.words)


def load_word_vectors(
    path: PathLike,
    words: Vocabulary,
    dim: int,
) -> tuple[Tensor, Tensor]:
    r"""Reads word vectors in the text format of GloVe and word2vec (an
    optional first line :obj:`count dim`, then :obj:`word v1 v2 …`).

    A word is looked up as it is, then in lower case, then in lower case with
    digits zeroed (Lample et al., 2016).

    Args:
        path (str): The file.
        words (Vocabulary): The words to look up.
        dim (int): Size of the vectors.

    Returns:
        Vectors :obj:`[len(words), dim]` and a mask :obj:`[len(words)]` of the
        words found.

    Raises:
        InputError: If the file cannot be read, or a line has another size or
            holds what is not a number.
    """
    def forms(word: str) -> list[str]:
        lower = word.lower()
        zeroed = ''.join('0' if c.isdigit() else c for c in lower)
        return [word, lower, zeroed]

    wanted = {form for word in words for form in forms(word)}
    found: dict[str, Tensor] = {}
    try:
        with Path(path).open(encoding='utf-8') as file:
            for number, line in enumerate(file, 1):
                parts = line.rstrip().split(' ')
                # Words may hold blanks in rare lines; the first tells the
                # size, and a count of words is no vector.
                if number == 1 and parts[0].isdigit() \
                        and parts[1:] == [str(dim)]:
                    continue
                if len(parts) <= dim or number == 1 and len(parts) != dim + 1:
                    raise InputError(f'a word vector must have {dim} values '
                                     f'(got {len(parts) - 1})', path, number)
                word = ' '.join(parts[:-dim])
                if word in wanted and word not in found:
                    try:
                        values = [float(value) for value in parts[-dim:]]
                    except ValueError as error:
                        raise InputError(f'not a number ({error})', path,
                                         number) from error
                    if not all(map(math.isfinite, values)):
                        raise InputError('a word vector must be finite',
                                         path, number)
                    found[word] = torch.tensor(values)
    except OSError as error:
        raise InputError(f'cannot read word vectors ({error.strerror})',
                         path) from error
    except UnicodeDecodeError as error:
        raise InputError(f'not a UTF-8 text file ({error.reason})',
                         path) from error
    vectors, mask = torch.zeros(len(words), dim), torch.zeros(len(words)).bool()
    for i, word in enumerate(words):
        for form in forms(word):
            if form in found:
                vectors[i], mask[i] = found[form], True
                break
    return vectors, mask


class WordEmbedding(Configurable, nn.Module):
    r"""A vector a word, looked up as it is and else in lower case.

    Args:
        words (Vocabulary): The words; must have an unknown label.
        dim (int): Size of the vectors.
        vectors (str, optional): A file of pretrained vectors, see
            :func:`load_word_vectors`; other words start at random.
            (default: :obj:`None`)
        unknown_rate (float, optional): While training, the share of words
            that are replaced by the unknown word, so that it learns a
            meaning. (default: :obj:`0.0`)

    Shapes:
        - **input:** a list of :math:`n` words
        - **output:** :math:`(n, \text{dim})`

    Raises:
        ValueError: If :obj:`words` has no unknown label.
    """
    #: The weights hold what the file of vectors gave.
    not_in_config = ('vectors', )

    def __init__(
        self,
        words: Vocabulary,
        dim: int,
        vectors: str | None = None,
        unknown_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if words.unknown is None:
            raise ValueError("'words' must have an unknown label")
        self.words = words
        self.dim = dim
        self.unknown_rate = unknown_rate
        self.embedding = nn.Embedding(len(words), dim)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        if vectors is not None:
            values, mask = load_word_vectors(vectors, words, dim)
            with torch.no_grad():
                self.embedding.weight[mask] = values[mask]

    def _id(self, word: str) -> int:
        return self.words.to_id(word if word in self.words else word.lower())

    def forward(self, words: list[str]) -> Tensor:
        weight = self.embedding.weight
        ids = torch.tensor([self._id(word) for word in words], dtype=torch.long,
                           device=weight.device)
        if self.training and self.unknown_rate > 0:
            dropped = torch.rand(ids.shape, device=ids.device)
            unknown = self.words.to_id(self.words.unknown or '')
            ids = ids.masked_fill(dropped < self.unknown_rate, unknown)
        return self.embedding(ids)
