"""Processes that a test has started, and theirs."""

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
