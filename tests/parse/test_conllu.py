import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmgraph.data import TextGraph, Vocabulary
from mmgraph.errors import InputError
from mmgraph.parse import CLEAR, UD, UPOS, read_conllu, write_conllu

GERMAN = (
    '\ufeff# newdoc\n'
    '# sent_id = a 1\n'
    '# text = Sie ging zum Markt\n'
    '1\tSie\tsie\tPRON\t_\t_\t2\tnsubj\t_\t_\n'
    '2\tging\tgehen\tVERB\t_\t_\t0\troot\t_\t_\n'
    '3-4\tzum\t_\t_\t_\t_\t_\t_\t_\t_\n'
    '3\tzu\tzu\tADP\t_\t_\t5\tcase\t_\t_\n'
    '4\tdem\tder\tDET\t_\t_\t5\tdet\t_\t_\n'
    '4.1\tgroßen\tgroß\tADJ\t_\t_\t_\t_\t5:amod\t_\n'
    '5\tMarkt\tMarkt\tNOUN\t_\t_\t2\tobl:xyz\t_\tSpaceAfter=No\n'
    '\n\n'
    '1\tJa\t_\t_\t_\t_\t_\t_\t_\t_'  # no line end, no name, no tree
)


def write(tmp_path, text):
    path = tmp_path / 'a.conllu'
    path.write_bytes(text.encode())
    return path


def test_read(tmp_path):
    found = list(read_conllu(write(tmp_path, GERMAN), UD, UPOS))
    assert [name for name, _ in found] == ['a 1', '']
    graph = found[0][1]
    assert graph.words == ['Sie', 'ging', 'zu', 'dem', 'Markt']
    assert graph.head.tolist() == [1, -1, 4, 4, 1]
    assert [UD.to_label(i) for i in graph.edge_type] == [
        'nsubj', 'case', 'det', 'obl']
    assert [UPOS.to_label(i) for i in graph.pos_id] == [
        'PRON', 'VERB', 'ADP', 'DET', 'NOUN']
    assert graph.validate()
    assert found[1][1].head.tolist() == [-1]
    assert found[1][1].pos_id.tolist() == [0]


def test_read_is_lazy(tmp_path):
    path = write(tmp_path, GERMAN + '\n\nbroken\n')
    reader = read_conllu(path, UD)
    assert next(reader)[0] == 'a 1'
    assert 'pos_id' not in next(reader)[1]
    with pytest.raises(InputError):
        next(reader)


def test_read_line_ends(tmp_path):
    # A carriage return ends no line, nor do the line separators of Unicode.
    text = '1\ta\u2028b\x85\t_\t_\t_\t_\t0\troot\t_\t_\r\n\r\n'
    (name, graph), = read_conllu(write(tmp_path, text), UD)
    assert graph.words == ['a\u2028b\x85']


ROW = '1\ta\t_\t_\t_\t_\t0\troot\t_\t_\n'


@pytest.mark.parametrize('text, line, message', [
    ('1\ta\t_\n', 1, r'must have 10 columns parted by tabs \(got 3\)'),
    (ROW.replace('1', '2', 1), 1, r"must count the words .* \(got '2' after"),
    (ROW + ROW, 2, r"\(got '1' after word 1\)"),
    (ROW.replace('1', '1-x', 1), 1, r"must be 4, 4-5 or 4\.1 \(got '1-x'\)"),
    (ROW.replace('\ta\t', '\t\t'), 1, 'FORM must not be empty'),
    (ROW.replace('0', '-1'), 1, r"HEAD must be .* \(got '-1'\)"),
    (ROW.replace('0', '²'), 1, r"HEAD must be .* \(got '²'\)"),
    ('# x\n' + ROW.replace('0', '1'), 2, 'cannot govern itself'),
    ('\n\n' + ROW.replace('0', '7'), 3, r'the sentence has 1 words \(got 7\)'),
])
def test_read_broken(tmp_path, text, line, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        list(read_conllu(path, UD))
    assert str(caught.value).startswith(f'{path}:{line}: ')


def test_read_label_without_unknown(tmp_path):
    text = ROW + '2\tb\t_\t_\t_\t_\t1\tobj\t_\t_\n'
    with pytest.raises(InputError, match="DEPREL: 'obj' is not a label"):
        list(read_conllu(write(tmp_path, text), Vocabulary(['nsubj'])))


def test_read_not_a_text(tmp_path):
    path = tmp_path / 'a.conllu'
    with pytest.raises(InputError, match='cannot read the file'):
        list(read_conllu(path, UD))
    path.write_bytes(b'# \xff\n')
    with pytest.raises(InputError, match='not UTF-8 text'):
        list(read_conllu(path, UD))


@pytest.mark.parametrize('word', ['', 'a\tb', 'a\nb'])
def test_write_refuses_words(tmp_path, word):
    path = tmp_path / 'a.conllu'
    graph = TextGraph.from_heads([word], [-1], ['root'], UD)
    with pytest.raises(ValueError, match=r"sentence 'x': a word must not"):
        write_conllu(path, [('x', graph)], UD)
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_write_refuses_names(tmp_path):
    with pytest.raises(ValueError, match='no white space around it'):
        write_conllu(tmp_path / 'a', [(' x', TextGraph.from_heads(
            ['a'], [-1], ['root'], UD))], UD)


@st.composite
def sentences(draw):
    alphabet = st.characters(blacklist_characters='\t\n',
                             blacklist_categories=['Cs'])
    words = draw(st.lists(st.text(alphabet, min_size=1), max_size=8))
    n = len(words)
    heads = [draw(st.sampled_from([j for j in range(-1, n) if j != i]))
             for i in range(n)]
    labels = draw(st.lists(st.sampled_from(CLEAR.labels), min_size=n,
                           max_size=n))
    tags = draw(st.lists(st.integers(0, len(UPOS) - 1), min_size=n,
                         max_size=n))
    name = draw(st.text(st.characters(blacklist_categories=['Cs', 'Cc']),
                        max_size=9)).strip()
    return name, TextGraph.from_heads(
        words, heads, labels, CLEAR,
        pos_id=torch.tensor(tags, dtype=torch.long))


@given(st.lists(sentences(), max_size=4))
def test_round_trip(tmp_path_factory, corpus):
    path = tmp_path_factory.mktemp('conllu') / 'a.conllu'
    write_conllu(path, corpus, CLEAR, UPOS)
    found = list(read_conllu(path, CLEAR, UPOS))
    assert [name for name, _ in found] == [name for name, _ in corpus]
    for (_, a), (_, b) in zip(found, corpus, strict=True):
        assert a.words == b.words
        for key in ('edge_index', 'edge_type', 'head', 'pos_id'):
            assert torch.equal(a[key], b[key])


@pytest.mark.real_data
def test_real_labels_are_known(data_root):
    paths = sorted(data_root.glob('*/*.conllu'))
    assert len(paths) >= 12
    for path in paths:
        for _, graph in read_conllu(path, CLEAR, UPOS):
            assert (graph.edge_type > 0).all() and (graph.pos_id > 0).all()


@pytest.mark.real_data
def test_real_round_trip(data_root, tmp_path):
    path = data_root / 'mnre' / 'v1_val.conllu'
    corpus = list(read_conllu(path, CLEAR, UPOS))
    assert len(corpus) == 499
    write_conllu(tmp_path / 'b', corpus, CLEAR, UPOS)

    def columns(file):
        return [[row.split('\t')[i] for i in (0, 1, 3, 6, 7)]
                for row in file.read_text(encoding='utf-8').split('\n')
                if row and not row.startswith('#')]

    assert columns(path) == columns(tmp_path / 'b')
