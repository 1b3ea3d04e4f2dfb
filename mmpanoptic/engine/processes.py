"""Start of several processes on this machine by a tool itself."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import torch

from mmpanoptic.utils import UserError, shipped
from mmpanoptic.utils.shipped import PACKAGE


def start_processes(number: int, tool: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by torchrun, which runs a tool in ``number`` processes with ``--launcher pytorch``.

    Without a GPU, the processes share the CPUs and communicate over gloo. torchrun chooses a free port.

    Args:
        number: Number of processes; with GPUs, at most the number of GPUs.
        tool: The script below ``tools/``.
        arguments: The tool's command-line arguments.

    Raises:
        UserError: If ``number`` is below 1, or there are fewer GPUs.
    """
    gpus = torch.cuda.device_count()
    if number < 1 or (torch.cuda.is_available() and number > gpus):
        raise UserError(f'--gpus {number}: give a number from 1 to {gpus or "that of the CPU cores"}')
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={number}']
    command += [str(shipped('tools') / tool), *arguments, '--launcher', 'pytorch']
    sys.stdout.flush()
    os.execve(sys.executable, command, dict(os.environ, PYTHONPATH=path))
