"""Curves, scores and configs of trainings and tests in work dirs, and differences between two of them."""

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
    """The logged values of one key over a training.

    Attributes:
        steps: Numbers of iterations, ascending.
        values: Value after each of these iterations.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_curves(work_dir: str | Path) -> dict[str, Curve]:
    """All curves that the trainings in a work dir logged, by key. Values after a resumption replace earlier ones.

    Raises:
        UserError: If the work dir holds no log of a training, or a log cannot be read.
    """
    points: dict[str, dict[int, float]] = {}
    for file in _logs(work_dir, 'vis_data/scalars.json'):
        lines = list(_lines(file))
        if begin := next((line['iter'] for line in lines if 'iter' in line), None):
            for key_points in points.values():  # drop what an earlier run logged from this iteration on
                for step in [step for step in key_points if step >= begin]:
                    del key_points[step]
        done = begin or 0
        for line in lines:
            done = line.get('iter', done)
            for key, value in line.items():
                if key not in _NO_CURVES and isinstance(value, (int, float)):
                    points.setdefault(key, {})[done] = float(value)
    curves = {key: sorted(key_points.items()) for key, key_points in points.items() if key_points}
    if not curves:
        raise UserError(f'{work_dir} holds no log of a training (*/vis_data/scalars.json): name a work dir of one')
    return {key: Curve(*map(tuple, zip(*curve, strict=True))) for key, curve in curves.items()}


def _logs(work_dir: str | Path, name: str) -> list[Path]:
    """Files with this name in the folders of a work dir's runs, oldest first; the folders are named by their time."""
    if not Path(work_dir).is_dir():
        raise UserError(f'{work_dir} is no folder: name a work dir, where a training or a test has written')
    return sorted(Path(work_dir).glob(f'*/{name}'))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log. The last line may be incomplete, if the process was killed, and is then skipped."""
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
    """The keys to show: ``keys`` if given, else the loss and the main scores that were logged.

    Raises:
        UserError: If no run logged one of ``keys``.
    """
    known = dict.fromkeys(key for curves in runs.values() for key in curves)
    missing = [key for key in keys or () if key not in known]
    if missing:
        raise UserError(f'{missing[0]} was not logged: there are {", ".join(known)}', 'keys')
    return list(keys or [key for key in _DEFAULT if key in known] or known)


def draw_curves(runs: Mapping[str, Mapping[str, Curve]], keys: Sequence[str], path: str | Path) -> None:
    """Write a picture with a plot for each key and a line for each run.

    Args:
        runs: Curves by key, by the name of the run.
        keys: Keys to plot.
        path: The picture; its suffix gives the format, such as .png or .pdf.

    Raises:
        UserError: If matplotlib does not know the format, or the file cannot be written.
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
    """The newest scores in a work dir, from its last test or its last validation.

    Raises:
        UserError: If there are no scores.
    """
    found: list[tuple[str, dict]] = []
    for file in _logs(work_dir, 'vis_data/scalars.json'):
        found += [(file.parts[-3], line) for line in _lines(file) if any('/' in key for key in line)][-1:]
    tests = (file for file in _logs(work_dir, '*.json') if file.stem == file.parent.name)
    found += [(file.stem, read_object(file, 'scores')) for file in tests]
    if not found:
        raise UserError(f'{work_dir} holds no scores: name a work dir where a model was validated or tested')
    scores = max(found, key=lambda named: named[0])[1]
    return {key: value for key, value in scores.items() if '/' in key and isinstance(value, (int, float))}


def read_object(file: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file that a run wrote.

    Args:
        file: The file.
        what: Name of its content in the error message.

    Raises:
        UserError: If the file cannot be read or is not a JSON object.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f'{file} is no file of {what}: restore it, or move {file.parent} away')
    return content


def read_config(work_dir: str | Path) -> Config:
    """The config of the newest training in a work dir or, without trainings, of the newest test.

    The config is Python code, which is executed.

    Raises:
        UserError: If the work dir holds no config.
    """
    files = _logs(work_dir, 'vis_data/config.py')
    if not files:
        raise UserError(f'{work_dir} holds no config (*/vis_data/config.py): name a work dir of a training or a test')
    trainings = [file for file in files if file.with_name('scalars.json').exists()]
    return load_config(str((trainings or files)[-1]))


def flatten(value: Any, prefix: str = '') -> dict[str, Any]:
    """Values of a config by dotted key; empty containers count as values."""
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat |= flatten(inner, f'{prefix}.{key}' if prefix else str(key))
    return flat or {prefix: value}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Both values of each key in which two flat mappings differ; None for a key that a mapping lacks."""
    keys = dict.fromkeys([*one, *other])
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}
