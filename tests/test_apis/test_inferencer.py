import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.tiny_model import TinyModel
from mmdet.apis import inference_detector
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.structures import InstanceData

from mmpanoptic.apis import PanopticInferencer, PanopticResult, load_model
from mmpanoptic.datasets import steps_of
from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.drawing import draw
from mmpanoptic.results import Instances
from mmpanoptic.utils import UserError
from mmpanoptic.visualization import PanopticVisualizer


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
    for result in results:
        np.testing.assert_array_equal(result.image, read_rgb(result.path))
        assert result.id_map.shape == (64, 96) and result.id_map.dtype == np.int32
        assert set(np.unique(result.id_map)) - {0} == {segment.id for segment in result.segments}
        assert result.instances.masks.shape[1:] == (64, 96) and result.instances.masks.dtype == bool
        assert [category['name'] for category in result.categories] == [one['name'] for one in CATEGORIES]
        for segment in result.segments:
            assert segment.label == segment.id % 1000 - 1
            assert segment.name == CATEGORIES[segment.label]['name']  # these stand in label order
            assert segment.isthing == CATEGORIES[segment.label]['isthing'] == (segment.id > 1000)
            mask = result.id_map == segment.id
            x, y, width, height = segment.bbox
            assert segment.area == mask.sum() == mask[y : y + height, x : x + width].sum()
            assert mask[y].any() and mask[y + height - 1].any()
            assert mask[:, x].any() and mask[:, x + width - 1].any()
            if segment.isthing:
                assert result.instances.labels[segment.instance] == segment.label
                assert result.instances.scores[segment.instance] == np.float32(segment.score)
            else:
                assert segment.instance is None and 0 < segment.score < 1
    kinds = {segment.isthing for result in results for segment in result.segments}
    assert kinds == {False, True}, 'the test model must find things and stuff'


def mmdet_map(panoptic: torch.Tensor) -> np.ndarray:
    """A map in mmdet's encoding in that of results."""
    values = panoptic[0].numpy()
    return np.where(values == len(CATEGORIES), 0, values + 1)


def test_same_as_by_mmdet(inferencer: PanopticInferencer, results: list[PanopticResult], tiny: TinyModel):
    inferencer.model.cfg = Config.fromfile(tiny.config)
    dataset = inferencer.model.cfg.test_dataloader.dataset
    dataset.pipeline = steps_of(dataset.pipeline)  # mmdet's own functions want a list
    for result in results:
        expected = inference_detector(inferencer.model, result.path)
        np.testing.assert_array_equal(result.id_map, mmdet_map(expected.pred_panoptic_seg.sem_seg))
        np.testing.assert_array_equal(result.instances.bboxes, expected.pred_instances.bboxes.numpy())


def test_any_form_of_input(inferencer: PanopticInferencer, results: list[PanopticResult], tiny: TinyModel):
    paths = sorted(path for path in tiny.images.iterdir() if path.suffix in ('.png', '.jpg') and path.is_file())
    forms = [str(tiny.images), paths, [read_rgb(path) for path in paths], [paths[0], read_rgb(paths[1]), [paths[2]]]]
    for form in forms:
        for result, expected in zip(inferencer(form), results, strict=True):
            np.testing.assert_array_equal(result.id_map, expected.id_map)
            np.testing.assert_array_equal(result.image, expected.image)
    (single,) = inferencer(paths[1])
    np.testing.assert_array_equal(single.id_map, results[1].id_map)
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
        assert (result.id_map == expected.id_map).mean() > 0.99  # sums in another order may turn a tie


@pytest.mark.parametrize('threads', [0, 2])
def test_what_cannot_be_read_is_told_and_left_out(
    inferencer: PanopticInferencer, results: list[PanopticResult], tiny: TinyModel, threads: int
):
    """In batches and by threads, results come in the order of the images."""
    paths = [
        str(tiny.images / name) for name in ('12.png', 'broken.bin', '07.png', '11.jpg', 'folder.png/../broken.bin')
    ]
    told = []
    found = list(inferencer(paths, 2, threads, on_error=lambda image, error: told.append((image, str(error)))))
    assert [result.path for result in found] == [paths[0], paths[2], paths[3]]
    assert [image for image, _ in told] == [paths[1], paths[4]]
    assert all('cannot be decoded' in error for _, error in told)
    for result, expected in zip(found, (results[2], results[0], results[1]), strict=True):
        np.testing.assert_array_equal(result.image, expected.image)
        assert (result.id_map == expected.id_map).mean() > 0.99


def test_a_file_that_disappears_costs_itself(inferencer: PanopticInferencer, tiny: TinyModel):
    paths = [str(tiny.images / name) for name in ('12.png', 'gone.png', '07.png')]
    told = []
    found = list(inferencer(iter(paths), on_error=lambda image, error: told.append((image, str(error)))))
    assert [result.path for result in found] == [paths[0], paths[2]]
    assert [image for image, _ in told] == [paths[1]] and 'gone.png' in told[0][1]


