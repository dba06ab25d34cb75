import pytest

from mmgraph.parse import CLEAR, UD, UPOS


@pytest.mark.parametrize('vocabulary, scheme, size, some', [
    (CLEAR, 'CLEAR', 57, ['nsubj', 'dobj', 'pobj', 'npadvmod', 'root']),
    (UD, 'UD', 73, ['nsubj', 'obj', 'obl', 'nsubj:pass', 'root']),
    (UPOS, 'UPOS', 19, ['NOUN', 'PROPN', 'X']),
])
def test_labels(vocabulary, scheme, size, some):
    assert vocabulary.scheme == scheme
    assert len(vocabulary) == size
    assert vocabulary.to_id('unk') == vocabulary.to_id('no such label') == 0
    assert all(label in vocabulary for label in some)


def test_universal_labels():
    assert sum(':' not in label for label in UD) == 37 + 1
    assert sum(tag not in ('unk', 'SPACE') for tag in UPOS) == 17
    # A subtype is only listed beside its label.
    assert all(label.split(':')[0] in UD for label in UD)
