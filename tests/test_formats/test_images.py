"""Image files that end too early, or claim more than they hold."""

import os
import subprocess
import sys
import timeit
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import bombs
from helpers.panoptic_files import PanopticFiles
from helpers.process_memory import needs_linux, printed_alone
from helpers.repo import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmpanoptic.datasets.transforms import LoadImageFromFile
from mmpanoptic.formats import images
from mmpanoptic.formats.images import (
    check_complete,
    check_size,
    image_size,
    load_label_map,
    loaded_size,
    max_pixels,
    set_max_pixels,
)
from mmpanoptic.formats.panoptic_json import annotations_by_image
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.utils import DatasetError, UserError
from mmpanoptic.visualization.files import read_image

KINDS = pytest.mark.parametrize('kind', bombs.BOMBS)


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    """Limits are for the whole process: they end with the test."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv('MMPANOPTIC_MAX_PIXELS', str(images.MAX_PIXELS))


@pytest.fixture
def files(tmp_path) -> PanopticFiles:
    return PanopticFiles(tmp_path)


def test_check_complete_looks_for_the_end_of_the_last_scan():
    end, scan, other = b'\xff\xd9', b'\xff\xda', b'\xff\xd8\xff\xe1'
    check_complete(other + scan + end, 'x')
    check_complete(other + scan + end + scan + end, 'x')
    for data in (b'', other + scan, other + scan + end + scan + b'123', b'\x89PNG\r\n\x1a\n 123'):
        with pytest.raises(DatasetError, match=rf'x is truncated \({len(data)} bytes, no end marker\)'):
            check_complete(data, 'x')


@KINDS
@pytest.mark.parametrize('size', [(11600, 11600), (15000, 15000), (16383, 16383)])
def test_claims_beyond_the_limit(kind, size, recwarn, tmp_path):
    """From just above the limit to where Pillow has an error of its own."""
    data = bombs.BOMBS[kind](*size)
    (tmp_path / f'x.{kind}').write_bytes(data)
    for file in (data, tmp_path / f'x.{kind}'):
        with pytest.raises(DatasetError, match=r'^\S+ (claims to |cannot be decoded as an image)') as error:
            image_size(file, 'x' if isinstance(file, bytes) else None)
        assert '\n' not in str(error.value)
        if kind != 'webp':  # a decoder that takes no image larger than its canvas
            assert error.value.argument == 'max_pixels'


@KINDS
def test_all_that_load_images_look_at_the_header(kind, tmp_path):
    path = tmp_path / f'x.{kind}'
    path.write_bytes(bombs.BOMBS[kind](16000, 16000))
    tracemalloc.start()
    try:
        for load in (
            lambda: LoadImageFromFile()(dict(img_path=str(path))),
            lambda: LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=str(path))),
            lambda: read_image(str(path)),
            lambda: load_label_map(path, (16000, 16000), 'its image'),
        ):
            with pytest.raises(DatasetError, match=r'claims to|cannot be decoded'):
                load()
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_what_an_annotation_says_comes_first(files):
    """A file within the limit, but not of the size in the JSON, is not decoded either."""
    for kind in ('png', 'jpg'):
        files.image(10).write_bytes(bombs.BOMBS[kind](9000, 9000))
        with pytest.raises(DatasetError, match=r'a\.png is 9000x9000 \(height x width\), its annotation says 32x40'):
            LoadImageFromFile()(files.dataset().get_data_info(1))
    with pytest.raises(DatasetError, match=r'x is 9000x9000 \(height x width\), its image 32x40: wrong file'):
        decode_panoptic_png(bombs.png(9000, 9000), 'x', (32, 40))
    with pytest.raises(DatasetError, match=r'x claims to be 60000x60000 \(height x width\), and 134217728 pixels are'):
        decode_panoptic_png(bombs.png(60000, 60000), 'x', (60000, 60000))


@needs_linux
def test_memory_of_a_bomb(tmp_path):
    """A JPEG of 700 bytes that claims 20000x20000, by the size of the process."""
    (tmp_path / 'x.jpg').write_bytes(bombs.jpeg(20000, 20000))
    code = f"""
