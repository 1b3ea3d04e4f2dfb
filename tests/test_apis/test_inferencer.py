import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.tiny_model import TinyModel, write_tiny_model
from mmdet.apis import inference_detector
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.structures import InstanceData

from mmpanoptic.apis import PanopticInferencer, PanopticResult, list_images, load_model
from mmpanoptic.datasets import steps_of
from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.utils import UserError


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp('tiny'))


@pytest.fixture(scope='module')
def inferencer(tiny: TinyModel) -> PanopticInferencer:
    return PanopticInferencer(tiny.config, tiny.checkpoint, device='cpu')


@pytest.fixture(scope='module')
def results(inferencer: PanopticInferencer, tiny: TinyModel) -> list[PanopticResult]:
    return list(inferencer(tiny.images))


def read_rgb(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def altered(tiny: TinyModel, tmp_path: Path, **changes) -> str:
    """A copy of the checkpoint with other entries."""
    path = tmp_path / 'altered.pth'
    torch.save(torch.load(tiny.checkpoint) | changes, path)
    return str(path)


def test_results(results: list[PanopticResult], tiny: TinyModel):
    assert [Path(result.path).name for result in results] == ['07.png', '11.jpg', '12.png']
    void = len(CATEGORIES)
    for result in results:
        np.testing.assert_array_equal(result.image, read_rgb(result.path))
        assert result.panoptic.shape == (64, 96) and result.panoptic.dtype == np.int32
        assert set(np.unique(result.panoptic)) - {void} == {segment['id'] for segment in result.segments_info}
        assert result.instances.masks.shape[1:] == (64, 96)
        for segment in result.segments_info:
            assert segment['label'] == segment['id'] % 1000
            assert segment['name'] == CATEGORIES[segment['label']]['name']  # these stand in label order
            if segment['id'] >= 1000:
                assert result.instances.labels[segment['instance']] == segment['label']
                assert result.instances.scores[segment['instance']] == segment['score']
            else:
                assert segment['instance'] is None and segment['score'] is None
    kinds = {segment['id'] >= 1000 for result in results for segment in result.segments_info}
    assert kinds == {False, True}, 'the test model must find things and stuff'


def test_same_as_by_mmdet(inferencer: PanopticInferencer, results: list[PanopticResult], tiny: TinyModel):
    inferencer.model.cfg = Config.fromfile(tiny.config)
    dataset = inferencer.model.cfg.test_dataloader.dataset
    dataset.pipeline = steps_of(dataset.pipeline)  # mmdet's own functions want a list
    for result in results:
        expected = inference_detector(inferencer.model, result.path)
        np.testing.assert_array_equal(result.panoptic, expected.pred_panoptic_seg.sem_seg[0].numpy())
        torch.testing.assert_close(result.instances.bboxes, expected.pred_instances.bboxes, rtol=0, atol=0)


def test_any_form_of_input(inferencer: PanopticInferencer, results: list[PanopticResult], tiny: TinyModel):
    paths = sorted(path for path in tiny.images.iterdir() if path.suffix in ('.png', '.jpg') and path.is_file())
    forms = [str(tiny.images), paths, [read_rgb(path) for path in paths], [paths[0], read_rgb(paths[1]), [paths[2]]]]
    for form in forms:
        for result, expected in zip(inferencer(form), results, strict=True):
            np.testing.assert_array_equal(result.panoptic, expected.panoptic)
            np.testing.assert_array_equal(result.image, expected.image)
    (single,) = inferencer(paths[1])
    np.testing.assert_array_equal(single.panoptic, results[1].panoptic)
    (array,) = inferencer(read_rgb(paths[0]))
    assert array.path is None


def test_batches(
    inferencer: PanopticInferencer,
    results: list[PanopticResult],
    tiny: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
):
    sizes = []
    original = inferencer.model.evidence
    monkeypatch.setattr(inferencer.model, 'evidence', lambda x, *args: sizes.append(len(x)) or original(x, *args))
    batched = list(inferencer(tiny.images, batch_size=2))
    assert sizes == [2, 1]
    for result, expected in zip(batched, results, strict=True):
        assert result.path == expected.path
        assert (result.panoptic == expected.panoptic).mean() > 0.99  # sums in another order may turn a tie


def assert_same_instances(found: InstanceData, expected: InstanceData) -> None:
    assert set(found.keys()) == set(expected.keys())
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def test_observing_gives_the_same_result_and_what_it_was_made_from(
    inferencer: PanopticInferencer, results: list[PanopticResult]
):
    for expected in results:
        result, evidence, metainfo = inferencer.observe(expected.path)
        assert result.path == expected.path
        np.testing.assert_array_equal(result.image, expected.image)
        np.testing.assert_array_equal(result.panoptic, expected.panoptic)
        assert result.segments_info == expected.segments_info
        assert_same_instances(result.instances, expected.instances)
        assert_same_instances(evidence.instances, expected.instances)
        assert evidence.output_size == metainfo['ori_shape'] == (64, 96)
        assert evidence.input_size == metainfo['img_shape'] == (192, 288)
        (again,) = inferencer.model.fuse([evidence])
        np.testing.assert_array_equal(again.sem_seg[0].numpy(), expected.panoptic)
    observed = inferencer.observe(read_rgb(results[0].path)).result
    assert observed.path is None
    np.testing.assert_array_equal(observed.panoptic, results[0].panoptic)
    with pytest.raises(UserError, match=r'image none\.png does not exist'):
        inferencer.observe('none.png')


def test_models_of_instances_have_no_evidence(tmp_path: Path, repo_root: Path):
    config = Config.fromfile(repo_root / 'configs/panet/panet_r18_fpn_shapes.py')
    config.model.test_cfg.rpn.max_per_img = 10
    config.model.test_cfg.rcnn.score_thr = 0.0
    model, _ = load_model(config, device='cpu')
    classes = tuple(category['name'] for category in CATEGORIES if category['isthing'])
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=classes))), tmp_path / 'a.pth')
    inferencer = PanopticInferencer(config, tmp_path / 'a.pth', device='cpu')
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    result, evidence, metainfo = inferencer.observe(image)
    (expected,) = inferencer(image)
    assert evidence is None and result.panoptic is None and metainfo['ori_shape'] == (48, 64)
    assert len(result.instances)
    assert_same_instances(result.instances, expected.instances)


