"""Tables and the plot of a suite, for a page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib import rc_context
from matplotlib.figure import Figure

from mmpanoptic.utils import UserError, whole_file, write_whole

from .suite_runs import Job, rows_of
from .suites import Suite

_FRACTIONS = 'coco/'  # keys of COCO's metrics, which are logged as fractions
_ROW_HEIGHT = 0.32  # inches


@dataclass(frozen=True)
class Row:
    """A row of a suite's tables.

    Attributes:
        name: Name of a run, perhaps with that of a result of a command after it.
        versus: Name of the row that this row is compared with; None: no comparison.
        values: Scores in percent of each seed, by their name in the table; None for a seed that was not run.
    """

    name: str
    versus: str | None
    values: dict[str, list[float | None]]


def table_rows(suite: Suite, jobs: Sequence[Job]) -> list[Row]:
    """Rows of all runs of a suite, with the scores of the trainings that are done.

    Raises:
        UserError: If a finished training lacks a score of the suite.
    """
    found = {(job.run.name, job.seed): (job, scores) for job in jobs if (scores := rows_of(job)) is not None}
    rows = []
    for run in suite.runs:
        results = [found.get((run.name, seed)) for seed in suite.seeds]
        names = dict.fromkeys([run.name, *(name for result in results if result for name in result[1])])
        after = [name for name in names if name != run.name]
        for name in names:
            versus = run.versus if name == run.name else after[0] if name != after[0] else None
            values = {title: [_score(result, name, key) for result in results] for title, key in suite.scores.items()}
            rows.append(Row(name, versus, values))
    return rows


def _score(result: tuple[Job, Mapping[str, Mapping[str, float]]] | None, name: str, key: str) -> float | None:
    """A score of one row of a training's result, in percent; None if there is no such result."""
    if result is None or name not in result[1]:
        return None
    job, scores = result[0], result[1][name]
    if key not in scores:
        file = job.record if job.record and job.record.exists() else job.folder / 'trained.json'
        raise UserError(f'{file} has no {key}: there are {", ".join(scores)}')
    return scores[key] * (100 if key.startswith(_FRACTIONS) else 1)


def markdown(suite: Suite, rows: Sequence[Row], plot: str) -> str:
    """A table for each score, and a link to the plot.

    Args:
        suite: The suite.
        rows: Rows of the tables.
        plot: Address of the plot.
    """
    parts = [f'**{suite.title}.** `mmpanoptic benchmark-suite {suite.path}`', f'![{suite.title}]({plot})']
    by_name = {row.name: row for row in rows}
    seeds = [f'seed {seed}' for seed in suite.seeds]
    for title in suite.scores:
        header = [title, *seeds, 'mean', 'against', *(f'Δ {seed}' for seed in seeds), 'Δ mean']
        lines = [header, ['---', *['---:'] * (len(seeds) + 1), '---', *['---:'] * (len(seeds) + 1)]]
        for row in rows:
            values = row.values[title]
            other = by_name[row.versus].values[title] if row.versus else [None] * len(seeds)
            gains = [
                None if value is None or before is None else value - before
                for value, before in zip(values, other, strict=True)
            ]
            known = [value for value in values if value is not None]
            gained = [gain for gain in gains if gain is not None]
            cells = ['not run' if value is None else f'{value:.2f}' for value in values]
            cells += [f'**{fmean(known):.2f}**' if known else '', row.versus or '']
            cells += ['' if gain is None else f'{gain:+.2f}' for gain in gains]
            lines.append([row.name, *cells, f'**{fmean(gained):+.2f}**' if gained else ''])
        parts.append('\n'.join(f'| {" | ".join(cells)} |' for cells in lines))
    return '\n\n'.join(parts)


def draw(suite: Suite, rows: Sequence[Row], path: str | Path) -> None:
    """Draw plots side by side, one for each score: a point for each seed and a line for the mean of each row.

    Args:
        suite: The suite.
        rows: Rows of the plot; those without any score are left out.
        path: The SVG file.

    Raises:
        UserError: If the file cannot be written.
    """
    rows = [row for row in rows if any(value is not None for values in row.values.values() for value in values)]
    size = (4 * len(suite.scores) + 2, 1.0 + _ROW_HEIGHT * max(len(rows), 1))
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(1, len(suite.scores), sharey=True, squeeze=False)[0]
    for title, plot in zip(suite.scores, axes, strict=True):
        for place, row in enumerate(rows):
            known = [value for value in row.values[title] if value is not None]
            if known:
                plot.plot(known, [place] * len(known), 'o', color='C0', alpha=0.6, markersize=5)
                plot.plot([fmean(known)], [place], '|', color='C1', markersize=16, markeredgewidth=2)
        plot.set_xlabel(title)
        plot.grid(axis='x', alpha=0.3)
    axes[0].set_yticks(range(len(rows)), [row.name for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    # The same scores give the same file, byte for byte.
    with rc_context({'svg.hashsalt': suite.title, 'svg.fonttype': 'none'}), whole_file(path) as file:
        figure.savefig(file, format='svg', metadata=dict(Date=None))


def write_page(path: str | Path, suite: Suite, text: str) -> None:
    """Write a suite's text into a page, between ``<!-- suite: NAME -->`` and ``<!-- end -->``.

    NAME is the name of the suite's file without its suffix. A page that does not exist is made.

    Raises:
        UserError: If the page exists and lacks these lines.
    """
    page, mark = Path(path), f'<!-- suite: {suite.path.stem} -->'
    before = page.read_text() if page.exists() else f'# {suite.title}\n\n{mark}\n<!-- end -->\n'
    place = re.compile(rf'({re.escape(mark)}\n)(.*?)(<!-- end -->)', re.DOTALL)
    if not place.search(before):
        raise UserError(f'{page} has no place for the suite: put the lines "{mark}" and "<!-- end -->" there')
    write_whole(page, place.sub(lambda found: f'{found[1]}{text}\n{found[3]}', before, count=1))
