"""What is wrong with a config: one line that names the key; an error of our own code stays a traceback."""

import os
import re

import pytest
import torch
from helpers.repo import CONFIGS, load_tool, run_main
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope, init_default_scope

from mmpanoptic.engine import cli, components
from mmpanoptic.engine.checkpoint_files import read_checkpoint
from mmpanoptic.engine.class_counts import counted_model
from mmpanoptic.engine.components import build_dataset, building, running
from mmpanoptic.engine.configs import load_config
from mmpanoptic.formats.coco_categories import coco_meta
from mmpanoptic.registry import HOOKS, MODELS
from mmpanoptic.utils import UserError

TRAIN = load_tool('train')
TEST = load_tool('test')


@pytest.fixture
def error_of(tiny_config, tmp_path, monkeypatch, capsys):
    """Run a tool in this process with options for the config; its one line on stderr."""
    monkeypatch.chdir(tmp_path)
    for shared in (DefaultScope, MMLogger):  # they outlive a runner, and are named by the second
        monkeypatch.setattr(shared, '_instance_dict', type(shared._instance_dict)())
    torch.set_num_threads(1)

    def run(*options: str, tool: str = 'train') -> str:
        with pytest.raises(SystemExit) as ending:
            if tool == 'train':
                arguments = TRAIN, monkeypatch, tiny_config, '--work-dir', 'work'
            else:
                (tmp_path / 'x.pth').touch()
                arguments = TEST, monkeypatch, tiny_config, 'x.pth', '--work-dir', 'work'
            cli.run(lambda: run_main(*arguments, '--cfg-options', *options))
        assert ending.value.code == 1
        lines = capsys.readouterr().err.splitlines()
        (line,) = (line for line in lines if 'Warning' not in line and 'warn(' not in line)
        assert line.startswith('error: ')
        return line.removeprefix('error: ')

    return run


