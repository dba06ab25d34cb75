import json

import pytest
import torch
from torch_geometric.data import Batch

from benchmarks import jmere_step as bench
from benchmarks.peers import eega_dense
from mmgraph.nn.align.functional import ipot, round_plan

CASE = bench.Case(3, 7, True, 4, 5, 24, 24, 2)


@pytest.fixture(scope='module')
def batch():
    """Posts of all sizes, one without objects and one of a single word."""
    posts = bench.make_posts(CASE).to_data_list()
    for seed, change in enumerate((dict(objects=0), dict(words=2),
                                   dict(objects=1, relations=0))):
        case = CASE._replace(posts=1, ragged=False, **change)
        posts += bench.make_posts(case, seed + 1).to_data_list()
    batch = Batch.from_data_list(posts)
    for kind in 'word', 'object':
        batch[kind].x = batch[kind].x.double()
    return batch


def sides(batch):
    return [bench.make_side(name, CASE, batch) for name in bench.NAMES]


def test_peer_gives_the_same(batch):
    ours, peer = sides(batch)
    bench.compare(ours, peer, batch, atol=1e-6)
    assert ours.model.training and peer.model.training
    assert ours.words.grad.abs().max() > 1e-4
    loss = ours.model(batch).loss
    assert loss > 1e-3  # The alignment takes part.


def test_every_parameter_is_compared(batch):
    """What all keys have in common is not seen by a softmax."""
    unseen = {'text_layers.0.lin_key.bias', 'text_layers.0.lin_edge_key.bias',
              'image_layers.0.lin_key.bias',
              'image_layers.0.lin_edge_key.bias'}
    generator = torch.Generator().manual_seed(0)
    ours, peer = sides(batch)
    for name, parameter in peer.model.named_parameters():
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter += torch.randn(parameter.shape, generator=generator)
        if name in unseen:
            bench.compare(ours, peer, batch, atol=1e-6)
        else:
            with pytest.raises(AssertionError):
                bench.compare(ours, peer, batch, atol=1e-6)
        with torch.no_grad():
            parameter.copy_(before)


@pytest.mark.parametrize('beta', [0.5, 0.1])
def test_peer_transports_as_the_library(beta):
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(4, 6, 5, generator=generator, dtype=torch.double)
    rows = torch.arange(6) < torch.tensor([6, 1, 0, 3]).unsqueeze(1)
    cols = torch.arange(5) < torch.tensor([5, 4, 2, 0]).unsqueeze(1)
    expected = ipot(cost, beta=beta, row_mask=rows, col_mask=cols)
    plan = eega_dense.ipot(cost, rows, cols, beta)
    torch.testing.assert_close(plan, expected)
    torch.testing.assert_close(
        eega_dense.round_plan(plan, rows, cols),
        round_plan(expected, row_mask=rows, col_mask=cols))


def test_labels_are_compared(batch):
    """The loss is that of the gold table, upper triangle only."""
    dense = bench.dense_batch(batch, bench.make_ours(CASE))
    sizes = batch['word'].ptr.diff()
    assert int((dense.target >= 0).sum()) == int(
        (sizes * (sizes + 1) // 2).sum())
    assert set(dense.target.unique().tolist()) == {-1, 0, 1, 2, 8}
    assert (dense.target.tril(-1)[dense.target.tril(-1) != 0] == -1).all()


def test_quick_run(tmp_path, capsys):
    threads = torch.get_num_threads()
    output = tmp_path / 'jmere_step.json'
    assert bench.main(['--quick', '--output', str(output)]) == 0
    assert torch.get_num_threads() == threads
    result = json.loads(output.read_text('utf-8'))
    assert len(result['rows']) == 4 * len(bench.QUICK)
    assert all(len(row) == len(result['columns']) for row in result['rows'])
    for each in result['results']:
        assert all(value > 0 for value in each['memory'].values())
        for key in 'cpu', 'wall':
            assert set(each[key]) == set(bench.NAMES)
            assert all(len(times) == 2 for times in each[key].values())
    assert 'peak memory' in capsys.readouterr().out


def test_help(capsys):
    with pytest.raises(SystemExit) as caught:
        bench.main(['--help'])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert '--quick' in out and '--child' not in out


def test_recorded_results():
    result = json.loads(bench.RESULT.read_text('utf-8'))
    assert not result['quick']
    assert bench.table(result['results']) == result['rows']
    cells = {(row[0], row[1]): float(row[4]) for row in result['rows']}
    name = bench.Case(16, 70).name
    assert cells[name, 'step, CPU ms'] >= 3  # what is promised
    assert cells[name, 'peak memory, MiB'] >= 5
