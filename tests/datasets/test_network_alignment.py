import json
import shutil

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from mmgraph.cli import main
from mmgraph.data import GraphPair
from mmgraph.datasets import NetworkAlignment, network_alignment
from mmgraph.datasets.manifest import FileEntry, Manifest
from mmgraph.datasets.network_alignment import (
    ALIGNMENT_MANIFEST,
    check_networks,
)
from mmgraph.errors import DataIntegrityError, InputError
from mmgraph.transforms import DropEdges, PermutedCopy
from tests.transforms.pairs import edge_set

RING = np.array([[0, 1, 2, 0], [1, 2, 3, 3]], dtype=np.int32)


@pytest.fixture
def root(tmp_path):
    """One file of each kind, in the real formats."""
    folder = tmp_path / 'alignment'
    folder.mkdir()
    np.savez(folder / 'pair.npz', edge_index1=RING,
             edge_index2=RING[:, :2], num_nodes=[4, 3],
             gt=np.array([[3, 0], [1, 2]], dtype=np.int32),
             x1_shape=[4, 5], x1_rc=[[0, 3], [4, 1]], x1_val=[.5, 2.],
             x2_shape=[3, 5], x2_rc=[[2], [0]])
    np.savez(folder / 'plain.npz', edge_index1=RING, edge_index2=RING,
             num_nodes=[4, 5], gt=np.zeros((0, 2), dtype=np.int32))
    np.savez(folder / 'kept.npz', num_nodes=[4], edge_index_100=RING,
             edge_index_90=RING[:, :3], edge_index_80=RING[:, :2])
    np.savez(folder / 'added.npz', num_nodes=[4], edge_index_0=RING[:, :1],
             edge_index_5=RING[:, :2], edge_index_10=RING)
    np.savez(folder / 'base.npz', num_nodes=[4], edge_index=RING)
    np.savez(folder / 'graphs.npz', **{
        'a-b__num_nodes': [4], 'a-b__edge_index': RING,
        'c__num_nodes': [6], 'c__edge_index': RING})
    np.savez(folder / 'other.npz', something=[1])
    regal = tmp_path / 'regal'
    regal.mkdir()
    (regal / 'arenas_combined_edges.txt').write_text(
        "0 1 {'weight': 1.0}\n1 2 {'weight': 1.0}\n4 3 {'weight': 1.0}\n"
        "5 3 {'weight': 0.0}\n")
    (regal / 'arenas_true_mapping.json').write_text('[2, 0, 1]')
    np.save(regal / 'arenas_attr1-2vals-prob0.050000.npy',
            np.arange(6).reshape(6, 1))
    return tmp_path


def test_names(root):
    assert NetworkAlignment.names(root) == [
        'a-b', 'added', 'arenas_shipped', 'base', 'c', 'kept', 'pair', 'plain']


def test_pair(root):
    dataset = NetworkAlignment(str(root), 'pair')
    assert len(dataset) == 1
    pair, = dataset
    assert isinstance(pair, GraphPair) and pair.validate()
    assert (pair.num_nodes_s, pair.num_nodes_t) == (4, 3)
    assert pair.edge_index_s.dtype == torch.long
    assert pair.edge_index_s.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3],
                                          [1, 3, 0, 2, 1, 3, 0, 2]]
    assert pair.edge_index_t.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert pair.match_index.tolist() == [[3, 1], [0, 2]]
    expected = torch.zeros(4, 5)
    expected[0, 4], expected[3, 1] = .5, 2
    assert torch.equal(pair.x_s, expected)
    assert pair.x_t.sum() == 1 and pair.x_t[2, 0] == 1
    assert repr(dataset) == "NetworkAlignment('pair')"
    plain = NetworkAlignment(root, 'plain')[0]
    assert 'x_s' not in plain and plain.match_index.shape == (2, 0)


