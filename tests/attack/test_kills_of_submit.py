"""``mmpanoptic submit``, killed before any change of a file: what was whole is whole, and the next run goes on."""

import json
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from fixtures.writers import Writer, submit
from helpers.attack import SEED, Record, WrongError, amount
from helpers.forked import Process, content
from helpers.process_memory import needs_linux

pytestmark = [pytest.mark.slow, needs_linux]

STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
FULL, LEAST = 60, 3  # kills


class Case(NamedTuple):
    """A run over an earlier result.

    Attributes:
        writer: The run.
        root: Where its files are.
        log: Where it prints.
        earlier: Files before the run.
        new: Files after a run that was left alone.
    """

    writer: Writer
    root: Path
    log: Path
    earlier: dict[str, bytes]
    new: dict[str, bytes]


def kill_one(case: Case, change: int, number: signal.Signals) -> str:
    """Send a signal to a run before its n-th change of a file or folder, and run again; what happened to the first."""
    process = Process(case.writer.main, case.log, hold=change, folder=case.root).wait_until_held()
    os.kill(process.pid, number)
    time.sleep(0.05)
    if (status := process.go()) != STATUS[number]:
        raise WrongError(f'it ended with {status}: {process.stderr}')
    lines = process.stderr.splitlines()
    if len(lines) != (status > 0) or not all(line.startswith('stopped by ') for line in lines):
        raise WrongError(f'it printed {process.stderr!r}')
    if (left := result_left(case)) not in (case.earlier, case.new):
        raise WrongError(f'neither the earlier result nor the new one is left, but {sorted(left)}')
    predicted = [json.loads(path.read_text()) for path in case.writer.kept.glob('0*.json')]
    check_next(case, len(predicted))
    return number.name


def result_left(case: Case) -> dict[str, bytes]:
    """All files, without those that are unfinished; of a result that lies aside, as if it lay in its place."""
    place, aside = f'{case.writer.out.name}/', f'.{case.writer.out.name}.old/'
    left = {name: data for name, data in content(case.root, case.writer.kept).items() if '.part' not in name}
    if any(name.startswith(place) for name in left):
        return {name: data for name, data in left.items() if not name.startswith(aside)}
    return {name.replace(aside, place): data for name, data in left.items()}


def check_next(case: Case, predicted: int) -> None:
    """Another run predicts what is not there alone, and leaves what a run that was left alone does."""
    log = case.log.with_name('next')
    process = Process(case.writer.main, log)
    if (status := process.wait()) != 0:
        raise WrongError(f'the next run ended with {status}: {process.stderr}')
    taken = int(re.search(r'3 images, (\d) of them predicted before', log.read_text())[1])
    if taken != predicted:
        raise WrongError(f'{predicted} images were predicted, and {taken} are taken')
    if (after := content(case.root)) != case.new:
        raise WrongError(f'other files: {sorted(after)}')


def test_kills(tmp_path, tiny_models):
    root, saved = tmp_path / 'x', tmp_path / 'saved'
    theirs, ours = (submit(root, tiny_models=tiny_models, name=name) for name in ('theirs', 'ours'))
    process = Process(theirs.main, tmp_path / 'first')
    assert process.wait() == 0, process.stderr
    shutil.copytree(root, saved)
    earlier = content(root)
    process = Process(ours.main, tmp_path / 'alone', hold=0, folder=root)
    assert process.wait() == 0, process.stderr
    case = Case(ours, root, tmp_path / 'killed', earlier, content(root))
    changes = list(range(1, process.num_changes + 1))
    random.Random(f'{SEED}:submit').shuffle(changes)
    with Record('submit: kill and run again') as record:
        for number in range(amount(FULL, least=LEAST)):
            shutil.rmtree(root)
            shutil.copytree(saved, root)
            change, name = changes[number % len(changes)], list(STATUS)[number % len(STATUS)]
            outcome = 'failed'
            try:
                outcome = kill_one(case, change, name)
            except (AssertionError, pytest.fail.Exception) as error:  # the latter of a process that hangs
                record.failures.append(f'kill {number}, {name.name} before change {change}: {error}')
            record.outcomes[outcome] += 1
