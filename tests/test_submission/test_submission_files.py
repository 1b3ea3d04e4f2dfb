"""Files for test servers, from predictions, judged by programs that are not ours."""

import base64
import copy
import json
import shutil
import zipfile
from pathlib import Path

import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as official  # noqa: N813
import cv2
import hotcoco
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import name2label
from helpers.pq_judges import JUDGES
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmpanoptic.formats.panoptic_png import decode_panoptic_png, encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import segments_to_coco
from mmpanoptic.submission.files import write_zip
from mmpanoptic.submission.image_lists import cityscapes_images, coco_images, mapillary_images
from mmpanoptic.submission.predictions import Predictions
from mmpanoptic.submission.targets import TARGETS, fill
from mmpanoptic.utils import UserError

THINGS = [dict(id=3, name='cat', isthing=1), dict(id=7, name='dog', isthing=1)]


def begun(folder: Path, images: list[dict], categories: list[dict]) -> Predictions:
    predictions = Predictions(folder)
    predictions.begin(dict(of='this test'), images, categories)
    return predictions


def unpacked(zip_file: Path, folder: Path) -> Path:
    with zipfile.ZipFile(zip_file) as file:
        file.extractall(folder)
    return folder


@pytest.fixture(scope='module')
def real(shared_data: Path, tmp_path_factory) -> tuple[Path, Path, Path, list[Path]]:
    """COCO's real images, predictions of which the official tool's PQ is known: data, predictions, OUT, zips."""
    data = shared_data / 'pq_fixtures/coco'
    truth, found = (json.loads((data / f'{name}.json').read_text()) for name in ('gt', 'pred'))
    root = tmp_path_factory.mktemp('coco')
    shutil.copytree(shared_data / 'coco_panoptic_sample/images', root / 'test2017')
    (root / 'annotations').mkdir()
    # As image_info_test-dev2017.json is: the things alone, and nothing says that they are.
    things = [dict(supercategory='x', id=c['id'], name=c['name']) for c in truth['categories'] if c['isthing']]
    content = dict(info={}, images=truth['images'], licenses=[], categories=things)
    (root / 'annotations/image_info_test-dev2017.json').write_text(json.dumps(content))
    listed = coco_images(str(root))
    predictions = begun(root / 'kept', listed.images, truth['categories'])
    of_image = {annotation['image_id']: annotation for annotation in found['annotations']}
    for place, image in enumerate(listed.images):
        png = (data / 'pred' / of_image[image['id']]['file_name']).read_bytes()
        category_of = {one['id']: one['category_id'] for one in of_image[image['id']]['segments_info']}
        segments = segments_to_coco(decode_panoptic_png(png, 'x'), category_of)
        predictions.write(place, dict(segments_info=segments, png=base64.b64encode(png).decode()))
    out = root / 'out'
    out.mkdir()
    zips = fill(out, TARGETS['coco-test-dev'], 'ours', True, listed.images, truth['categories'], predictions)
    return data, root, out, zips


def test_layout_of_panoptic_results(real):
    """One folder that has the same name as the JSON, and a zip of that name with both: cocodataset.org/#upload"""
    data, _, out, zips = real
    name = 'panoptic_test-dev2017_ours_results'
    assert zips == [out / f'{name}.zip']
    assert sorted(path.name for path in out.iterdir()) == [name, f'{name}.json', f'{name}.zip']
    images = json.loads((data / 'gt.json').read_text())['images']
    pngs = [f'{name}/{Path(image["file_name"]).stem}.png' for image in images]
    with zipfile.ZipFile(zips[0]) as file:
        assert file.namelist() == [f'{name}.json', *pngs] and file.testzip() is None
        for member in file.namelist():
            assert file.read(member) == (out / member).read_bytes()
    content = json.loads((out / f'{name}.json').read_text())
    assert [one['image_id'] for one in content['annotations']] == [image['id'] for image in images]


@pytest.mark.parametrize('judge', JUDGES)
def test_panoptic_results_have_the_official_scores(real, judge, shared_data, tmp_path):
    data, _, _, (zip_file,) = real
    folder = unpacked(zip_file, tmp_path)
    truth = data / 'gt.json', shared_data / 'coco_panoptic_sample/panoptic'
    per_class, averages = JUDGES[judge](*truth, folder / f'{zip_file.stem}.json', folder / zip_file.stem)
    expected = json.loads((data / 'expected.json').read_text())
    for name, pq in averages.items():
        assert pq == pytest.approx(float.fromhex(expected['average'][name]['pq']), abs=1e-12)
    for number, (tp, fp, fn, iou_sum) in per_class.items():
        wanted = expected['per_category'][str(number)]
        assert (tp, fp, fn) == (wanted['tp'], wanted['fp'], wanted['fn'])
        assert iou_sum == pytest.approx(float.fromhex(wanted['iou_sum']), abs=1e-12)