from helpers.process_memory import peak_bytes
from mmpanoptic.datasets.transforms import LoadImageFromFile
from mmpanoptic.utils import DatasetError
before = peak_bytes()
try:
    LoadImageFromFile()(dict(img_path={str(tmp_path / 'x.jpg')!r}))
except DatasetError as error:
    assert 'max_pixels' in str(error)
print(peak_bytes() - before)
"""
    assert printed_alone(code) < 30e6


def test_an_image_as_large_as_its_header_says(tmp_path):
    set_max_pixels(40 * 30)
    path = tmp_path / 'x.png'
    cv2.imwrite(str(path), np.zeros((30, 40, 3), np.uint8))
    assert image_size(path) == image_size(path.read_bytes(), 'x') == (30, 40)
    assert LoadImageFromFile()(dict(img_path=str(path)))['img'].shape == (30, 40, 3)
    assert decode_panoptic_png(path.read_bytes(), 'x', (30, 40)).shape == (30, 40)
    cv2.imwrite(str(path), np.zeros((30, 41, 3), np.uint8))
    with pytest.raises(DatasetError, match=r'x\.png claims to be 30x41 \(height x width\), and 1200 pixels are'):
        image_size(path)
    set_max_pixels(30 * 41)
    assert image_size(path) == (30, 41)


def test_a_limit_above_that_of_pillow(tmp_path):
    """Pillow takes no more than twice its own."""
    size = 2, 200_000_000
    data = bombs.ppm(*size)
    with pytest.raises(DatasetError, match='claims to have 400000000 pixels'):
        image_size(data, 'x')
    set_max_pixels(2**29)
    assert image_size(data, 'x') == size


@pytest.mark.parametrize('size', [(1, 2**20 + 1), (30000, 30000)])
def test_limits_of_opencv_are_no_traceback(size, tmp_path):
    """Of a side, and of memory that nobody has; the limit in pixels is set below OpenCV's."""
    set_max_pixels(2**30)
    (tmp_path / 'x.png').write_bytes(bombs.png(*size))
    with pytest.raises(DatasetError, match=r'x\.png cannot be decoded'):
        LoadImageFromFile()(dict(img_path=str(tmp_path / 'x.png')))


@pytest.mark.parametrize('value', ['0', '-1', 'many', '', '1e9', '²', str(2**30 + 1)])
def test_no_such_limit(value, monkeypatch):
    monkeypatch.setenv('MMPANOPTIC_MAX_PIXELS', value)
    with pytest.raises(UserError, match=r'max_pixels \(MMPANOPTIC_MAX_PIXELS\) is .*: give a number of pixels from 1'):
        max_pixels()


def test_processes_inherit_the_limit():
    set_max_pixels(1234)
    code = 'from mmpanoptic.formats.images import max_pixels; print(max_pixels())'
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    assert subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True).stdout == '1234\n'


def test_sizes_in_a_json():
    def read(height: int, width: int) -> None:
        annotations_by_image(dict(images=[dict(id=1, file_name='a', height=height, width=width)]), 'x.json')

    read(1000, 1000)
    with pytest.raises(DatasetError, match=r'x\.json: image 1 claims to be 10\d* ?x10\d* \(height x width\)'):
        read(10**30, 10**30)
    with pytest.raises(DatasetError, match=r'x\.json: image 1 is 0x5 \(height x width\): an image needs at least one'):
        read(0, 5)


