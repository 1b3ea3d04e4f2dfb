"""Image files of a few bytes whose headers claim more."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def png(height: int, width: int) -> bytes:
    """A PNG with a start and an end, and one row of zeros."""
    header = _chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    rows = _chunk(b'IDAT', zlib.compress(bytes(100)))
    return b'\x89PNG\r\n\x1a\n' + header + rows + _chunk(b'IEND', b'')


def _encoded(extension: str) -> bytearray:
    return bytearray(cv2.imencode(extension, np.zeros((16, 16, 3), np.uint8))[1].tobytes())


def jpeg(height: int, width: int) -> bytes:
    """A whole JPEG of 16x16, which decoders would fill up with grey."""
    data = _encoded('.jpg')
    place = data.index(b'\xff\xc0') + 5
    data[place : place + 4] = struct.pack('>HH', height, width)
    return bytes(data)


def bmp(height: int, width: int) -> bytes:
    """A whole BMP of 16x16."""
    data = _encoded('.bmp')
    data[18:26] = struct.pack('<ii', width, height)
    return bytes(data)


def ppm(height: int, width: int) -> bytes:
    """A PPM of one row."""
    return f'P6\n{width} {height}\n255\n'.encode() + bytes(100)


def gif(height: int, width: int) -> bytes:
    """A whole GIF of 16x16."""
    file = io.BytesIO()
    Image.new('L', (16, 16)).save(file, 'GIF')
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack('<HH', width, height)
    return bytes(data)


def webp(height: int, width: int) -> bytes:
    """A WebP whose canvas is larger than its image."""
    canvas = struct.pack('<I', width - 1)[:3] + struct.pack('<I', height - 1)[:3]
    image = bytes(_encoded('.webp'))[12:]
    content = b'WEBPVP8X' + struct.pack('<I', 10) + bytes(4) + canvas + image
    return b'RIFF' + struct.pack('<I', len(content)) + content


def tiff(height: int, width: int) -> bytes:
    """A whole TIFF of 16x16."""
    data = _encoded('.tiff')
    order = '<' if data.startswith(b'II') else '>'
    (start,) = struct.unpack_from(f'{order}I', data, 4)
    (number,) = struct.unpack_from(f'{order}H', data, start)
    for place in range(start + 2, start + 2 + 12 * number, 12):
        (tag,) = struct.unpack_from(f'{order}H', data, place)
        if tag in (256, 257):
            struct.pack_into(f'{order}HHII', data, place, tag, 4, 1, width if tag == 256 else height)
    return bytes(data)


BOMBS = dict(png=png, jpg=jpeg, bmp=bmp, ppm=ppm, gif=gif, webp=webp, tiff=tiff)
