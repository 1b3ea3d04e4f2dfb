"""PNG and JPEG files changed: chunks that lie with the right checksum, other kinds of pixels, other ids."""

import io
import random
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from helpers.mutate_bytes import damaged
from PIL import Image

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
Chunks = list[tuple[bytes, bytes]]


def chunks_of(data: bytes) -> Chunks:
    """(kind, content) of each chunk of a good PNG."""
    chunks, place = [], len(_SIGNATURE)
    while place < len(data):
        (length,) = struct.unpack('>I', data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += length + 12
    return chunks


def png_of(chunks: Chunks) -> bytes:
    """A PNG of chunks, with their checksums."""
    parts = (struct.pack('>I', len(c)) + kind + c + struct.pack('>I', zlib.crc32(kind + c)) for kind, c in chunks)
    return _SIGNATURE + b''.join(parts)


def _contents(chunks: Chunks) -> bytes:
    """Bytes to splice in."""
    return b''.join(content for _, content in chunks) + b'\0'


def _position(chunks: Chunks, kind: bytes) -> int:
    return next(index for index, chunk in enumerate(chunks) if chunk[0] == kind)


def _header(chunks: Chunks, rng: random.Random) -> Chunks:
    place = _position(chunks, b'IHDR')
    width, height, *rest = struct.unpack('>IIBBBBB', chunks[place][1])
    sides = (0, 1, 2, 3, width + 1, width - 1, height, width * 2, 1000, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1)
    field = rng.randrange(9)
    if field < 4:
        width, height = rng.choice(((rng.choice(sides), height), (width, rng.choice(sides)), (height, width)))
    else:
        rest[field - 4] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        if rng.random() < 0.3:
            rest[:2] = rng.choice(((1, 0), (2, 3), (4, 3), (8, 3), (16, 0), (16, 2), (8, 4), (8, 6), (16, 6), (3, 2)))
    header = struct.pack('>IIBBBBB', width % 2**32, height % 2**32, *rest)
    return [*chunks[:place], (b'IHDR', header), *chunks[place + 1 :]]


def _other_chunk(chunks: Chunks, rng: random.Random) -> Chunks:
    kind = rng.choice(
        (b'PLTE', b'tRNS', b'gAMA', b'sBIT', b'iCCP', b'zTXt', b'acTL', b'fcTL', b'fdAT', b'eXIf', b'IEND')
    )
    bomb = zlib.compress(bytes(2**20))
    content = rng.choice(
        (b'', bytes(1), bytes(4), bytes(26), b'a\0\0' + bomb, bytes(range(256)) * 3, rng.randbytes(30))
    )
    place = rng.randrange(len(chunks) + 1)
    return [*chunks[:place], (kind, content), *chunks[place:]]


def _disorder(chunks: Chunks, rng: random.Random) -> Chunks:
    chunks, place = list(chunks), rng.randrange(len(chunks))
    way = rng.randrange(4)
    if way == 0:
        chunks.insert(rng.randrange(len(chunks)), chunks[place])
    elif way == 1:
        del chunks[place]
    elif way == 2:
        rng.shuffle(chunks)
    else:
        kind, content = chunks[place]
        kind = bytes(byte ^ rng.choice((0, 0, 0, 32)) for byte in kind)
        chunks[place] = kind, content
    return chunks


def _stream(chunks: Chunks, rng: random.Random) -> Chunks:
    """Other contents of the compressed pixels, whose own checksum may be right."""
    place = _position(chunks, b'IDAT')
    compressed = chunks[place][1]
    way = rng.randrange(5)
    if way == 0:
        compressed = damaged(compressed or b'\0', rng, _contents(chunks))
    elif way == 1:
        compressed = compressed[: rng.randrange(max(len(compressed), 1))]
    elif way == 2:
        split = rng.randrange(len(compressed) + 1)
        return [*chunks[:place], (b'IDAT', compressed[:split]), (b'IDAT', compressed[split:]), *chunks[place + 1 :]]
    else:
        try:
            pixels = zlib.decompress(compressed)
        except zlib.error:  # it was changed before
            pixels = compressed
        compressed = zlib.compress(damaged(pixels or b'\0', rng, _contents(chunks)), rng.choice((0, 1, 9)))
    return [*chunks[:place], (b'IDAT', compressed), *chunks[place + 1 :]]


def _other_kind(data: bytes, rng: random.Random) -> bytes:
    """The same picture as far as possible, stored otherwise."""
    image = Image.open(io.BytesIO(data)).convert('RGB')
    buffer = io.BytesIO()
    way = rng.randrange(7)
    if way == 0:
        image.quantize(rng.choice((2, 7, 256))).save(buffer, 'PNG')
    elif way == 1:
        image.convert(rng.choice(('L', '1', 'LA', 'RGBA', 'I;16'))).save(buffer, 'PNG')
    elif way == 2:
        wide = np.asarray(image).astype(np.uint16) * rng.choice((1, 257, 256))
        return cv2.imencode('.png', wide[..., ::-1])[1].tobytes()
    elif way == 3:
        image.save(buffer, rng.choice(('JPEG', 'GIF', 'BMP', 'TIFF', 'WEBP', 'PPM')))
    elif way == 4:
        image.putalpha(Image.fromarray(np.full(image.size[::-1], rng.choice((0, 1, 255)), np.uint8)))
        image.save(buffer, 'PNG')
    elif way == 5:
        image.transpose(rng.choice(list(Image.Transpose))).save(buffer, 'PNG')
    else:
        frames = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
        image.save(buffer, 'PNG', save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _other_ids(data: bytes, rng: random.Random) -> bytes:
    """Ids exchanged, made void or new ones, in a few pixels or in whole segments."""
    pixels = np.array(Image.open(io.BytesIO(data)).convert('RGB'))
    height, width = pixels.shape[:2]
    other = pixels[rng.randrange(height), rng.randrange(width)].copy()
    value = rng.choice((other, 0, 255, (1, 0, 0), (0, 0, 1), [rng.randrange(256) for _ in range(3)]))
    row, column, side = rng.randrange(height), rng.randrange(width), rng.choice((1, 1, 3, 40))
    if rng.random() < 0.3:
        pixels[(pixels == pixels[row, column]).all(-1)] = value
    else:
        pixels[row : row + side, column : column + side] = value
    return cv2.imencode('.png', pixels[..., ::-1])[1].tobytes()


_CHUNK_CHANGES: tuple[Callable[[Chunks, random.Random], Chunks], ...] = (
    _header,
    _header,
    _other_chunk,
    _disorder,
    _stream,
)


def mutated_png(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Another PNG, or what is none any more, of a good one of 8-bit RGB."""
    way = rng.random()
    if way < 0.25:
        return damaged(data, rng, other)
    if way < 0.45:
        return _other_ids(data, rng)
    if way < 0.55:
        return _other_kind(data, rng)
    chunks = chunks_of(data)
    for _ in range(rng.choice((1, 1, 2))):
        kinds = {kind for kind, _ in chunks}
        if {b'IHDR', b'IDAT'} <= kinds:
            chunks = rng.choice(_CHUNK_CHANGES)(chunks, rng)
    mutated = png_of(chunks)
    return mutated + rng.choice((b'', b'', b'', data, b'\0' * 9))


def _segment(data: bytes, rng: random.Random) -> bytes:
    """A JPEG with another size, number of components or table in one of its segments."""
    places = [index for index in range(len(data) - 8) if data[index] == 0xFF and 0xC0 <= data[index + 1] <= 0xEF]
    place = rng.choice(places)
    changed = bytearray(data)
    way = rng.randrange(4)
    if way == 0:
        changed[place + 1] = rng.randrange(0xC0, 0xF0)
    elif way == 1:
        changed[place + 2 : place + 4] = rng.choice((b'\0\0', b'\xff\xff', b'\0\2'))
    else:
        changed[place + 4 + rng.randrange(8) if place + 12 < len(data) else place] = rng.choice(
            (0, 1, 3, 4, 8, 12, 255)
        )
    return bytes(changed)


def _other_jpeg(data: bytes, rng: random.Random) -> bytes:
    image = Image.open(io.BytesIO(data)).convert('RGB')
    buffer = io.BytesIO()
    exif = Image.Exif()
    if rng.random() < 0.5:
        exif[0x0112] = rng.randrange(10)  # the orientation
    mode = rng.choice(('RGB', 'L', 'CMYK'))
    image.convert(mode).save(
        buffer, 'JPEG', progressive=rng.random() < 0.5, quality=rng.choice((1, 75, 100)), exif=exif
    )
    return buffer.getvalue()


def mutated_jpeg(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Another JPEG, or what is none any more."""
    return rng.choice(
        (lambda: damaged(data, rng, other), lambda: _segment(data, rng), lambda: _other_jpeg(data, rng))
    )()
