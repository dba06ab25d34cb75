import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmgraph.data import Vocabulary
from mmgraph.errors import InputError
from mmgraph.models.mre import MEGA
from mmgraph.nn.encoders import TransformerTextEncoder
from mmgraph.train import PostModule

VOCABULARIES = dict(relation=Vocabulary(['None', 'peer', 'parent']))
TINY = dict(model_type='bert', hidden_size=8, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=8, vocab_size=30)


def make(model=None, total=100, max_epochs=1, max_steps=-1, **kwargs):
    model = nn.Linear(2, 2) if model is None else model
    model.task = 'relation'
    module = PostModule(model, VOCABULARIES, 'None', **kwargs)
    module._trainer = SimpleNamespace(
        estimated_stepping_batches=total, max_epochs=max_epochs,
        max_steps=max_steps, gradient_clip_val=None,
        precision_plugin=SimpleNamespace(scaler=None))
    return module


def optimizer_of(module):
    found = module.configure_optimizers()
    assert found['lr_scheduler']['interval'] == 'step'
    return found['optimizer'], found['lr_scheduler']['scheduler']


def test_optimizer_groups():
    model = MEGA(TransformerTextEncoder(TINY), 3, use_semantic=False)
    module = make(model, lr=1e-2, encoder_lr=1e-4, weight_decay=.1)
    optimizer, _ = optimizer_of(module)
    groups = {id(p): (group['initial_lr'], group['weight_decay'])
              for group in optimizer.param_groups for p in group['params']}
    assert len(optimizer.param_groups) == 4
    assert len(groups) == sum(p.requires_grad for p in model.parameters())
    for name, parameter in model.named_parameters():
        rate = 1e-4 if name.startswith('encoder.') else 1e-2
        decay = .1 if parameter.dim() > 1 else 0
        assert groups[id(parameter)] == (rate, decay), name
    # Biases and normalisation are one-dimensional.
    spared = [n for n, p in model.named_parameters() if p.dim() < 2]
    assert any('LayerNorm.weight' in name for name in spared)


@pytest.mark.parametrize('clip, scaler, fused', [
    (None, object(), True), (1.0, None, True), (1.0, object(), False)])
def test_fused_unless_scaled_gradients_are_clipped(clip, scaler, fused):
    module = make()
    module.trainer.gradient_clip_val = clip
    module.trainer.precision_plugin.scaler = scaler
    assert optimizer_of(module)[0].defaults['fused'] is fused


def test_one_rate_for_all_if_none_is_given():
    model = MEGA(TransformerTextEncoder(TINY), 3, use_semantic=False)
    optimizer, _ = optimizer_of(make(model, lr=1e-2))
    assert {g['initial_lr'] for g in optimizer.param_groups} == {1e-2}


def test_frozen_parameters_are_left_out():
    model = MEGA(TransformerTextEncoder(TINY, trainable=False), 3,
                 use_semantic=False)
    optimizer, _ = optimizer_of(make(model, encoder_lr=1e-4))
    assert sum(len(g['params']) for g in optimizer.param_groups) == 2


def rates(module, steps):
    optimizer, scheduler = optimizer_of(module)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return found


def test_linear_schedule():
    found = rates(make(total=50, lr=2., warmup_steps=10), 52)
    assert found[0] == 0
    assert found[5] == pytest.approx(1.)
    assert found[10] == pytest.approx(2.)  # the top, right after warm-up
    assert found[30] == pytest.approx(1.)
    assert found[49] == pytest.approx(2. / 40)
    assert found[50] == found[51] == 0


def test_schedule_without_warm_up_starts_at_the_top():
    assert rates(make(total=4, lr=1.), 4) == pytest.approx([1, .75, .5, .25])


def test_constant_schedule():
    found = rates(make(total=math.inf, max_epochs=-1, lr=3., warmup_steps=2,
                       schedule='constant'), 9)
    assert found == pytest.approx([0, 1.5] + [3.] * 7)


def test_warm_up_longer_than_the_run():
    assert rates(make(total=5, lr=1., warmup_steps=10), 5) == pytest.approx(
        [0, .1, .2, .3, .4])


def test_linear_needs_an_end():
    with pytest.raises(InputError, match="schedule 'linear' needs an end"):
        make(max_epochs=-1).configure_optimizers()
    make(max_epochs=-1, max_steps=7).configure_optimizers()


class Scalar(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.tensor([[3.]], dtype=torch.double))


def uncorrected_adamw(x, rate, decay, gradient, steps, eps=1e-8):
    """AdamW as MEGA's published code has it: no bias correction."""
    m = v = 0.0
    path = []
    for _ in range(steps):
        g = gradient(x)
        x -= rate * decay * x
        m = .9 * m + .1 * g
        v = .999 * v + .001 * g * g
        x -= rate * m / (math.sqrt(v) + eps)
        path.append(x)
    return path


def run_adamw(decay, steps, bias_correction, rate=.01):
    module = make(Scalar(), lr=rate, weight_decay=decay, max_epochs=-1,
                  schedule='constant', bias_correction=bias_correction)
    optimizer, scheduler = optimizer_of(module)
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        module.model.x.square().sum().backward()
        optimizer.step()
        scheduler.step()
        path.append(float(module.model.x.detach()))
    return path