@pytest.mark.parametrize(
    ('option', 'line'),
    [
        # The command line itself.
        ("custom_hooks=[dict(type='X')]", r"custom_hooks=\[dict\(type='X'\)\]: no dict can be given here"),
        ("custom_hooks=[{'type':'X'}]", 'no dict can be given here'),
        ('custom_hooks=[' + '(' * 3000 + ')' * 3000 + ']', 'is not of the form key=value'),
        # What stands at the top.
        ('custom_hooks=5', 'custom_hooks of .* is 5: list is needed'),
        ('model=5', 'model of .* is 5: dict is needed'),
        ('optim_wrapper=5', 'optim_wrapper of .* is 5: dict is needed'),
        ('train_dataloader=x', "train_dataloader of .* is 'x': dict is needed"),
        ('train_dataloader.dataset=5', 'train_dataloader.dataset is 5: dict is needed'),
        ('val_evaluator=5', 'val_evaluator of .* is 5: dict or list is needed'),
        ('param_scheduler=5', 'param_scheduler of .* is 5: dict or list is needed'),
        ('load_from=5', 'load_from of .* is 5: str is needed'),
        ('train_dataloader=None', r'tiny\.py has no train_dataloader: inherit or set them'),
        # Types.
        ('custom_hooks.0.type=PanopticCheckHok', r"\.0\.type is 'PanopticCheckHok'.* mean PanopticCheckHook"),
        ('custom_hooks.0.type=5', r'custom_hooks\.0 \(5\) cannot be built: TypeError: type must be a str'),
        ('custom_hooks.0=5', 'an option does not fit'),
        ('default_hooks.logger.type=X', r"default_hooks\.logger\.type is 'X', which is no hook that is known"),
        ('model.type=X', r"model\.type is 'X', which is no model that is known"),
        ('model.backbone.type=ResNet5', r"model\.backbone\.type is 'ResNet5', which is no model .* mean ResNet"),
        ('model.backbone=5', r'model\.backbone is 5: a dict with a `type` is needed'),
        ('model.backbone.norm_cfg.type=XN', r"model\.backbone\.norm_cfg\.type is 'XN', which is not known"),
        ('model.rpn_head.loss_cls.type=XLoss', r"model\.rpn_head\.loss_cls\.type is 'XLoss'"),
        ('model.train_cfg.rpn.assigner.type=X', r"model\.train_cfg\.rpn\.assigner\.type is 'X', which is no task util"),
        ('model.data_preprocessor.type=X', r"model\.data_preprocessor\.type is 'X'"),
        ('train_dataloader.dataset.type=X', r"train_dataloader\.dataset\.type is 'X', which is no dataset"),
        ('train_dataloader.sampler.type=X', r"train_dataloader\.sampler\.type is 'X', which is no data sampler"),
        ('train_dataloader.dataset.pipeline.load.type=X', r"train_dataloader\.dataset\.pipeline\.0\.type is 'X'"),
        ('val_dataloader.dataset.type=X', r"val_dataloader\.dataset\.type is 'X'"),
        ('optim_wrapper.type=X', r"optim_wrapper\.type is 'X', which is no optim_wrapper .* there are .*OptimWrapper"),
        ('optim_wrapper.optimizer.type=X', r"optim_wrapper\.optimizer\.type is 'X', which is"),
        ('param_scheduler.0.type=X', r"param_scheduler\.0\.type is 'X', which is no parameter scheduler"),
        ('train_cfg.type=X', r"train_cfg\.type is 'X', which is no loop"),
        ('val_evaluator.type=X', r"val_evaluator\.type is 'X', which is no metric"),
        ('visualizer.type=X', r"visualizer\.type is 'X', which is no visualizer"),
        ('log_processor.type=X', r"log_processor\.type is 'X'"),
        # Arguments.
        ('default_hooks.logger.foo=1', r'default_hooks\.logger\.foo: there is no such argument: there are interval, '),
        ('model.backbone.dpeth=7', r'model\.backbone\.dpeth: there is no such argument: did you mean depth\?'),
        ('model.panoptic_fusion_head.foo=1', r'model\.panoptic_fusion_head\.foo: .*: there are num_things_classes, '),
        ('train_dataloader.foo=1', r'train_dataloader\.foo: there is no such argument'),
        ('train_dataloader.dataset.foo=1', r'train_dataloader\.dataset\.foo: there is no such argument'),
        ('train_dataloader.dataset.pipeline.resize.foo=1', r'train_dataloader\.dataset\.pipeline\.2\.foo: there is no'),
        ('optim_wrapper.optimizer.foo=1', r'optim_wrapper\.optimizer\.foo: there is no such argument: '),
        ('param_scheduler.0.foo=1', r'param_scheduler\.0\.foo: there is no such argument'),
        ('train_cfg.foo=1', r'train_cfg\.foo: there is no such argument'),
        ('val_evaluator.foo=1', r'val_evaluator\.foo: there is no such argument'),
        # Values.
        ('model.backbone.depth=7', r"model\.backbone \(ResNet\) cannot be built: KeyError: 'invalid depth 7.*resnet"),
        ('model.neck.out_channels=x', r"model\.neck\.out_channels is 'x': int is needed"),
        ('model.train_cfg=5', r'model \(PanopticFPN\) cannot be built: AttributeError'),
        ('model.data_preprocessor.mean=x', r"model\.data_preprocessor.*"),
        ('model.panoptic_fusion_head.num_stuff_classes=x', r"num_stuff_classes is 'x': int is needed"),
        ('train_dataloader.batch_size=x', 'train_dataloader cannot be built: ValueError: batch_size should'),
        ('train_dataloader.num_workers=x', 'train_dataloader cannot be built: TypeError'),
        ('train_dataloader.dataset.ann_file=5', r'train_dataloader\.dataset'),
        ('train_dataloader.dataset.data_prefix=5', r'train_dataloader\.dataset\.data_prefix is 5: dict is needed'),
        ('train_dataloader.dataset.filter_cfg=5', r'train_dataloader\.dataset\.filter_cfg is 5: dict is needed'),
        ('train_dataloader.dataset.pipeline.flip.prob=x', r'train_dataloader\.dataset\.pipeline\.3'),
        ('optim_wrapper.optimizer.lr=x', r'optim_wrapper\.optimizer'),
        ('optim_wrapper.clip_grad=5', r'optim_wrapper\.clip_grad is 5: dict is needed'),
        ('param_scheduler.0.begin=x', r"param_scheduler\.0\.begin is 'x': int is needed"),
        ('train_cfg.max_epochs=x', r"train_cfg\.max_epochs is 'x': int is needed"),
        ('randomness.seed=x', 'randomness'),
        # Values that nobody looks at before the run.
        ('default_hooks.logger.interval=x', r"default_hooks\.logger\.interval is 'x': int is needed"),
        ('default_hooks.checkpoint.interval=x', r"default_hooks\.checkpoint\.interval is 'x': int is needed"),
        ('train_dataloader.dataset.pipeline.resize.scale=x', r"pipeline\.2\.scale is 'x': int or tuple is needed"),
        # Files.
        ('train_dataloader.dataset.data_root=nowhere', r'panoptic_train\.json does not exist: .*`data_root'),
        ('val_dataloader.dataset.data_root=nowhere', r'panoptic_val\.json does not exist: .*`data_root'),
        ('val_evaluator.ann_file=none.json', r'none\.json does not exist: set `ann_file` of PanopticMetric'),
        ('train_dataloader.dataset.data_root=s3://x', r"'s3://x' cannot be read"),
        ('val_evaluator.ann_file=s3://x', r"'s3://x' cannot be read"),
    ],
)  # fmt: skip
def test_options(option, line, error_of):
    found = error_of(option)
    assert re.search(line, found), found


