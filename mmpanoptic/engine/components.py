"""Errors while components of a config are built: one line that names the key instead of a traceback.

The traceback of such an error tells which part of the config was being built, because all parts go through one function
of mmengine. An error in our own code that no value of the config explains is not changed.
"""

import contextlib
import difflib
import dis
import inspect
import os
import os.path as osp
import re
import typing
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from types import FrameType, NoneType, TracebackType, UnionType
from typing import Any
from urllib.error import URLError

import mmcv.ops
from mmengine.dataset import BaseDataset
from mmengine.registry import Registry, build_from_cfg
from mmengine.runner import Runner

from mmpanoptic import registry as registries
from mmpanoptic.datasets.wrappers import with_changes
from mmpanoptic.utils import UserError, one_line

from .checkpoint_files import FetchError

_PACKAGE = osp.dirname(osp.dirname(osp.abspath(__file__)))
# Functions that build from a part of a config, and the name of their variable that holds the part.
_BUILDERS = {build_from_cfg.__code__: 'cfg', Runner.build_dataloader.__code__: 'dataloader'}
_PLAIN = (bool, int, float, str, NoneType)
_CONTAINERS = (dict, list, tuple, Mapping, Sequence)


@contextlib.contextmanager
def building(config: Mapping, *parts: str) -> Iterator[None]:
    """Name the key of the config if a component cannot be built inside.

    Args:
        config: The config.
        parts: Keys of the config that are built from; by default all.

    Raises:
        UserError: If a type is unknown, an argument is missing, unknown or wrong, or a component refuses its arguments.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # components of any origin can raise anything
        of_system = isinstance(error, OSError) and (error.errno is not None or isinstance(error, URLError))
        line = None if of_system else _explain(error, {key: config.get(key) for key in parts or read_keys(config)})
        if line is None:
            raise
        raise UserError(line) from error


@contextlib.contextmanager
def running(config: Mapping) -> Iterator[None]:
    """Name a value of the config that has a wrong type or cannot be fetched, if the code inside fails.

    Raises:
        UserError: If there is such a value.
    """
    top = {key: config.get(key) for key in read_keys(config)}
    try:
        yield
    except FetchError as error:
        places = [('', top), *((f'{path}.', node) for path, node in nodes(top))]
        keys = (prefix + str(key) for prefix, node in places for key, value in node.items() if value == error.source)
        raise UserError(f'{error} as {next(keys, "the checkpoint")}') from error
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        lines = (line for path, node in nodes(top) for line in _wrong_values(_class_of(node), node, path))
        if (line := next(lines, None)) is None:
            raise
        raise UserError(f'{line} ({type(error).__name__}: {one_line(error)})') from error


def read_keys(config: Mapping) -> list[str]:
    """Keys of a config that something reads, without those that begin with an underscore (parts for other configs)."""
    return [key for key in config if not key.startswith('_')]


def build_dataset(config: Mapping, part: str, **changes: Any) -> BaseDataset:
    """Build the dataset of a data loader of a config.

    Args:
        config: The config.
        part: The loader's key, such as 'test_dataloader'.
        changes: Values that replace those of the config, in each dataset inside of wrappers.

    Raises:
        UserError: If there is no such loader, or its dataset cannot be built.
    """
    dataset = dataset_config(config, part)
    with building(config, part):
        return registries.DATASETS.build(with_changes(dataset, changes))


def dataset_config(config: Mapping, part: str) -> Mapping:
    """The config of the dataset of a data loader, which is given by its key.

    Raises:
        UserError: If the config has no such dataset.
    """
    dataset = (config.get(part) or {}).get('dataset')
    if dataset is None:
        raise UserError(f'the config has no {part}.dataset: set it')
    return dataset


def _explain(error: Exception, config: Mapping) -> str | None:
    """The line for an error, or None if it is a fault in our own code."""
    steps = []
    step = error.__traceback__
    while step is not None:
        steps.append(step)
        step = step.tb_next
    last = steps[-1]
    builders = [step.tb_frame for step in steps if step.tb_frame.f_code in _BUILDERS]
    found = [(frame, *place) for frame in builders if (place := _place_of(_part_of(frame), config)) is not None]
    frame, path, part = found[-1] if found else (None, ' or '.join(config) if len(config) <= 3 else 'the config', {})
    if builders:
        line = _explain_call(error, builders[-1], last.tb_frame is builders[-1], path, part, frame is builders[-1])
        if line is not None:
            return line
    if _is_bug(last):
        return None
    for outer, node in ({path: part} if found else config).items():  # types that are looked up but not built
        for key, inner in node.items() if isinstance(node, Mapping) else ():
            kind = inner.get('type') if isinstance(inner, Mapping) else None
            if (
                isinstance(kind, str)
                and kind[:1].isupper()
                and not hasattr(mmcv.ops, kind)
                and _class_of(inner) is None
            ):
                line = f'{outer}.{key}.type is {kind!r}, which is not known'
                return f'{line}; one of your own is imported by `custom_imports`'
    file = '/'.join(last.tb_frame.f_code.co_filename.split('/')[-3:])
    return f'{path}{_named(part)} cannot be built: {type(error).__name__}: {one_line(error)} ({file}:{last.tb_lineno})'


def _explain_call(
    error: Exception, builder: FrameType, at_call: bool, path: str, part: Mapping, exact: bool
) -> str | None:
    """The line for an error whose cause is in the call that builds a component.

    Args:
        error: The error.
        builder: Frame of the innermost function that builds.
        at_call: Whether the error was raised in this function, not in a function that it called.
        path: The key of the config that it builds from or, if that is not found, of the next key outside.
        part: The value at this key.
        exact: Whether the function builds from this key.
    """
    given, text, values = _part_of(builder), one_line(error), builder.f_locals
    if at_call and not (isinstance(given, Mapping) and 'type' in given) and builder.f_code is build_from_cfg.__code__:
        key = next((f'.{key}' for key, value in part.items() if not exact and value is given), '')
        return f'{path}{key} is {_short(given)}: a dict with a `type` is needed'
    kind = values.get('obj_type')
    if at_call and isinstance(error, KeyError) and isinstance(kind, str):
        return _unknown_type(f'{path}.type' if exact else f'a type in {path}', kind, values['registry'])
    built = values.get('obj_cls')
    argument = re.search(r"unexpected keyword argument '(\w+)'", text)
    if argument and argument[1] in given:
        key = f'{path}.{argument[1]}' if exact else f'{path}: {argument[1]!r} of {_name(kind)}'
        return f'{key}: there is no such argument{_similar(argument[1], _arguments(built))}'
    if at_call and (missing := re.search(r'missing \d+ required .*', text)):
        return f'{path}{_named(given)} is {missing[0]}: add it'
    return next(_wrong_values(built, part, path), None) if exact else None


def _unknown_type(where: str, name: str, registry: Registry) -> str:
    names, of = [], registry
    while of is not None:
        names += of.module_dict
        of = of.parent
    return (
        f'{where} is {name!r}, which is no {registry.name} that is known{_similar(name, names)}; one of your own is '
        'imported by `custom_imports`'
    )


def _similar(name: str, names: Sequence[str]) -> str:
    """A hint at similar names, or at all names if they are few."""
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        return f': did you mean {" or ".join(close)}?'
    return f': there are {", ".join(names)}' if 0 < len(names) <= 12 else ''


def _arguments(built: Callable | None) -> list[str]:
    """Names of the arguments of a component and, if it passes on others, of its base classes."""
    names: dict[str, None] = {}
    for base in inspect.getmro(built) if inspect.isclass(built) else filter(None, [built]):
        parameters = _signature(base)
        names |= dict.fromkeys(
            name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY or p.kind is p.POSITIONAL_OR_KEYWORD
        )
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return list(names)


def _signature(function: Callable) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # implemented in C
        return {}


def _wrong_values(built: Callable | None, part: Mapping, path: str) -> Iterator[str]:
    """A line for each text where the argument is a number, and each text or number where it is a container.

    Other mistakes are not reported, because many type hints of other packages are not exact.
    """
    hints: dict[str, Any] = {}
    for base in reversed(inspect.getmro(built)) if inspect.isclass(built) else [built]:
        with contextlib.suppress(NameError, TypeError, AttributeError):  # no hints, or names only type checkers import
            hints |= typing.get_type_hints(base.__init__ if inspect.isclass(base) else base)
    for name, value in part.items():
        hint = hints.get(name)
        union = typing.get_origin(hint) in (typing.Union, UnionType)
        kinds = [typing.get_origin(kind) or kind for kind in (typing.get_args(hint) if union else (hint,))]
        if not isinstance(value, (str, int, float)) or not all(kind in _PLAIN + _CONTAINERS for kind in kinds):
            continue
        fits = str in kinds if isinstance(value, str) else any(kind in _PLAIN[:-1] for kind in kinds)
        if not fits:
            wanted = ' or '.join(kind.__name__ for kind in kinds if kind is not NoneType)
            yield f'{path}.{name} is {value!r}: {wanted} is needed'


def _class_of(node: Mapping) -> Callable | None:
    """The class or function that the ``type`` of a part of a config names."""
    kind = node.get('type')
    if not isinstance(kind, str):
        return kind
    known = (value for value in vars(registries).values() if isinstance(value, Registry))
    found = (registry.module_dict.get(kind) or registry.get(kind) for registry in known)
    return next((built for built in found if built is not None), None)


def _part_of(frame: FrameType) -> Any:
    """The part of the config that a builder builds from."""
    return frame.f_locals.get(_BUILDERS[frame.f_code])


def _place_of(part: Any, config: Mapping) -> tuple[str, Mapping] | None:
    """Key and value of the part of the config that is most like ``part``, which may be an extended copy."""
    if not isinstance(part, Mapping):
        return None
    best, most = None, 0
    for path, node in nodes(config):
        if node.get('type') == part.get('type'):
            alike = sum(key in part and _equal(part[key], value) for key, value in node.items())
            if alike > most:
                best, most = (path, node), alike
    return best


def _equal(value: Any, other: Any) -> bool:
    try:
        return bool(value == other)
    except Exception:  # arrays
        return False


def nodes(value: Any, path: str = '') -> Iterator[tuple[str, MutableMapping]]:
    """All dicts of a config with their dotted keys."""
    if isinstance(value, MutableMapping) and path:
        yield path, value
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    for key, inner in items:
        yield from nodes(inner, f'{path}.{key}' if path else str(key))


def _is_bug(step: TracebackType) -> bool:
    """Whether an error occurred in our own code, other than by a ``raise`` statement."""
    code = step.tb_frame.f_code
    ours = osp.abspath(code.co_filename).startswith(_PACKAGE + os.sep)
    return ours and code.co_code[step.tb_lasti] != dis.opmap['RAISE_VARARGS']


def _named(part: Mapping) -> str:
    return f' ({_name(part["type"])})' if 'type' in part else ''


def _name(kind: Any) -> str:
    return getattr(kind, '__name__', str(kind))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f'{text[:77]}...'
