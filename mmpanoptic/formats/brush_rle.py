"""Masks of Label Studio's brush: run-length encoded bytes of an RGBA image.

Format: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack. The stream of bits begins with the number of
values (32 bits), the size of a value minus one (5 bits) and four sizes of counts minus one (4 bits each). Pieces
follow: a bit that tells whether one value is repeated, the index of the count's size (2 bits), the count minus one, and
the value or that many values.
"""

from itertools import pairwise

import numpy as np

from mmpanoptic.structures.panoptic_map import run_starts
from mmpanoptic.utils import DatasetError

_COUNT_SIZES = (3, 4, 8, 16)  # bits; Label Studio writes these
_CHANNELS = 4


def encode_brush(mask: np.ndarray) -> list[int]:
    """Encode a mask, bool of shape (H, W), as the bytes that Label Studio stores under ``rle``."""
    flat = np.asarray(mask, bool).ravel()
    starts = [*run_starts(flat).tolist(), flat.size]
    bits = [f'{flat.size * _CHANNELS:032b}', f'{8 - 1:05b}', *(f'{size - 1:04b}' for size in _COUNT_SIZES)]
    for begin, end in pairwise(starts):
        left, value = (end - begin) * _CHANNELS, '1' * 8 if flat[begin] else '0' * 8
        while left:
            count = min(left, 2 ** _COUNT_SIZES[-1])
            index = next(i for i, size in enumerate(_COUNT_SIZES) if count <= 2**size)
            bits.append(f'1{index:02b}{count - 1:0{_COUNT_SIZES[index]}b}{value}')
            left -= count
    text = ''.join(bits)
    return list(int(text.ljust(-len(text) % 8 + len(text), '0'), 2).to_bytes((len(text) + 7) // 8, 'big'))


class _Bits:
    """A stream of bits, the highest of a byte first."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def read(self, size: int) -> int:
        """The next ``size`` bits as a number.

        Raises:
            EOFError: If fewer bits are left.
        """
        end = self.place + size
        last = (end + 7) // 8
        if last > len(self.data):
            raise EOFError
        number = int.from_bytes(self.data[self.place // 8 : last], 'big') >> (last * 8 - end)
        self.place = end
        return number & ((1 << size) - 1)


def decode_brush(values: object, height: int, width: int, where: str) -> np.ndarray:
    """Decode the mask of a brush: the pixels whose alpha is above 0.

    Args:
        values: A list of bytes.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        where: What to call the mask in an error.

    Returns:
        bool of shape (H, W).

    Raises:
        DatasetError: If ``values`` is no such list, or the mask has another size.
    """
    try:
        bits = _Bits(bytes(values) if isinstance(values, list) else b'')
        number, value_size = bits.read(32), bits.read(5) + 1
        sizes = [bits.read(4) + 1 for _ in range(4)]
        if number != height * width * _CHANNELS:
            raise DatasetError(
                f'{where} has a brush mask (rle) of {number} values, and its image of {height}x{width} (height x '
                f'width) has {height * width * _CHANNELS}: export it again'
            )
        out, place = np.empty(number, bool), 0
        while place < number:
            repeated, count = bits.read(1), bits.read(sizes[bits.read(2)]) + 1
            if repeated:
                out[place : place + count] = bits.read(value_size) > 0
            else:
                out[place : place + count] = [bits.read(value_size) > 0 for _ in range(min(count, number - place))]
            place += count
    except (TypeError, ValueError, EOFError):
        raise DatasetError(f'{where} has a brush mask (rle) that is cut off or none: export it again') from None
    if place != number:
        raise DatasetError(f'{where} has a brush mask (rle) of more pixels than its image: export it again')
    return out.reshape(height, width, _CHANNELS)[..., -1]
