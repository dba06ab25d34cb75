import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import aligners_networks as bench
from benchmarks.aligners_networks import Budget, Method, Pair, Records
from benchmarks.peers.network_aligners import PEERS, NotInstalled
from mmgraph.data import GraphPair
from mmgraph.nn.align import Alignment, StructuralAligner

NAMES = ['REGAL', 'scipy FAQ', 'CONE (original)']
BUDGET = Budget(20, 4)


def build(**kwargs):
    return Pair('random', **kwargs).build(3, None)


def run_quick(folder: Path, *more: str) -> list[dict]:
    bench.main(['--quick', '--output', str(folder), '--methods', *NAMES,
                *more])
    text = (folder / 'aligners_networks_runs.json').read_text('utf-8')
    return json.loads(text)['runs']


def fake(solve, load=None, **kwargs) -> Method:
    return Method(load or (lambda: solve), lambda *args: args,
                  bench.as_it_is, {}, '', **kwargs)


@pytest.fixture(autouse=True)
def no_peers(monkeypatch):
    monkeypatch.delenv('MMGRAPH_PEERS', raising=False)


def test_runs_are_recorded_and_skipped(tmp_path, monkeypatch):
    runs = run_quick(tmp_path)
    by_name = {item['method']: item for item in runs}
    assert set(by_name) == {*NAMES, bench.BOUND}
    assert by_name['CONE (original)']['status'] == 'not installed'
    for name in NAMES[:2]:
        item = by_name[name]
        assert item['status'] == 'ok' and 0.5 < item['lap'] <= 1
        assert 0 < item['ec'] <= 1 and item['memory'] >= 0
    assert by_name['REGAL']['mrr'] > 0.5
    assert by_name['scipy FAQ']['mrr'] is None  # a mapping has no ranks

    def never(*args, **kwargs):
        raise AssertionError('ran again')

    monkeypatch.setattr(bench, 'run', never)
    assert run_quick(tmp_path, '--render') == runs
    installed = '--methods', *NAMES[:2]
    assert run_quick(tmp_path, *installed) == runs
    with pytest.raises(AssertionError, match='ran again'):
        run_quick(tmp_path, *installed, '--rerun', 'REGAL')
    table = json.loads((tmp_path / 'aligners_networks.json').read_text())
    cells = {row[0]: row[1] for row in table['rows']}
    assert cells['CONE (original)'] == 'not installed'
    assert '(min ' in cells['REGAL *']
    assert 'CONE (original)' in table['notes'][-1]


def test_a_change_of_code_runs_again(tmp_path, monkeypatch):
    run_quick(tmp_path)
    calls = []

    def count(*args, **kwargs):
        calls.append(args)
        return dict(status='failed', why='counted')

    monkeypatch.setattr(bench, 'run', count)
    monkeypatch.setattr(bench, 'code_of', lambda aligner: 'another')
    runs = run_quick(tmp_path, '--methods', 'REGAL')
    assert len(calls) == 1
    again = [item for item in runs if item['method'] == 'REGAL']
    assert [item['code'] for item in again] == ['another']
    assert again[0]['status'] == 'failed'


def test_records_survive_where_a_peer_is_not_installed(tmp_path):
    records = Records(tmp_path / 'runs.json')
    key = dict(method='CONE (original)', pair='random', seed=0, code='CONE @ 1')
    records.add(key, dict(status='ok', lap=0.9))
    records.add({**key, 'code': 'CONE'}, dict(status='not installed'))
    assert [item['status'] for item in records.runs] == ['ok']
    records.add({**key, 'code': 'CONE @ 2'}, dict(status='failed'))
    assert [item['status'] for item in records.runs] == ['failed']


def test_budgets():
    pair, seeds = build()

    def spin(given):
        while given:
            pass

    def hog(given):
        return np.ones(2**28)

    slow = bench.run(fake(spin), pair, seeds, 0, budget=Budget(0.5, 4))
    assert slow == dict(status='over budget: time')
    big = bench.run(fake(hog), pair, seeds, 0, budget=Budget(20, 0.25))
    assert big['status'] == 'over budget: memory'
    bad = bench.run(fake(None), pair, seeds, 0, budget=BUDGET)
    assert bad['status'] == 'failed' and 'TypeError' in bad['why']


