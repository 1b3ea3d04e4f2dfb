"""Damage to bytes of any kind."""

import random
from collections.abc import Callable


def _flip(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _overwrite(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    place, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 16, 100))
    fill = rng.choice((bytes(length), b'\xff' * length, rng.randbytes(length)))
    data[place : place + length] = fill[: len(data) - place]
    return data


def _truncate(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return data[: rng.choice((0, 1, 8, rng.randrange(len(data)), len(data) - rng.randrange(1, 20)))]


def _delete(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    place = rng.randrange(len(data))
    del data[place : place + rng.choice((1, 4, 64, len(data) // 4))]
    return data


def _repeat(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    place, length = rng.randrange(len(data)), rng.choice((1, 4, 64, len(data) // 4))
    return data[:place] + data[place : place + length] * rng.choice((2, 3, 20)) + data[place + length :]


def _splice(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    start, length = rng.randrange(len(other)), rng.choice((4, 64, len(other)))
    place = rng.randrange(len(data))
    return data[:place] + other[start : start + length] + data[rng.choice((place, min(place + length, len(data)))) :]


def _append(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return data + rng.choice((other, bytes(data), rng.randbytes(50), b'\0' * 100))


def _swap(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    first, second, third = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


_DAMAGES: tuple[Callable, ...] = (_flip, _flip, _overwrite, _truncate, _delete, _repeat, _splice, _append, _swap)


def damaged(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Bytes with bits flipped, blocks lost, repeated or exchanged, or parts of another file in them.

    Args:
        data: Of a good file.
        rng: Chooses.
        other: Of another file, not empty.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = bytes(rng.choice(_DAMAGES)(bytearray(data), rng, other)) or b'\n'
    return data
