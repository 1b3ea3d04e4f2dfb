"""The trainings of a suite: which are done, and running the others."""

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
    """One training of a suite, and the commands that run after it.

    Attributes:
        run: The run that the training belongs to.
        seed: ``randomness.seed`` of the training.
        folder: Work dir of the training. In it, ``settings.json`` holds the settings, ``trained.json`` the scores, and
            ``after_*.json`` the results of the commands.
        record: File that keeps the scores when the work dir is removed; None: no such file.
    """

    run: Run
    seed: int
    folder: Path
    record: Path | None = None

    def __str__(self) -> str:
        return f'{self.run.name}, seed {self.seed}'


def jobs_of(suite: Suite, work_dir: str | Path, records: str | Path | None = None) -> list[Job]:
    """All trainings of a suite, sorted by seed, so that compared runs follow each other.

    Args:
        suite: The suite.
        work_dir: Folder of the work dirs.
        records: Folder of the files that keep scores; None: scores are not kept.
    """
    jobs = []
    for seed in suite.seeds:
        for run in suite.runs:
            record = Path(records, run.folder, f'seed_{seed}.json') if records else None
            jobs.append(Job(run, seed, Path(work_dir, run.folder, f'seed_{seed}'), record))
    return jobs


def rows_of(job: Job) -> dict[str, dict[str, float]] | None:
    """Scores of a training and its commands: by row of the tables, then by logged key; None if the job is not done.

    Raises:
        UserError: If a file of scores cannot be read or holds something else.
    """
    found = _recorded(job) or _in_folder(job)
    if found is None:
        return None
    file, trained, after = found
    rows = {job.run.name: _scores(file, trained)}
    for command in job.run.after:
        results = after[_digest(command)]
        rows |= {f'{job.run.name}: {row}': _scores(file, scores) for row, scores in results.items()}
    return rows


def _in_folder(job: Job) -> tuple[Path, Any, dict[str, Any]] | None:
    """A file to name in errors, scores of the training, and results of commands by digest; None if one is missing."""
    file, files = job.folder / 'trained.json', {_digest(one): result_of(job, one) for one in job.run.after}
    if not all(path.exists() for path in (file, *files.values())):
        return None
    after = {digest: read_object(path, 'scores') for digest, path in files.items()}
    return file, read_object(file, 'scores'), after


def _recorded(job: Job) -> tuple[Path, Any, dict[str, Any]] | None:
    """The same from the record of a job."""
    if not (job.record and job.record.exists()):
        return None
    content = read_object(job.record, 'scores')
    trained, after = content.get('trained'), content.get('after')
    if not isinstance(trained, dict) or not isinstance(after, dict):
        raise UserError(f'{job.record} holds no scores of a training: remove it, and it is made again')
    is_done = all(_digest(command) in after for command in job.run.after)
    return (job.record, trained, after) if is_done else None


def result_of(job: Job, command: str) -> Path:
    """File that a command writes. Its name holds a digest of the command, so that suites can share trainings."""
    return job.folder / f'after_{_digest(command)}.json'


def keep(job: Job) -> None:
    """Write the record of a finished job: its scores, and a digest of its settings.

    Results of commands that are in the record already, of another suite, stay.
    """
    if job.record is None or _recorded(job) is not None or (found := _in_folder(job)) is None:
        return
    _, trained, after = found
    if job.record.exists():
        after = read_object(job.record, 'scores')['after'] | after
    job.record.parent.mkdir(parents=True, exist_ok=True)
    content = dict(settings=_digest_of_settings(job), trained=trained, after=after)
    write_whole(job.record, json.dumps(content, indent=1) + '\n')


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _digest_of_settings(job: Job) -> str:
    return _digest(json.dumps(settings_of(job.run, job.seed), sort_keys=True))


def _scores(file: Path, content: Any) -> dict[str, float]:
    if not isinstance(content, dict) or not all(isinstance(value, (int, float)) for value in content.values()):
        raise UserError(f'{file} holds no scores by name: remove it, and they are made again')
    return content


def check(job: Job) -> bool:
    """Whether a training was begun or is done, with the same settings.

    Raises:
        UserError: If its record or folder belongs to other settings, or the folder holds other files.
    """
    if job.record and job.record.exists():
        if read_object(job.record, 'scores').get('settings') != _digest_of_settings(job):
            raise UserError(
                f'{job.record} is of other settings: remove it, and it is made again from the work dir or by a '
                'new training'
            )
        if _recorded(job) is not None:
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
    """Write the settings of a job into its folder, or check that they are there.

    Raises:
        UserError: See :func:`check`.
    """
    if not check(job):
        job.folder.mkdir(parents=True, exist_ok=True)
        write_whole(job.folder / 'settings.json', json.dumps(settings_of(job.run, job.seed), indent=1))


class Machine:
    """Run several trainings at a time, each on its own GPU if there are GPUs.

    Args:
        places: One entry for each training at a time: number of a GPU, or None for the CPU.
        command: Command that runs the tools of this package.
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
        """Do all jobs. On a signal, running trainings are told to stop; they save checkpoints for a later call.

        Args:
            jobs: Jobs that are not done.
            done: Called with each finished job and its duration in seconds, never by two threads at once.

        Returns:
            The jobs that failed, with their errors.
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
            except UserError as error:  # other jobs go on
                failed.append((job, error))

        with ThreadPoolExecutor(self._number) as pool:
            futures = [pool.submit(work, job) for job in jobs]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:  # all jobs are done, or a signal came: waiting jobs must not start
                self._stop()
        for future in futures:
            future.result()
        return failed

    @contextlib.contextmanager
    def _place(self) -> Iterator[dict[str, str]]:
        """Take a free place, and yield the environment variables of a process that runs there."""
        place = self._free.get()
        environment = dict(os.environ)
        if place is None:
            environment.setdefault('OMP_NUM_THREADS', '1')  # sums must not depend on the number of trainings at a time
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
        """Run a command of this package and write its output to a file.

        Raises:
            UserError: If the command fails.
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
                    start_new_session=True,  # Ctrl-C reaches this process only, which ends the command once
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
