"""Files for Mapillary Vistas' test server, from the converted test images on."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.mapillary import HEIGHT, LABELS, THINGS, WIDTH, instance_map, make_mapillary_tree
from helpers.repo import load_tool
from PIL import Image

from mmpanoptic.datasets import MapillaryVistasDataset
from mmpanoptic.registry import METRICS
from mmpanoptic.utils import UserError


@pytest.fixture(scope='module')
def dataset(tmp_path_factory) -> MapillaryVistasDataset:
    """Two images without ground truth, named and sized as in the archive."""
    root = make_mapillary_tree(tmp_path_factory.mktemp('vistas'))
    (root / 'testing/images').mkdir(parents=True)
    for key in ('-x', 'y_2'):
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(root / f'testing/images/{key}.jpg')
    load_tool('dataset_converters/mapillary').run(Namespace(root=root, split=['testing'], workers=1))
    return MapillaryVistasDataset(
        data_root=str(root),
        ann_file='annotations/instances_testing.json',
        data_prefix=dict(img='testing/images/'),
        test_mode=True,
        pipeline=[],
    )


def sample(dataset, index: int, values: list[int]) -> dict:
    """An image in which these values of an instance map were found, the score of each a hundredth of it."""
    ids = instance_map(0, True)
    labels = [THINGS.index(LABELS[value // 256][1]) for value in values]
    instances = dict(
        masks=torch.from_numpy(np.stack([ids == value for value in values]) if values else np.zeros((0, *ids.shape))),
        labels=torch.tensor(labels, dtype=torch.long),
        scores=torch.tensor([value / 1000 for value in values]),
    )
    return dict(img_path=dataset[index]['img_path'], pred_instances=instances)


def build(dataset, folder: Path):
    metric = METRICS.build(dict(type='MapillaryResults', outfile_prefix=str(folder)))
    metric.dataset_meta = dataset.metainfo
    return metric


def read(folder: Path, key: str) -> dict[int, list[tuple[np.ndarray, float]]]:
    """Masks and scores by label, as the official evaluation reads them."""
    found: dict[int, list] = {}
    for line in (folder / f'{key}.txt').read_text().splitlines():
        mask, label, score = line.strip().split(' ')
        found.setdefault(int(label), []).append((np.array(Image.open(folder / mask)) != 0, float(score)))
    return found


def test_files_are_what_the_server_reads(dataset, tmp_path):
    folder = tmp_path / 'results'
    metric = build(dataset, folder)
    assert [info['img_id'] for info in dataset] == ['-x', 'y_2'] and not dataset[0]['instances']
    values = [7, 512, 513, 1023]
    metric.process({}, [sample(dataset, 0, values), sample(dataset, 1, [])])
    assert metric.evaluate(2) == {}
    found = read(folder, '-x')
    assert {label: len(masks) for label, masks in found.items()} == {0: 1, 2: 2, 3: 1}, 'places in config.json'
    ids = instance_map(0, True)
    for value in values:
        (mask,) = (mask for mask, score in found[value // 256] if score == pytest.approx(value / 1000))
        np.testing.assert_array_equal(mask, ids == value)
    assert (folder / 'y_2.txt').read_text() == ''
    assert len(list(folder.glob('*.png'))) == 4


def test_a_folder_of_something_else_is_not_replaced(dataset, tmp_path):
    folder = tmp_path / 'results'
    folder.mkdir()
    (folder / 'notes.txt').touch()
    with pytest.raises(UserError, match='outfile_prefix'):
        build(dataset, folder).process({}, [sample(dataset, 0, [7])])


def test_what_cannot_be_written_is_one_line(dataset, tmp_path):
    bare = sample(dataset, 0, [7])
    bare['pred_instances'].pop('masks')
    with pytest.raises(UserError, match=r'-x\.jpg: the model predicts no masks'):
        build(dataset, tmp_path / 'results').process({}, [bare])
    metric = build(dataset, tmp_path / 'results')
    metric.dataset_meta = dict(classes=THINGS)
    with pytest.raises(UserError, match='the dataset names no categories'):
        metric.process({}, [sample(dataset, 0, [7])])