def test_sizes_that_differ():
    check_size((3, 4), (3, 4), 'a', 'b')
    with pytest.raises(DatasetError, match=r'^a is 3x4 \(height x width\), b 4x3: wrong file or wrong size$'):
        check_size((3, 4), (4, 3), 'a', 'b')


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(list(bombs.BOMBS)), data=st.data())
@example(kind='tiff', data=None)
def test_any_bytes(kind, data):
    """Bytes of a header replaced: a size or an error of one line."""
    content = bytearray(bombs.BOMBS[kind](16, 16))
    if data is not None:
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, min(len(content), 300) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert min(image_size(bytes(content), 'x')) > 0
    except DatasetError as error:
        assert '\n' not in str(error)


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
def test_a_header_takes_microseconds(extension):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (480, 640, 3), np.uint8)
    encoded = cv2.imencode(extension, noise)[1]
    data = encoded.tobytes()
    header = min(timeit.repeat(lambda: image_size(data, 'x'), number=20, repeat=9))
    decoding = min(timeit.repeat(lambda: cv2.imdecode(encoded, cv2.IMREAD_COLOR), number=20, repeat=9))
    assert header < 0.1 * decoding


def test_label_maps(tmp_path: Path):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / 'x.png')
    np.testing.assert_array_equal(load_label_map(tmp_path / 'x.png', (3, 4), 'its image'), values)
    with pytest.raises(DatasetError, match=r'x\.png is 3x4 \(height x width\), its image 4x3: wrong file'):
        load_label_map(tmp_path / 'x.png', (4, 3), 'its image')
    with pytest.raises(DatasetError, match=r'none\.png cannot be decoded .*No such file'):
        load_label_map(tmp_path / 'none.png', (4, 3), 'its image')


LABELS = np.repeat(np.repeat(np.array([[0, 1, 2, 3]], np.uint8), 16, 0), 4, 1)


@pytest.mark.parametrize(
    ('name', 'options', 'kind'),
    [
        ('x.jpg', dict(), 'JPEG'),
        ('x.png', dict(format='JPEG'), 'JPEG'),  # named otherwise than it is
        ('x.webp', dict(lossless=True), 'WEBP'),
        ('x.tif', dict(compression='jpeg'), 'JPEG'),
    ],
)
def test_label_maps_of_lossy_formats(name, options, kind, tmp_path):
    Image.fromarray(LABELS).save(tmp_path / name, **options)
    with pytest.raises(DatasetError, match=rf'{name} is compressed as {kind}, which changes labels: write PNG'):
        load_label_map(tmp_path / name, LABELS.shape, 'its image')


@pytest.mark.parametrize('options', [dict(), dict(compression='tiff_lzw'), dict(compression='tiff_deflate')])
@pytest.mark.parametrize('name', ['x.png', 'x.tif', 'x.bmp'])
def test_label_maps_of_exact_formats(name, options, tmp_path):
    Image.fromarray(LABELS).save(tmp_path / name, **options)
    np.testing.assert_array_equal(load_label_map(tmp_path / name, LABELS.shape, 'its image'), LABELS)


@pytest.mark.parametrize('name', ['x.tif', 'x.gif', 'x.png', 'x.webp'])
def test_files_of_several_images(name, tmp_path):
    first, second = Image.fromarray(LABELS), Image.fromarray(LABELS[::-1] * 50)
    first.save(tmp_path / name, save_all=True, append_images=[second, first])
    for read in (image_size, read_image, lambda path: load_label_map(path, LABELS.shape, 'its image')):
        with pytest.raises(DatasetError, match=rf'{name} holds 3 images, of which only the first would be read'):
            read(str(tmp_path / name))
    first.save(tmp_path / name)
    assert image_size(tmp_path / name) == LABELS.shape


def test_photos_with_previews_are_photos(tmp_path):
    """Cameras write further pictures into one JPEG (CIPA DC-007)."""
    photo = Image.fromarray(np.zeros((32, 48, 3), np.uint8))
    photo.save(tmp_path / 'x.jpg', format='MPO', save_all=True, append_images=[photo])
    assert image_size(tmp_path / 'x.jpg') == (32, 48)
    assert read_image(str(tmp_path / 'x.jpg')).shape == (32, 48, 3)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'AVIF'])
def test_an_image_is_loaded_at_the_size_that_is_told(kind, tmp_path):
    path = tmp_path / f'a.{kind.lower()}'
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new('RGB', (20, 30)).save(path, format=kind, exif=exif)
        assert loaded_size(path) == cv2.imread(str(path), cv2.IMREAD_COLOR).shape[:2], orientation