def test_only_the_aligner_is_timed():
    pair, seeds = build()
    gold = pair.match_index

    def load():
        end = time.process_time() + 1.5  # as slow as an import
        while time.process_time() < end:
            pass
        return solve

    def solve(given):
        pair, seeds, seed = given
        assert seed == 7 and seeds.numel() == 0
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        kept = torch.zeros(2**23)  # 32 MiB
        return Alignment(gold, torch.ones(60) + kept[:60], pair.source.ptr,
                         pair.target.ptr)

    # Free memory that the allocator keeps, enough for what the run takes.
    pinned = [np.ones(15_000) for _ in range(1200)][-1]
    out = bench.run(fake(None, load), pair, seeds, 7, budget=BUDGET)
    del pinned
    assert 0.3 <= out['seconds'] < 1.5
    assert 30 < out['memory'] / 2**20 < 60
    assert out['argmax'] == out['lap'] == out['hits10'] == out['mrr'] == 1


def test_one_seed_over_budget_is_enough(tmp_path, monkeypatch):
    records, pair = Records(tmp_path / 'runs.json'), 'random'
    calls = []

    def stop(*args, **kwargs):
        calls.append(args)
        return dict(status='over budget: time')

    monkeypatch.setattr(bench, 'run', stop)
    args = bench.parse_args(['--quick', '--methods', 'REGAL'])
    args.seeds = [0, 1, 2]
    bench.run_all(args, records)
    assert len(calls) == 1 and len(records.runs) == 6  # with the bounds
    groups = bench.grouped(records.runs)
    assert bench.accuracy_cell(
        groups[pair, 'REGAL']) == 'stopped: over 20 s'
    args.budget_seconds = 30  # More may be enough.
    bench.run_all(args, records)
    assert len(calls) == 2


def test_pair():
    pair, seeds = build(known=0.25)
    again, _ = build(known=0.25)
    other, _ = Pair('random', known=0.25).build(4, None)
    assert seeds.size(1) == 15 and pair.match_index.size(1) == 45
    assert not torch.isin(seeds[0], pair.match_index[0]).any()
    both = torch.cat([seeds, pair.match_index], dim=1)
    image = torch.empty(60, dtype=torch.long)
    image[both[0]] = both[1]
    mapped = image[pair.edge_index_s]
    assert set(map(tuple, mapped.t().tolist())) == set(
        map(tuple, pair.edge_index_t.t().tolist()))
    assert not torch.equal(image, torch.arange(60))  # the copy is permuted
    assert bench.fingerprint(pair, seeds) == bench.fingerprint(again, seeds)
    assert bench.fingerprint(pair, seeds) != bench.fingerprint(other, seeds)
    noisy, _ = build(drop=0.2)
    assert noisy.edge_index_t.size(1) < noisy.edge_index_s.size(1)


def test_suits():
    plain, told = Pair('a'), Pair('a', known=0.2, features=True)
    assert fake(None).suits(plain) and fake(None).suits(told)
    for need in ('seeds', 'features'):
        method = fake(None, **{need: 'must'})
        assert method.suits(told) and not method.suits(plain)
        assert fake(None, **{need: 'can'}).suits(plain)


def test_peer_scores_as_alignment(monkeypatch):
    pair, _ = build()
    scores = np.random.default_rng(0).random((60, 60))
    full = bench.as_alignment(scores, pair, ranks=True)
    assert full.dense()[0].numpy() == pytest.approx(scores)
    monkeypatch.setattr(bench, 'LARGE', 100)
    monkeypatch.setattr(bench, 'KEPT', 7)
    cut = bench.as_alignment(scores, pair, ranks=True)
    assert torch.equal(cut.match_index, full.topk(7).match_index)
    mapping = bench.as_alignment(np.eye(60), pair, ranks=False)
    assert mapping.match_index.tolist() == [list(range(60))] * 2


