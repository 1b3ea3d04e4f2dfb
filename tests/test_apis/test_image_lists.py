"""What a user means by files, folders, patterns, lists and addresses."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmpanoptic.apis import list_images
from mmpanoptic.apis.image_lists import list_sources
from mmpanoptic.utils import UserError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    names = ('b.PNG', 'a.jpeg', '.hidden.png', 'c.json', 'day1/x.jpg', 'day1/deep/y.tif', 'day2/x.jpg', '.cache/z.png',
             'day2/clip.MP4', 'day2/other.heic', 'old/pictures/p.png')  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'old/.mmpanoptic').write_text(json.dumps(dict(made_by='tools/predict.py', files=[])))
    return tmp_path


def relative(paths: list[str], root: Path) -> list[str]:
    return [str(Path(path).relative_to(root)) for path in paths]


def test_a_folder_with_its_subfolders(files: Path):
    """What is hidden is left out, and so is what an earlier run has written."""
    expected = ['a.jpeg', 'b.PNG', 'day1/deep/y.tif', 'day1/x.jpg', 'day2/x.jpg']
    assert relative(list_images(files), files) == expected
    found = list_sources([files, files / 'a.jpeg', files / 'day2'])
    assert relative(found.images, files) == expected and relative(found.videos, files) == ['day2/clip.MP4']
    assert relative(found.left_out, files) == ['day2/other.heic']
    assert relative(list_images(files / 'old'), files) == ['old/pictures/p.png']  # named by the user
    (files / 'empty').mkdir()
    with pytest.raises(UserError, match='empty holds no image'):
        list_images(files / 'empty')


def test_patterns(files: Path):
    assert relative(list_images(f'{files}/day*/*'), files) == ['day1/x.jpg', 'day2/x.jpg']
    assert relative(list_images(f'{files}/**/*.tif'), files) == ['day1/deep/y.tif']
    (files / 'a[1].png').touch()  # a file of this name is no pattern
    assert relative(list_images(files / 'a[1].png'), files) == ['a[1].png']
    with pytest.raises(UserError, match=r'pattern .*/night\*\.jpg matches no image'):
        list_images(f'{files}/night*.jpg')


def test_lists(files: Path):
    (files / 'list.txt').write_text('# mine\nday2/x.jpg\n\nday1\nhttps://example.org/a.jpg?x=1\nb.PNG\n')
    found = list_images(files / 'list.txt')
    assert found[3] == 'https://example.org/a.jpg?x=1'
    assert relative([*found[:3], found[4]], files) == ['day2/x.jpg', 'day1/deep/y.tif', 'day1/x.jpg', 'b.PNG']
    (files / 'list.txt').write_text('b.PNG\nnowhere.png\n')
    with pytest.raises(UserError, match=r'list\.txt, line 2: image .*/nowhere\.png does not exist'):
        list_images(files / 'list.txt')
    (files / 'list.txt').write_text('# nothing\n')
    with pytest.raises(UserError, match=r'list\.txt names no image'):
        list_images(files / 'list.txt')


def test_what_is_no_image(files: Path):
    assert list_images([files / 'c.json']) == [str(files / 'c.json')]  # named by the user: taken as it is
    with pytest.raises(UserError, match=r'image .*d\.png does not exist'):
        list_images(files / 'd.png')
    with pytest.raises(UserError, match=r'clip\.MP4 is a video: give its frames, which .*frames_of reads'):
        list_images(files / 'day2/clip.MP4')
    with pytest.raises(UserError, match=r'video https://example\.org/a\.mp4 is an address: download it'):
        list_sources(['https://example.org/a.mp4'])
    for address in ('ftp://example.org/a.png', 'file:///etc/passwd', 'https:///a.png'):
        with pytest.raises(UserError, match=r'is an address that is not fetched \(http and https are\)'):
            list_images(address)
    with pytest.raises(ValueError, match=r'not float64 of shape \(4, 4, 3\)'):
        list_images(np.zeros((4, 4, 3)))
