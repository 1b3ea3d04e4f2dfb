"""A user's whole config names a starter and the folder of the data."""

import json
import re
import shutil

import pytest
import torch
from helpers.own_data import write_own_data
from helpers.repo import CONFIGS, load_tool, run_main
from mmengine.config import Config

from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError

SYSTEMS = ('panoptic-fpn', 'panet', 'spatialflow', 'oanet', 'ciae')
# Two iterations on a CPU; nothing of what the data decides.
QUICK = [
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=2',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
    'train_dataloader.dataset.pipeline.resize.scale=(96,64)',
    'val_dataloader.dataset.pipeline.resize.scale=(96,64)',
    'test_dataloader.dataset.pipeline.resize.scale=(96,64)',
    'default_hooks.checkpoint.interval=2',
    'default_hooks.logger.interval=1',
]


def user_config(folder, system, data, extra=''):
    """What a user writes."""
    path = folder / f'{system}.py'
    path.write_text(f"_base_ = 'mmpanoptic::starter/{system}_r18_fpn.py'\ndata_root = '{data}/'\n{extra}")
    return path


def train(config, work_dir, monkeypatch, *options):
    run_main(load_tool('train'), monkeypatch, config, '--work-dir', work_dir, '--cfg-options', *QUICK, *options)


DATA = {'one thing': (1, 0), 'stuff alone': (0, 3), '300 classes': (299, 1)}
REFUSED = {
    **{(system, 'stuff alone'): 'no class is a thing, and .* finds things' for system in SYSTEMS},
    ('panet', 'stuff alone'): 'instances_train.json lists no categories',
    **{(system, '300 classes'): 'has 300 categories: at most 254 are supported' for system in SYSTEMS},
}
del REFUSED['panet', '300 classes']  # instances alone have no semantic map
del REFUSED['panoptic-fpn', 'stuff alone']  # its semantic branch is left


CASES = [
    pytest.param(system, data, marks=() if (system, data) in REFUSED else pytest.mark.slow)
    for system in SYSTEMS
    for data in DATA
]


@pytest.mark.parametrize(('system', 'data'), CASES)
def test_three_lines(system, data, tmp_path, monkeypatch):
    """A training and a test, or one line that says why not."""
    config = user_config(tmp_path, system, write_own_data(tmp_path / 'data', *DATA[data]))
    if (system, data) in REFUSED:
        with pytest.raises(UserError, match=REFUSED[system, data]) as error:
            train(config, tmp_path / 'run', monkeypatch)
        assert '\n' not in str(error.value)
        return
    train(config, tmp_path / 'run', monkeypatch)
    things, stuff = DATA[data]
    checkpoint = tmp_path / 'run/iter_2.pth'
    meta = torch.load(checkpoint, weights_only=False)['meta']
    assert len(meta['dataset_meta']['classes']) == things + (0 if system == 'panet' else stuff)
    for text in (meta['cfg'], (tmp_path / f'run/{system}.py').read_text()):
        model = str(Config.fromstring(text, '.py').model)
        assert "'auto'" not in model and f"'num_{'' if things else 'things_'}classes': {things}" in model
    options = [one for one in QUICK if one.startswith('test_')]
    run_main(load_tool('test'), monkeypatch, config, checkpoint, '--work-dir', tmp_path, '--cfg-options', *options)
    shutil.rmtree(tmp_path / 'data/annotations')  # predictions need none
    inferencer = PanopticInferencer(config, checkpoint, device='cpu')
    assert len(inferencer.dataset_meta['categories']) == len(meta['dataset_meta']['classes'])
    (result,) = inferencer(str(tmp_path / 'data/val/0.png'))
    assert (result.id_map is None) == (system == 'panet')