def test_peers_of_the_environment_find_a_copy():
    pair, seeds = build()
    for name in ('scipy FAQ', 'POT GW'):
        if name.startswith('POT'):
            pytest.importorskip('ot', reason="needs the extra 'ot'")
        method = bench.peer_method(name, None)
        scores = method.load()(method.prepare(pair, seeds, 0))
        alignment = method.finish(scores, pair)
        out = bench.score(alignment, alignment.match('lap'), pair,
                          method.ranks)
        assert out['lap'] > 0.95 and out['ec'] == 1


def test_peers_that_are_not_there(tmp_path):
    pair, seeds = build()
    for name, peer in PEERS.items():
        if name.startswith(('scipy', 'POT', 'graspologic')):
            continue
        with pytest.raises(NotInstalled, match='in the folder of peers'):
            peer.load(tmp_path)
    assert bench.run(bench.peer_method('CONE (original)', tmp_path), pair,
                     seeds, 0, budget=BUDGET)['status'] == 'not installed'


def test_code_of():
    one, two = StructuralAligner(), StructuralAligner(max_hops=1)
    assert bench.code_of(one) == bench.code_of(two)
    found = bench.methods(None)
    codes = {found[name].code for name in ('REGAL', 'Degree')
             if isinstance(found[name], Method)}
    assert len(codes) == sum(isinstance(found[name], Method)
                             for name in ('REGAL', 'Degree'))


def test_detail_shows_the_worst_seed():
    runs = [dict(method='REGAL', pair='arenas-5', seed=seed, status='ok',
                 argmax=0.5, lap=lap, hits10=0.9, mrr=0.7, ec=0.8,
                 seconds=1.0, decode_seconds=0.1, memory=2**20, code='')
            for seed, lap in enumerate((0.9, 0.2, 1.0))]
    groups = bench.grouped(runs)
    table = bench.detail('', ['arenas-5'], ['REGAL'], groups, [])
    row = dict(zip(table['columns'], table['rows'][0]))
    assert row['LAP'] == '0.700 ± 0.436' and row['LAP, worst'] == '0.200'
    assert row['CPU s'] == '1.00' and row['MiB more'] == '1'
    assert bench.accuracy_cell(runs) == '0.700 (min 0.200)'
    runs[1]['status'] = 'failed'
    assert bench.accuracy_cell(runs) == 'failed'


def test_bound():
    star = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 0, 0, 0, 0]])
    clique = torch.tensor([[0, 0, 1, 1, 2, 2, 2, 3],
                           [1, 2, 0, 2, 0, 1, 3, 2]])  # 0 and 1 are twins
    for edges, n, most in ((star, 5, 2 / 5), (clique, 4, 3 / 4)):
        path = torch.tensor([range(n - 1), range(1, n)])
        pair = GraphPair(edge_index_s=edges, edge_index_t=path.flip(0),
                         num_nodes_s=n, num_nodes_t=n,
                         match_index=torch.arange(n).repeat(2, 1))
        assert bench.bound(pair)['lap'] == pytest.approx(most)
        pair.edge_index_s, pair.edge_index_t = path, edges
        assert bench.bound(pair)['lap'] == pytest.approx(most)
        pair.edge_index_s = edges
        assert bench.bound(pair)['ec'] == 1


def test_names():
    assert {'arenas-5', 'celegans-5', 'netscience-5', 'highschool-90',
            'voles-90', 'multimagna+10'} == set(bench.GROUPS['main'])
    assert len(bench.PAIRS) == sum(map(len, bench.GROUPS.values()))
    assert not set(bench.OURS) & set(PEERS)


@pytest.mark.real_data
def test_real_pairs_can_be_built(data_root):
    for name in ('netscience-5', 'highschool-90', 'phone_email (20)'):
        pair, seeds = bench.PAIRS[name].build(0, data_root)
        assert pair.validate()
        assert bool(seeds.numel()) == name.endswith('(20)')