def test_family(root):
    assert NetworkAlignment.levels(root, 'kept') == [90, 80]
    assert NetworkAlignment.levels(root, 'added') == [5, 10]
    pair = NetworkAlignment(root, 'kept', level=80)[0]
    assert len(edge_set(pair.edge_index_s)) == 4
    assert len(edge_set(pair.edge_index_t)) == 2
    assert torch.equal(pair.match_index, torch.arange(4).repeat(2, 1))
    pair = NetworkAlignment(root, 'added', 10)[0]
    assert len(edge_set(pair.edge_index_s)) == 1
    assert len(edge_set(pair.edge_index_t)) == 4
    assert repr(NetworkAlignment(root, 'added', 10)) == (
        "NetworkAlignment('added', level=10)")


@pytest.mark.parametrize('name, n', [('base', 4), ('a-b', 4), ('c', 6)])
def test_base_graphs(root, name, n):
    pair = NetworkAlignment(root, name)[0]
    assert pair.num_nodes_s == pair.num_nodes_t == n
    assert torch.equal(pair.edge_index_s, pair.edge_index_t)
    assert torch.equal(pair.match_index, torch.arange(n).repeat(2, 1))


def test_shipped(root):
    """A weight of zero is no edge."""
    pair = NetworkAlignment(root, 'arenas_shipped')[0]
    assert edge_set(pair.edge_index_s) == {(0, 1), (1, 2)}
    assert edge_set(pair.edge_index_t) == {(0, 1)}
    assert pair.match_index.tolist() == [[0, 1, 2], [2, 0, 1]]
    assert 'x_s' not in pair
    noisy = NetworkAlignment(root, 'arenas_shipped', attribute_noise=.05)
    assert noisy[0].x_s.tolist() == [[0], [1], [2]]
    assert noisy[0].x_t.tolist() == [[3], [4], [5]]
    assert repr(noisy) == ("NetworkAlignment('arenas_shipped', "
                           'attribute_noise=0.05)')


def test_transform_and_loader(root):
    dataset = NetworkAlignment(root, 'base', transform=PermutedCopy(seed=1))
    one, again = dataset[0], dataset[0]
    assert torch.equal(one.match_index, again.match_index)
    assert not torch.equal(one.match_index, torch.arange(4).repeat(2, 1))
    # What is done to a pair does not reach the data set.
    plain = NetworkAlignment(root, 'base')
    plain[0].match_index = None
    assert plain[0].match_index is not None
    batch, = DataLoader(dataset, batch_size=4)
    assert batch.source.num_graphs == 1
    assert len(list(dataset)) == 1


