"""What work dirs hold of trainings and tests: curves, scores, configs; and two of them compared."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config

from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError, whole_file

_NO_CURVES = {'epoch', 'iter', 'step'}
_DEFAULT = ('loss', 'panoptic/PQ', 'coco/bbox_mAP', 'coco/segm_mAP', 'semantic/mIoU')


@dataclass(frozen=True)
class Curve:
    """A value over a training, as it was logged.

    Attributes:
        steps: Iterations that were done, ascending.
        values: The value at each.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_curves(work_dir: str | Path) -> dict[str, Curve]:
    """All that the trainings in a work dir have logged, by key; where one was resumed, the later run counts.

    Raises:
        UserError: If it holds no log of a training, or one that cannot be read.
    """
    points: dict[str, dict[int, float]] = {}
    for file in _logs(work_dir, 'vis_data/scalars.json'):
        lines = list(_lines(file))
        if begin := next((line['iter'] for line in lines if 'iter' in line), None):
            for of_key in points.values():  # of the run that this one goes on from, or begins anew
                for step in [step for step in of_key if step >= begin]:
                    del of_key[step]
        done = begin or 0
        for line in lines:
            done = line.get('iter', done)
            for key, value in line.items():
                if key not in _NO_CURVES and isinstance(value, (int, float)):
                    points.setdefault(key, {})[done] = float(value)
    curves = {key: sorted(of_key.items()) for key, of_key in points.items() if of_key}
    if not curves:
        raise UserError(f'{work_dir} holds no log of a training (*/vis_data/scalars.json): name a work dir of one')
    return {key: Curve(*map(tuple, zip(*of_key, strict=True))) for key, of_key in curves.items()}


def _logs(work_dir: str | Path, name: str) -> list[Path]:
    """Files of a name in the folders of a work dir's runs, oldest first: the folders are called by their time."""
    if not Path(work_dir).is_dir():
        raise UserError(f'{work_dir} is no folder: name a work dir, where a training or a test has written')
    return sorted(Path(work_dir).glob(f'*/{name}'))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; the last one may have been cut off by the end of the process."""
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
        except ValueError:
            if number == len(lines):
                return
            content = None
        if not isinstance(content, dict):
            raise UserError(f'{file}:{number} is no line of a log: {line[:60]!r}')
        yield content


def choose_keys(runs: Mapping[str, Mapping[str, Curve]], keys: Sequence[str] | None) -> list[str]:
    """The keys to show: those asked for, or the loss and the main scores that were logged.

    Raises:
        UserError: If no run has logged one that is asked for.
    """
    known = dict.fromkeys(key for curves in runs.values() for key in curves)
    missing = [key for key in keys or () if key not in known]
    if missing:
        raise UserError(f'{missing[0]} was not logged: there are {", ".join(known)}', 'keys')
    return list(keys or [key for key in _DEFAULT if key in known] or known)


def draw_curves(runs: Mapping[str, Mapping[str, Curve]], keys: Sequence[str], path: str | Path) -> None:
    """Draw a plot for each key, with a line for each run, into one picture.

    Args:
        runs: Curves by key, by the name of the run.
        keys: Which.
        path: The picture; its suffix says what it is, such as .png or .pdf.

    Raises:
        UserError: If matplotlib cannot write such a file, or it cannot be written.
    """
    suffix = Path(path).suffix.removeprefix('.')
    columns = min(len(keys), 3)
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(5 * columns, 3.6 * rows), layout='constrained')
    known = FigureCanvasAgg(figure).get_supported_filetypes()
    if suffix not in known:
        raise UserError(f'{path}: the name must end in one of .{", .".join(known)}', 'out')
    for place, key in enumerate(keys, 1):
        axes = figure.add_subplot(rows, columns, place, title=key, xlabel='iteration')
        for name, curves in runs.items():
            if curve := curves.get(key):
                few = len(curve.steps) < 20
                axes.plot(curve.steps, curve.values, marker='o' if few else None, markersize=4, label=name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    with whole_file(path) as file:
        figure.savefig(file, format=suffix, dpi=120)


def read_scores(work_dir: str | Path) -> dict[str, float]:
    """The newest scores in a work dir: of its newest test, or of the last validation if that came later.

    Raises:
        UserError: If there are none.
    """
    found: list[tuple[str, dict]] = []
    for file in _logs(work_dir, 'vis_data/scalars.json'):
        found += [(file.parts[-3], line) for line in _lines(file) if any('/' in key for key in line)][-1:]
    tests = (file for file in _logs(work_dir, '*.json') if file.stem == file.parent.name)
    found += [(file.stem, read_object(file, 'scores')) for file in tests]
    if not found:
        raise UserError(f'{work_dir} holds no scores: name a work dir where a model was validated or tested')
    scores = max(found, key=lambda one: one[0])[1]
    return {key: value for key, value in scores.items() if '/' in key and isinstance(value, (int, float))}


def read_object(file: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file that a run has left.

    Raises:
        UserError: If the file cannot be read, or holds something else; it is called a file of ``what``.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f'{file} is no file of {what}: restore it, or move {file.parent} away')
    return content


def read_config(work_dir: str | Path) -> Config:
    """The config of the newest training in a work dir, or of the newest test; it is Python code and runs.

    Raises:
        UserError: If there is none.
    """
    files = _logs(work_dir, 'vis_data/config.py')
    if not files:
        raise UserError(f'{work_dir} holds no config (*/vis_data/config.py): name a work dir of a training or a test')
    trainings = [file for file in files if file.with_name('scalars.json').exists()]
    return load_config(str((trainings or files)[-1]))


def flatten(value: Any, prefix: str = '') -> dict[str, Any]:
    """Values of a config by dotted key; containers that are empty count as values."""
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat |= flatten(inner, f'{prefix}.{key}' if prefix else str(key))
    return flat or {prefix: value}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where two flat mappings differ: both values by key, None where one lacks it."""
    keys = dict.fromkeys([*one, *other])
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}
