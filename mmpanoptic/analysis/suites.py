"""Suites: lists of trainings that are compared, read from a YAML file."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmpanoptic.engine.cli import Options
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError, require_file

from .logs import differences, flatten

#: Where a training stands, whatever it computes.
_PLACES = ('work_dir', 'launcher')


@dataclass(frozen=True)
class Run:
    """A training of a suite, which is done with every seed.

    Attributes:
        name: What the table calls it.
        config: The config file.
        options: What it changes in the config, as ``--cfg-options`` takes it.
        versus: Name of the run that it is compared with, seed by seed; None: with none.
        after: Commands of the trained model, in the words of a shell; ``{config}``, ``{checkpoint}`` and ``{json}``
            stand for its files. Each writes ``{row: {score: value}}`` as JSON.
    """

    name: str
    config: str
    options: tuple[str, ...] = ()
    versus: str | None = None
    after: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Name of the folder of its trainings."""
        return re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')


@dataclass(frozen=True)
class Suite:
    """What a suite's file says.

    Attributes:
        path: The file.
        title: Of its tables.
        seeds: ``randomness.seed`` of the trainings of a run.
        scores: The scores to compare, by their names in the tables: keys as they are logged, such as ``panoptic/PQ``.
        runs: The trainings.
    """

    path: Path
    title: str
    seeds: tuple[int, ...]
    scores: dict[str, str]
    runs: tuple[Run, ...]


def read_suite(path: str | Path) -> Suite:
    """Read a suite.

    Raises:
        UserError: If there is no such file, it is no YAML, a key is missing, unknown or of another type, two runs share
            a name, or a run is compared with one that is not there.
    """
    require_file(str(path), 'suite')
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'suite {path} is no YAML: {" ".join(str(error).split())}') from None
    content = _checked(content, dict(title=str, seeds=list, scores=dict, runs=list), (), f'suite {path}')
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
    run = Run(**{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()})
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
    """A mapping that has the keys and types that it should have."""
    optional = dict(optional)
    if not isinstance(entry, dict):
        raise UserError(f'{where} is no mapping: it needs {", ".join(required)}')
    for key, kind in required.items():
        if not isinstance(entry.get(key), kind) or not entry[key]:
            raise UserError(f'{where}: {key} must be a {kind.__name__} that is not empty')
    for key, value in entry.items():
        if key not in required and not isinstance(value, optional.get(key, ())):
            raise UserError(f'{where}: {key} is {value!r}: known are {", ".join([*required, *optional])}')
    return entry


def _all(values: Sequence[Any], kind: type, where: str) -> None:
    for value in values:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f'{where}: {value!r} is no {kind.__name__}')


def options_of(run: Run, seed: int) -> list[str]:
    """What one training changes in the config of its run, as ``--cfg-options`` takes it."""
    return [*run.options, f'randomness.seed={seed}']


def settings_of(run: Run, seed: int) -> dict[str, str]:
    """All that a training is made of: the values of its config by dotted key, as text.

    Raises:
        UserError: If the config cannot be read, or an option does not fit.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=Options)
    options = parser.parse_args(['--cfg-options', *options_of(run, seed)]).cfg_options
    config = load_config(run.config, options)
    return {key: repr(value) for key, value in flatten(config.to_dict()).items() if key not in _PLACES}


def require_same_settings(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to take a training for another one.

    Raises:
        UserError: If a config value differs; it names the first.
    """
    for key, (old, new) in differences(before, now).items():
        raise UserError(
            f'{folder} is of other settings: {key} was {old}, and is {new}: move it away, or name another --work-dir'
        )
