"""Errors of building what a config describes: one line that names the key, not a traceback.

The traceback of such an error says which part of a config was being built, since all of them go through one function of
mmengine's. An error of our own code, which no value of the config explains, stays what it is.
"""

import contextlib
import difflib
import dis
import inspect
import os
import os.path as osp
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
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
# Functions that build from a part of a config, and what that part is called in them.
_BUILDERS = {build_from_cfg.__code__: 'cfg', Runner.build_dataloader.__code__: 'dataloader'}
_PLAIN = (bool, int, float, str, NoneType)
_CONTAINERS = (dict, list, tuple, Mapping, Sequence)


@contextlib.contextmanager
def building(config: Mapping, *parts: str) -> Iterator[None]:
    """Name the key of a config whose component cannot be built inside.

    Args:
        config: The config.
        parts: Its keys that are built from; all, if none are given.

    Raises:
        UserError: If a type is unknown, an argument is missing, unknown or wrong, or a component refuses its arguments.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # components are anyone's code, and refuse arguments in any way
        of_system = isinstance(error, OSError) and (error.errno is not None or isinstance(error, URLError))
        line = None if of_system else _explain(error, {key: config.get(key) for key in parts or read_keys(config)})
        if line is None:
            raise
        raise UserError(line) from error


@contextlib.contextmanager
def running(config: Mapping) -> Iterator[None]:
    """Name a value of a config that is of a wrong type or cannot be fetched, if what is done inside fails.

    Raises:
        UserError: See above.
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
    """Keys of a config that something reads: not those of parts that configs are made of."""
    return [key for key in config if not key.startswith('_')]


def build_dataset(config: Mapping, part: str, **changes: Any) -> BaseDataset:
    """The dataset of a data loader of a config.

    Args:
        config: The config.
        part: The loader's key, such as 'test_dataloader'.
        changes: What is to be different from the config, in each of the datasets inside of wrappers.

    Raises:
        UserError: If there is no such loader, or its dataset cannot be built.
    """
    dataset = dataset_config(config, part)
    with building(config, part):
        return registries.DATASETS.build(with_changes(dataset, changes))


def dataset_config(config: Mapping, part: str) -> Mapping:
    """What a data loader of a config, given by its key, has as its ``dataset``.

    Raises:
        UserError: If there is none.
    """
    dataset = (config.get(part) or {}).get('dataset')
    if dataset is None:
        raise UserError(f'the config has no {part}.dataset: set it')
    return dataset


def _explain(error: Exception, config: Mapping) -> str | None:
    """The line for an error, or None if it is one of our own code."""
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
    for outer, node in ({path: part} if found else config).items():  # what is looked up in other ways than by building
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
    place = '/'.join(last.tb_frame.f_code.co_filename.split('/')[-3:])
    return f'{path}{_named(part)} cannot be built: {type(error).__name__}: {one_line(error)} ({place}:{last.tb_lineno})'


def _explain_call(
    error: Exception, builder: FrameType, at_call: bool, path: str, part: Mapping, exact: bool
) -> str | None:
    """The line for an error whose cause can be read off the call that builds.

    Args:
        error: The error.
        builder: The innermost function that builds.
        at_call: Whether the error came up in it, not in what it called.
        path: The key of the config that it builds from or, if that is not found, of the next one outside.
        part: What stands there.
        exact: Whether it is the one that it builds from.
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
    """What could have been meant."""
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        return f': did you mean {" or ".join(close)}?'
    return f': there are {", ".join(names)}' if 0 < len(names) <= 12 else ''


def _arguments(built: Callable | None) -> list[str]:
    """Names of the arguments of a component and, where it passes on others, of the classes that it extends."""
    names: dict[str, None] = {}
    for one in inspect.getmro(built) if inspect.isclass(built) else filter(None, [built]):
        parameters = _signature(one)
        names |= dict.fromkeys(
            name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY or p.kind is p.POSITIONAL_OR_KEYWORD
        )
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return list(names)


def _signature(function: Callable) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # of C
        return {}


def _wrong_values(built: Callable | None, part: Mapping, path: str) -> Iterator[str]:
    """A line for each value that is text where an argument is a number, or either where it is a container.

    Other mistakes are left out: many hints of other packages are not exact.
    """
    hints = {}
    for one in reversed(inspect.getmro(built)) if inspect.isclass(built) else [built]:
        with contextlib.suppress(NameError, TypeError, AttributeError):  # of what only type checkers import, or none
            hints |= typing.get_type_hints(one.__init__ if inspect.isclass(one) else one)
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
    """What the ``type`` of a part of a config names."""
    kind = node.get('type')
    if not isinstance(kind, str):
        return kind
    known = (value for value in vars(registries).values() if isinstance(value, Registry))
    return next((found for one in known if (found := one.module_dict.get(kind) or one.get(kind)) is not None), None)


def _part_of(frame: FrameType) -> Any:
    """What a builder builds from."""
    return frame.f_locals.get(_BUILDERS[frame.f_code])


def _place_of(part: Any, config: Mapping) -> tuple[str, Mapping] | None:
    """Key and value of the part of a config that is most like one that may have been copied and added to."""
    if not isinstance(part, Mapping):
        return None
    best, most = None, 0
    for path, node in nodes(config):
        if node.get('type') == part.get('type'):
            alike = sum(key in part and _equal(part[key], value) for key, value in node.items())
            if alike > most:
                best, most = (path, node), alike
    return best


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays
        return False


def nodes(value: Any, path: str = '') -> Iterator[tuple[str, Mapping]]:
    """All dicts of a config with their dotted keys."""
    if isinstance(value, Mapping) and path:
        yield path, value
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    for key, inner in items:
        yield from nodes(inner, f'{path}.{key}' if path else str(key))


def _is_bug(step: TracebackType) -> bool:
    """Whether an error came up in our own code without being raised there on purpose."""
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