@pytest.mark.parametrize(
    ('option', 'line'),
    [
        ('model.backbone.type=X', r"model\.backbone\.type is 'X', which is no model"),
        (
            'test_dataloader.dataset.data_root=nowhere',
            r'panoptic_val\.json does not exist: set `ann_file` and `data_root`',
        ),
        ('test_dataloader.dataset.foo=1', r'test_dataloader\.dataset\.foo: there is no such argument'),
        ('test_evaluator.type=X', r"test_evaluator\.type is 'X', which is no metric"),
        ('test_evaluator.ann_file=none.json', r'none\.json does not exist: set `ann_file` of PanopticMetric'),
        ('test_cfg.type=X', r"test_cfg\.type is 'X', which is no loop"),
        ('test_dataloader=None', r'tiny\.py has no test_dataloader: inherit or set them'),
        ('test_dataloader=5', 'test_dataloader of .* is 5: dict is needed'),
    ],
)
def test_options_of_test(option, line, error_of):
    found = error_of(option, tool='test')
    assert re.search(line, found), found


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    'base',
    [
        'panet/panet_r50_fpn_syncbn_160k_coco.py',
        'panet/panet-det_r50_fpn_syncbn_80k_coco.py',
        'panet/panet_r50_fpn_syncbn_24k_cityscapes.py',
        'panet/panet_r50_fpn_syncbn_80k_mapillary.py',
        'panet/panet_r18_fpn_nuclei.py',
        'panet/panet_r18_fpn_shapes.py',
        'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
        'panoptic_fpn/panoptic-fpn_r50_fpn_cityscapes.py',
        'panoptic_fpn/panoptic-fpn_r18_fpn_nuclei.py',
        'panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py',
    ],
)
@pytest.mark.parametrize('root', ['elsewhere/', 's3://elsewhere/'])
def test_other_data_roots(root, base, split):
    init_default_scope('mmpanoptic')
    part = f'{split}_dataloader'
    config = load_config(str(CONFIGS / base), {f'{part}.dataset.data_root': root})
    with pytest.raises(
        UserError, match=r'elsewhere.* (does not exist: set `ann_file` and `data_root`|cannot be read)'
    ) as error:
        build_dataset(config, part)
    assert '\n' not in str(error.value)


def test_datasets_of_no_config(tiny_config):
    config = load_config(str(tiny_config), {'val_dataloader': None})
    with pytest.raises(UserError, match=r'the config has no val_dataloader\.dataset: set it'):
        build_dataset(config, 'val_dataloader')


