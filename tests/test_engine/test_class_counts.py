"""Numbers of classes that a config leaves to the data."""

import copy
import json

import pytest
import torch
from fixtures.tiny_run import TinyRun
from helpers.own_data import write_own_data
from helpers.repo import CONFIGS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.apis import PanopticInferencer, load_model
from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.engine.class_counts import counted_model
from mmpanoptic.engine.components import nodes
from mmpanoptic.engine.configs import load_config
from mmpanoptic.engine.data_places import LOADERS
from mmpanoptic.engine.results import fusion_head
from mmpanoptic.engine.runner import build_runner
from mmpanoptic.utils import UserError

SHAPES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('*/*_shapes.py'))
KEYS = ('num_things_classes', 'num_stuff_classes', 'num_classes')
SHIPPED = 'panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py'


def automatic(config: Config) -> Config:
    """The same, its numbers of classes left to the data."""
    config = copy.deepcopy(config)
    for _, node in nodes(config.model, 'model'):
        node.update({key: 'auto' for key in KEYS if key in node})
    return config


def on(data, name) -> Config:
    init_default_scope('mmpanoptic')
    config = load_config(str(CONFIGS / name))
    for loader in LOADERS:
        for dataset in inner_datasets(config[loader].dataset):
            dataset['data_root'] = f'{data}/'
    return config


@pytest.mark.parametrize('name', SHAPES)
def test_every_system_gets_the_numbers_that_its_config_states(name, tiny_shapes):
    config = on(tiny_shapes, name)
    without = automatic(config)
    assert without.model != config.model
    before = copy.deepcopy(without.model)
    for loader in LOADERS:
        assert counted_model(without, (loader,)) == config.model
    assert without.model == before, 'a config stays as it is'


def test_what_is_stated_stays(tiny_shapes):
    """Also where it is wrong, which is told when a run starts; CIAE's detector may have a single class."""
    config = automatic(on(tiny_shapes, 'ciae/ciae_r18_fpn_shapes.py'))
    config.model.bbox_head.num_classes = 1
    model = counted_model(config, ('train_dataloader',))
    assert model.bbox_head.num_classes == 1
    assert (model.semantic_head.num_things_classes, model.semantic_head.num_stuff_classes) == (7, 6)


def test_data_inside_of_wrappers(tiny_shapes):
    config = automatic(on(tiny_shapes, 'oanet/oanet_r18_fpn_shapes.py'))
    inner = config.train_dataloader.dataset
    inner.inst_ann_file = 'annotations/nowhere.json'  # not needed for the classes
    config.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=inner)
    model = counted_model(config, ('train_dataloader',))
    assert model.panoptic_fusion_head.num_things_classes == 7


def test_data_that_cannot_be_read(tmp_path):
    config = automatic(on(tmp_path, SHIPPED))
    message = (
        r"^model\.roi_head\.bbox_head\.num_classes is 'auto', and the data for it cannot be read: "
        r'.*panoptic_val\.json does not exist.*; or set the number$'
    )
    with pytest.raises(UserError, match=message) as error:
        counted_model(config, LOADERS[::-1])
    assert '\n' not in str(error.value)
    for loader in LOADERS:
        config[loader] = None
    with pytest.raises(UserError, match='cannot be read: the config has no test_dataloader; or set the number'):
        counted_model(config, ('test_dataloader',))


def test_a_model_without_data(tiny_shapes, tmp_path, tiny_run: TinyRun):
    """A checkpoint says what classes it has; without one, any data of the config does."""
    config = automatic(on('nowhere', SHIPPED))
    model, _ = load_model(config, tiny_run.checkpoint, device='cpu')
    assert model.num_classes == 13
    inferencer = PanopticInferencer(config, tiny_run.checkpoint, device='cpu')
    (result,) = inferencer(torch.zeros(64, 96, 3, dtype=torch.uint8).numpy())
    assert result.id_map.shape == (64, 96)
    partly = automatic(on('nowhere', SHIPPED))
    partly.train_dataloader.dataset.data_root = f'{tiny_shapes}/'
    assert load_model(partly, device='cpu')[0].num_classes == 13
    assert fusion_head(automatic(on(tiny_shapes, SHIPPED)), None).num_classes == 13
    with pytest.raises(UserError, match=r'cannot be read: .* does not exist'):
        load_model(config, device='cpu')


def test_runs_take_the_numbers_of_their_data(tmp_path):
    """Those of the training in a training, those of the test in a test; a config of another number is refused."""
    for name, things in (('one', 1), ('two', 2)):
        write_own_data(tmp_path / name, things, 1)
    config = load_config(str(CONFIGS / 'starter/panoptic-fpn_r18_fpn.py'), dict(data_root=f'{tmp_path}/one/'))
    config.test_dataloader.dataset.data_root = f'{tmp_path}/two/'
    config.launcher, config.work_dir = 'none', str(tmp_path / 'run')
    for part in LOADERS:
        config[part].update(num_workers=0, persistent_workers=False)
    for loader, things in (('train_dataloader', 1), ('test_dataloader', 2)):
        own = copy.deepcopy(config)
        own.experiment_name = own.visualizer.name = f'{tmp_path.name} {loader}'
        runner = build_runner(own, loader)
        assert runner.model.num_things_classes == own.model.semantic_head.num_things_classes == things
        assert runner.cfg.model.roi_head.bbox_head.num_classes == things
        assert own.optim_wrapper.type == 'OptimWrapper' or loader == 'test_dataloader' or torch.cuda.is_available()


def test_an_unused_parent_is_not_counted(tmp_path):
    """An export of Roboflow as it is."""
    path = write_own_data(tmp_path, 1, 0) / 'annotations/instances_train.json'
    content = json.loads(path.read_text())
    content['categories'][0]['supercategory'] = 'things'
    content['categories'].insert(0, dict(id=0, name='things', supercategory='none'))
    path.write_text(json.dumps(content))
    config = load_config(str(CONFIGS / 'starter/panet_r18_fpn.py'), dict(data_root=f'{tmp_path}/'))
    assert counted_model(config, ('train_dataloader',)).roi_head.bbox_head.num_classes == 1


@pytest.mark.parametrize('meta', [dict(thing_classes=3), dict(thing_classes=('a',), stuff_classes='b'), {}])
def test_a_checkpoint_that_tells_nothing_is_not_asked(meta, tiny_shapes):
    config = automatic(on(tiny_shapes, SHIPPED))
    assert counted_model(config, ('test_dataloader',), meta).panoptic_fusion_head.num_things_classes == 7


def test_a_single_thing_class_has_nothing_to_rank():
    config = load_config(str(CONFIGS / 'starter/oanet_r18_fpn.py'))
    heads = [
        counted_model(config, (), dict(thing_classes=names, stuff_classes=())).panoptic_fusion_head
        for names in (('a', 'b'), ('a',))
    ]
    assert [head.type for head in heads] == ['RankingFusion', 'HeuristicFusion']
    common = dict(num_things_classes=1, num_stuff_classes=0, score_thr=0.5, overlap_thr=0.5, stuff_area_limit=256)
    assert heads[1] == dict(common, type='HeuristicFusion')


@pytest.mark.parametrize('name', ['oanet', 'spatialflow', 'ciae', 'panet'])
def test_what_finds_things_needs_some(name):
    config = load_config(str(CONFIGS / f'starter/{name}_r18_fpn.py'))
    with pytest.raises(UserError, match=r'^no class is a thing, and .* finds things: .* by Panoptic FPN'):
        counted_model(config, (), dict(thing_classes=(), stuff_classes=('sky',)))
