"""Many hostile cases, tried in a process of their own: what crashes, hangs or takes much memory is a failure, too."""

import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from mmpanoptic.utils import UserError

SHARE = float(os.environ.get('ATTACK_SHARE', '0.1'))  # of the full amount; `make attack` sets 1
SEED = int(os.environ.get('ATTACK_SEED', '0'))
PATIENCE = 10  # seconds a case
MEMORY = 2**30  # bytes of address space that all cases of a process may add


class WrongError(AssertionError):
    """A case went well that should not have, or with another result than the right one."""


class Tried(NamedTuple):
    """One line of the table.

    Attributes:
        attack: What was done.
        outcomes: How often each thing happened that may happen.
        failures: A text for each case that was not survived.
        seconds: How long it took.
    """

    attack: str
    outcomes: Mapping[str, int]
    failures: list[str]
    seconds: float


TABLE: list[Tried] = []  # of this session, see tests/attack/conftest.py


def amount(full: int, least: int = 1) -> int:
    """How many cases of an attack to try here."""
    return max(min(full, least), round(full * SHARE))


class Record:
    """Counts the cases of an attack and fails the test at its end if one was not survived.

    Args:
        attack: What is done, for the table.
    """

    def __init__(self, attack: str) -> None:
        self.attack = attack
        self.outcomes: Counter[str] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> 'Record':
        self._start = time.monotonic()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _) -> None:
        if error is not None:
            self.failures.append(f'{kind.__name__}: {error}')
        TABLE.append(Tried(self.attack, self.outcomes, self.failures, time.monotonic() - self._start))
        if error is None and self.failures:
            shown = '\n\n'.join(self.failures[:8])
            pytest.fail(
                f'{len(self.failures)} of {self.outcomes.total()} cases of seed {SEED}:\n{shown}', pytrace=False
            )


def one_line(error: UserError, names: Iterable[str]) -> str:
    """The outcome of a refused case.

    Raises:
        WrongError: If the message is no single line, or has none of the names.
    """
    text = str(error)
    if not text or '\n' in text or '\r' in text:
        raise WrongError(f'a refusal of several lines: {text!r}')
    if not any(name in text for name in names):
        raise WrongError(f'a refusal that names no file: {text!r}')
    return 'refused'


Files = dict[str, bytes]


def try_files(
    attack: str,
    count: int,
    root: Path,
    make: Callable[[random.Random], Files],
    verdict: Callable[[Path, Files], str],
) -> None:
    """Replace files below ``root``, look at what the product makes of them, and put the old ones back; many times.

    Args:
        attack: What is done, for the table; together with the seed and the case's number it makes the random numbers.
        count: Number of cases.
        root: A folder of good files.
        make: Names below ``root`` and new contents of some files.
        verdict: Says 'refused' or 'read', or raises anything else than a :class:`UserError`.
    """
    with Record(attack) as record:
        number = 0
        while number < count:
            number = _try_from(record, number, count, root, make, verdict)


def _try_from(record: Record, number: int, count: int, root: Path, make: Callable, verdict: Callable) -> int:
    """Try cases in a fork until all are tried or it dies; the number of the next one."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            _limit()
            with os.fdopen(writing, 'wb') as reports:
                for each in range(number, count):
                    pickle.dump(_try_one(record.attack, each, root, make, verdict), reports)
                    reports.flush()
            os._exit(0)
        finally:
            os._exit(99)
    os.close(writing)
    with os.fdopen(reading, 'rb') as reports:
        while number < count:
            try:
                outcome, failure = pickle.load(reports)
            except EOFError:
                break
            record.outcomes[outcome] += 1
            if failure:
                record.failures.append(f'case {number}: {failure}')
            number += 1
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if number < count:
        record.outcomes['died'] += 1
        files = make(random.Random(f'{SEED}:{record.attack}:{number}'))
        record.failures.append(f'case {number}: the process ended with {code}; {_kept(record.attack, number, files)}')
        _put(root, _originals(root, files))
        number += 1
    return number


def _limit() -> None:
    """Memory, by the kernel. A loop in C that takes no notice of the first alarm ends with the second."""
    with open('/proc/self/statm') as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _hangs)
    sys.stdout = sys.stderr = open(os.devnull, 'w')  # noqa: SIM115  (until the process ends)
    os.dup2(sys.stderr.fileno(), 2)


def _hangs(*_) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    raise TimeoutError(f'no end after {PATIENCE} seconds')


def _try_one(attack: str, number: int, root: Path, make: Callable, verdict: Callable) -> tuple[str, str]:
    files = make(random.Random(f'{SEED}:{attack}:{number}'))
    before = _originals(root, files)
    _put(root, files)
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(PATIENCE)
    try:
        return verdict(root, files), ''
    except UserError as error:
        return _refused(error, attack, number, files, root)
    except WrongError as error:
        return 'wrong', f'{error}; {_kept(attack, number, files)}'
    except BaseException:
        lines = traceback.format_exc().splitlines()
        return 'traceback', '\n'.join([*lines[-7:], _kept(attack, number, files)])
    finally:
        signal.alarm(0)
        _put(root, before)


def _refused(error: UserError, attack: str, number: int, files: Files, root: Path) -> tuple[str, str]:
    try:
        return one_line(error, [str(root), *(Path(name).name for name in files)]), ''
    except WrongError as wrong:
        return 'wrong', f'{wrong}; {_kept(attack, number, files)}'


def _originals(root: Path, files: Files) -> Files:
    """The good contents of files, of which a copy lies beside ``root``."""
    copy = root.with_name(f'{root.name}.good')
    if not copy.exists():
        shutil.copytree(root, copy)
    return {name: (copy / name).read_bytes() for name in files if (copy / name).exists()}


def _put(root: Path, files: Files) -> None:
    for name, content in files.items():
        (root / name).write_bytes(content)


def _kept(attack: str, number: int, files: Files) -> str:
    """Keep the input of a failure; where."""
    base = Path(os.environ.get('ATTACK_FAILURES', Path(tempfile.gettempdir()) / 'mmpanoptic-attack'))
    folder = base / f'{attack.replace(" ", "-").replace("/", "-")}-seed{SEED}-case{number}'
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return f'kept in {folder}'
