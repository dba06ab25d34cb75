import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed

from mmgraph.data import Vocabulary
from mmgraph.metrics import RelationMetric, confusion_matrix, relation_scores

LABELS = ['None', 'peer', 'parent', 'couple']

# Gold and predicted by hand: 10 pairs, 6 of them positive.
GOLD = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
PREDICTED = [0, 0, 1, 2, 1, 1, 0, 2, 1, 0]


@pytest.fixture
def metric():
    metric = RelationMetric(LABELS, negative='None')
    metric.update_ids(torch.tensor(PREDICTED), torch.tensor(GOLD))
    return metric


def test_confusion_by_hand(metric):
    assert metric.confusion.tolist() == [[2, 1, 1, 0],
                                         [1, 2, 0, 0],
                                         [0, 1, 1, 0],
                                         [1, 0, 0, 0]]


def test_scores_by_hand(metric):
    scores = metric.compute()
    # 5 of 10 right; 3 of 6 positive predictions and 3 of 6 positive gold.
    assert scores == pytest.approx(dict(
        accuracy=0.5, precision=0.5, recall=0.5, f1=0.5,
        macro_f1=(2 * 2 / (3 + 4) + 2 * 1 / (2 + 2) + 0) / 3))


def test_negative_is_excluded(metric):
    # More pairs that are none and found to be none change accuracy only.
    before = metric.compute()
    zeros = torch.zeros(90, dtype=torch.long)
    metric.update_ids(zeros, zeros)
    after = metric.compute()
    assert after.pop('accuracy') == 0.95
    assert before.pop('accuracy') == 0.5
    assert after == before


def test_false_positive_lowers_precision_only(metric):
    before = metric.compute()
    metric.update_ids(torch.tensor([3]), torch.tensor([0]))
    after = metric.compute()
    assert after['precision'] == pytest.approx(3 / 7)
    assert after['recall'] == before['recall']


def test_without_a_negative_all_three_are_the_accuracy():
    metric = RelationMetric(LABELS)
    metric.update_ids(torch.tensor(PREDICTED), torch.tensor(GOLD))
    scores = metric.compute()
    assert (scores['precision'], scores['recall'], scores['f1']) == (
        pytest.approx((0.5, 0.5, 0.5)))


def test_per_class(metric):
    table = metric.per_class()
    assert list(table) == LABELS
    assert table['peer'] == pytest.approx(dict(
        precision=2 / 4, recall=2 / 3, f1=2 * 2 / 7, support=3))
    assert table['couple'] == dict(precision=0, recall=0, f1=0, support=1)


def test_recall_is_the_accuracy_inside_a_class(metric):
    # "Accuracy" of MEGA's Table 3: of the pairs of a relation, the share
    # found.
    for i, label in enumerate(LABELS):
        mine = [p for p, g in zip(PREDICTED, GOLD, strict=True) if g == i]
        assert metric.per_class()[label]['recall'] == pytest.approx(
            sum(p == i for p in mine) / len(mine))


@pytest.mark.parametrize('negative', ['None', 'none'])
def test_the_corpus_names_its_negative(negative):
    # Version 1 of MNRE writes 'none', version 2 'None'.
    metric = RelationMetric(Vocabulary([negative, 'peer']), negative)
    assert metric.negative_id == 0
    with pytest.raises(ValueError, match="'negative' must be one of the "):
        RelationMetric([negative, 'peer'], negative.swapcase())


def test_negative_need_not_come_first():
    metric = RelationMetric(['peer', 'parent', 'None'], 'None')
    metric.update_ids(torch.tensor([2, 2, 0]), torch.tensor([2, 0, 0]))
    scores = metric.compute()
    assert (scores['precision'], scores['recall']) == (1, 0.5)


def test_nothing_seen():
    metric = RelationMetric(LABELS, 'None')
    assert set(metric.compute().values()) == {0.0}
    metric.update_ids(torch.tensor([], dtype=torch.long),
                      torch.tensor([], dtype=torch.long))
    assert set(metric.compute().values()) == {0.0}