def test_images_are_predicted_as_asked_for(inferencer: PanopticInferencer, tiny: TinyModel):
    iterator = inferencer([tiny.images / '07.png', tiny.images / 'notes.txt'])
    assert next(iterator).path.endswith('07.png')
    with pytest.raises(UserError, match=r'notes\.txt cannot be decoded'):
        next(iterator)


def test_draw(inferencer: PanopticInferencer, results: list[PanopticResult]):
    picture = inferencer.draw(results[0])
    assert picture.dtype == np.uint8 and picture.shape == (64 * 6, 96 * 6, 3)  # the least factor that gives 360
    np.testing.assert_array_equal(picture, inferencer.draw(results[0]))
    nothing = PanopticResult(None, results[0].image, np.full((64, 96), len(CATEGORIES), np.int32), [], InstanceData())
    assert (inferencer.draw(nothing) != picture).any(axis=2).mean() > 0.5
    instances = PanopticResult(None, results[0].image, None, [], results[0].instances)
    drawn = inferencer.draw(instances, score_thr=0.0)
    assert drawn.shape == picture.shape
    assert (drawn != inferencer.draw(instances, score_thr=1.0)).any()


def test_class_names_from_the_test_data(tiny: TinyModel, tmp_path: Path):
    checkpoint = altered(tiny, tmp_path, meta={})
    with pytest.raises(UserError, match=r'no class names .*nowhere\.json'):
        PanopticInferencer(tiny.config, checkpoint)
    config = Config.fromfile(tiny.config)
    (tmp_path / 'panoptic.json').write_text(json.dumps({'categories': CATEGORIES}))
    config.test_dataloader.dataset.update(data_root=str(tmp_path), ann_file='panoptic.json')
    inferencer = PanopticInferencer(config, checkpoint, device='cpu')
    assert inferencer.dataset_meta['classes'] == tuple(category['name'] for category in CATEGORIES)


def test_class_names_of_another_dataset(tiny: TinyModel, tmp_path: Path):
    with pytest.raises(UserError, match='names of 2 classes for a model of 13'):
        PanopticInferencer(tiny.config, altered(tiny, tmp_path, meta=dict(dataset_meta=dict(classes=('a', 'b')))))


def test_weights_of_another_model(tiny: TinyModel, tmp_path: Path):
    weights = torch.load(tiny.checkpoint)['state_dict']
    wrapped = {f'module.{name}': value for name, value in weights.items()}
    PanopticInferencer(tiny.config, altered(tiny, tmp_path, state_dict=wrapped), device='cpu')
    del weights['neck.fpn_convs.0.conv.bias']
    with pytest.raises(UserError, match=r'not of the model that .*tiny\.py describes: .*fpn_convs\.0\.conv\.bias'):
        PanopticInferencer(tiny.config, altered(tiny, tmp_path, state_dict=weights))
    with pytest.raises(UserError, match='not the weights of a model'):
        PanopticInferencer(tiny.config, altered(tiny, tmp_path, state_dict=torch.zeros(3)))


def test_checkpoint_with_objects(tiny: TinyModel, tmp_path: Path):
    meta = torch.load(tiny.checkpoint)['meta']
    checkpoint = altered(tiny, tmp_path, meta=meta | {'object': Path('any')})
    before = dict(CheckpointLoader._schemes)
    with pytest.raises(UserError, match='could run any code'):
        PanopticInferencer(tiny.config, checkpoint)
    PanopticInferencer(tiny.config, checkpoint, trust_checkpoint=True)
    assert before == CheckpointLoader._schemes, 'how mmengine loads is left as it is'


def test_device_that_is_not_there(tiny: TinyModel):
    with pytest.raises(UserError, match='device cuda:77 cannot be used'):
        PanopticInferencer(tiny.config, tiny.checkpoint, device='cuda:77')


def test_missing_checkpoint(tiny: TinyModel):
    with pytest.raises(UserError, match=r'checkpoint nowhere\.pth does not exist'):
        PanopticInferencer(tiny.config, 'nowhere.pth')


def test_list_images(tmp_path: Path):
    for name in ('b.PNG', 'a.jpeg', '.hidden.png', 'c.json'):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [str(tmp_path / 'a.jpeg'), str(tmp_path / 'b.PNG')]
    assert list_images([tmp_path / 'c.json']) == [str(tmp_path / 'c.json')]  # named by the user: taken as it is
    with pytest.raises(UserError, match=r'image .*d\.png does not exist'):
        list_images(tmp_path / 'd.png')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='empty holds no image'):
        list_images(tmp_path / 'empty')
    with pytest.raises(ValueError, match=r'not float64 of shape \(4, 4, 3\)'):
        list_images(np.zeros((4, 4, 3)))
