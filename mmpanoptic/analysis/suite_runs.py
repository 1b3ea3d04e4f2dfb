"""The trainings of a suite: which are done, and how the others get done."""

import contextlib
import hashlib
import json
import os
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpanoptic.engine.checkpoint_files import latest_checkpoint
from mmpanoptic.utils import UserError, write_whole

from .logs import read_object, read_scores
from .suites import Run, Suite, options_of, require_same_settings, settings_of

_LAST_LINES = 3  # of the output of a command that failed


@dataclass(frozen=True)
class Job:
    """One training of a suite and what follows it.

    Attributes:
        run: What is trained.
        seed: Its ``randomness.seed``.
        folder: Its work dir. ``settings.json`` in it says what is trained, ``trained.json`` has its scores, and
            ``after_*.json`` what commands gave.
        record: File that holds its scores where its work dir is gone; None: there is no such file.
    """

    run: Run
    seed: int
    folder: Path
    record: Path | None = None

    def __str__(self) -> str:
        return f'{self.run.name}, seed {self.seed}'


def jobs_of(suite: Suite, work_dir: str | Path, records: str | Path | None = None) -> list[Job]:
    """All trainings of a suite, seed by seed: what is compared is done one after the other.

    Args:
        suite: The suite.
        work_dir: Folder of the work dirs.
        records: Folder of the files that keep scores; None: there is none.
    """
    jobs = []
    for seed in suite.seeds:
        for run in suite.runs:
            record = Path(records, run.folder, f'seed_{seed}.json') if records else None
            jobs.append(Job(run, seed, Path(work_dir, run.folder, f'seed_{seed}'), record))
    return jobs


def rows_of(job: Job) -> dict[str, dict[str, float]] | None:
    """What a training gave: scores by their logged keys, by the name of the table's row; None if it is not done.

    Raises:
        UserError: If a file of its scores is no such file.
    """
    if job.record and job.record.exists():
        rows = read_object(job.record, 'scores').get('rows')
        if not isinstance(rows, dict):
            raise UserError(f'{job.record} holds no rows of scores: remove it, and the training is done again')
        return {row: _scores(job.record, scores) for row, scores in rows.items()}
    files = [job.folder / 'trained.json', *(result_of(job, command) for command in job.run.after)]
    if not all(file.exists() for file in files):
        return None
    rows = {job.run.name: _scores(files[0], read_object(files[0], 'scores'))}
    for file in files[1:]:
        of_file = read_object(file, 'scores').items()
        rows |= {f'{job.run.name}: {row}': _scores(file, scores) for row, scores in of_file}
    return rows


def result_of(job: Job, command: str) -> Path:
    """Where a command of a trained model writes; its name tells commands apart, so that suites can share trainings."""
    return job.folder / f'after_{hashlib.sha256(command.encode()).hexdigest()[:10]}.json'


def keep(job: Job) -> None:
    """Write the record of a job that is done: its scores, and a digest of the settings that they belong to."""
    if job.record and not job.record.exists() and (rows := rows_of(job)) is not None:
        job.record.parent.mkdir(parents=True, exist_ok=True)
        write_whole(job.record, json.dumps(dict(settings=_digest(job), rows=rows), indent=1) + '\n')


def _digest(job: Job) -> str:
    """What tells a training and the commands after it from others."""
    made_of = settings_of(job.run, job.seed) | dict(after=list(job.run.after))
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _scores(file: Path, content: Any) -> dict[str, float]:
    if not isinstance(content, dict) or not all(isinstance(value, (int, float)) for value in content.values()):
        raise UserError(f'{file} holds no scores by name: remove it, and they are made again')
    return content


def check(job: Job) -> bool:
    """Whether a training is done or begun; its record and folder must be of these settings.

    Raises:
        UserError: If one of them is of other settings, or the folder holds files of something else.
    """
    if job.record and job.record.exists():
        if read_object(job.record, 'scores').get('settings') != _digest(job):
            raise UserError(f'{job.record} is of other settings: remove it, and the training is done again')
        return True
    file = job.folder / 'settings.json'
    if not file.exists():
        if job.folder.exists() and any(job.folder.iterdir()):
            raise UserError(f'{job.folder} holds other files: move them away, or name another --work-dir')
        return False
    before = read_object(file, 'settings')
    require_same_settings(job.folder, before, settings_of(job.run, job.seed))
    return True