def test_a_zip_depends_on_contents_alone(tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        for name in ('x.json', 'y.png'):
            (tmp_path / folder / name).write_text(name)
    (tmp_path / 'b/x.json').chmod(0o600)
    zips = [write_zip(tmp_path / f'{folder}.zip', tmp_path / folder, ['x.json', 'y.png']) for folder in ('a', 'b')]
    assert zips[0].read_bytes() == zips[1].read_bytes()


def maps_of(images: list[dict], seed: int = 0) -> list[np.ndarray]:
    """Ids from 1 to 3, in blocks, for each image."""
    rng = np.random.default_rng(seed)
    return [
        np.kron(rng.integers(1, 4, (image['height'] // 4, image['width'] // 4)), np.ones((4, 4), np.int32))
        for image in images
    ]


def instances_of(id_map: np.ndarray, category_ids: list[int]) -> list[dict]:
    """The ids 1, 2, ... of a map as predictions; a mask's score is not that of its box."""
    found = []
    for number, category_id in enumerate(category_ids, 1):
        mask = coco_masks.encode(np.asfortranarray(id_map == number, np.uint8))
        box = [float(value) for value in coco_masks.toBbox(mask)]
        segmentation = dict(size=list(id_map.shape), counts=mask['counts'].decode())
        found.append(
            dict(category_id=category_id, bbox=box, score=number / 4, segmentation=segmentation, mask_score=number / 5)
        )
    return found


@pytest.fixture
def small() -> list[dict]:
    return [dict(id=number, file_name=f'{number}.jpg', height=24, width=32) for number in (5, 2, 9)]


def test_coco_instances_are_read_by_two_programs(small, tmp_path):
    predictions = begun(tmp_path / 'kept', small, THINGS)
    found = [instances_of(id_map, [3, 7]) for id_map in maps_of(small)]
    found[1] = []
    for place, instances in enumerate(found):
        predictions.write(place, dict(instances=instances, masks=True))
    zips = fill(tmp_path, TARGETS['coco-test-dev'], 'a.b', False, small, THINGS, predictions)
    name = 'detections_test-dev2017_a.b_results'
    assert zips == [tmp_path / 'bbox' / f'{name}.zip', tmp_path / 'segm' / f'{name}.zip']
    truth = dict(images=small, categories=THINGS, annotations=[])
    for image, instances in zip(small, found, strict=True):
        for one in instances:
            kept = dict(id=len(truth['annotations']) + 1, image_id=image['id'], category_id=one['category_id'])
            area = float(coco_masks.area(one['segmentation']))
            kept |= dict(bbox=one['bbox'], segmentation=one['segmentation'], area=area, iscrowd=0)
            truth['annotations'].append(kept)
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    for zip_file, kind, keys in (
        (zips[0], 'bbox', {'bbox', 'score'}),
        (zips[1], 'segm', {'segmentation', 'score'}),
    ):
        with zipfile.ZipFile(zip_file) as file:
            assert file.namelist() == [f'{name}.json']
        path = unpacked(zip_file, tmp_path / f'{kind}_read') / f'{name}.json'
        results = json.loads(path.read_text())
        assert [set(one) for one in results] == [{'image_id', 'category_id'} | keys] * 4
        assert [one['score'] for one in results[:2]] == ([0.25, 0.5] if kind == 'bbox' else [0.2, 0.4])
        coco = COCO(str(tmp_path / 'truth.json'))
        ours = COCOeval(coco, coco.loadRes(str(path)), kind)
        coco = hotcoco.COCO(str(tmp_path / 'truth.json'))
        theirs = hotcoco.COCOeval(coco, coco.load_res(str(path)), kind)
        for evaluation in (ours, theirs):
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            assert evaluation.stats[0] == pytest.approx(1.0)


def test_nothing_found_is_an_empty_list(small, tmp_path):
    predictions = begun(tmp_path / 'kept', small, THINGS)
    for place in range(3):
        predictions.write(place, dict(instances=[], masks=False))
    (zip_file,) = fill(tmp_path, TARGETS['coco-test-dev'], 'x', False, small, THINGS, predictions)
    with zipfile.ZipFile(zip_file) as file:
        assert json.loads(file.read(file.namelist()[0])) == []


@pytest.fixture
def streets(cityscapes_root: Path, tmp_path: Path) -> Path:
    """Cityscapes' validation images as those of the test."""
    shutil.copytree(cityscapes_root / 'leftImg8bit/val', tmp_path / 'data/leftImg8bit/test')
    return tmp_path / 'data'


def test_cityscapes_panoptic(streets, cityscapes_root, tmp_path):
    """What the ground truth has, in other ids, has a PQ of 1 by the official evaluator, which reads label ids."""
    listed = cityscapes_images(str(streets))
    (categories,) = listed.categories.values()
    truth_json, truth_dir = (
        cityscapes_root / 'gtFine/cityscapes_panoptic_val.json',
        cityscapes_root / 'gtFine/cityscapes_panoptic_val',
    )
    truth = {a['image_id']: a for a in json.loads(truth_json.read_text())['annotations']}
    predictions = begun(tmp_path / 'kept', listed.images, categories)
    for place, image in enumerate(listed.images):
        ids = decode_panoptic_png((truth_dir / truth[image['id']]['file_name']).read_bytes(), 'x')
        kept = [one for one in truth[image['id']]['segments_info'] if not one['iscrowd']]
        new = {one['id']: number for number, one in enumerate(kept, 1)}
        moved = np.vectorize(lambda number, new=new: new.get(number, 0))(ids).astype(np.int32)
        segments = segments_to_coco(moved, {new[one['id']]: one['category_id'] for one in kept})
        predictions.write(
            place, dict(segments_info=segments, png=base64.b64encode(encode_panoptic_png(moved)).decode())
        )
    (zip_file,) = fill(tmp_path, TARGETS['cityscapes'], 'x', True, listed.images, categories, predictions)
    folder = unpacked(zip_file, tmp_path / 'read')
    assert zip_file.name == 'cityscapes_panoptic_test.zip'
    pair = folder / 'cityscapes_panoptic_test.json', folder / 'cityscapes_panoptic_test'
    _, averages = JUDGES['cityscapes'](truth_json, truth_dir, *pair)
    assert averages['All'] == 1.0


def test_cityscapes_instances(streets, cityscapes_root, tmp_path, monkeypatch):
    """The official evaluator finds the texts and the masks by its own patterns."""
    monkeypatch.chdir(tmp_path)  # where it writes matches.json
    listed = cityscapes_images(str(streets))
    truths = [
        str(cityscapes_root / f'gtFine/val/{image["id"].split("_")[0]}/{image["id"]}_gtFine_instanceIds.png')
        for image in listed.images
    ]
    things = [one for one in listed.categories['Cityscapes'] if one['isthing']]
    predictions = begun(tmp_path / 'kept', listed.images, things)
    for place, path in enumerate(truths):
        values = np.array(Image.open(path))
        numbers = [number for number in np.unique(values) if number >= 1000]
        ids = np.zeros_like(values)
        for k, number in enumerate(numbers, 1):
            ids[values == number] = k
        found = instances_of(ids, [int(number) // 1000 for number in numbers])
        known = {one['id'] for one in things}
        predictions.write(place, dict(instances=[one for one in found if one['category_id'] in known], masks=True))
    (zip_file,) = fill(tmp_path, TARGETS['cityscapes'], 'x', False, listed.images, things, predictions)
    args = copy.copy(official.args)
    args.predictionPath, args.predictionWalk, args.quiet, args.JSONOutput = (
        str(unpacked(zip_file, tmp_path / 'read')),
        None,
        True,
        False,
    )
    args.cityscapesPath, args.gtInstancesFile = str(cityscapes_root), str(tmp_path / 'gt.json')
    official.setInstanceLabels(args)
    found = [official.getPrediction(path, args) for path in truths]
    scores = official.evaluateImgLists(found, truths, args)['averages']['classes']
    assert scores['car']['ap'] == 1.0
    line = Path(found[0]).read_text().splitlines()[0].split(' ')
    assert int(line[1]) in {name2label[one['name']].id for one in things}


def test_mapillary_instances(mapillary_root, tmp_path):
    """Labels are counted from 0, as config.json lists them: mapillary_vistas' README"""
    shutil.copytree(mapillary_root / 'training/images', tmp_path / 'testing/images')
    shutil.copy(mapillary_root / 'config.json', tmp_path)
    listed = mapillary_images(str(tmp_path))
    things = [one for one in listed.categories[str(tmp_path / 'config.json')] if one['isthing']]
    assert [one['id'] for one in things] == [1, 3, 4]
    predictions = begun(tmp_path / 'kept', listed.images, things)
    maps = maps_of(listed.images)
    for place, id_map in enumerate(maps):
        predictions.write(place, dict(instances=instances_of(id_map, [1, 4]), masks=True))
    (zip_file,) = fill(tmp_path, TARGETS['mapillary'], 'x', False, listed.images, things, predictions)
    folder = unpacked(zip_file, tmp_path / 'read')
    for image, id_map in zip(listed.images, maps, strict=True):
        lines = [line.split(' ') for line in (folder / f'{image["id"]}.txt').read_text().splitlines()]
        assert [(int(label), float(score)) for _, label, score in lines] == [(0, 0.2), (3, 0.4)]
        for number, (mask, _, _) in enumerate(lines, 1):
            assert np.array_equal(np.array(Image.open(folder / mask)) != 0, id_map == number)


def damaged(kind: str, found: dict, image: dict) -> dict:
    """A prediction with a fault that a server would refuse."""
    if kind == 'a segment without pixels':
        found['segments_info'].append(dict(found['segments_info'][0], id=77, area=5))
    elif kind == 'pixels of no segment':
        found['segments_info'].pop()
    elif kind == 'another size':
        small = np.ones((image['height'], image['width'] // 2), np.int32)
        found['png'] = base64.b64encode(encode_panoptic_png(small)).decode()
    else:
        found['segments_info'][0]['category_id'] = 99
    return found


@pytest.mark.parametrize(
    ('kind', 'reason'),
    [
        ('a segment without pixels', 'segment 77 has 0 pixels, and 5 in the JSON'),
        ('pixels of no segment', 'segments_info lacks'),
        ('another size', '24x16'),
        ('another class', 'category_id 99, which `categories` lacks'),
    ],
)
def test_what_a_server_would_refuse_is_found(kind, reason, small, tmp_path):
    categories = [*THINGS, dict(id=8, name='sky', isthing=0)]
    predictions = begun(tmp_path / 'kept', small, categories)
    for place, (image, id_map) in enumerate(zip(small, maps_of(small), strict=True)):
        segments = segments_to_coco(id_map, {1: 3, 2: 7, 3: 8})
        found = dict(segments_info=segments, png=base64.b64encode(encode_panoptic_png(id_map)).decode())
        predictions.write(place, damaged(kind, found, image) if place == 1 else found)
    with pytest.raises(UserError, match=reason) as error:
        fill(tmp_path, TARGETS['coco-test-dev'], 'x', True, small, categories, predictions)
    assert '2.png' in str(error.value) and '.zip' in str(error.value)


@pytest.mark.parametrize('target', ['coco-test-dev', 'mapillary'])
@pytest.mark.parametrize(('key', 'value', 'reason'), [
    ('mask_score', float('nan'), 'nan'),
    ('segmentation', dict(size=[2, 2], counts='04'), '2'),
    ('category_id', 99, '9[89]'),
])  # fmt: skip
def test_wrong_instances_are_found(target, key, value, reason, small, tmp_path):
    predictions = begun(tmp_path / 'kept', small, THINGS)
    for place, id_map in enumerate(maps_of(small)):
        found = instances_of(id_map, [3, 7])
        if place == 1:
            found[1][key] = value
        predictions.write(place, dict(instances=found, masks=True))
    with pytest.raises((UserError, ValueError), match=reason):
        fill(tmp_path, TARGETS[target], 'x', False, small, THINGS, predictions)


def test_a_missing_prediction_is_named(small, tmp_path):
    predictions = begun(tmp_path / 'kept', small, THINGS)
    with pytest.raises(UserError, match=r'000000.json cannot be read: remove it and run the command again'):
        fill(tmp_path, TARGETS['coco-test-dev'], 'x', False, small, THINGS, predictions)


def test_pictures_are_read_as_they_lie(tmp_path):
    """Sizes are those of the files, and images of a place that is no city's are refused."""
    (tmp_path / 'leftImg8bit/test/berlin').mkdir(parents=True)
    path = tmp_path / 'leftImg8bit/test/berlin/berlin_000001_000019_leftImg8bit.png'
    cv2.imwrite(str(path), np.zeros((6, 8, 3), np.uint8))
    listed = cityscapes_images(str(tmp_path))
    entry = dict(id='berlin_000001_000019', file_name=f'berlin/{path.name}', height=6, width=8)
    assert listed.images == [entry]
    shutil.copy(path, path.with_name('bonn_000001_000019_leftImg8bit.png'))
    with pytest.raises(UserError, match=r'bonn_.* is none of Cityscapes .*: move it away'):
        cityscapes_images(str(tmp_path))
