"""Files that claim to be larger than they are, in front of every converter."""

import io
import json
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import bombs
from helpers.repo import load_tool

from mmpanoptic.utils import DatasetError

TOOLS = {
    name: load_tool(f'dataset_converters/{name}')
    for name in ('label_maps', 'cityscapes', 'cityscapes_polygons', 'mapillary')
}


def write_png(path: Path, height: int = 3, width: int = 4, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data or cv2.imencode('.png', np.zeros((height, width), np.uint8))[1].tobytes())
    return path


def npy(shape: tuple[int, ...], kind: str = '<i8') -> bytes:
    """A header of an array of that shape and 96 bytes."""
    header = repr(dict(descr=kind, fortran_order=False, shape=shape)).encode() + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header + bytes(96)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('arr_0.npy', npy((3, 4)))
    return file.getvalue()


@pytest.mark.parametrize(
    ('name', 'data', 'message'),
    [
        ('a.png', bombs.png(20000, 20000), r'a\.png claims to have 400000000 pixels'),
        ('a.png', bombs.png(9000, 9000), r'a\.png is 9000x9000 \(height x width\), image\.png is 3x4: wrong file'),
        ('a.tif', bombs.tiff(9000, 9000), r'a\.tif is 9000x9000 \(height x width\), image\.png is 3x4: wrong file'),
        ('a.npy', npy((10**6, 10**6)), r'a\.npy cannot be read: mmap length is greater than file ?size'),
        ('a.npy', npy((10**30,)), r'a\.npy cannot be read: '),
        ('a.npy', npy((-3, -4)), r'a\.npy cannot be read: '),
        ('a.npy', npy((3, 4), '|O'), r'a\.npy cannot be read: '),
        ('a.npy', npy((3, 4, 1)), r'a\.npy is int64 of shape \(3, 4, 1\): maps are integers and have one channel'),
        ('a.npy', npy(()), r'a\.npy is int64 of shape \(\): maps are integers'),
        ('a.npy', archive(), r'a\.npy cannot be read: '),
        ('a.npy', b'', r'a\.npy cannot be read: '),
    ],
)
def test_label_maps(name, data, message, tmp_path):
    path = write_png(tmp_path / name, data=data)
    with pytest.raises(DatasetError, match=message) as error:
        TOOLS['label_maps'].read_map(path, Path('image.png'), (3, 4))
    assert '\n' not in str(error.value)


def test_label_maps_that_are_right(tmp_path):
    path = write_png(tmp_path / 'a.npy', data=npy((3, 4)))
    assert TOOLS['label_maps'].read_map(path, Path('image.png'), (3, 4)).shape == (3, 4)


@pytest.mark.parametrize('data', [bombs.png(20000, 20000), bombs.jpeg(20000, 20000)])
def test_images_of_label_maps(data, tmp_path):
    image = write_png(tmp_path / 'image.png', data=data)
    with pytest.raises(DatasetError, match=r'image\.png claims to have 400000000 pixels'):
        TOOLS['label_maps'].convert((1, image, tmp_path / 'a.png', None), [])


def test_mapillary(tmp_path):
    image = write_png(tmp_path / 'images/a.jpg')
    write_png(tmp_path / 'instances/a.png', data=bombs.png(9000, 9000))
    with pytest.raises(DatasetError, match=r'a\.png is 9000x9000 \(height x width\), its image 3x4'):
        TOOLS['mapillary'].convert('a', tmp_path, 'instances', [])
    write_png(image, data=bombs.jpeg(20000, 20000))
    with pytest.raises(DatasetError, match=r'a\.jpg claims to have 400000000 pixels'):
        TOOLS['mapillary'].convert('a', tmp_path, 'instances', [])


def test_cityscapes(tmp_path):
    name = 'aachen/aachen_000000_000019'
    write_png(tmp_path / f'leftImg8bit/val/{name}_leftImg8bit.png')
    write_png(tmp_path / f'gtFine/val/{name}_gtFine_instanceIds.png', data=bombs.png(9000, 9000))
    for convert in (TOOLS['cityscapes'].convert, TOOLS['cityscapes'].convert_instances):
        with pytest.raises(DatasetError, match=r'instanceIds\.png is 9000x9000 \(height x width\), its image 3x4'):
            convert(name, tmp_path, 'val')


@pytest.mark.parametrize(
    'change',
    [
        dict(imgHeight=10**5, imgWidth=10**5),
        dict(imgHeight=10**400),
        dict(imgHeight=-3),
        dict(imgWidth=0),
        dict(imgWidth='x'),
        dict(imgWidth=None),
        dict(imgWidth=float('nan')),
        dict(imgWidth=float('inf')),
        dict(imgWidth=[]),
    ],
)
def test_polygons(change, tmp_path):
    content = dict(imgHeight=3, imgWidth=4, objects=[]) | change
    path = write_png(tmp_path / 'aachen_gtFine_polygons.json', data=json.dumps(content).encode())
    for check in (TOOLS['cityscapes'].check_polygons, TOOLS['cityscapes_polygons'].convert):
        with pytest.raises(DatasetError, match=r'polygons\.json (claims to be|is -?\d+x|cannot be read)') as error:
            check(path)
        assert '\n' not in str(error.value)


@pytest.mark.parametrize('one', [None, 5, {}, dict(label=[], polygon=[]), dict(label='car', polygon=[5, 6, 7])])
def test_objects(one, tmp_path):
    content = dict(imgHeight=3, imgWidth=4, objects=[one])
    path = write_png(tmp_path / 'aachen_gtFine_polygons.json', data=json.dumps(content).encode())
    with pytest.raises(DatasetError, match=r'polygons\.json cannot be read'):
        TOOLS['cityscapes_polygons'].convert(path)