def test_an_iterator_is_followed_as_results_are_asked_for(inferencer: PanopticInferencer, tiny: TinyModel):
    taken = []

    def frames():
        for number in range(100):
            taken.append(number)
            yield np.full((32, 32, 3), number, np.uint8)

    found = inferencer(frames(), batch_size=2, threads=1)
    assert [next(found).image[0, 0, 0] for _ in range(3)] == [0, 1, 2]
    assert len(taken) < 10
    found.close()


def test_precision(inferencer: PanopticInferencer, results: list[PanopticResult], tiny: TinyModel):
    rounded = PanopticInferencer(tiny.config, tiny.checkpoint, device='cpu', dtype='bfloat16')
    for result, expected in zip(rounded(tiny.images), results, strict=True):
        assert result.instances.bboxes.dtype == result.instances.scores.dtype == np.float32
        assert 0.9 < (result.id_map == expected.id_map).mean() < 1
    assert rounded.observe(tiny.images / '07.png').result.segments == next(rounded(tiny.images)).segments
    with pytest.raises(UserError, match='float16 is for GPUs, and the device is cpu: take bfloat16'):
        PanopticInferencer(tiny.config, tiny.checkpoint, device='cpu', dtype='float16')
    with pytest.raises(UserError, match="dtype 'half' is no precision: choose float32"):
        PanopticInferencer(tiny.config, tiny.checkpoint, device='cpu', dtype='half')


def test_compiled(results: list[PanopticResult], tiny: TinyModel, monkeypatch: pytest.MonkeyPatch):
    seen = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        seen.append(len(list(graph.graph.nodes)))
        return graph.forward

    compiled = PanopticInferencer(tiny.config, tiny.checkpoint, device='cpu', compile=dict(backend=backend))
    for result, expected in zip(compiled(tiny.images), results, strict=True):
        np.testing.assert_array_equal(result.id_map, expected.id_map)
    assert sum(seen) > 50, 'layers of a backbone'


def assert_same_instances(found: Instances, expected: Instances | InstanceData) -> None:
    for name in ('bboxes', 'labels', 'scores', 'masks'):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


def test_observing_gives_the_same_result_and_what_it_was_made_from(
    inferencer: PanopticInferencer, results: list[PanopticResult]
):
    for expected in results:
        result, evidence, metainfo = inferencer.observe(expected.path)
        assert result.path == expected.path
        np.testing.assert_array_equal(result.image, expected.image)
        np.testing.assert_array_equal(result.id_map, expected.id_map)
        assert result.segments == expected.segments
        assert_same_instances(result.instances, expected.instances)
        assert_same_instances(expected.instances, evidence.instances)
        assert evidence.output_size == metainfo['ori_shape'] == (64, 96)
        assert evidence.input_size == metainfo['img_shape'] == (192, 288)
        (again,) = inferencer.model.fuse([evidence])
        np.testing.assert_array_equal(mmdet_map(again.sem_seg), expected.id_map)
    observed = inferencer.observe(read_rgb(results[0].path)).result
    assert observed.path is None
    np.testing.assert_array_equal(observed.id_map, results[0].id_map)
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
    assert evidence is None and result.id_map is None and metainfo['ori_shape'] == (48, 64)
    assert len(result.instances)
    assert_same_instances(result.instances, expected.instances)


def test_images_are_predicted_as_asked_for(inferencer: PanopticInferencer, tiny: TinyModel):
    iterator = inferencer([tiny.images / '07.png', tiny.images / 'broken.bin'])
    assert next(iterator).path.endswith('07.png')
    with pytest.raises(UserError, match=r'broken\.bin cannot be decoded'):
        next(iterator)


def test_draw(results: list[PanopticResult], inferencer: PanopticInferencer):
    """As the visualizer draws the same prediction."""
    visualizer = PanopticVisualizer(name='test_inferencer')
    visualizer.dataset_meta = inferencer.dataset_meta
    for result in results:
        picture = result.draw()
        assert picture.dtype == np.uint8 and picture.shape == (64 * 6, 96 * 6, 3)  # the least factor that gives 360
        canvas, factor = draw.upscale(result.image, 360)
        segments = [asdict(segment) for segment in result.segments]
        np.testing.assert_array_equal(picture, visualizer.draw_map(canvas, factor, result.id_map, segments))
        alone = replace(result, id_map=None, segments=[])
        instances = InstanceData(**{key: torch.from_numpy(value) for key, value in vars(result.instances).items()})
        np.testing.assert_array_equal(alone.draw(score_thr=0.0), visualizer.draw_instances(canvas, factor, instances))


def test_class_names_from_the_test_data(tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # where there is no data/shapes
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
