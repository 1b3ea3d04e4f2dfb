"""A disk that is full after any number of bytes: the new result is whole, or the earlier one is what it was."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures.writers import WRITERS, Writer
from helpers.attack import SEED, Record, WrongError, amount
from helpers.forked import Process, content
from helpers.process_memory import needs_linux
from helpers.toy_training import PER_EPOCH, toy_runner

from mmpanoptic.engine.checkpoint_files import latest_checkpoint
from mmpanoptic.utils import sole_writer

pytestmark = [pytest.mark.slow, needs_linux]
TIMES = 18  # of each writer


def largest(folder: Path) -> int:
    return max(map(len, content(folder).values()))


def random_limit(rng: random.Random, most: int) -> int:
    """Bytes that a file may have: often few, at times more than any file needs."""
    return rng.choice((rng.randrange(1, 300), rng.randrange(1, most), rng.randrange(most // 2, most), most + 1000))


def fill_once(writer: Writer, root: Path, log: Path, limit: int) -> str:
    """Write anew under a limit; what happened."""
    writer.before()
    before = content(root, writer.kept)
    process = Process(writer.main, log, limit=limit)
    status, after = process.wait(), content(root, writer.kept)
    if status == 0:
        if writer.kept and writer.kept.exists():
            raise WrongError(f'{limit} bytes: written, and {writer.kept} is left')
        if missing := before.keys() - after.keys():
            raise WrongError(f'{limit} bytes: written, without {missing}')
        if left := [name for name in after if '.part' in name or '.old' in name]:
            raise WrongError(f'{limit} bytes: {left} are left')
        return 'written'
    lines = [line for line in process.stderr.splitlines() if not line.endswith(': the run goes on')]  # logs
    if status != 1 or len(lines) != 1 or 'File too large' not in lines[0]:
        raise WrongError(f'{limit} bytes: status {status}, {process.stderr!r}')
    if after != before:
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        raise WrongError(f'{limit} bytes: {changed} are not what they were')
    return 'kept'


@pytest.mark.parametrize('make', WRITERS, ids=lambda function: function.__name__)
def test_tools(make, tmp_path, tiny_models, untrained):
    root = tmp_path / 'x'
    writer = make(root, tiny_models=tiny_models, untrained=untrained)
    first = Process(writer.main, tmp_path / 'first')
    assert first.wait() == 0, first.stderr
    most = largest(root)
    with Record(f'full disk: {make.__name__}') as record:
        for number in range(amount(TIMES)):
            rng = random.Random(f'{SEED}:{make.__name__}:{number}')
            outcome = 'failed'
            try:
                outcome = fill_once(writer, root, tmp_path / 'log', random_limit(rng, most))
            except WrongError as error:
                record.failures.append(f'{number}: {error}')
            record.outcomes[outcome] += 1


def test_training(tmp_path):
    """A training keeps what was whole, and goes on from it."""

    def train() -> None:
        with sole_writer(tmp_path / 'run', 'work_dir'):
            toy_runner(tmp_path / 'run', latest_checkpoint(str(tmp_path / 'run'))).train()

    assert Process(train, tmp_path / 'log').wait() == 0
    most = max(path.stat().st_size for path in (tmp_path / 'run').glob('*.pth'))
    with Record('full disk: training') as record:
        for number in range(amount(TIMES)):
            rng = random.Random(f'{SEED}:training:{number}')
            outcome = 'failed'
            try:
                outcome = _train_on(train, tmp_path, random_limit(rng, most))
            except WrongError as error:
                record.failures.append(f'{number}: {error}')
            record.outcomes[outcome] += 1


def _train_on(train: Callable[[], None], folder: Path, limit: int) -> str:
    run = folder / 'run'
    for path in run.glob('*.pth'):
        path.unlink()
    process = Process(train, folder / 'log', limit=limit)
    status = process.wait()
    lines = [line for line in process.stderr.splitlines() if not line.endswith(': the run goes on')]
    if status not in (0, 1) or len(lines) != status:
        raise WrongError(f'status {status}, {process.stderr!r}')
    if left := [path for path in folder.rglob('.*') if path.suffix == '.part']:
        raise WrongError(f'{left} are left')
    for path in run.glob('*.pth'):
        torch.load(path, weights_only=False)
    if Process(train, folder / 'log').wait() != 0:
        raise WrongError('it does not go on')
    state = torch.load(latest_checkpoint(str(run)), weights_only=False)
    if state['meta']['iter'] != 3 * PER_EPOCH:
        raise WrongError('it does not go on to its end')
    return 'written' if status == 0 else 'kept'
