import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from mmgraph.train.cli import LastCheckpoint

EPOCHS = 4


class Seen(pl.Callback):
    """Every batch, and a stop in the middle."""
    def __init__(self, stop=None):
        self.batches = []
        self.stop = stop

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.stop:
            raise InterruptedError
        self.batches.append((trainer.current_epoch, tuple(batch.post_id)))


@pytest.fixture
def fit(tiny_run, tiny_trainer, tmp_path):
    def fit(folder, stop=None, ckpt_path=None, settings=None, workers=0,
            **kwargs):
        # Neither the weights nor the random state of before matter.
        module, data = tiny_run(seed=0 if ckpt_path is None else 7,
                                num_workers=workers)
        torch.manual_seed(0 if ckpt_path is None else 7)
        seen = Seen(stop)
        best = ModelCheckpoint(tmp_path / folder, monitor='val_f1',
                               mode='max')
        keep = [ModelCheckpoint(tmp_path / folder, filename='last', **kwargs)
                if kwargs else LastCheckpoint(tmp_path / folder)]
        trainer = tiny_trainer([seen, best, *keep], max_epochs=EPOCHS,
                               **(settings or {}))
        try:
            trainer.fit(module, data, ckpt_path=ckpt_path)
        except InterruptedError:
            assert stop is not None
        scores = dict(trainer.callback_metrics)
        return module.state_dict(), seen.batches, scores
    return fit


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def whole(fit):
    return fit('whole')


@pytest.mark.parametrize('workers', [0, 1])
def test_two_epochs_and_two_are_four(fit, whole, tmp_path, workers):
    weights, batches, scores = whole
    assert len(batches) == 4 * EPOCHS
    assert len({seen for _, seen in batches}) > 4  # another order each epoch
    # A run that is stopped after two epochs, its schedule that of all four.
    _, before, _ = fit('part', stop=8)
    state = torch.load(tmp_path / 'part' / 'last.ckpt', weights_only=True)
    assert (state['epoch'], state['global_step']) == (1, 8)
    again, after, found = fit('rest', workers=workers,
                              ckpt_path=tmp_path / 'part' / 'last.ckpt')
    assert before + after == batches
    assert same(again, weights)
    assert found == scores


def test_stopped_inside_an_epoch(fit, whole, tmp_path):
    weights, batches, scores = whole
    _, before, _ = fit('part', stop=7, every_n_train_steps=6,
                       save_on_train_epoch_end=False)
    # Step 7 was taken, but not kept.
    assert before == batches[:7]
    again, after, found = fit('rest',
                              ckpt_path=tmp_path / 'part' / 'last.ckpt')
    assert after == batches[6:]
    assert same(again, weights)
    assert {k: v for k, v in found.items() if k != 'train_loss'} == {
        k: v for k, v in scores.items() if k != 'train_loss'}


def test_stopped_after_a_validation_inside_an_epoch(fit, tmp_path):
    settings = dict(val_check_interval=2)
    weights, batches, _ = fit('whole', settings=settings)
    _, before, _ = fit('part', stop=7, settings=settings)
    again, after, _ = fit('rest', settings=settings,
                          ckpt_path=tmp_path / 'part' / 'last.ckpt')
    assert before + after == batches[:7] + batches[6:]
    assert same(again, weights)


def test_dropout_masks_differ_without_the_random_state(fit, tmp_path):
    # The test above would see it if the random state were not restored.
    weights, _, _ = fit('whole')
    fit('part', stop=8)
    path = tmp_path / 'part' / 'last.ckpt'
    state = torch.load(path, weights_only=True)
    state['mmgraph']['random_state'] = torch.Generator().manual_seed(
        5).get_state()
    torch.save(state, path)
    again, _, _ = fit('rest', ckpt_path=path)
    assert not same(again, weights)


SCRIPT = """
import json, logging, sys, warnings
from pathlib import Path
import pytorch_lightning as pl
import torch
sys.path.insert(0, sys.argv[2])
from conftest import _tiny_run, _tiny_trainer
from mmgraph.train.cli import JsonLinesWriter

logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)
warnings.simplefilter('ignore')
folder = Path(sys.argv[1])


class Keep(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.posts = batch.post_id

    def on_before_optimizer_step(self, trainer, module, optimizer):
        torch.save(dict(posts=self.posts, gradients={
            name: p.grad for name, p in module.named_parameters()}),
            folder / f'gradients{trainer.global_rank}.pt')


results = {}
for size in 7, 64:  # uneven shares; fewer batches than processes
    module, data = _tiny_run(num_posts=33, batch_size=8, eval_batch_size=size)
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.
    trainer = _tiny_trainer([Keep(), JsonLinesWriter(str(folder / 'p.jsonl'))],
                            strategy='ddp', devices=2, max_steps=1,
                            limit_val_batches=0)
    if size == 7:
        trainer.fit(module, data)
    trainer.limit_val_batches = 1.0
    found, = trainer.validate(module, data, verbose=False)
    results[size] = found
    if size == 7:
        trainer.predict(module, data, return_predictions=False)
    if trainer.is_global_zero:
        torch.save(module.state_dict(), folder / f'weights{size}.pt')
if trainer.is_global_zero:
    (folder / 'scores.json').write_text(json.dumps(results))
"""


def test_two_processes(tiny_run, tiny_trainer, tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, tmp_path, Path(__file__).parent],
        env={**os.environ, 'OMP_NUM_THREADS': '1',
             'GLOO_SOCKET_IFNAME': 'lo',
             'PYTHONPATH': str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    # One step: the gradients of both batches together.
    parts = [torch.load(tmp_path / f'gradients{rank}.pt') for rank in (0, 1)]
    assert len(set(parts[0]['posts'] + parts[1]['posts'])) == 16
    module, data = tiny_run(num_posts=33)
    batch = next(iter(torch.utils.data.DataLoader(
        [data.dataset[int(i.partition('-')[2])]
         for part in parts for i in part['posts']],
        batch_size=16, collate_fn=data.train_dataloader().collate_fn)))
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.
    module.model.loss(module(batch), batch).backward()
    for name, parameter in module.named_parameters():
        for part in parts:
            torch.testing.assert_close(part['gradients'][name],
                                       parameter.grad, atol=1e-5, rtol=1e-5)

    # Scores: as one process finds them, every post once.
    scores = json.loads((tmp_path / 'scores.json').read_text())
    for size, found in scores.items():
        module, data = tiny_run(num_posts=33)
        module.load_state_dict(torch.load(tmp_path / f'weights{size}.pt'))
        expected, = tiny_trainer().validate(module, data, verbose=False)
        assert found == pytest.approx(expected, rel=1e-5)
        assert 0 < expected['val_accuracy'] < 1

    rows = [json.loads(line)['post_id']
            for line in (tmp_path / 'p.jsonl').read_text().splitlines()]
    assert rows == [f'test-{i}' for i in range(33)]
