import pytest

from mmgraph.datasets import Manifest
from mmgraph.datasets.manifest import (
    MNRE_MANIFEST,
    TWITTER_MANIFEST,
    FileEntry,
)
from mmgraph.errors import InputError


def test_status():
    manifest = Manifest({'a.txt': FileEntry.of(b'abc', version='v1')})
    assert manifest.status('a.txt', b'abc') == 'published'
    assert manifest.status('a.txt', b'abd') == 'differs'
    assert manifest.status('b.txt', b'abc') == 'unlisted'


def test_round_trip(tmp_path):
    path = tmp_path / 'new' / 'MANIFEST.json'
    MNRE_MANIFEST.write(path, format=1)
    assert Manifest.read(path) == MNRE_MANIFEST


@pytest.mark.parametrize('text', ['', '{}', '[]', '{"files": {"a": {"b": 1}}}',
                                  '{"files": []}'])
def test_not_a_manifest(tmp_path, text):
    path = tmp_path / 'a.json'
    path.write_text(text)
    with pytest.raises(InputError, match='not a manifest') as caught:
        Manifest.read(path)
    assert str(caught.value).startswith(f'{path}: ')


def test_published():
    assert len(MNRE_MANIFEST) == 15
    assert sum(entry.num_bytes for name, entry in MNRE_MANIFEST.items()
               if name.endswith('.txt')) == 7878906
    assert {entry.version for entry in MNRE_MANIFEST.values()} == {'v1', 'v2'}
    assert all(entry.licence and entry.source
               for entry in MNRE_MANIFEST.values())


def test_published_tweets():
    assert len(TWITTER_MANIFEST) == 18
    # The texts and the neighbour lists, by the corpus's description.
    assert sum(entry.num_bytes for name, entry in TWITTER_MANIFEST.items()
               if name.endswith('.txt')) == 10770804
    assert {entry.version for entry in TWITTER_MANIFEST.values()} == {
        '2015', '2017'}
    assert all(name.startswith(f'twitter{entry.version}/')
               and entry.licence and entry.source
               for name, entry in TWITTER_MANIFEST.items())
