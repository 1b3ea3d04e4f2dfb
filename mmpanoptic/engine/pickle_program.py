"""Checks of a pickle's program before it runs. Programs that crash the process or take much memory are refused."""

import pickletools
from typing import Any, BinaryIO

from .closed_pickle import DamagedError

MAX_DEPTH = 1000  # of nested containers; Python crashes when it hashes a million nested tuples
_ADDING = {'APPEND', 'APPENDS', 'SETITEM', 'SETITEMS', 'ADDITEMS', 'BUILD'}
_MARK = object()


def check_program(file: BinaryIO, size: int) -> int:
    """Check one pickle.

    Args:
        file: A file in memory, at the beginning of the pickle; its position is restored.
        size: Bytes in the file.

    Returns:
        The position of the pickle's end.

    Raises:
        DamagedError: If it nests too deeply, or an index into its memo exceeds the number of bytes.
        Exception: Of several kinds, if it is no pickle.
    """
    start = file.tell()
    stack: list = []
    remembered: dict[Any, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
            index = len(remembered) if argument is None else argument
            if not 0 <= index <= size:  # unpickling allocates a memo of this size
                raise DamagedError('a memory larger than the pickle')
            remembered[index] = stack[-1]
            continue
        depths = _pop(stack, opcode)
        if opcode.name in ('GET', 'BINGET', 'LONG_BINGET'):
            depth = remembered[argument]
        elif opcode.name in _ADDING:
            depth = max([depths[0], *(1 + depth for depth in depths[1:])])
        else:
            depth = 1 + max(depths, default=-1)
        if depth > MAX_DEPTH:
            raise DamagedError('something nested too deeply')
        for pushed in opcode.stack_after:
            stack.append(_MARK if pushed is pickletools.markobject else depth)
    end = file.tell()
    file.seek(start)
    return end


def _pop(stack: list, opcode: pickletools.OpcodeInfo) -> list[int]:
    """Take the operands of an operation from a stack of depths, in the order in which they were pushed."""
    taken: list[int] = []
    for wanted in reversed(opcode.stack_before):
        if wanted is pickletools.stackslice:
            while stack[-1] is not _MARK:
                taken.append(stack.pop())
        elif (top := stack.pop()) is not _MARK:
            taken.append(top)
    return taken[::-1]
