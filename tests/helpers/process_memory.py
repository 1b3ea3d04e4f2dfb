"""Memory of a process, for code that tests run in a process of its own. Linux."""

import os
import subprocess
import sys

import pytest
from helpers.repo import ROOT

needs_linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')


def _status(name: str) -> int:
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f'{name}:'))


def resident_bytes() -> int:
    """Physical memory in use."""
    return _status('VmRSS')


def peak_bytes() -> int:
    """The most physical memory that was in use since the program started.

    Not what getrusage calls the maximum: that is inherited from the process that started the program.
    """
    return _status('VmHWM')


def printed_alone(code: str) -> float:
    """The number that code prints last, run in the checkout by a process of its own.

    The peak of the process that tests run in would include what other tests took.
    """
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / 'tests')]))
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split()[-1])
