"""Modules that remember how they were built."""
import importlib
import inspect
from typing import Any, ClassVar, TypeVar

from torch import nn

from mmgraph.data import Vocabulary
from mmgraph.errors import InputError

__all__ = ['Configurable', 'build_from_config']

T = TypeVar('T', bound='Configurable')

_PLAIN = (bool, int, float, str, type(None))


class Configurable:
    r"""Mixin for modules: keeps the constructor's arguments, so that a model
    can be saved as plain values and built again without its weights' origin.

    Nested modules, vocabularies, lists and dictionaries of plain values may be
    arguments, and so may PyTorch's own activations. A part that was given
    something else (a path that only this machine has, say) overrides
    :meth:`get_config`.

    Example:
        >>> from mmgraph.nn.heads import MarkerPairHead
        >>> head = MarkerPairHead(8, num_relations=3)
        >>> MarkerPairHead.from_config(head.get_config()).num_relations
        3
    """
    #: Arguments that a configuration leaves out, such as the path of a file
    #: whose content the weights hold.
    not_in_config: ClassVar[tuple[str, ...]] = ()

    _config_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        # A copy or an un-pickled module comes without arguments.
        bound = inspect.signature(cls.__init__).bind_partial(
            self, *args, **kwargs)
        arguments = dict(list(bound.arguments.items())[1:])
        arguments.update(arguments.pop('kwargs', {}))
        object.__setattr__(self, '_config_args', arguments)
        return self

    def get_config(self) -> dict[str, Any]:
        r"""The class and its arguments as plain values (JSON)."""
        cls = type(self)
        return {
            'class': f'{cls.__module__}.{cls.__qualname__}',
            'args': {name: _encode(value, f'{cls.__name__}.{name}')
                     for name, value in self._config_args.items()
                     if name not in self.not_in_config},
        }

    @classmethod
    def from_config(cls: type[T], config: dict[str, Any]) -> T:
        r"""Builds the module, with fresh weights, from :meth:`get_config`.

        Raises:
            InputError: If the configuration names no class, another kind of
                class, or arguments that the class does not take.
        """
        module = build_from_config(config)
        if not isinstance(module, cls):
            raise InputError(f"the configuration describes a "
                             f"'{type(module).__name__}', "
                             f"not a '{cls.__name__}'")
        return module


def _encode(value: Any, place: str) -> Any:
    if isinstance(value, Configurable):
        return value.get_config()
    if isinstance(value, Vocabulary):
        return {'class': 'mmgraph.data.Vocabulary', 'args': value.to_dict()}
    if isinstance(value, _PLAIN):
        return value
    if type(value).__module__ == 'torch.nn.modules.activation' \
            and not value.state_dict():  # They keep their arguments by name.
        names = inspect.signature(type(value)).parameters
        return {'class': f'torch.nn.{type(value).__name__}',
                'args': {name: _encode(getattr(value, name), place)
                         for name in names if hasattr(value, name)}}
    if isinstance(value, (list, tuple)):
        return [_encode(item, place) for item in value]
    if isinstance(value, dict) and 'class' not in value:
        return {key: _encode(item, place) for key, item in value.items()}
    what = ("nn.Module that does not inherit 'mmgraph.nn.Configurable'"
            if isinstance(value, nn.Module) else type(value).__name__)
    raise TypeError(f"'{place}' cannot be written to a configuration "
                    f'(got a {what})')


def build_from_config(config: Any) -> Any:
    r"""The inverse of :meth:`Configurable.get_config`."""
    if isinstance(config, list):
        return [build_from_config(item) for item in config]
    if not isinstance(config, dict):
        return config
    if 'class' not in config:
        return {key: build_from_config(item) for key, item in config.items()}
    path = str(config['class'])
    module, _, name = path.rpartition('.')
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"cannot import '{path}' ({error})") from error
    # A file decides what is built here; it may not call just anything.
    if not (isinstance(cls, type)
            and issubclass(cls, (Configurable, Vocabulary, nn.Module))):
        raise InputError(f"'{path}' is no part of a model")
    args = {key: build_from_config(item)
            for key, item in config.get('args', {}).items()}
    try:
        return cls(**args)
    except TypeError as error:
        raise InputError(f"'{path}' was saved by another version of mmgraph "
                         f'({error})') from error
