from itertools import islice

import pytest

from mmgraph.errors import InputError
from mmgraph.parse import NeighbourRecord, read_neighbour_lists

RECORD = ('Ann met Bob', 'B-PER O B-PER', 'a.jpg', '0.75 0.5 0.5',
          'b.jpg c.jpg d.jpg', '1.0 0.0', 'c.jpg b.jpg')


def write(path, *records, end='\n'):
    path.write_bytes(('\n'.join('\n'.join(record) for record in records)
                      + end).encode())
    return path


def but(**lines):
    """The record with some of its lines changed."""
    return tuple(lines.get(f'l{i}', line) for i, line in enumerate(RECORD, 1))


def test_records(tmp_path):
    path = write(tmp_path / 'a.txt', RECORD,
                 but(l3='17_06_1.jpg', l4='', l5='', l6='0.0', l7='x.y.png'))
    first, second = read_neighbour_lists(path, 'val')
    assert first == NeighbourRecord('a', ['b', 'c', 'd'], [.75, .5, .5],
                                    ['c', 'b'], [1., 0.], 'val')
    assert second == ('17_06_1', [], [], ['x.y'], [0.], 'val')


def test_tolerated(tmp_path):
    # A byte-order mark, line ends of Windows, no last line end, line
    # separators inside a word.
    text = '\r\n'.join(but(l1='a\u2028b met \x85'))
    path = tmp_path / 'a.txt'
    path.write_bytes(b'\xef\xbb\xbf' + text.encode())
    record, = read_neighbour_lists(path)
    assert record.post_id == 'a' and record.split == 'train'
    path.write_text('')
    assert list(read_neighbour_lists(path)) == []


def test_streamed(tmp_path):
    # What is not asked for is not read: the second record is broken.
    path = write(tmp_path / 'a.txt', RECORD, but(l4='x'))
    first, = islice(read_neighbour_lists(path), 1)
    assert first.post_id == 'a'


@pytest.mark.parametrize('lines, line, message', [
    (dict(l2='O O'), 2, r'as many tags as words .*\(got 2 for 3\)'),
    (dict(l2='O  O O'), 2, r'\(got 4 for 3\)'),
    (dict(l3='b.jpg c.jpg'), 3, r'must name one image \(got 2\)'),
    (dict(l3=''), 3, r'must name one image \(got 0\)'),
    (dict(l4='0.75 0.5'), 5, r'as many images as scores .*\(got 3 for 2\)'),
    (dict(l5='b.jpg c.jpg'), 5, r'\(got 2 for 3\)'),
    (dict(l6='1.0'), 7, r'\(got 2 for 1\)'),
    (dict(l4='0.5 0.75 0.5'), 4, r'must not rise.*\(got 0\.75 after 0\.5\)'),
    (dict(l6='0.0 1.0'), 6, r'must not rise'),
    (dict(l4='0.75 nan 0.5'), 4, r'must be finite \(got nan\)'),
    (dict(l4='inf 0.5 0.5'), 4, r'must be finite \(got inf\)'),
    (dict(l6='one 0.0'), 6, r"must be numbers .*'one'"),
    (dict(l6='1.0  0.0'), 6, 'must be numbers'),
    (dict(l7='c.jpg  b.jpg'), 7, 'parted by single blanks'),
    (dict(l5='b.jpg a.jpg d.jpg'), 5, "the post's own image a must not"),
    (dict(l7='b.jpg b.jpg'), 7, 'image b is listed twice'),
])
def test_broken(tmp_path, lines, line, message):
    path = write(tmp_path / 'a.txt', but(l3='z.jpg'), but(**lines))
    with pytest.raises(InputError, match=message) as caught:
        list(read_neighbour_lists(path))
    assert str(caught.value).startswith(f'{path}:{7 + line}: ')
    assert '\n' not in str(caught.value)


def test_cut(tmp_path):
    path = write(tmp_path / 'a.txt', RECORD, RECORD[:3])
    with pytest.raises(InputError, match='ends after 3 of the 7 lines') as e:
        list(read_neighbour_lists(path))
    assert str(e.value).startswith(f'{path}:10: ')


def test_twice(tmp_path):
    path = write(tmp_path / 'a.txt', RECORD, but(l3='b.jpg', l5='c d e',
                                                 l7='c d'), RECORD)
    with pytest.raises(InputError, match='post a has its second record here; '
                                         'the first is in line 1') as caught:
        list(read_neighbour_lists(path))
    assert caught.value.line == 15


def test_unreadable(tmp_path):
    with pytest.raises(InputError, match='cannot read the file'):
        list(read_neighbour_lists(tmp_path / 'none.txt'))
    path = tmp_path / 'a.txt'
    path.write_bytes(b'\xff')
    with pytest.raises(InputError, match='not UTF-8 text'):
        list(read_neighbour_lists(path))


@pytest.mark.real_data
@pytest.mark.parametrize('year, split, records', [
    ('2015', 'train', 3999), ('2015', 'valid', 999), ('2015', 'test', 3256),
    ('2017', 'train', 3373), ('2017', 'valid', 723), ('2017', 'test', 723)])
def test_real(data_root, year, split, records):
    found = list(read_neighbour_lists(
        data_root / f'twitter{year}' / f'{split}_2.txt'))
    assert len(found) == records
    for record in found:
        assert (len(record.inter_ids) == len(record.inter_scores)
                == len(record.intra_ids) == len(record.intra_scores) == 10)
        assert not any(name.endswith('.jpg') for name in record.inter_ids)
        assert .4 < record.inter_scores[4] <= record.inter_scores[0] < .85
