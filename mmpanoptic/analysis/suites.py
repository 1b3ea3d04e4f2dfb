"""Suites: lists of trainings to compare, read from YAML files."""

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmpanoptic.engine.cli import Options
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError, require_file

from .logs import differences, flatten

#: Keys of a config that do not change what is trained.
_PLACES = ('work_dir', 'launcher')


@dataclass(frozen=True)
class Run:
    """A run of a suite, which is trained once with every seed.

    Attributes:
        name: Name of the run in the tables.
        config: The config file.
        options: Changes to the config, as for ``--cfg-options``.
        versus: Name of the run that this run is compared with, seed by seed; None: no comparison.
        after: Commands to run after the training, as shell words. ``{config}``, ``{checkpoint}`` and ``{json}`` are
            replaced by paths. Each command writes ``{row: {score: value}}`` to the JSON.
    """

    name: str
    config: str
    options: tuple[str, ...] = ()
    versus: str | None = None
    after: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Name of the folder of the run's trainings."""
        return re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')


@dataclass(frozen=True)
class Suite:
    """The content of a suite's file.

    Attributes:
        path: The file.
        title: Title of the tables.
        seeds: ``randomness.seed`` of the trainings of each run.
        scores: Logged keys of the scores to compare, such as ``panoptic/PQ``, by their names in the tables.
        runs: The runs.
    """

    path: Path
    title: str
    seeds: tuple[int, ...]
    scores: dict[str, str]
    runs: tuple[Run, ...]


def read_suite(path: str | Path) -> Suite:
    """Read a suite.

    Raises:
        UserError: If the file does not exist or is not YAML, a key is missing, unknown or of a wrong type, the names of
            two runs give the same folder, or a run is compared with an unknown one.
    """
    require_file(str(path), 'suite')
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'suite {path} is no YAML: {" ".join(str(error).split())}') from None
    content = _checked(content, dict(title=str, seeds=list, scores=dict, runs=list), {}, f'suite {path}')
    _all(content['seeds'], int, f'suite {path}: seeds')
    _all(content['scores'].values(), str, f'suite {path}: scores')
    runs = tuple(_run(entry, f'suite {path}: runs[{index}]') for index, entry in enumerate(content['runs']))
    folders: dict[str, str] = {}
    for run in runs:
        if run.folder in folders:
            raise UserError(f'suite {path}: name {run.name!r} cannot be told from {folders[run.folder]!r}')
        folders[run.folder] = run.name
        if run.versus not in (None, *(other.name for other in runs)):
            raise UserError(f'suite {path}: {run.name} is compared with {run.versus!r}, which is none of its runs')
    return Suite(Path(path), content['title'], tuple(content['seeds']), content['scores'], runs)


def _run(entry: Any, where: str) -> Run:
    entry = _checked(entry, dict(name=str, config=str), dict(options=list, versus=str, after=list), where)
    for key in ('options', 'after'):
        _all(entry.get(key, ()), str, f'{where}.{key}')
    options, after = (tuple(entry.get(key, ())) for key in ('options', 'after'))
    run = Run(entry['name'], entry['config'], options, entry.get('versus'), after)
    if not run.folder:
        raise UserError(f'{where}: name {run.name!r} has no letter or digit, which its folder is called by')
    for command in run.after:
        try:
            command.format(config='', checkpoint='', json='')
        except (LookupError, ValueError) as error:
            raise UserError(
                f'{where}.after: {command!r}: {{config}}, {{checkpoint}} and {{json}} are known ({error})'
            ) from None
    return run


def _checked(entry: Any, required: Mapping[str, type], optional: Mapping[str, type], where: str) -> dict[str, Any]:
    """Return ``entry`` if it is a mapping with the required keys, no unknown ones, and values of these types."""
    if not isinstance(entry, dict):
        raise UserError(f'{where} is no mapping: it needs {", ".join(required)}')
    for key, kind in required.items():
        if not isinstance(entry.get(key), kind) or not entry[key]:
            raise UserError(f'{where}: {key} must be a {kind.__name__} that is not empty')
    for key, value in entry.items():
        if key not in required and not isinstance(value, optional.get(key, ())):
            raise UserError(f'{where}: {key} is {value!r}: known are {", ".join([*required, *optional])}')
    return entry


def _all(values: Iterable[Any], kind: type, where: str) -> None:
    for value in values:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f'{where}: {value!r} is no {kind.__name__}')


def options_of(run: Run, seed: int) -> list[str]:
    """Changes to the config for the training with this seed, as for ``--cfg-options``."""
    return [*run.options, f'randomness.seed={seed}']


def settings_of(run: Run, seed: int) -> dict[str, str]:
    """All values of a training's config, as text, by dotted key.

    Raises:
        UserError: If the config cannot be read, or an option does not fit it.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=Options)
    options = parser.parse_args(['--cfg-options', *options_of(run, seed)]).cfg_options
    config = load_config(run.config, options)
    return {key: repr(value) for key, value in flatten(config.to_dict()).items() if key not in _PLACES}


def require_same_settings(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse a folder of a training with other settings.

    Raises:
        UserError: If a value of the config differs; the message names the first one.
    """
    for key, (old, new) in differences(before, now).items():
        raise UserError(
            f'{folder} is of other settings: {key} was {old}, and is {new}: move it away, or name another --work-dir'
        )
