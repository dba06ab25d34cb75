"""What a run says while it goes on."""
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

__all__ = ['EpochReport']

_SHOWN = ('val_loss', 'val_accuracy', 'val_f1')


class EpochReport(TQDMProgressBar):
    r"""One line an epoch on stderr, which stays; in a terminal also a progress
    bar, which goes.

    Args:
        refresh_rate (int, optional): Batches between two updates of the bar.
            (default: :obj:`1`)
    """
    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._speaks = True
        self._losses: list[Tensor] = []
        self._start = 0.0
        if not sys.stdout.isatty():
            super().disable()

    def disable(self) -> None:
        r"""Says nothing: Lightning calls it on all processes but one."""
        self._speaks = False
        super().disable()

    def print(self, *args: Any, sep: str = ' ', **kwargs: Any) -> None:
        r"""Writes a line above the bar, to stderr."""
        if self._speaks:
            tqdm.write(sep.join(map(str, args)), file=sys.stderr)

    def _reset(self) -> None:
        self._losses, self._start = [], time.perf_counter()

    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        self._reset()  # A run resumed inside an epoch does not start it.
        trainer, module = args
        count = sum(p.numel() for p in module.parameters() if p.requires_grad)
        several = (f', {trainer.world_size} processes'
                   if trainer.world_size > 1 else '')
        self.print(f'{type(getattr(module, "model", module)).__name__}: '
                   f'{count:,} parameters to train, on {module.device}'
                   f'{several}')
        if trainer.global_step:
            self.print(f'going on after step {trainer.global_step}')

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self._reset()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch,
                                   batch_idx)
        if isinstance(outputs, dict) and 'loss' in outputs:
            self._losses.append(outputs['loss'].detach())

    def on_train_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
    ) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        last = trainer.max_epochs or -1
        parts = [f'epoch {trainer.current_epoch + 1}'
                 + (f'/{last}' if last > 0 else '')]
        if self._losses:
            mean = sum(map(float, self._losses)) / len(self._losses)
            parts.append(f'train_loss {mean:.4f}')
        parts += [f'{name} {float(trainer.callback_metrics[name]):.4f}'
                  for name in _SHOWN if name in trainer.callback_metrics]
        parts.append(f'{time.perf_counter() - self._start:.1f} s')
        self.print(*parts, sep='  ')

    def on_train_end(self, *args: Any) -> None:
        super().on_train_end(*args)
        stopping = args[0].early_stopping_callback
        if stopping is not None and stopping.stopped_epoch:
            self.print(f'stopped: {stopping.monitor} has not got better for '
                       f'{stopping.wait_count} validations')
