"""Reading and checking of configs for the tools and the inferencer."""

import difflib
import inspect
import os.path as osp
import sys
import traceback
from collections.abc import Callable
from types import NoneType
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.runner import Runner

from mmpanoptic.datasets.pipelines import list_steps
from mmpanoptic.utils import UserError, find_config, one_line, shipped

from .data_places import fill_places, takes_data_root

MODULE2PACKAGE['mmpanoptic'] = 'mmpanoptic'  # so that mmengine.hub knows the package
_PREFIX = 'mmpanoptic::'  # of a `_base_` that comes with the package
# Keys of a config that mmengine or a tool reads but that are no arguments of mmengine's Runner.
_OTHER_KEYS = {
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'data_root',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}
_KINDS = {
    (dict,): [
        *(f'{split}_{part}' for split in ('train', 'val', 'test') for part in ('dataloader', 'cfg')),
        *('model', 'optim_wrapper', 'default_hooks', 'visualizer', 'log_processor', 'auto_scale_lr', 'tta_model'),
        *('env_cfg', 'randomness'),
    ],
    (dict, list): ['val_evaluator', 'test_evaluator', 'param_scheduler'],
    (list,): ['custom_hooks'],
    (str,): ['work_dir', 'load_from', 'default_scope', 'experiment_name'],
}
# Dicts of which mmengine reads only these entries.
_ENTRIES = {
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
}
_ALIKE = 0.9  # similarity of names (difflib) from which on a name counts as misspelt
KNOWN_KEYS = frozenset(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | _OTHER_KEYS


def load_config(path: str, options: dict | None = None, work_dir: str | None = None) -> Config:
    """Read a config, apply options to it and choose its work dir; its pipelines become lists.

    Args:
        path: The config file, or its path below the ``configs/`` that come with the package.
        options: Values by dotted key, such as ``{'train_cfg.max_epochs': 3}``.
        work_dir: Folder for logs and checkpoints; None: the config's, or ``work_dirs/<config name>``.

    Raises:
        UserError: If there is no such file, it cannot be read, a step of a pipeline is invalid, an option does not fit
            or would change nothing, or ``data_root`` is missing.
    """
    path = find_config(path)
    if not osp.isfile(path):
        raise UserError(f'config {path} does not exist: see configs/')
    _add_import_path(osp.dirname(osp.abspath(path)))
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is code, which can raise anything
        lines = [f':{f.lineno}' for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(path)]
        raise UserError(
            f'config {path}{"".join(lines[-1:])} cannot be read: {type(error).__name__}, {one_line(error)}'
        ) from None
    _check_own_modules(config, path)
    for key in options or {}:
        _check_read(key, config, path)
    try:
        config.merge_from_dict(options or {})
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise UserError(f'an option does not fit {path}: {one_line(error)}', argument='cfg_options') from None
    check_kinds(config)
    fill_places(config)
    list_steps(config._cfg_dict)
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get('work_dir') is None:
        config.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    return config


def _add_import_path(folder: str) -> None:
    """Let ``custom_imports`` find modules beside a config; last, so that they hide nothing that is installed."""
    if folder not in sys.path:
        sys.path.append(folder)


def _check_own_modules(config: Config, path: str) -> None:
    """Refuse a config if another module of the same name was imported before the one beside it.

    Raises:
        UserError: Naming both files.
    """
    for name in (config.get('custom_imports') or {}).get('imports') or ():
        beside = osp.join(osp.dirname(osp.abspath(path)), f'{name}.py')
        loaded = getattr(sys.modules.get(name), '__file__', None)
        if osp.isfile(beside) and loaded and not osp.samefile(beside, loaded):
            raise UserError(
                f'custom_imports of {path}: module {name} is {loaded}, not {beside}: give one of the files another name'
            )


def _base_path(path: str, filename: str, found: Callable = Config._get_cfg_path) -> tuple[str, str | None]:
    """The path of a ``_base_``. mmengine's function finds the configs of installed packages only, not of a checkout."""
    if path.startswith(_PREFIX):
        return str(shipped('configs') / path.removeprefix(_PREFIX)), None
    return found(path, filename)


Config._get_cfg_path = staticmethod(_base_path)


def _check_read(key: str, config: Config, path: str) -> None:
    """Refuse an option that nothing reads, as far as this is known before anything is built.

    Such keys are variables of the config, the key that a flag of the tools sets, unknown keys of a dict with a fixed
    set of keys, and new keys that are almost equal to an existing one.

    Raises:
        UserError: Naming the option, and similar keys.
    """
    name, *inner = key.split('.')

    def refuse(reason: str) -> None:
        raise UserError(f'option {key}: {reason}', argument='cfg_options')

    if name == 'launcher':
        refuse('the launcher is what --launcher says, so setting it would change nothing')
    if name not in KNOWN_KEYS or (name == 'data_root' and not takes_data_root(config)):
        places = _places_of(name, config._cfg_dict)
        way_out = f': keys of that name that do are {", ".join(places)}' if places else ''
        refuse(f'nothing reads {name!r} of {path}, so setting it would change nothing{way_out}')
    node, way = config.get(name), name
    for part in inner:
        if not isinstance(node, dict):
            node = node[int(part)] if isinstance(node, (list, tuple)) and _is_place(part, node) else None
        elif part in node:
            node = node[part]
        else:
            known = _ENTRIES.get(way)
            close = difflib.get_close_matches(part, node, n=1, cutoff=_ALIKE)
            if known is not None and part not in known:
                refuse(f'nothing reads {part!r} of {way}, which has {", ".join(sorted(known))}')
            if known is None and close:
                refuse(f'{way} has {close[0]!r} and no {part!r}, so setting it would change nothing')
            return
        way = f'{way}.{part}'


def _is_place(part: str, values: list | tuple) -> bool:
    return part.isascii() and part.isdecimal() and int(part) < len(values)


def require_keys(config: Config, *keys: str) -> None:
    """Refuse a config that lacks some keys.

    Raises:
        UserError: Naming the missing keys.
    """
    missing = [key for key in keys if config.get(key) is None]
    if missing:
        raise UserError(f'{config.filename or "the config"} has no {" and no ".join(missing)}: inherit or set them')


def value_at(config: Config, key: str) -> Any:
    """The value at a dotted key of a config. A dict or a list becomes a Config with the last part of the key.

    Raises:
        UserError: If there is no such key, naming the keys that exist.
    """
    node: Any = config._cfg_dict.to_dict()
    parts = key.split('.')
    for place, part in enumerate(parts):
        keys = dict(enumerate(node)) if isinstance(node, (list, tuple)) else node if isinstance(node, dict) else {}
        index = int(part) if part.isdecimal() and not isinstance(node, dict) else part
        if index not in keys:
            where = '.'.join(parts[:place]) or 'the config'
            there = f'there are {", ".join(map(str, keys))}' if keys else 'there is nothing below it'
            raise UserError(f'{where} has no {part!r}: {there}', 'key')
        node = keys[index]
    return Config({parts[-1]: node}) if isinstance(node, (dict, list, tuple)) and not parts[-1].isdecimal() else node


def check_kinds(config: Config) -> None:
    """Refuse top-level values of a config that do not have the type that their readers expect.

    Raises:
        UserError: Naming the first such value.
    """
    for kinds, keys in _KINDS.items():
        for key in keys:
            if not isinstance(config.get(key), (*kinds, NoneType)):
                wanted = ' or '.join(kind.__name__ for kind in kinds)
                raise UserError(
                    f'{key} of {config.filename or "the config"} is {config.get(key)!r}: {wanted} is needed'
                )
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (config.get(key) or {}).get('dataset', {})
        if not isinstance(dataset, dict):
            raise UserError(f'{key}.dataset is {dataset!r}: dict is needed')


def _places_of(name: str, node: Any, prefix: str = '') -> list[str]:
    """Dotted keys below the first level of a config whose last part is ``name``."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    found = []
    for key, value in items:
        if prefix and key == name:
            found.append(f'{prefix}{key}')
        if prefix or key in KNOWN_KEYS:
            found += _places_of(name, value, f'{prefix}{key}.')
    return found
