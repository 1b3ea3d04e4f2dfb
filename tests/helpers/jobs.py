"""Processes that a test has started, and theirs."""

import contextlib
import time
from pathlib import Path


def processes_of(job: str) -> list[int]:
    """Ids of the processes that were started with the environment variable ``JOB=job``, or by one of them."""
    found = []
    for path in Path('/proc').glob('[0-9]*'):
        try:
            if f'JOB={job}'.encode() in (path / 'environ').read_bytes().split(b'\0'):
                found.append(int(path.name))
        except OSError:  # of somebody else, or gone
            pass
    return found


def left_of_session(session: int, patience: float = 10) -> list[str]:
    """Command lines of the processes of a session that live in some seconds, or none as soon as there is none."""
    deadline = time.monotonic() + patience
    while (found := _of_session(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _of_session(session: int) -> list[str]:
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(')')[2].split()
            if int(fields[3]) == session and fields[0] != 'Z':
                found.append((stat.parent / 'cmdline').read_bytes().replace(b'\0', b' ').decode())
    return found
