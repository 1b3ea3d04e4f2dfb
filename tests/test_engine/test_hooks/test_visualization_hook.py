"""The hook that writes pictures in testing and sends some to the vis backends in validation."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from PIL import Image

from mmpanoptic.datasets.transforms import LoadImageFromFile
from mmpanoptic.engine.hooks import PanopticVisualizationHook, visualization_hook
from mmpanoptic.registry import HOOKS
from mmpanoptic.visualization import PanopticVisualizer
from mmpanoptic.visualization.files import read_image


@pytest.fixture
def paths(tmp_path):
    """Six images; two of them have the same name, in different folders."""
    names = ['a/one.png', 'a/two.png', 'b/one.png', 'b/three.jpg', 'b/four.png', 'b/five.png']
    for i, name in enumerate(names):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((20, 30, 3), 30 * i, np.uint8))
    return [str(tmp_path / 'images' / name) for name in names]


def _sample(path: str) -> DetDataSample:
    sample = DetDataSample(metainfo={'img_path': path})
    panoptic = torch.zeros(1, 20, 30, dtype=torch.int64)
    segments = [{'id': 0, 'label': 0, 'score': None}]
    sample.pred_panoptic_seg = PixelData(sem_seg=panoptic, metainfo={'segments_info': segments})
    return sample


def _runner(paths: list[str], save_dir=None, iteration: int = 0) -> SimpleNamespace:
    backends = [{'type': 'LocalVisBackend'}] if save_dir else None
    visualizer = PanopticVisualizer(vis_backends=backends, save_dir=save_dir, min_side=40)
    visualizer.dataset_meta = {'classes': ['sky'], 'palette': [(1, 2, 3)]}

    class Dataset(list):
        def get_data_info(self, index: int) -> dict:
            return {'img_path': self[index]}

    loader = SimpleNamespace(dataset=Dataset(paths))
    return SimpleNamespace(visualizer=visualizer, test_dataloader=loader, val_dataloader=loader, iter=iteration)


def _test(hook: PanopticVisualizationHook, runner: SimpleNamespace, paths: list[str], batch_size: int = 2) -> None:
    hook.before_test(runner)
    for batch_idx, start in enumerate(range(0, len(paths), batch_size)):
        batch = [_sample(path) for path in paths[start : start + batch_size]]
        hook.after_test_iter(runner, batch_idx, None, batch)


def _written(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


ALL = ['a_one.png', 'b_one.png', 'five.png', 'four.png', 'three.png', 'two.png']


def test_registered_and_built_before_there_is_a_visualizer():
    assert isinstance(HOOKS.build({'type': 'PanopticVisualizationHook'}), PanopticVisualizationHook)
    assert HOOKS.get('DetVisualizationHook').__module__.startswith('mmdet.')


def test_one_picture_per_image_in_the_folder_as_given(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hook = PanopticVisualizationHook(test_out_dir='pictures')
    runner = _runner(paths)
    _test(hook, runner, paths)
    assert _written(tmp_path / 'pictures') == ALL
    _test(hook, runner, paths)  # a second run writes over the first
    assert _written(tmp_path / 'pictures') == ALL
    assert cv2.imread('pictures/two.png')[-1, 0].tolist() == [30, 30, 30]
    assert cv2.imread('pictures/b_one.png')[-1, 0].tolist() == [60, 60, 60]
    assert {path.name for path in tmp_path.iterdir()} == {'images', 'pictures'}


def test_nothing_is_drawn_in_testing_unless_asked_for(paths, tmp_path):
    runner = _runner(paths, save_dir=str(tmp_path / 'backend'))
    _test(PanopticVisualizationHook(draw=True), runner, paths)
    assert not list((tmp_path / 'backend').rglob('*.png'))


@pytest.mark.parametrize('world_size', [1, 2])
@pytest.mark.parametrize('max_images', [0, 3, None])
def test_max_images_counts_over_all_ranks(paths, tmp_path, monkeypatch, world_size, max_images):
    monkeypatch.setattr(visualization_hook, 'get_world_size', lambda: world_size)
    out = tmp_path / 'pictures'
    for rank in range(world_size):
        monkeypatch.setattr(visualization_hook, 'get_rank', lambda rank=rank: rank)
        hook = PanopticVisualizationHook(test_out_dir=str(out), max_images=max_images)
        runner = _runner(paths)
        hook.before_test(runner)
        for i, path in enumerate(paths[rank::world_size]):
            hook.after_test_iter(runner, i, None, [_sample(path)])
    expected = ALL if max_images is None else ['a_one.png', 'b_one.png', 'two.png'][:max_images]
    assert _written(out) == expected


def test_validation_draws_the_first_image_of_every_interval(paths, tmp_path):
    runner = _runner(paths, save_dir=str(tmp_path / 'backend'), iteration=50)
    hook = PanopticVisualizationHook(draw=True, interval=2)
    for batch_idx in range(3):
        hook.after_val_iter(runner, batch_idx, None, [_sample(path) for path in paths[2 * batch_idx :][:2]])
    pictures = sorted(path.name for path in (tmp_path / 'backend').rglob('*.png'))
    assert pictures == ['val_four_50.png', 'val_one_50.png']


def test_validation_draws_nothing_without_draw_or_on_another_rank(paths, tmp_path, monkeypatch):
    runner = _runner(paths, save_dir=str(tmp_path / 'backend'))
    PanopticVisualizationHook().after_val_iter(runner, 0, None, [_sample(paths[0])])
    monkeypatch.setattr(visualization_hook, 'is_main_process', lambda: False)
    PanopticVisualizationHook(draw=True).after_val_iter(runner, 0, None, [_sample(paths[0])])
    assert not list((tmp_path / 'backend').rglob('*.png'))


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
@pytest.mark.parametrize('options', [{}, {'color_type': 'color_ignore_orientation'}, {'color_type': 'grayscale'}])
@pytest.mark.parametrize('decoder', ['cv2', 'pillow'])
@pytest.mark.parametrize('wrapped', ['not', 'dataset', 'datasets'])
def test_images_are_drawn_as_they_are_fed(orientation, options, decoder, wrapped, tmp_path):
    """Photos with a rotation in EXIF, which a pipeline may or may not apply."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / 'x.png', exif=exif)
    step = LoadImageFromFile(imdecode_backend=decoder, **options)
    dataset = SimpleNamespace(pipeline=SimpleNamespace(transforms=[step]))
    wrapper = {
        'not': dataset,
        'dataset': SimpleNamespace(dataset=dataset),
        'datasets': SimpleNamespace(datasets=[dataset]),
    }
    drawn = read_image(str(tmp_path / 'x.png'), **visualization_hook.reading_of(wrapper[wrapped]))
    fed = step.transform(dict(img_path=str(tmp_path / 'x.png')))['img']
    fed = fed[..., None].repeat(3, 2) if fed.ndim == 2 else fed[..., ::-1]
    np.testing.assert_array_equal(drawn, fed)
    assert drawn.shape == ((32, 24, 3) if orientation > 4 and 'ignore' not in str(options) else (24, 32, 3))
