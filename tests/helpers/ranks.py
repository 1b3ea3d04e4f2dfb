"""The same work by one process and by two that talk over gloo, on the CPU."""

import subprocess
import sys
from pathlib import Path

import torch
from fixtures.tiny_run import tool_env

from mmpanoptic.engine.devices import end_process_of_group, set_local_rank

_ONE, _TWO = '1_0.pth', ('2_0.pth', '2_1.pth')


def run_one_and_two(folder: Path, *command: str | Path) -> tuple[dict, list[dict]]:
    """Run ``python *command`` as one process and, at the same time, as two; each calls ``join`` and then ``leave``.

    Returns:
        What the one left, and what each of the two left.
    """
    tests = Path(__file__).resolve().parents[1]
    processes = []
    for world_size in (1, 2):
        for rank in range(world_size):
            full = [sys.executable, *map(str, command), str(rank), str(world_size), str(folder)]
            with (folder / f'{world_size}_{rank}.txt').open('w') as output:
                processes.append(
                    subprocess.Popen(full, env=tool_env(PYTHONPATH=str(tests)), stdout=output, stderr=output)
                )
    try:
        for process in processes:
            process.wait(timeout=300)
    finally:
        for process in processes:  # one that waits for another, which is dead
            process.kill()
            process.wait()
    outputs = '\n'.join(path.read_text()[-2000:] for path in sorted(folder.glob('*.txt')))
    statuses = [process.returncode for process in processes]
    assert statuses == [0, 0, 0], f'{statuses}\n{outputs}'
    return torch.load(folder / _ONE), [torch.load(folder / name) for name in _TWO]


def join() -> tuple[int, int]:
    """Rank and number of processes of a process that ``run_one_and_two`` started, which are now a group."""
    rank, world_size, folder = int(sys.argv[-3]), int(sys.argv[-2]), sys.argv[-1]
    if world_size > 1:
        set_local_rank(rank)
        store = f'file://{folder}/store'
        torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=world_size)
    return rank, world_size


def leave(result: dict) -> None:
    """Hand a result over to ``run_one_and_two`` and, of several processes, end this one."""
    rank, world_size, folder = sys.argv[-3:]
    torch.save(result, f'{folder}/{world_size}_{rank}.pth')
    end_process_of_group()