def test_read_only(root):
    def state():
        return {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    before = state()
    for name in NetworkAlignment.names(root):
        level = {'kept': 90, 'added': 5}.get(name)
        assert NetworkAlignment(root, name, level)[0].validate()
    assert state() == before


def test_wrong_arguments(root):
    with pytest.raises(InputError, match=r"no pair 'plane' here; choose from "
                       r"'a-b', .*Did you mean 'plain'\?"):
        NetworkAlignment(root, 'plane')
    with pytest.raises(InputError, match="'level' must be a level of 'kept' "
                       r'\(got None\); choose from 90, 80'):
        NetworkAlignment(root, 'kept')
    with pytest.raises(InputError, match=r'\(got 5\)'):
        NetworkAlignment(root, 'kept', 5)
    with pytest.raises(ValueError, match=r"\(got 90 for 'base'\)"):
        NetworkAlignment(root, 'base', 90)
    with pytest.raises(ValueError, match="'attribute_noise' goes with"):
        NetworkAlignment(root, 'base', attribute_noise=.05)
    with pytest.raises(ValueError, match=r"one of the files' \(0.05; no "):
        NetworkAlignment(root, 'arenas_shipped', attribute_noise=.1)
    with pytest.raises(InputError, match='it has no levels'):
        NetworkAlignment.levels(root, 'base')


def test_missing_folders(root, tmp_path):
    with pytest.raises(InputError, match='no such folder'):
        NetworkAlignment(root / 'none', 'pair')
    with pytest.raises(InputError, match="'root' is the folder that holds"):
        NetworkAlignment(root / 'alignment', 'pair')
    (root / 'regal' / 'arenas_true_mapping.json').unlink()
    with pytest.raises(InputError, match='cannot read the file'):
        NetworkAlignment(root, 'arenas_shipped')


PAIR = dict(edge_index1=RING, edge_index2=RING, num_nodes=[4, 4],
            gt=np.zeros((1, 2), dtype=np.int32))


@pytest.mark.parametrize('change, message', [
    (dict(edge_index2=None), "no array 'edge_index2'"),
    (dict(gt=None), "no array 'gt'"),
    (dict(num_nodes=[4]), 'damaged: '),
    (dict(num_nodes=[4, 3]), r"'edge_index2' must be in \[0, 3\) \(got 0 to"),
    (dict(edge_index1=RING[0]), r"'edge_index1' must have shape \[2, m\]"),
    (dict(gt=np.array([[0, 9]])), "'match_index' row 1 must be in"),
    (dict(gt=np.array([1, 2, 3])), 'damaged: '),
    (dict(gt=np.array([['a', 'b']])), 'damaged: '),
    (dict(x1_rc=[[0], [9]], x1_shape=[4, 5]), 'damaged: '),
    (dict(x1_rc=[[0], [0]], x1_shape=[3, 5]), "'x1' must have one row a node"),
    (dict(x1_rc=[[0], [0]]), "no array 'x1_shape'"),
    (dict(x1_shape=[4, 5]), "no array 'x1_rc'"),
    (dict(x1_rc=[[0], [0]], x1_shape=[4, 5], x1_val=[np.nan],
          x2_rc=[[0], [0]], x2_shape=[4, 5]), "'x_s' must be finite"),
    (dict(edge_index2=np.array([None])), 'damaged: '),
])
def test_damaged_pair(root, change, message):
    path = root / 'alignment' / 'bad.npz'
    arrays = {key: value for key, value in {**PAIR, **change}.items()
              if value is not None}
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as caught:
        NetworkAlignment(root, 'bad')
    assert str(caught.value).startswith(f'{path}: ')
    assert '\n' not in str(caught.value)


def test_damaged_bytes(root):
    """Whatever byte is damaged: one line that names the file, or the same
    graphs."""
    path = root / 'alignment' / 'pair.npz'
    data = path.read_bytes()
    good = NetworkAlignment(root, 'pair')[0].to_dict()
    faults = 0
    for place in range(0, len(data), 37):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x5a])
                         + data[place + 1:])
        try:
            found = NetworkAlignment(root, 'pair')[0].to_dict()
        except InputError as error:
            assert str(path) in str(error) or str(root) in str(error)
            faults += 1
            continue
        for key in 'edge_index_s', 'edge_index_t', 'match_index', 'x_s':
            assert torch.equal(found[key], good[key])
    assert faults > 10
    for size in 0, 10, len(data) // 2, len(data) - 5:
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match='pair.npz: damaged'):
            NetworkAlignment(root, 'pair')
        # The others can still be had.
        assert NetworkAlignment(root, 'base')[0].validate()


@pytest.mark.parametrize('name, text, message', [
    ('arenas_true_mapping.json', '[0, 0, 1]', 'not a permutation'),
    ('arenas_true_mapping.json', '[0, "a"]', 'damaged'),
    ('arenas_true_mapping.json', '[0, 1', 'damaged'),
    ('arenas_true_mapping.json', '[0.0, 1.0, 2.0]', 'not a permutation'),
    ('arenas_combined_edges.txt', '0 4\n', 'an edge joins the two graphs'),
    ('arenas_combined_edges.txt', '0 9\n', 'node out of range'),
    ('arenas_combined_edges.txt', '0 a\n', 'damaged: invalid literal'),
    ('arenas_combined_edges.txt', '0 1 x\n', ':1: a weight must be'),
])
def test_damaged_shipped(root, name, text, message):
    path = root / 'regal' / name
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        NetworkAlignment(root, 'arenas_shipped')
    assert str(caught.value).startswith(str(path))


def test_damaged_attributes(root):
    path = root / 'regal' / 'arenas_attr1-2vals-prob0.050000.npy'
    np.save(path, np.zeros((6, 1)))
    with pytest.raises(InputError, match='must hold whole numbers'):
        NetworkAlignment(root, 'arenas_shipped', attribute_noise=.05)
    path.write_bytes(b'nothing')
    with pytest.raises(InputError, match='damaged'):
        NetworkAlignment(root, 'arenas_shipped', attribute_noise=.05)


