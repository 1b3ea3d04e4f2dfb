"""Whether a model numbers the classes as a test server does, and which images there are."""

import json
from pathlib import Path

import pytest
from mmdet.datasets import CocoPanopticDataset

from mmpanoptic.formats.cityscapes_categories import panoptic_categories
from mmpanoptic.formats.coco_categories import coco_meta
from mmpanoptic.submission.categories import check_categories
from mmpanoptic.submission.image_lists import cityscapes_images, coco_images, mapillary_images
from mmpanoptic.utils import UserError

COCO = coco_meta(with_stuff=True)['categories']
# What image_info_test-dev2017.json has: things, without isthing.
LISTED = [dict(supercategory='x', id=one['id'], name=one['name']) for one in COCO if one['isthing']]


def changed(categories: list[dict], place: int, **values: object) -> list[dict]:
    return [one | values if i == place else one for i, one in enumerate(categories)]


def test_coco_models_fit_the_list_of_things():
    assert len(COCO) == 133 and len(LISTED) == 80 == len(CocoPanopticDataset.METAINFO['thing_classes'])
    check_categories(COCO, {'list.json': LISTED}, 'x.pth')
    check_categories([one for one in COCO if one['isthing']], {'list.json': LISTED}, 'x.pth')
    check_categories(COCO, {'list.json': COCO}, 'x.pth')
    check_categories([one for one in COCO if one['isthing']], {'list.json': COCO}, 'x.pth')


@pytest.mark.parametrize(
    ('model', 'listed', 'reason'),
    [
        (changed(COCO, 2, name='lorry'), LISTED, "category 3 is 'car' in list.json and 'lorry' in x.pth"),
        (changed(COCO, 1, id=12), LISTED, "list.json lists category 2 ('bicycle'), which x.pth lacks"),
        (COCO, LISTED[:-1], "x.pth finds category 90 ('toothbrush'), which list.json lacks"),
        (COCO[:-1], COCO, "list.json lists category 200 ('rug-merged'), which x.pth lacks"),
        (changed(COCO, 0, isthing=False), COCO, "category 1 ('person') is a thing in list.json, stuff in x.pth"),
        (COCO, [], 'list.json lists no categories'),
        (COCO, [dict(id=1)], 'list.json has categories without id or name'),
        (panoptic_categories(), LISTED, "list.json lists category 1 ('person'), which x.pth lacks"),
    ],
)
def test_the_first_that_differs_is_named(model, listed, reason):
    with pytest.raises(UserError) as error:
        check_categories(model, {'list.json': listed}, 'x.pth')
    assert str(error.value).startswith(reason) and 'take a checkpoint of' in str(error.value)


def test_of_several_versions_one_has_to_fit():
    old = [dict(id=1, name='Bird', isthing=1)]
    new = [dict(id=1, name='Bird', isthing=1), dict(id=2, name='Ground Animal', isthing=1)]
    listed = {'config_v2.0.json': new, 'config_v1.2.json': old}
    for categories in (old, new):
        check_categories(categories, listed, 'x.pth')
    with pytest.raises(UserError, match=r"category 1 is 'Bird' in config_v1.2.json and 'Cat' in x.pth"):
        check_categories([dict(id=1, name='Cat', isthing=1)], listed, 'x.pth')


def write_list(root: Path, names: list[str]) -> Path:
    images = [
        dict(license=3, file_name=name, coco_url=f'http://images.cocodataset.org/test2017/{name}', height=4, width=6,
             date_captured='2013-11-14 17:02:52', id=number)
        for number, name in enumerate(names)
    ]  # fmt: skip
    (root / 'annotations').mkdir()
    path = root / 'annotations/image_info_test-dev2017.json'
    path.write_text(json.dumps(dict(info={}, images=images, licenses=[], categories=LISTED)))
    return path


def test_missing_images_are_named(tmp_path):
    path = write_list(tmp_path, [f'{number:012d}.jpg' for number in range(9)])
    (tmp_path / 'test2017').mkdir()
    for number in (0, 8):
        (tmp_path / f'test2017/{number:012d}.jpg').touch()
    with pytest.raises(UserError) as error:
        coco_images(str(tmp_path))
    names = ', '.join(f'{number:012d}.jpg' for number in range(1, 6))
    assert str(error.value) == (
        f'{tmp_path}/test2017 lacks 7 of the 9 images of {path}: {names} and 2 more: unpack all of them there, or name '
        'another folder by --images'
    )
    for number in range(9):
        (tmp_path / f'test2017/{number:012d}.jpg').touch()
    assert [image['id'] for image in coco_images(str(tmp_path)).images] == list(range(9))


@pytest.mark.parametrize(
    ('images_of', 'reason'),
    [
        (coco_images, r'image_info_test-dev2017.json does not exist: unpack image_info_test2017.zip'),
        (
            cityscapes_images,
            r'leftImg8bit/test holds no <city>/.*: unpack leftImg8bit there, or name the folder by --images',
        ),
        (mapillary_images, r'testing/images is no folder'),
    ],
)
def test_a_data_set_that_is_not_there(images_of, reason, tmp_path):
    with pytest.raises(UserError, match=reason):
        images_of(str(tmp_path))


@pytest.mark.parametrize('images_of', [cityscapes_images, mapillary_images])
def test_a_list_where_there_is_none(images_of, tmp_path):
    with pytest.raises(UserError, match=r'--list a.json: .* name it by --images'):
        images_of(str(tmp_path), 'a.json')


def test_mapillary_needs_its_configuration(mapillary_root, tmp_path):
    folder = str(mapillary_root / 'training/images')
    with pytest.raises(UserError, match=r'holds neither config.json nor .* name the folder by --data-root'):
        mapillary_images(str(tmp_path), None, folder)
    listed = mapillary_images(str(mapillary_root), None, folder)
    assert [image['id'] for image in listed.images] == ['_A1', 'b-2', 'zC']
    assert {(image['height'], image['width']) for image in listed.images} == {(24, 40)}