@pytest.mark.parametrize('path', sorted((CONFIGS / 'starter').glob('*.py')), ids=lambda path: path.stem)
def test_data_root_acts_everywhere(path, tmp_path):
    """In a config that inherits and on the command line; where the data lies is said nowhere else."""
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = 'mmpanoptic::starter/{path.name}'\ndata_root = 'data/mine/'")
    for root, options in (('data/mine/', None), ('elsewhere/', dict(data_root='elsewhere/'))):
        loaded = load_config(str(config), options)
        for part in ('train', 'val', 'test'):
            assert loaded[f'{part}_dataloader'].dataset.data_root == root
        assert 'data/own' not in loaded.pretty_text
        for part in ('val', 'test'):
            file = loaded[f'{part}_evaluator'].get('ann_file')
            assert file == (f'{root}annotations/instances_val.json' if 'panet' in path.name else None)


def test_data_root_is_text(tmp_path):
    config = user_config(tmp_path, 'ciae', tmp_path, 'data_root = None')
    with pytest.raises(UserError, match=r"datasets with data_root='auto' and no data_root at the top: set it"):
        load_config(str(config))


@pytest.mark.slow
def test_options_of_the_readme(tmp_path, monkeypatch):
    """EMA and early stopping: a training that gets no better ends."""
    (text,) = re.findall(r'```python\n(default_hooks.*?)```', (CONFIGS / 'starter/README.md').read_text(), re.DOTALL)
    config = user_config(tmp_path, 'panoptic-fpn', write_own_data(tmp_path / 'data', 1, 1), text.replace('=4', '=1'))
    options = ['train_cfg.max_iters=9', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1']
    options += ['optim_wrapper.optimizer.lr=0.0', 'default_hooks.checkpoint.save_best=None']
    train(config, tmp_path / 'run', monkeypatch, *options)
    last = max((tmp_path / 'run').glob('iter_*.pth'), key=lambda path: int(path.stem[5:]))
    assert last.name < 'iter_9.pth'
    assert 'ema_state_dict' in torch.load(last, weights_only=False)
    options = [one for one in QUICK if one.startswith('test_')]
    run_main(load_tool('test'), monkeypatch, config, last, '--work-dir', tmp_path, '--cfg-options', *options)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def swap_names(content):
    first, second, *_ = content['categories']
    first['name'], second['name'] = second['name'], first['name']


@pytest.mark.parametrize(
    ('split', 'change', 'message'),
    [
        ('val', swap_names, "differ in class 0 .'thing 0' against 'thing 1'.: list the same `categories`"),
        (
            'val',
            lambda content: content['images'].pop(),
            r'instances_val\.json lacks image 1 of the dataset: set `ann_file`',
        ),
        ('train', lambda content: content['categories'].pop(), 'category_id 2, which is none of its `categories`'),
        ('train', lambda content: content.update(annotations=[]), 'lists no annotations'),
        ('train', lambda content: content['annotations'][0].pop('segmentation'), 'lacks `segmentation`'),
        ('train', lambda content: content['categories'].append(dict(id=9, name='more')), 'differ in class 2'),
    ],
    ids=['names', 'images of a metric', 'category', 'no annotations', 'no mask', 'number'],
)
def test_instances_that_do_not_fit(split, change, message, tmp_path, monkeypatch):
    """One line before anything is trained."""
    data = write_own_data(tmp_path / 'data', 2, 0)
    shutil.copy(data / 'annotations/instances_val.json', data / 'annotations/of_the_dataset.json')
    edit(data / f'annotations/instances_{split}.json', change)
    options = []
    if 'lacks image' in message:  # the metric alone reads it
        options = ['val_dataloader.dataset.ann_file=annotations/of_the_dataset.json']
        options += [f'{part}_evaluator.ann_file={data}/annotations/instances_val.json' for part in ('val', 'test')]
    config = user_config(tmp_path, 'panet', data)
    with pytest.raises(UserError, match=message) as error:
        train(config, tmp_path / 'run', monkeypatch, *options)
    assert '\n' not in str(error.value)
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_a_file_of_the_other_kind_is_led_to_its_config(tmp_path, monkeypatch):
    """Instances in a panoptic config, which the advice of the error takes."""
    data = write_own_data(tmp_path / 'data', 2, 0)
    shutil.copy(data / 'annotations/instances_train.json', data / 'annotations/panoptic_train.json')
    with pytest.raises(UserError, match=r'starter/panet_r18_fpn\.py'):
        train(user_config(tmp_path, 'ciae', data), tmp_path / 'run', monkeypatch)
