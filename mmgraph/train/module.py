"""Trains and scores any task model."""
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.utilities import GradClipAlgorithmType
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

import mmgraph
from mmgraph.data import Post, Vocabulary
from mmgraph.errors import InputError
from mmgraph.models import TaskModel
from mmgraph.nn.encoders import TransformerTextEncoder
from mmgraph.train.tasks import TASKS

__all__ = ['PostModule']


class PostModule(pl.LightningModule):
    r"""A task model, its optimiser and its metric, for
    :class:`pytorch_lightning.Trainer`.

    The scores of a stage are logged as :obj:`val_f1`, :obj:`test_f1`, … .
    Where a model cannot give every annotation back
    (:meth:`TaskModel.decode_gold <mmgraph.models.TaskModel.decode_gold>`), the
    most that it can reach stands beside them: :obj:`val_ceiling_f1`, … .

    AdamW with linear warm-up and linear decay to zero; weight decay spares
    biases and normalisation; pretrained encoders may have a rate of their own.
    The checkpoint holds the vocabularies, the model's configuration, the
    version and the random state beside Lightning's own content, so that a
    resumed run goes on exactly.

    Args:
        model (TaskModel): The model.
        vocabularies (dict): The corpus's vocabularies by name; the model's
            task says which of them hold its labels.
        negative (str, optional): The label that means "none".
            (default: :obj:`None`)
        symmetric (tuple of str, optional): The relations without direction,
            for models that find both ends of a relation themselves.
            (default: :obj:`()`)
        lr (float, optional): Learning rate. (default: :obj:`1e-3`)
        encoder_lr (float, optional): Learning rate of pretrained encoders;
            :obj:`lr` if left out. (default: :obj:`None`)
        weight_decay (float, optional): (default: :obj:`0.01`)
        warmup_steps (int, optional): Steps of linear warm-up.
            (default: :obj:`0`)
        schedule (str, optional): :obj:`'linear'` decay or
            :obj:`'constant'`. (default: :obj:`'linear'`)
        bias_correction (bool, optional): If :obj:`False`, Adam's moments are
            not corrected, as in MEGA's published code (an old AdamW). It is
            undone through the rate, so that weight decay and
            :math:`\epsilon` are scaled along with it, by 7 at most.
            (default: :obj:`True`)
    """
    def __init__(
        self,
        model: TaskModel,
        vocabularies: dict[str, Vocabulary],
        negative: str | None = None,
        symmetric: tuple[str, ...] = (),
        lr: float = 1e-3,
        encoder_lr: float | None = None,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
        schedule: Literal['linear', 'constant'] = 'linear',
        bias_correction: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.task = TASKS[model.task]
        self.labels = {name: _labels(vocabularies, name, model)
                       for name in self.task.vocabularies}
        self.lr = lr
        self.encoder_lr = encoder_lr
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.bias_correction = bias_correction
        self._metric = partial(self.task.metric, *self.labels.values(),
                               negative=negative, symmetric=symmetric)
        self.metrics = {stage: self._metric() for stage in ('val', 'test')}
        self.ceilings: dict[str, Any] = {}
        self._losses: dict[str, list[tuple[float, int]]] = {}
        self._random_state: Tensor | None = None

    def forward(self, batch: Post) -> Any:
        return self.model(batch)

    def training_step(self, batch: Post, batch_idx: int) -> Tensor:
        loss = self.model.loss(self.model(batch), batch)
        self.log('train_loss', loss, prog_bar=True,
                 batch_size=batch.num_graphs)
        return loss

    def _score(self, batch: Post, stage: str) -> None:
        output = self.model(batch)
        self._losses[stage].append(
            (float(self.model.loss(output, batch)), batch.num_graphs))
        self.metrics[stage].update(self.model.decode(output, batch), batch)
        gold = self.model.decode_gold(batch)
        if gold is not None:
            if stage not in self.ceilings:
                self.ceilings[stage] = self._metric()
            self.ceilings[stage].update(gold, batch)

    def _start(self, stage: str) -> None:
        self.metrics[stage].reset()
        self.ceilings.pop(stage, None)
        self._losses[stage] = []

    def _report(self, stage: str) -> None:
        # Lightning divides the loss of all processes by a rounded number of
        # posts.
        total = torch.tensor([
            sum(loss * count for loss, count in self._losses[stage]),
            sum(count for _, count in self._losses[stage])],
            device=self.device)
        loss, count = self.trainer.strategy.reduce(
            total, reduce_op='sum').tolist()
        scores = dict(loss=loss / max(count, 1),
                      **self.metrics[stage].compute())
        if stage in self.ceilings:
            scores.update({f'ceiling_{name}': value for name, value
                           in self.ceilings[stage].compute().items()
                           if name.endswith('f1')})
        for name, value in scores.items():
            self.log(f'{stage}_{name}', value,
                     prog_bar=name in ('accuracy', 'f1'))

    def validation_step(self, batch: Post, batch_idx: int) -> None:
        self._score(batch, 'val')

    def on_validation_epoch_start(self) -> None:
        self._start('val')

    def on_validation_epoch_end(self) -> None:
        self._report('val')

    def test_step(self, batch: Post, batch_idx: int) -> None:
        self._score(batch, 'test')

    def on_test_epoch_start(self) -> None:
        self._start('test')

    def on_test_epoch_end(self) -> None:
        self._report('test')

    def predict_step(self, batch: Post, batch_idx: int) -> list[dict[str, Any]]:
        r"""One dictionary a line, as ``mmgraph predict`` writes them; see
        :class:`~mmgraph.train.cli.JsonLinesWriter`.
        """
        decoded = self.model.decode(self.model(batch), batch)
        return list(self.task.rows(decoded, batch, *self.labels.values()))

    def configure_optimizers(self) -> Any:
        pretrained = {
            id(parameter) for module in self.model.modules()
            if isinstance(module, TransformerTextEncoder)
            for parameter in module.parameters()}
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                rate = self.lr
                if self.encoder_lr is not None and id(parameter) in pretrained:
                    rate = self.encoder_lr
                decay = self.weight_decay if parameter.dim() > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        # What a fused optimiser has to unscale itself cannot be clipped.
        fused = not (self.trainer.gradient_clip_val and self._scales)
        optimizer = AdamW(
            [dict(params=params, lr=rate, weight_decay=decay)
             for (rate, decay), params in groups.items()], fused=fused)
        self.check_schedule(self.trainer)
        total = self.trainer.estimated_stepping_batches
        scheduler = LambdaLR(optimizer, self._factor(total))
        return dict(optimizer=optimizer,
                    lr_scheduler=dict(scheduler=scheduler, interval='step'))

    @property
    def _scales(self) -> bool:
        r"""Whether gradients are scaled, as float16 needs."""
        plugin = self.trainer.precision_plugin
        return getattr(plugin, 'scaler', None) is not None

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Lightning takes a fused optimiser in mixed precision for one that
        # scales, and refuses; in bfloat16 nothing is scaled.
        plugin = self.trainer.precision_plugin
        clip = plugin.clip_gradients
        if not self._scales:
            clip = partial(Precision.clip_gradients, plugin)
        clip(optimizer, gradient_clip_val or 0.0,
             GradClipAlgorithmType(gradient_clip_algorithm or 'norm'))

    def check_schedule(self, trainer: pl.Trainer) -> None:
        r"""Makes sure that a schedule that ends has an end.

        Raises:
            InputError: If it has none.
        """
        if (self.schedule == 'linear' and trainer.max_epochs == -1
                and trainer.max_steps == -1):
            raise InputError("schedule 'linear' needs an end: set "
                             'trainer.max_epochs or trainer.max_steps, or '
                             "schedule='constant'")

    def _factor(self, total: float) -> Any:
        warmup, (beta1, beta2) = self.warmup_steps, (0.9, 0.999)

        def factor(step: int) -> float:
            value = 1.0
            if step < warmup:
                value = step / warmup
            elif self.schedule == 'linear':
                value = max(0.0, (total - step) / max(1, total - warmup))
            if not self.bias_correction:  # Undo it through the rate.
                t = step + 1
                value *= (1 - beta1**t) / math.sqrt(1 - beta2**t)
            return value

        return factor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint['mmgraph'] = dict(
            version=mmgraph.__version__,
            model=self.model.get_config(),
            vocabularies={name: labels.to_dict()
                          for name, labels in self.labels.items()},
            random_state=torch.get_rng_state(),
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get('mmgraph')
        if state is None:
            raise InputError('this is not a checkpoint of mmgraph')
        # Before there were tasks with several, it held the one vocabulary.
        saved = state.get('vocabularies') or {
            next(iter(self.labels)): state['labels']}
        for name, mine in self.labels.items():
            if name not in saved:
                raise InputError(
                    f'the checkpoint is of a model of another task: it knows '
                    f'{" and ".join(saved)} labels, but no {name} labels')
            theirs = Vocabulary.from_dict(saved[name])
            if theirs != mine:
                raise InputError(
                    f'the checkpoint was trained on other labels '
                    f'({len(theirs)}: {", ".join(theirs.labels[:3])}, …) than '
                    f'this data set has ({len(mine)}: '
                    f'{", ".join(mine.labels[:3])}, …); use the same corpus '
                    f'and version')
        if (list(_vocabularies(state['model']))
                != list(_vocabularies(self.model.get_config()))):
            raise InputError('the model of the checkpoint knows other words '
                             'than this data set gives it; use the same '
                             'corpus and version')
        own, other = self.state_dict(), checkpoint['state_dict']
        for name in sorted(own.keys() ^ other.keys()):
            where = 'this model' if name in own else 'the checkpoint'
            raise InputError(f'the checkpoint is of another model: only '
                             f'{where} has {name!r}')
        for name, value in other.items():
            if value.shape != own[name].shape:
                raise InputError(
                    f'the checkpoint is of another model: {name!r} is '
                    f'{list(value.shape)} there and '
                    f'{list(own[name].shape)} here')
        self._random_state = state['random_state']

    def on_train_start(self) -> None:
        if self._random_state is not None:  # Go on as if never stopped.
            torch.set_rng_state(self._random_state)
            self._random_state = None


def _vocabularies(config: Any) -> Iterator[Any]:
    r"""The vocabularies inside a model's configuration."""
    if isinstance(config, list):
        for value in config:
            yield from _vocabularies(value)
    elif isinstance(config, dict):
        if str(config.get('class')).endswith('.Vocabulary'):
            yield config['args']
        else:
            yield from _vocabularies(list(config.values()))


def _labels(
    vocabularies: Mapping[str, Vocabulary],
    name: str,
    model: TaskModel,
) -> Vocabulary:
    if name not in vocabularies:
        raise InputError(
            f'{type(model).__name__} needs a corpus with {name} labels (this '
            f'one has {", ".join(sorted(vocabularies)) or "none"})')
    return vocabularies[name]