def claim(job: Job) -> None:
    """Note what a folder is for, or see that it is for this.

    Raises:
        UserError: As :func:`check`.
    """
    if not check(job):
        job.folder.mkdir(parents=True, exist_ok=True)
        write_whole(job.folder / 'settings.json', json.dumps(settings_of(job.run, job.seed), indent=1))


class Machine:
    """Where trainings run: so many at a time, each on a GPU of its own if there are any.

    Args:
        places: A GPU's number for each training at a time, or None for one on the CPU.
        command: What runs the tools of this package.
    """

    def __init__(
        self, places: Sequence[int | None], command: Sequence[str] = (sys.executable, '-m', 'mmpanoptic')
    ) -> None:
        self.command = command
        self._free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for place in places:
            self._free.put(place)
        self._number = len(places)
        self._running: set[subprocess.Popen] = set()
        self._lock, self._stopped = threading.Lock(), False

    def do(self, jobs: Sequence[Job], done: Callable[[Job, float], None]) -> list[tuple[Job, UserError]]:
        """Do all jobs; when a signal comes, trainings get it too, and save what a later call goes on from.

        Args:
            jobs: Those that are not done.
            done: Is given each job that is, with the seconds that it took; one at a time.

        Returns:
            The jobs that failed, with the reason.
        """
        failed: list[tuple[Job, UserError]] = []
        telling = threading.Lock()

        def work(job: Job) -> None:
            start = time.monotonic()
            try:
                with self._place() as environment:
                    self._train(job, environment)
                if not self._stopped:
                    with telling:
                        done(job, time.monotonic() - start)
            except UserError as error:  # the others go on
                failed.append((job, error))

        with ThreadPoolExecutor(self._number) as pool:
            futures = [pool.submit(work, job) for job in jobs]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:  # all are done, or a signal came: those that wait do not begin
                self._stop()
        for future in futures:
            future.result()
        return failed

    @contextlib.contextmanager
    def _place(self) -> Iterator[dict[str, str]]:
        """The environment of a process with a place of its own."""
        place = self._free.get()
        environment = dict(os.environ)
        if place is None:
            environment.setdefault('OMP_NUM_THREADS', '1')  # the same sums with any number at a time
        else:
            visible = os.environ.get('CUDA_VISIBLE_DEVICES')
            environment['CUDA_VISIBLE_DEVICES'] = visible.split(',')[place] if visible else str(place)
        try:
            yield environment
        finally:
            self._free.put(place)

    def _train(self, job: Job, environment: dict[str, str]) -> None:
        if not (job.folder / 'trained.json').exists():
            options = ['--cfg-options', *options_of(job.run, job.seed)]
            resume = ['--resume'] if latest_checkpoint(str(job.folder)) else []
            words = ['train', job.run.config, '--work-dir', str(job.folder), *resume, *options]
            self._run(job, 'train', words, environment)
            if self._stopped:
                return
            write_whole(job.folder / 'trained.json', json.dumps(read_scores(job.folder), indent=1))
        for command in job.run.after:
            file = result_of(job, command)
            if not file.exists():
                names = dict(config=job.run.config, checkpoint=latest_checkpoint(str(job.folder)), json=str(file))
                self._run(job, file.stem, [word.format(**names) for word in shlex.split(command)], environment)

    def _run(self, job: Job, name: str, words: list[str], environment: dict[str, str]) -> None:
        """Run a command of this package with its output in a file.

        Raises:
            UserError: If it fails.
        """
        output = job.folder / f'{name}.out'
        with open(output, 'ab') as file:
            with self._lock:
                if self._stopped:
                    return
                process = subprocess.Popen(
                    [*self.command, *words],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
                )
                self._running.add(process)
            status = process.wait()
            with self._lock:
                self._running.discard(process)
        if status and not self._stopped:
            lines = [line.strip() for line in output.read_text(errors='replace').splitlines() if line.strip()]
            raise UserError(f'{job}: {" ".join(lines[-_LAST_LINES:])} (exit status {status}; all of it is in {output})')

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()