def test_only_negative():
    metric = RelationMetric(LABELS, 'None')
    metric.update_ids(torch.zeros(3).long(), torch.zeros(3).long())
    scores = metric.compute()
    assert scores.pop('accuracy') == 1
    assert set(scores.values()) == {0.0}


def test_reset(metric):
    metric.reset()
    assert int(metric.confusion.sum()) == 0


@pytest.mark.parametrize('predicted, gold, message', [
    ([0, 1], [0], r'must be equally long \(got 2 and 1\)'),
    ([4], [0], r"'predicted' must be in \[0, 4\) \(got 4 to 4\)"),
    ([0], [-1], r"'gold' must be in \[0, 4\)"),
])
def test_wrong_ids(metric, predicted, gold, message):
    with pytest.raises(ValueError, match=message):
        metric.update_ids(torch.tensor(predicted), torch.tensor(gold))


ids = st.integers(0, 3)
pairs = st.lists(st.tuples(ids, ids), max_size=40)


def score(rows):
    metric = RelationMetric(LABELS, 'None')
    for predicted, gold in rows:
        metric.update_ids(torch.tensor([predicted]), torch.tensor([gold]))
    return metric.compute()


def brute_force(rows):
    """From the words of the definition, one row at a time."""
    def divide(a, b):
        return a / b if b else 0.0
    right = sum(p == g for p, g in rows)
    hits = sum(p == g != 0 for p, g in rows)
    precision = divide(hits, sum(p != 0 for p, _ in rows))
    recall = divide(hits, sum(g != 0 for _, g in rows))
    macro = []
    for i in sorted({g for _, g in rows} - {0}):
        tp = sum(p == g == i for p, g in rows)
        p = divide(tp, sum(a == i for a, _ in rows))
        r = divide(tp, sum(b == i for _, b in rows))
        macro.append(divide(2 * p * r, p + r))
    return dict(accuracy=divide(right, len(rows)), precision=precision,
                recall=recall,
                f1=divide(2 * precision * recall, precision + recall),
                macro_f1=divide(sum(macro), len(macro)))


@given(pairs)
def test_equals_counting(rows):
    assert score(rows) == pytest.approx(brute_force(rows))


@given(pairs, st.randoms())
def test_order_and_batches_do_not_matter(rows, random):
    expected = score(rows)
    assert all(0 <= value <= 1 for value in expected.values())
    random.shuffle(rows)
    assert score(rows) == expected
    table = torch.tensor(rows, dtype=torch.long).view(-1, 2)
    confusion = confusion_matrix(table[:, 0], table[:, 1], 4)
    assert relation_scores(confusion, 0) == expected


@given(pairs)
def test_perfect_is_one(rows):
    scores = score([(gold, gold) for _, gold in rows])
    if any(gold for _, gold in rows):
        assert set(scores.values()) == {1.0}


def check_shared_counts(rank, store):
    """What each of two processes does: its own half of the pairs."""
    distributed.init_process_group(
        'gloo', f'file://{store}', rank=rank, world_size=2,
        timeout=timedelta(seconds=60))
    try:
        generator = torch.Generator().manual_seed(0)
        predicted, gold = torch.randint(4, (2, 101), generator=generator)
        metric = RelationMetric(LABELS, 'None')
        metric.update_ids(predicted[rank::2], gold[rank::2])
        scores, total = metric.compute(), metric.total()
        assert metric.compute() == scores  # asking twice counts once
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
    whole = RelationMetric(LABELS, 'None')
    whole.update_ids(predicted, gold)
    assert int(metric.confusion.sum()) == (51, 50)[rank]
    assert torch.equal(total, whole.confusion)
    assert scores == whole.compute()


def test_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'lo')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    other = subprocess.Popen(
        [sys.executable, __file__, tmp_path / 'store'], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])})
    try:
        check_shared_counts(0, tmp_path / 'store')
    finally:
        out, err = other.communicate(timeout=60)
    assert (other.returncode, out) == (0, 'equal\n'), err


if __name__ == '__main__':
    check_shared_counts(1, sys.argv[1])
    print('equal')  # noqa: T201
