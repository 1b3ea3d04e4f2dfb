"""tools/analysis_tools/browse.py: pictures of what is fed, whatever it is wrapped in."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.tiny_run import write_config
from helpers.repo import load_tool, run_main

from mmpanoptic.drawing import draw
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError

TOOL = load_tool('analysis_tools/browse')


class Page(HTMLParser):
    """Pictures, sections and facts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.facts, self.open = [], [], ''
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.open = tag
        self.links += [value for key, value in attrs if key in ('src', 'href')]
        if tag == 'section':
            self.facts.append('')

    def handle_data(self, data: str) -> None:
        if self.open in ('h2', 'dt', 'dd') and self.facts:
            self.facts[-1] += data.strip() + ' '


@pytest.fixture
def browse(monkeypatch, tmp_path):
    """Run the tool; returns the folder, the page and the pictures by name."""

    def call(config: Path, *args, out: str = 'out') -> tuple[Page, dict[str, np.ndarray]]:
        run_main(TOOL, monkeypatch, config, '--out', tmp_path / out, *args)
        page = Page(tmp_path / out / 'index.html')
        pictures = {path.name: cv2.imread(str(path)) for path in sorted((tmp_path / out).glob('*.jpg'))}
        assert set(page.links) == set(pictures), 'links are relative, and all are there'
        return page, pictures

    return call


def test_what_is_drawn_is_what_is_fed(browse, tiny_config):
    page, pictures = browse(
        tiny_config, '--number', 4, '--cfg-options', 'train_dataloader.dataset.pipeline.flip.prob=1.0'
    )
    assert len(page.facts) == 4 and len(pictures) == 8
    dataset = build_dataset(load_config(str(tiny_config)), 'train_dataloader')
    path_of = {Path(dataset.get_data_info(i)['img_path']).stem: dataset.get_data_info(i)['img_path'] for i in range(8)}
    for name, picture in pictures.items():
        image = cv2.imread(path_of[name[5:].split('_')[0]])
        expected, _ = draw.upscale(image if '_file' in name else image[:, ::-1], 360)
        height, width = expected.shape[:2]
        panel = picture[-height:, :width]
        assert np.abs(panel.astype(int) - expected).mean() < 8, name
        assert picture.shape[1] > 2 * width
        assert np.abs(picture[-height:, -width:].astype(int) - expected).mean() > 20, 'nothing is drawn over it'
    assert all('RandomFlip horizontal' in facts and '96x128 to 96x128' in facts for facts in page.facts)


def test_reproducible_whatever_draws(browse, tiny_config):
    options = ('--cfg-options', 'train_dataloader.dataset.pipeline.flip.prob=0.5')
    _, first = browse(tiny_config, '--number', 3, *options)
    for args, same in ((('--workers', 2), True), ((), True), (('--seed', 1), False)):
        _, other = browse(tiny_config, '--number', 3, *args, *options)
        equal = [name for name in first if name in other and np.array_equal(first[name], other[name])]
        assert (len(equal) == 6) == same, args
    page, _ = browse(tiny_config, '--number', 100)
    assert len(page.facts) == 8


WRAPPED = {
    'concat': "dict(type='ConcatDataset', datasets=[images, images])",
    'repeat': "dict(type='RepeatDataset', times=2, dataset=images)",
    'balanced': "dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset=dict(type='RepeatDataset', times=2, "
    'dataset=images))',
    'mixed': "dict(type='MultiImageMixDataset', dataset={**images, 'pipeline': {**images['pipeline'], 'pack': None}}, "
    "pipeline=dict(paste=dict(type='PanopticCopyPaste'), pack=dict(type='PackPanopticInputs')))",
}


@pytest.mark.parametrize('kind', WRAPPED)
def test_wrappers(kind, browse, tiny_config, tmp_path):
    path = tmp_path / 'wrapped.py'
    lines = ['images = _base_.train_dataloader.dataset']
    lines.append(f'train_dataloader = dict(dataset=dict(_delete_=True, **{WRAPPED[kind]}))')
    path.write_text(f'_base_ = {str(tiny_config)!r}\n' + '\n'.join(lines) + '\ndel images\n')
    page, pictures = browse(path, '--number', 6)
    assert len(pictures) == 12
    assert any('PanopticCopyPaste' in facts for facts in page.facts) == (kind == 'mixed')


def test_overlapping_masks_and_instances_alone(browse, tiny_config, tiny_shapes, tmp_path):
    options = ('--cfg-options', 'train_dataloader.dataset.inst_ann_file=annotations/instances_train.json')
    _, whole = browse(tiny_config, '--number', 3, *options)
    _, plain = browse(tiny_config, '--number', 3)
    assert any(not np.array_equal(whole[name], plain[name]) for name in whole if '_fed' in name)
    path = tmp_path / 'instances.py'
    path.write_text(
        f"""_base_ = {str(tiny_config)!r}
train_dataloader = dict(dataset=dict(
    _delete_=True, type='CocoInstanceDataset', data_root='{tiny_shapes}/',
    ann_file='annotations/instances_train.json', data_prefix=dict(img='train/'),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=True),
              dict(type='Resize', scale=(192, 144), keep_ratio=True), dict(type='PackDetInputs')]))
"""
    )
    page, pictures = browse(path, '--number', 3)
    assert len(pictures) == 6 and all('96x128 to 144x192' in facts and 'void' not in facts for facts in page.facts)


def test_stuff_alone(browse, tiny_shapes, tmp_path):
    root = tmp_path / 'stuff'
    shutil.copytree(tiny_shapes, root)
    path = root / 'annotations/panoptic_train.json'
    data = json.loads(path.read_text())
    for category in data['categories']:
        category['isthing'] = 0
    path.write_text(json.dumps(data))
    config = write_config(tmp_path / 'stuff.py', root)
    page, _ = browse(
        config, '--number', 2, '--cfg-options', 'train_dataloader.dataset.filter_cfg.filter_empty_gt=False'
    )
    assert all('0 trained on' in facts for facts in page.facts)


def test_validation_keeps_the_truth_at_its_size(browse, tiny_config):
    options = ('--cfg-options', 'val_dataloader.dataset.pipeline.resize.scale=(192,144)')
    page, pictures = browse(tiny_config, '--split', 'val', '--number', 2, *options)
    assert all('keeps the original size' in facts for facts in page.facts)
    shapes = {name.split('_')[-1]: picture.shape for name, picture in pictures.items()}
    assert shapes['fed.jpg'][1] == 576 and shapes['file.jpg'][1] > 960


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('--number', '0'), '--number 0: at least 1'),
        (('--seed', '-1'), '--seed -1: at least 0'),
        (('--cfg-options', 'train_dataloader.dataset.pipeline.pack=None'), 'does not pack its samples: end it with'),
        (('--cfg-options', 'train_dataloader.dataset.ann_file=none.json'), r'none\.json does not exist'),
    ],
)
def test_errors(args, message, browse, tiny_config):
    with pytest.raises(UserError, match=message):
        browse(tiny_config, *args)
