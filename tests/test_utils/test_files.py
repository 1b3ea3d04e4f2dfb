"""Reading files of any name from any storage: contents, or one line."""

import pytest
from helpers.panoptic_files import PanopticFiles

from mmpanoptic.utils import DatasetError, check_storage, read_bytes

UNKNOWN = ('s3://bucket/x.png', 'petrel://x', 'gs://x/y', 'data/s3://x/y.png', 'x:y://z', 'ftp://a/b', 'a://b://c')
NO_NAMES = ('a\0b', '\ud800x', 'http://a b/c', 'http://[::1', 'https://', 'http://127.0.0.1:9/x', '://', '', '/')


@pytest.mark.parametrize('path', UNKNOWN + NO_NAMES)
def test_names(path):
    with pytest.raises(DatasetError, match=r'cannot be read \(|does not exist') as error:
        read_bytes(path)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('path', UNKNOWN)
def test_storage_is_looked_at_without_reading(path):
    with pytest.raises(DatasetError, match=r'cannot be read \(.*\): give a local path, or a backend that is installed'):
        check_storage(path)
    check_storage('nowhere.png')
    check_storage('http://127.0.0.1:9/x')


@pytest.mark.parametrize('backend_args', [dict(backend='x'), dict(backend='petrel'), dict(backend='local', foo=1)])
def test_backends(backend_args, tmp_path):
    (tmp_path / 'x').touch()
    with pytest.raises(DatasetError, match=r'x. cannot be read \(.*a backend that is installed'):
        read_bytes(str(tmp_path / 'x'), backend_args)


@pytest.mark.parametrize('name', [*UNKNOWN, 'a\0b', '\ud800x', '', '/', '..', 'x' * 5000])
@pytest.mark.parametrize('place', ['images', 'annotations'])
def test_names_in_a_json(place, name, tmp_path):
    """Before a sample is loaded, whatever the prefix."""
    files = PanopticFiles(tmp_path)
    files.panoptic[place][0]['file_name'] = name
    files.save()
    prefixes = ('', None) if place == 'images' else ('panoptic', 'panoptic/')
    for prefix in prefixes:
        data_prefix = dict(img='images', seg='panoptic') | ({} if place == 'annotations' else dict(img=prefix or ''))
        with pytest.raises(DatasetError, match=r'cannot be read \(|does not exist') as error:
            files.dataset(data_prefix=data_prefix, data_root=f'{tmp_path}')
        assert '\n' not in str(error.value)


@pytest.mark.parametrize('root', UNKNOWN)
def test_roots(root, tmp_path):
    files = PanopticFiles(tmp_path)
    for options in (
        dict(data_root=root),
        dict(ann_file=f'{root}/panoptic.json', data_root=''),
        dict(data_root='', ann_file=str(tmp_path / 'panoptic.json'), data_prefix=dict(img=root)),
        dict(data_root='', ann_file=str(tmp_path / 'panoptic.json'), data_prefix=dict(img='images', seg=root)),
        dict(inst_ann_file=root, data_root='', ann_file=str(tmp_path / 'panoptic.json')),
    ):
        with pytest.raises(DatasetError, match=r'cannot be read \(|does not exist') as error:
            files.dataset(**options)
        assert '\n' not in str(error.value)