def test_no_bias_correction():
    # Undone through the rate: the same but for ε, which then counts for
    # ε √(1 − β₂ᵗ): a relative difference of at most ε / √v.
    expected = uncorrected_adamw(3., .01, 0., lambda x: 2 * x, 60)
    assert run_adamw(0., 60, False) == pytest.approx(expected, rel=1e-6)
    # It is not a small matter: the first steps are several times as long.
    corrected = run_adamw(0., 60, True)
    assert 3 - expected[0] == pytest.approx(math.sqrt(10) * .01, rel=1e-3)
    assert 3 - corrected[0] == pytest.approx(.01, rel=1e-3)


def test_no_bias_correction_with_decay():
    # The decay is scaled along with the rate (by less than 7): of the order
    # of rate · decay, far below a step.
    expected = uncorrected_adamw(3., .01, .01, lambda x: 2 * x, 60)
    assert run_adamw(.01, 60, False) == pytest.approx(expected, abs=.04)


def test_metrics_and_losses(tiny_run, tiny_trainer):
    module, data = tiny_run(eval_batch_size=7)
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(module, data)
    trainer.validate(module, data, verbose=False)
    found = trainer.callback_metrics
    assert {'val_loss', 'val_accuracy', 'val_precision', 'val_recall',
            'val_f1', 'val_macro_f1'} <= set(found)
    # Every post once, however it is cut into batches.
    assert int(module.metrics['val'].confusion.sum()) == 60
    batch = next(iter(tiny_run(eval_batch_size=60)[1].val_dataloader()))
    module.eval()
    with torch.no_grad():
        loss = module.model.loss(module(batch), batch)
    assert float(found['val_loss']) == pytest.approx(float(loss), rel=1e-5)
    module.metrics['test'].reset()
    trainer.test(module, data, verbose=False)
    assert int(module.metrics['test'].confusion.sum()) == 60
    assert int(module.metrics['val'].confusion.sum()) == 60


def test_predictions(tiny_run):
    module, data = tiny_run()
    batch = next(iter(data.predict_dataloader()))
    rows = module.eval().predict_step(batch, 0)
    assert [row['post_id'] for row in rows] == batch.post_id
    assert set(rows[0]) == {'post_id', 'words', 'head', 'tail', 'relation',
                            'score'}
    for row in rows:
        head = row['head']
        assert head['text'] == ' '.join(
            row['words'][head['start']:head['end']])
        assert row['relation'] in data.vocabularies['relation']
        assert 0 <= row['score'] <= 1


def checkpoint_of(module):
    saved = dict(state_dict=module.state_dict())
    module.on_save_checkpoint(saved)
    return saved


def test_checkpoint_holds_what_belongs_to_it(tiny_run):
    import mmgraph
    module, data = tiny_run()
    saved = checkpoint_of(module)['mmgraph']
    assert saved['version'] == mmgraph.__version__
    assert list(saved['vocabularies']) == ['relation']
    assert (Vocabulary.from_dict(saved['vocabularies']['relation'])
            == data.vocabularies['relation'])
    assert saved['model'] == module.model.get_config()
    module.on_load_checkpoint(checkpoint_of(module))


def test_checkpoints_that_do_not_fit(tiny_run):
    module, data = tiny_run()
    with pytest.raises(InputError, match='not a checkpoint of mmgraph'):
        module.on_load_checkpoint({'state_dict': {}})
    other = PostModule(module.model, VOCABULARIES)
    with pytest.raises(InputError, match=r'trained on other labels \(3: '
                                         r'None, peer, parent, …\) than this'):
        module.on_load_checkpoint(checkpoint_of(other))
    words = tiny_run(num_posts=30)[0]
    with pytest.raises(InputError, match='knows other words'):
        module.on_load_checkpoint(checkpoint_of(words))

    def remodel(**kwargs):
        return PostModule(MEGA(module.model.encoder, data.num_relations,
                               **kwargs), data.vocabularies)

    shape = remodel(object_channels=8, hidden_channels=24,
                    aligner=module.model.aligner)
    with pytest.raises(InputError, match=r"another model: '[\w.]+' is "
                                         r'\[[\d, ]+\] there and \[[\d, ]+\] '
                                         r'here'):
        module.on_load_checkpoint(checkpoint_of(shape))
    text = remodel(use_semantic=False)
    with pytest.raises(InputError, match='another model: only this model has'):
        module.on_load_checkpoint(checkpoint_of(text))
    with pytest.raises(InputError, match='another model: only the checkpoint'):
        text.on_load_checkpoint(checkpoint_of(module))


@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed'])
@pytest.mark.parametrize('algorithm', ['norm', 'value'])
def test_gradients_are_clipped(tiny_run, tiny_trainer, precision, algorithm):
    module, data = tiny_run()
    seen = []
    module.on_train_batch_end = lambda *_: seen.extend(
        p.grad.flatten() for p in module.parameters() if p.grad is not None)
    tiny_trainer(max_steps=1, precision=precision, gradient_clip_val=1e-3,
                 gradient_clip_algorithm=algorithm).fit(module, data)
    grad = torch.cat(seen)
    size = grad.norm() if algorithm == 'norm' else grad.abs().max()
    assert float(size) == pytest.approx(1e-3, rel=0.01)
