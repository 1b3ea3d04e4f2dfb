"""A pickle looked at as a program, before it runs: what would crash a process or take much memory is refused."""

import pickletools
from typing import BinaryIO

from .closed_pickle import DamagedError

MAX_DEPTH = 1000  # of tuples in tuples and so on; Python crashes when it hashes a million
_ADDING = {'APPEND', 'APPENDS', 'SETITEM', 'SETITEMS', 'ADDITEMS', 'BUILD'}
_MARK = object()


def check_program(file: BinaryIO, size: int) -> int:
    """Check one pickle.

    Args:
        file: What to read it from, in memory; it is left where the pickle begins.
        size: Bytes in the file.

    Returns:
        Where the pickle ends.

    Raises:
        DamagedError: If it nests too deeply, or numbers what it remembers higher than there are bytes.
        Exception: Of several kinds, if it is no pickle.
    """
    start = file.tell()
    stack: list = []
    remembered: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
            index = len(remembered) if argument is None else argument
            if not 0 <= index <= size:  # unpickling makes room for as many
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
    """Take from a stack of depths what an operation takes; in the order in which it was put there."""
    taken: list[int] = []
    for wanted in reversed(opcode.stack_before):
        if wanted is pickletools.stackslice:
            while stack[-1] is not _MARK:
                taken.append(stack.pop())
        elif (top := stack.pop()) is not _MARK:
            taken.append(top)
    return taken[::-1]
