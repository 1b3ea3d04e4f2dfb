"""Several processes on this machine, started by a tool itself."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import torch

from mmpanoptic.utils import UserError, shipped
from mmpanoptic.utils.shipped import PACKAGE


def start_processes(number: int, tool: str, arguments: Sequence[str]) -> NoReturn:
    """Become torchrun, which runs a tool in so many processes; each has ``--launcher pytorch`` and its rank.

    Without a GPU they share the CPUs and talk over gloo. The port is a free one.

    Args:
        number: How many; with GPUs, at most as many as there are.
        tool: The script below ``tools/``.
        arguments: Of the command line.

    Raises:
        UserError: If there are fewer GPUs, or the number is none.
    """
    gpus = torch.cuda.device_count()
    if number < 1 or (torch.cuda.is_available() and number > gpus):
        raise UserError(f'--gpus {number}: give a number from 1 to {gpus or "that of the CPU cores"}')
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={number}']
    command += [str(shipped('tools') / tool), *arguments, '--launcher', 'pytorch']
    sys.stdout.flush()
    os.execve(sys.executable, command, dict(os.environ, PYTHONPATH=path))
