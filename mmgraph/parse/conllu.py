"""Dependency trees in the CoNLL-U format."""
from collections.abc import Iterable, Iterator

import torch

from mmgraph.data import TextGraph, Vocabulary
from mmgraph.errors import InputError
from mmgraph.parse.labels import fold_label
from mmgraph.typing import PathLike
from mmgraph.utils import atomic_path

__all__ = ['read_conllu', 'write_conllu']

_COLUMNS = ('ID', 'FORM', 'LEMMA', 'UPOS', 'XPOS', 'FEATS', 'HEAD', 'DEPREL',
            'DEPS', 'MISC')


class _Sentence:
    r"""The rows of one sentence as they are read."""
    def __init__(self, path: PathLike) -> None:
        self.path = path
        self.name: str | None = None
        self.words: list[str] = []
        self.heads: list[int] = []
        self.labels: list[str] = []
        self.tags: list[str] = []
        self.lines: list[int] = []

    def add(self, text: str, line: int) -> None:
        columns = text.split('\t')
        if len(columns) != len(_COLUMNS):
            raise InputError(
                f'a CoNLL-U row must have {len(_COLUMNS)} columns parted by '
                f'tabs (got {len(columns)})', self.path, line)
        index, form, _, upos, _, _, head, label, _, _ = columns
        if '-' in index or '.' in index:
            self._check_extra(index, line)
            return
        if index != str(len(self.words) + 1):
            raise InputError(
                f'column ID must count the words 1, 2, 3, … '
                f'(got {index!r} after word {len(self.words)})',
                self.path, line)
        if not form:
            raise InputError('column FORM must not be empty', self.path, line)
        if head != '_' and not (head.isascii() and head.isdigit()):
            raise InputError(
                f"column HEAD must be a word's ID, 0 for a root, or '_' "
                f'(got {head!r})', self.path, line)
        self.words.append(form)
        self.heads.append(-1 if head == '_' else int(head) - 1)
        self.labels.append(label)
        self.tags.append(upos)
        self.lines.append(line)

    def _check_extra(self, index: str, line: int) -> None:
        # Multiword tokens (1-2) repeat words that follow; empty nodes (8.1)
        # belong to the enhanced graph. Neither is a word of the tree.
        first, last = index.replace('.', '-').partition('-')[::2]
        if not (first.isdigit() and last.isdigit()):
            raise InputError(
                f'column ID must be 4, 4-5 or 4.1 (got {index!r})',
                self.path, line)

    def graph(
        self,
        vocabulary: Vocabulary,
        pos_vocabulary: Vocabulary | None,
    ) -> TextGraph:
        for i, head in enumerate(self.heads):
            if head >= len(self.words) or head == i:
                rule = ('a word cannot govern itself' if head == i else
                        f'the sentence has {len(self.words)} words')
                raise InputError(f'column HEAD: {rule} (got {head + 1})',
                                 self.path, self.lines[i])
        more = {}
        if pos_vocabulary is not None:
            more['pos_id'] = torch.tensor(pos_vocabulary.to_ids(self.tags),
                                          dtype=torch.long)
        labels = [fold_label(label, vocabulary) for label in self.labels]
        try:
            return TextGraph.from_heads(self.words, self.heads, labels,
                                        vocabulary, **more)
        except KeyError as error:
            raise InputError(f'column DEPREL: {error.args[0]}', self.path,
                             self.lines[0]) from error


def read_conllu(
    path: PathLike,
    vocabulary: Vocabulary,
    pos_vocabulary: Vocabulary | None = None,
) -> Iterator[tuple[str, TextGraph]]:
    r"""Reads a `CoNLL-U <https://universaldependencies.org/format.html>`_
    file, one sentence at a time.

    Multiword tokens and empty nodes are left out: the words of the basic tree
    remain. A label's subtype is dropped where the vocabulary has only the
    label (:obj:`obj:caus` → :obj:`obj`). A sentence may have several roots.

    Args:
        path (str): The file.
        vocabulary (Vocabulary): The labels, *e.g.*
            :obj:`mmgraph.parse.UD`.
        pos_vocabulary (Vocabulary, optional): If given, column UPOS becomes
            :obj:`pos_id`. (default: :obj:`None`)

    Yields:
        The sentence's :obj:`sent_id` (:obj:`''` if it has none) and its graph.

    Raises:
        InputError: With the file and the line, if a row is not CoNLL-U.
    """
    try:
        # Only '\n' ends a line: a word may hold U+2028 or a bare '\r'.
        with open(path, encoding='utf-8-sig', newline='\n') as file:
            sentence, line = _Sentence(path), 0
            for line, text in enumerate(file, 1):
                text = text.removesuffix('\n').removesuffix('\r')
                if not text:
                    if sentence.words or sentence.name is not None:
                        yield (sentence.name or '',
                               sentence.graph(vocabulary, pos_vocabulary))
                    sentence = _Sentence(path)
                elif text.startswith('#'):
                    key, _, value = text[1:].partition('=')
                    if key.strip() == 'sent_id':
                        sentence.name = value.strip()
                else:
                    sentence.add(text, line)
            if sentence.words or sentence.name is not None:
                yield (sentence.name or '',
                       sentence.graph(vocabulary, pos_vocabulary))
    except OSError as error:
        raise InputError(f'cannot read the file ({error.strerror})',
                         path) from error
    except UnicodeDecodeError as error:
        raise InputError(f'not UTF-8 text ({error})', path) from error


def write_conllu(
    path: PathLike,
    sentences: Iterable[tuple[str, TextGraph]],
    vocabulary: Vocabulary,
    pos_vocabulary: Vocabulary | None = None,
) -> None:
    r"""Writes what :func:`read_conllu` reads. The file appears only when it is
    whole.

    Args:
        path (str): The file.
        sentences (iterable of tuples): Name and graph of each sentence.
        vocabulary (Vocabulary): The labels of :obj:`edge_type`.
        pos_vocabulary (Vocabulary, optional): The tags of :obj:`pos_id`.
            (default: :obj:`None`)

    Raises:
        ValueError: If a word is empty or holds a tab or a line end, or a name
            has white space around it.
    """
    with atomic_path(path) as part, \
            open(part, 'w', encoding='utf-8', newline='\n') as file:
        for name, graph in sentences:
            _check_text(name, graph)
            if name or not graph.words:
                file.write(f'# sent_id = {name}\n')
            labels = ['root'] * len(graph.words)
            for word, label in zip(graph.edge_index[1].tolist(),
                                   graph.edge_type.tolist(), strict=True):
                labels[word] = vocabulary.to_label(label)
            tags = ['_'] * len(graph.words)
            if pos_vocabulary is not None and 'pos_id' in graph:
                tags = [pos_vocabulary.to_label(i)
                        for i in graph.pos_id.tolist()]
            for i, (word, tag, head, label) in enumerate(
                    zip(graph.words, tags, graph.head.tolist(), labels,
                        strict=True), 1):
                file.write(f'{i}\t{word}\t_\t{tag}\t_\t_\t{head + 1}\t{label}'
                           f'\t_\t_\n')
            file.write('\n')


def _check_text(name: str, graph: TextGraph) -> None:
    if name != name.strip() or '\n' in name:
        raise ValueError(f'a sentence name must have no white space around it '
                         f'and no line end (got {name!r})')
    for i, word in enumerate(graph.words):
        if not word or '\t' in word or '\n' in word:
            raise ValueError(f'sentence {name!r}: a word must not be empty '
                             f'nor hold a tab or a line end '
                             f'(got {word!r} at word {i})')
