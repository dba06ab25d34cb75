"""Features of images, by the image's name."""
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmgraph.datasets.base import content_hash
from mmgraph.errors import InputError
from mmgraph.typing import PathLike
from mmgraph.utils import check_at_least, check_not_negative

__all__ = ['FeatureBank', 'FeatureFile', 'StandInFeatures']


class FeatureBank(ABC):
    r"""Region features of images, by the image's name: every image has
    :attr:`num_regions` rows of :attr:`channels` features.
    """
    @property
    @abstractmethod
    def num_regions(self) -> int:
        r"""Rows an image, :math:`R`."""

    @property
    @abstractmethod
    def channels(self) -> int:
        r"""Features a row, :math:`D`."""

    @abstractmethod
    def __contains__(self, image_id: object) -> bool:
        r"""Whether there are features of an image."""

    @abstractmethod
    def __call__(self, image_ids: Sequence[str]) -> Tensor:
        r"""The features of some images, :obj:`[N, R, D]`, float32.

        Raises:
            InputError: If an image has none.
        """


class StandInFeatures(FeatureBank):
    r"""Random numbers where features of images should be: **not** features of
    any image. They let a model that reads images run, and be timed, on a
    corpus whose images are not at hand; what is measured so must be labelled
    so.

    Each image has its own rows of independent standard normal numbers, drawn
    from a generator that is seeded by :obj:`seed` and the image's name: the
    same whatever else is asked for, and in whatever order. So they tell which
    image it is, and nothing of what it shows.

    Args:
        num_regions (int, optional): Rows an image. (default: :obj:`49`)
        channels (int, optional): Features a row. (default: :obj:`64`)
        seed (int, optional): The seed. (default: :obj:`0`)

    Example:
        >>> bank = StandInFeatures(num_regions=4, channels=8)
        >>> bank(['a', 'b']).shape
        torch.Size([2, 4, 8])
        >>> torch.equal(bank(['a', 'b'])[1:], bank(['b']))
        True
    """
    def __init__(
        self,
        num_regions: int = 49,
        channels: int = 64,
        seed: int = 0,
    ) -> None:
        check_at_least(1, num_regions=num_regions, channels=channels)
        check_not_negative(seed=seed)
        self._shape = num_regions, channels
        self.seed = seed

    @property
    def num_regions(self) -> int:
        return self._shape[0]

    @property
    def channels(self) -> int:
        return self._shape[1]

    def __contains__(self, image_id: object) -> bool:
        return True

    def __call__(self, image_ids: Sequence[str]) -> Tensor:
        rows = np.empty((len(image_ids), *self._shape), dtype=np.float32)
        for row, image_id in zip(rows, image_ids, strict=True):
            key = hashlib.blake2b(f'{self.seed} {image_id}'.encode(),
                                  digest_size=16).digest()
            generator = np.random.Generator(
                np.random.Philox(key=int.from_bytes(key, 'big')))
            generator.standard_normal(dtype=np.float32, out=row)
        return torch.from_numpy(rows)

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(num_regions={self.num_regions}, '
                f'channels={self.channels}, seed={self.seed})')


class FeatureFile(FeatureBank):
    r"""Features in a :obj:`.safetensors` file that holds a matrix
    :obj:`[R, D]` an image, under the image's name (for Twitter-2015 and -2017
    the id without extension). The file is memory-mapped: what is not asked for
    is not read.

    Args:
        path (str): The file. Numbers of any floating type become float32.

    Raises:
        InputError: If it cannot be read, or holds no image.

    Example:
        >>> import tempfile
        >>> from safetensors.torch import save_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_file({'a': torch.ones(4, 8)}, f'{folder}/x.safetensors')
        ...     bank = FeatureFile(f'{folder}/x.safetensors')
        ...     bank(['a']).shape
        torch.Size([1, 4, 8])
    """
    def __init__(self, path: PathLike) -> None:
        self.path = Path(path).expanduser()
        _ = self._names  # Opens the file: rather now than in the first batch.

    @cached_property
    def _file(self) -> Any:
        try:
            return safe_open(str(self.path), framework='pt')
        except SafetensorError as error:
            raise InputError(f'not a safetensors file ({error})',
                             self.path) from error
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f'cannot read the file ({reason})',
                             self.path) from error

    @cached_property
    def _names(self) -> frozenset[str]:
        names = frozenset(self._file.keys())
        if not names:
            raise InputError('the file holds no features', self.path)
        return names

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        r"""The shape of all images is that of one of them."""
        name = min(self._names)
        shape = tuple(self._file.get_slice(name).get_shape())
        if len(shape) != 2:
            raise InputError(f'features of an image must be [regions, '
                             f'channels] (got {list(shape)} for image {name})',
                             self.path)
        return shape

    def __getstate__(self) -> dict[str, Any]:
        # An open file cannot go to another process.
        return dict(path=self.path)

    @property
    def num_regions(self) -> int:
        return self._shape[0]

    @property
    def channels(self) -> int:
        return self._shape[1]

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._names

    def rows(self, image_id: str) -> Tensor:
        r"""The matrix of one image, float32, of any number of rows.

        Raises:
            InputError: If there is none.
        """
        if image_id not in self._names:
            raise InputError(f'no features of image {image_id}', self.path)
        found: Tensor = self._file.get_tensor(image_id)
        return found.float()

    def __call__(self, image_ids: Sequence[str]) -> Tensor:
        found = torch.empty(len(image_ids), *self._shape)
        for row, image_id in zip(found, image_ids, strict=True):
            rows = self.rows(image_id)
            if rows.shape != row.shape:
                raise InputError(
                    f'all images must have {list(self._shape)} features (got '
                    f'{list(rows.shape)} for image {image_id})', self.path)
            row.copy_(rows)
        return found

    def __repr__(self) -> str:
        # A transform's repr is the key of a cache: other content, other key.
        stat = self.path.stat()
        return (f'{type(self).__name__}({str(self.path)!r}, state='
                f'{content_hash(stat.st_size, stat.st_mtime_ns)!r})')
