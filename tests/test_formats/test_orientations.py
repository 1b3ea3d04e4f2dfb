"""Which images are turned when they are loaded: what tells their size says the same as the loader does."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpanoptic.datasets.transforms import LoadImageFromFile
from mmpanoptic.formats.images import image_size, load_label_map, loaded_size
from mmpanoptic.utils import DatasetError
from mmpanoptic.visualization.files import read_image

HEIGHT, WIDTH = 24, 36
BLOCKS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
RGB = BLOCKS.repeat(6, axis=0).repeat(6, axis=1)
DEEP = RGB.astype(np.uint16) * 257
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
#: What the orientation 1, 2, ... of EXIF asks for.
UPRIGHT = (
    lambda image: image,
    lambda image: image[:, ::-1],
    lambda image: image[::-1, ::-1],
    lambda image: image[::-1],
    lambda image: image.swapaxes(0, 1),
    lambda image: np.rot90(image, -1),
    lambda image: image[::-1, ::-1].swapaxes(0, 1),
    lambda image: np.rot90(image),
)


def by_pillow(kind: str, mode: str = 'RGB', **options) -> Callable[[int], bytes]:
    """Makes a file of an orientation."""

    def make(orientation: int) -> bytes:
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x0112] = orientation
        Image.fromarray(RGB).convert(mode).save(file, kind, exif=exif, **options)
        return file.getvalue()

    return make


def tiff(pixels: np.ndarray, orientation: int) -> bytes:
    """An uncompressed TIFF of one strip, of 8 or 16 bits and one or three channels."""
    height, width = pixels.shape[:2]
    channels, bits = pixels.size // (height * width), 8 * pixels.itemsize
    tags = [(256, width), (257, height), (259, 1), (262, 2 if channels == 3 else 1), (274, orientation),
            (277, channels), (278, height), (279, pixels.nbytes)]  # fmt: skip
    depths = struct.pack(f'<{channels}H', *[bits] * channels)
    begin = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [(tag, struct.pack('<HHII', tag, 4, 1, value)) for tag, value in tags]
    value = depths.ljust(4, b'\0') if channels == 1 else struct.pack('<I', begin)
    entries.append((258, struct.pack('<HHI', 258, 3, channels) + value))
    entries.append((273, struct.pack('<HHII', 273, 4, 1, begin + len(depths))))
    directory = b''.join(entry for _, entry in sorted(entries))
    header = b'II*\0' + struct.pack('<IH', 8, len(entries)) + directory + struct.pack('<I', 0)
    return header + depths + pixels.tobytes()


def deep_png(orientation: int) -> bytes:
    return with_chunk(cv2.imencode('.png', DEEP[..., ::-1])[1].tobytes(), b'eXIf', exif_block(orientation))


FORMATS = {
    'jpeg': by_pillow('JPEG', quality=95),
    'jpeg, grey': by_pillow('JPEG', 'L', quality=95),
    'jpeg, CMYK': by_pillow('JPEG', 'CMYK', quality=95),
    'png': by_pillow('PNG'),
    'png, grey': by_pillow('PNG', 'L'),
    'png, alpha': by_pillow('PNG', 'RGBA'),
    'png, palette': by_pillow('PNG', 'P'),
    'png, 16 bits': deep_png,
    'webp': by_pillow('WEBP', quality=95),
    'webp, lossless': by_pillow('WEBP', lossless=True),
    'avif': by_pillow('AVIF', quality=95),
    'tiff': lambda orientation: tiff(RGB, orientation),
    'tiff, grey': lambda orientation: tiff(RGB[..., 0].copy(), orientation),
    'tiff, 16 bits': lambda orientation: tiff(DEEP, orientation),
    'tiff, 16 bits, grey': lambda orientation: tiff(DEEP[..., 0].copy(), orientation),
    'tiff, palette': by_pillow('TIFF', 'P'),
    'tiff, LZW': by_pillow('TIFF', compression='tiff_lzw'),
    'tiff, JPEG': by_pillow('TIFF', compression='jpeg'),
}
TURNED = [name for name in FORMATS if not name.startswith(('webp', 'avif'))]


def exif_block(orientation: int, order: str = '<', kind: int = 3) -> bytes:
    """EXIF with an orientation alone, as a 16-bit (3) or a 32-bit number (4)."""
    value = struct.pack(f'{order}I' if kind == 4 else f'{order}HH', *([orientation] if kind == 4 else [orientation, 0]))
    mark = b'II' if order == '<' else b'MM'
    return mark + struct.pack(f'{order}HIHHHI', 42, 8, 1, 0x0112, kind, 1) + value + struct.pack(f'{order}I', 0)


def with_segment(*contents: bytes) -> bytes:
    """A JPEG with APP1 segments."""
    data = by_pillow('JPEG')(1)
    plain = io.BytesIO()
    Image.open(io.BytesIO(data)).save(plain, 'JPEG')
    data = plain.getvalue()
    segments = (b'\xff\xe1' + struct.pack('>H', len(content) + 2) + content for content in contents)
    return data[:2] + b''.join(segments) + data[2:]


def with_chunk(data: bytes, name: bytes, content: bytes, before: bytes = b'IDAT') -> bytes:
    """A PNG with one more chunk."""
    place = data.index(before) - 4
    chunk = struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))
    return data[:place] + chunk + data[place:]


PNG = cv2.imencode('.png', RGB)[1].tobytes()
PROFILE = b'\nexif\n%8d\n' % (len(exif_block(6)) + 6) + (b'Exif\0\0' + exif_block(6)).hex().encode() + b'\n'
#: Orientations where decoders look or do not look, and of forms that they know or do not.
PLACES = {
    'jpeg, big-endian': with_segment(b'Exif\0\0' + exif_block(6, '>')),
    'jpeg, 32 bits': with_segment(b'Exif\0\0' + exif_block(6, kind=4)),
    'jpeg, 32 bits, big-endian': with_segment(b'Exif\0\0' + exif_block(6, '>', 4)),
    'jpeg, upright and then not': with_segment(b'Exif\0\0' + exif_block(1), b'Exif\0\0' + exif_block(6)),
    'jpeg, not upright and then so': with_segment(b'Exif\0\0' + exif_block(6), b'Exif\0\0' + exif_block(1)),
    'jpeg, XMP': with_segment(b'http://ns.adobe.com/xap/1.0/\0' + XMP),
    'jpeg, XMP before EXIF': with_segment(b'http://ns.adobe.com/xap/1.0/\0' + XMP, b'Exif\0\0' + exif_block(6)),
    'jpeg, EXIF before XMP': with_segment(b'Exif\0\0' + exif_block(1), b'http://ns.adobe.com/xap/1.0/\0' + XMP),
    'jpeg, EXIF by another name': with_segment(b'EXIF\0\0' + exif_block(6)),
    'jpeg, a number of many': with_segment(b'Exif\0\0' + exif_block(6).replace(b'\3\0\1\0\0\0', b'\3\0\1\0\x4d\0')),
    'jpeg, cut EXIF': with_segment(b'Exif\0\0' + exif_block(6)[:15]),
    'jpeg, EXIF that is none': with_segment(b'Exif\0\0' + b'nothing'),
    'jpeg, no orientation that there is': with_segment(b'Exif\0\0' + exif_block(9)),
    'png, big-endian': with_chunk(PNG, b'eXIf', exif_block(6, '>')),
    'png, 32 bits': with_chunk(PNG, b'eXIf', exif_block(6, kind=4)),
    'png, EXIF behind the pixels': with_chunk(PNG, b'eXIf', exif_block(6), b'IEND'),
    'png, EXIF as in a JPEG': with_chunk(PNG, b'eXIf', b'Exif\0\0' + exif_block(6)),
    'png, EXIF that is none': with_chunk(PNG, b'eXIf', b'nothing'),
    'png, XMP': with_chunk(PNG, b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + XMP),
    'png, profile in a text': with_chunk(PNG, b'tEXt', b'Raw profile type exif\0' + PROFILE),
    'png, packed profile': with_chunk(PNG, b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(PROFILE)),
    'webp, XMP': None,
    'tiff, XMP': None,
}
for _kind, _options in (('webp', {'xmp': XMP}), ('tiff', {'tiffinfo': {700: XMP}})):
    _file = io.BytesIO()
    Image.fromarray(RGB).save(_file, _kind, **_options)
    PLACES[f'{_kind}, XMP'] = _file.getvalue()


def loaded(path: Path) -> np.ndarray:
    return LoadImageFromFile()(dict(img_path=str(path)))['img'][..., ::-1]


@pytest.mark.parametrize('kind', FORMATS)
def test_formats(kind: str, tmp_path: Path):
    """JPEG, PNG and TIFF of any depth are upright when they are loaded, and others are as they are stored."""
    path = tmp_path / 'a.image'
    path.write_bytes(FORMATS[kind](1))
    stored = loaded(path).astype(int)
    assert stored.shape == (HEIGHT, WIDTH, 3)
    for orientation, upright in enumerate(UPRIGHT, 1):
        path.write_bytes(FORMATS[kind](orientation))
        expected = upright(stored) if kind in TURNED else stored
        for read in (loaded, lambda path: read_image(str(path))):
            found = read(path)
            assert found.shape == expected.shape and np.abs(found - expected).mean() < 4, orientation
        assert loaded_size(path) == expected.shape[:2]
        assert image_size(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize('place', PLACES)
def test_places(place: str, tmp_path: Path):
    path = tmp_path / 'a.image'
    path.write_bytes(PLACES[place])
    assert loaded_size(path) == loaded(path).shape[:2]
    assert image_size(path) == (HEIGHT, WIDTH)


def test_upright_images_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = [make(3) for make in FORMATS.values()]
    files = [*(data for data in files if not data.startswith(b'\x89PNG')), PNG, with_segment()]

    def decode(*args: object) -> None:
        raise AssertionError('it is decoded')

    monkeypatch.setattr(cv2, 'imdecode', decode)
    monkeypatch.setattr(Image.Image, 'load', decode)
    for number, data in enumerate(files):
        path = tmp_path / str(number)
        path.write_bytes(data)
        assert loaded_size(path) == (HEIGHT, WIDTH)


def test_what_is_turned_and_cannot_be_loaded(tmp_path: Path):
    """As the loader says it."""
    path = tmp_path / 'a.tif'
    data = tiff(RGB, 6)
    path.write_bytes(data[: len(data) // 2])
    for read in (loaded_size, loaded):
        with pytest.raises(DatasetError, match=r'a\.tif cannot be decoded as an image: fetch or write it again'):
            read(path)


@pytest.mark.parametrize('orientation', [1, 6])
def test_label_maps_are_as_the_images_that_they_belong_to(orientation: int, tmp_path: Path):
    """A TIFF is upright, as an image would be."""
    labels = RGB[..., 0].copy()
    (tmp_path / 'a.tif').write_bytes(tiff(labels, orientation))
    expected = UPRIGHT[orientation - 1](labels)
    np.testing.assert_array_equal(load_label_map(tmp_path / 'a.tif', expected.shape, 'its image'), expected)
    if orientation == 6:
        with pytest.raises(DatasetError, match=r'a\.tif is 36x24 \(height x width\), its image 24x36'):
            load_label_map(tmp_path / 'a.tif', (HEIGHT, WIDTH), 'its image')


def test_what_to_do_about_a_turned_image(tmp_path: Path):
    """A TIFF is turned with every ``color_type``."""
    path, ignoring = tmp_path / 'a.image', dict(color_type='color_ignore_orientation')
    for kind, way_out in (('tiff', 'write it again upright'), ('png', "use color_type='color_ignore_orientation'")):
        path.write_bytes(FORMATS[kind](6))
        info = dict(img_path=str(path), height=HEIGHT, width=WIDTH)
        with pytest.raises(DatasetError, match=rf'is 36x24 .* its annotation says 24x36: wrong file, or .*{way_out}'):
            LoadImageFromFile()(dict(info))
        if kind == 'png':
            assert LoadImageFromFile(**ignoring)(dict(info))['img'].shape == (HEIGHT, WIDTH, 3)
        else:
            with pytest.raises(DatasetError, match=way_out):
                LoadImageFromFile(**ignoring)(dict(info))
