"""Train a list of configs with several seeds, and compare them in a table and a plot.

python tools/analysis_tools/benchmark_suite.py SUITE [--seeds 0 1 2] [--only NAME ...] [--jobs N]
    [--out PAGE.md] [--records DIR]

SUITE is a YAML file such as those of configs/suites, with a title, seeds, scores and runs. Every training has a folder
in the work dir, named by its run and seed, so that suites share trainings. Finished trainings are not repeated; a
training that was stopped continues from its last checkpoint. PAGE gets a table for each score, with every seed, the
mean and the differences seed by seed, and a plot beside the page. It is written after each training; --jobs 0 writes it
without training. With --records, the scores of each training are also kept in a small file. A training with such a file
counts as done, wherever it was run.
"""

import argparse
import functools
import os
from pathlib import Path

import torch

from mmpanoptic.analysis.suite_runs import Job, Machine, check, claim, jobs_of, keep, rows_of
from mmpanoptic.analysis.suite_tables import draw, markdown, table_rows, write_page
from mmpanoptic.analysis.suites import Suite, read_suite
from mmpanoptic.engine import cli
from mmpanoptic.utils import UserError, require_folder, sole_writer


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare trainings of several configs and seeds')
    parser.add_argument('suite', help='YAML file')
    parser.add_argument('--work-dir', help='folder of the trainings (default: work_dirs/suites, shared by all suites)')
    parser.add_argument('--seeds', type=int, nargs='+', metavar='N', help="only these of the suite's seeds")
    parser.add_argument('--only', nargs='+', metavar='NAME', help='only these runs')
    parser.add_argument('--jobs', type=int, metavar='N', help='trainings at a time (default: as many as GPUs or cores)')
    parser.add_argument('--records', metavar='DIR', help='folder that keeps scores when work dirs are removed')
    parser.add_argument('--out', metavar='PAGE.md', help='page for the tables; the plot is written beside it')
    return parser.parse_args()


def chosen(suite: Suite, jobs: list[Job], args: argparse.Namespace) -> list[Job]:
    """The jobs that ``--seeds`` and ``--only`` choose.

    Raises:
        UserError: If a seed or a name is not in the suite.
    """
    names = [run.name for run in suite.runs]
    for flag, values, known in (('--seeds', args.seeds, suite.seeds), ('--only', args.only, names)):
        for value in values or ():
            if value not in known:
                raise UserError(f'{flag} {value}: {suite.path} has {", ".join(map(str, known))}')
    return [job for job in jobs if job.seed in (args.seeds or suite.seeds) and job.run.name in (args.only or names)]


def write(suite: Suite, jobs: list[Job], page: str | None) -> str:
    """Write the tables to ``page``, unless it is None, and return their text."""
    plot = f'{suite.path.stem}.svg'
    rows = table_rows(suite, jobs)
    text = markdown(suite, rows, plot)
    if page is not None:
        draw(suite, rows, Path(page).with_name(plot))
        write_page(page, suite, text)
    return text


def finish(suite: Suite, jobs: list[Job], page: str | None, job: Job, seconds: float) -> None:
    """Print and keep the scores of a finished training, and write the page."""
    keep(job)
    scores = rows_of(job)[job.run.name]
    shown = ', '.join(f'{title} {scores[key]:.4g}' for title, key in suite.scores.items() if key in scores)
    print(f'{job}: {shown} ({seconds / 60:.1f} minutes)', flush=True)
    write(suite, jobs, page)


def main() -> None:
    args = parse_args()
    suite = read_suite(args.suite)
    work_dir = args.work_dir or os.path.join('work_dirs', 'suites')
    jobs = jobs_of(suite, work_dir, args.records)
    wanted = chosen(suite, jobs, args)
    gpus = torch.cuda.device_count()
    number = args.jobs if args.jobs is not None else gpus or os.cpu_count()
    if number < 0:
        raise UserError(f'--jobs {number}: a number of trainings is needed, or 0 to write the page')
    os.makedirs(work_dir, exist_ok=True)
    if args.records:
        require_folder(args.records, '--records')
    with sole_writer(work_dir, '--work-dir'):
        failed = []
        for job in jobs:
            check(job)
            keep(job)
        write(suite, jobs, args.out)  # fails before hours of training if it cannot be written
        if number:
            for job in wanted:
                claim(job)
            left = [job for job in wanted if rows_of(job) is None]
            print(f'{len(wanted) - len(left)} of {len(wanted)} trainings are done; {number} at a time', flush=True)
            places = [place % gpus if gpus else None for place in range(number)]
            failed = Machine(places).do(left, functools.partial(finish, suite, jobs, args.out))
        print(write(suite, jobs, args.out))
    for _, error in failed[:-1]:
        print(f'failed: {error}')
    if failed:
        raise UserError(f'{failed[-1][1]}; {len(failed)} of {len(wanted)} failed: what was done stays')


if __name__ == '__main__':
    cli.run(main)
