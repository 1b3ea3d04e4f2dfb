"""Files of pictures: reading images, and names that are unique."""

import pytest

from mmpanoptic.utils import DatasetError
from mmpanoptic.visualization.files import picture_names, read_image


@pytest.mark.parametrize('content', [None, b'', b'no image'])
def test_unreadable_image_names_the_file(tmp_path, content):
    path = tmp_path / 'broken.jpg'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r'broken\.jpg') as caught:
        read_image(str(path))
    assert '\n' not in str(caught.value)


def test_picture_names_are_unique_whatever_the_order():
    paths = ['/d/x/a.jpg', '/d/y/a.jpg', '/d/y/a.png', '/d/y_a.jpg', '/d/z/b.c.jpg', '/d/y/y_a.jpg']
    names = picture_names(paths)
    assert set(names) == set(paths)
    assert len(set(names.values())) == len(paths)
    assert names['/d/z/b.c.jpg'] == 'b.c'
    assert names['/d/x/a.jpg'] == 'x_a'
    assert picture_names(reversed(paths)) == names
    assert picture_names([]) == {}
    assert picture_names(['one.jpg']) == {'one.jpg': 'one'}