@pytest.fixture
def component():
    """A component of this package whose constructor fails as it is told."""

    class Component:
        def __init__(self, how: str = 'bug', number: int = 1) -> None:
            if how == 'refusal':
                raise ValueError('how is refused')
            if how == 'number':
                number + 1
            elif how == 'argument':
                Component(foo=1)
            elif how == 'system':
                os.stat('/nowhere/at/all')
            else:
                getattr(None, how)

    MODELS.register_module(module=Component)
    yield
    del MODELS.module_dict['Component']


def test_bugs_keep_their_traceback(component, monkeypatch):
    monkeypatch.setattr(components, '_PACKAGE', __file__.rsplit('/', 1)[0])
    for how, error in (('bug', AttributeError), ('argument', TypeError), ('system', FileNotFoundError)):
        config = dict(model=dict(type='Component', how=how))
        with pytest.raises(error), building(config, 'model'):
            MODELS.build(config['model'])
    config = dict(model=dict(type='Component', how='refusal'))
    with (
        pytest.raises(UserError, match=r'^model \(Component\) cannot be built: ValueError: how is refused \(.*:\d+\)$'),
        building(config, 'model'),
    ):
        MODELS.build(config['model'])
    config = dict(model=dict(type='Component', how='number', number='one'))
    with pytest.raises(UserError, match=r"^model\.number is 'one': int is needed$"), building(config, 'model'):
        MODELS.build(config['model'])


def test_errors_outside_of_what_is_built():
    with pytest.raises(UserError, match=r'^as it is$'), building({}):
        raise UserError('as it is')
    config = dict(custom_hooks=[dict(type='LoggerHook', interval=5)])
    with pytest.raises(ZeroDivisionError), running(config):
        1 / 0  # noqa: B018
    with pytest.raises(TypeError, match='no fault of the config'), running(config):
        raise TypeError('no fault of the config')


def test_missing_arguments():
    config = dict(custom_hooks=[dict(type='EMAHook'), dict(type='ProfilerHook', by_epoch=True), dict(interval=3)])
    with pytest.raises(UserError, match=r'^custom_hooks\.2 is .*: a dict with a `type` is needed$'), building(config):
        HOOKS.build(config['custom_hooks'][2])
    config = dict(model=dict(type='ResNet'))
    with (
        pytest.raises(UserError, match=r"^model \(ResNet\) is missing 1 required .*'depth'.*: add it$"),
        building(config),
    ):
        MODELS.build(config['model'])


def test_every_config_has_values_that_fit(tmp_path):
    """What is looked at after a failure accuses no config that is right."""
    for path in sorted(CONFIGS.glob('*/*.py')):
        if path.parent.name != '_base_':
            config = load_config(str(path))
            config.model = counted_model(config, (), coco_meta(with_stuff=True))
            for name, node in components.nodes({key: config.get(key) for key in components.read_keys(config)}):
                if 'type' in node:
                    assert not list(components._wrong_values(components._class_of(node), node, name)), path


ADDRESS = 'http://127.0.0.1:9/nets/resnet-0676ba61.pth'  # nothing listens there


@pytest.mark.parametrize(
    ('config', 'key'),
    [
        (
            dict(model=dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=ADDRESS)))),
            'model.backbone.init_cfg.checkpoint',
        ),
        (dict(load_from=ADDRESS, model=dict(type='X')), 'load_from'),
        (dict(), 'the checkpoint'),
    ],
)
def test_a_failed_download_names_the_address_the_key_and_the_way_out(config, key, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    with pytest.raises(UserError) as caught, running(config):
        read_checkpoint(ADDRESS)
    place = tmp_path / 'hub/checkpoints/resnet-0676ba61.pth'
    line = str(caught.value)
    assert line.startswith(f'{ADDRESS} could not be fetched (URLError: ') and '\n' not in line
    assert line.endswith(f'fetch it by other means and put it at {place}, or give the file as {key}')