def test_verify(root, monkeypatch):
    with pytest.raises(DataIntegrityError, match='pair.npz: is not a publ'):
        NetworkAlignment(root, 'pair', verify=True)
    data = (root / 'alignment' / 'pair.npz').read_bytes()
    monkeypatch.setattr(network_alignment, 'ALIGNMENT_MANIFEST', Manifest(
        {'pair.npz': FileEntry.of(data),
         'base.npz': FileEntry.of(data)}))
    assert NetworkAlignment(root, 'pair', verify=True)[0].validate()
    with pytest.raises(DataIntegrityError, match='its SHA-256 differs'):
        NetworkAlignment(root, 'base', verify=True)


def test_manifest():
    assert len(ALIGNMENT_MANIFEST) == 17
    assert all(entry.licence and entry.source and len(entry.sha256) == 64
               for entry in ALIGNMENT_MANIFEST.values())


def test_check(root, capsys):
    (root / 'alignment' / 'other.npz').unlink()
    text, status = check_networks(root)
    assert status == 0 and text.endswith('\nok')
    row = next(line for line in text.split('\n') if line.startswith('pair'))
    assert row.split() == ('pair.npz unlisted 4 nodes, 4 edges | 3 nodes, 2 '
                           'edges, 2 matches').split()
    assert 'levels 90 80' in text and '2 graphs' in text
    for folder in root, root / 'alignment':
        assert main(['data', 'check', str(folder)]) == 0
        assert main(['data', 'stats', str(folder)]) == 0
    (root / 'alignment' / 'pair.npz').write_bytes(b'x')
    assert main(['data', 'check', str(root)]) == 1
    assert 'damaged: not an .npz archive' in capsys.readouterr().out
    shutil.rmtree(root / 'regal')
    for path in (root / 'alignment').iterdir():
        path.unlink()
    assert main(['data', 'check', str(root)]) == 2


@pytest.mark.real_data
def test_real_files(data_root):
    text, status = check_networks(data_root)
    assert status == 0
    assert 'differs' not in text and 'missing' not in text
    for name in NetworkAlignment.names(data_root):
        try:
            level = NetworkAlignment.levels(data_root, name)[-1]
        except InputError:
            level = None
        pair = NetworkAlignment(data_root, name, level, verify=True)[0]
        gold = pair.match_index
        assert all(gold[row].unique().numel() == gold.size(1)
                   for row in (0, 1))


@pytest.mark.real_data
def test_real_sizes(data_root):
    def load(*args, **kwargs):
        return NetworkAlignment(data_root, *args, **kwargs)[0]

    cora = load('cora')
    assert cora.x_s.shape == cora.x_t.shape == (2708, 1433)
    dblp = load('acm_dblp')
    assert (dblp.num_nodes_s, dblp.num_nodes_t) == (9872, 9916)
    assert dblp.match_index.size(1) == 6325 and dblp.x_s.size(1) == 17
    # The noise of the shipped pair, and of the one read without weights.
    for name, edges in ('arenas_shipped', 5400), ('arenas_regal990', 5451):
        pair = load(name)
        place = torch.empty(1135, dtype=torch.long)
        place[pair.match_index[0]] = pair.match_index[1]
        source, target = map(edge_set, (place[pair.edge_index_s],
                                        pair.edge_index_t))
        assert len(source) == 5451 and len(target) == edges
        assert target <= source
    for noise, share in (0.0, 1.0), (0.05, .9595):
        pair = load('arenas_shipped', attribute_noise=noise)
        i, j = pair.match_index
        assert float((pair.x_s[i] == pair.x_t[j]).float().mean()
                     ) == pytest.approx(share, abs=1e-4)
    mapping = json.loads(
        (data_root / 'regal' / 'arenas_true_mapping.json').read_text())
    assert load('arenas_shipped').match_index[1].tolist() == mapping


@pytest.mark.real_data
def test_real_noise(data_root):
    """5 % of the edges of a real network, no node alone."""
    dataset = NetworkAlignment(data_root, 'arenas_base',
                               transform=DropEdges(.05))
    pair = dataset[0]
    dropped = 1 - pair.edge_index_t.size(1) / pair.edge_index_s.size(1)
    assert .035 < dropped < .06
    assert pair.edge_index_t.unique().numel() == 1133
