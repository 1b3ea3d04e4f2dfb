"""Pictures: colours, contours, labels, panels, and the visualizer that puts them together."""

import time

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.dist import utils as dist_utils
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.drawing import draw
from mmpanoptic.drawing.scene import segment_texts
from mmpanoptic.drawing.text import contrasting
from mmpanoptic.registry import VISUALIZERS
from mmpanoptic.structures import rgb_to_id
from mmpanoptic.visualization import PanopticVisualizer

CLASSES = ['person', 'car', 'sky']
PALETTE = [(220, 20, 60), (0, 0, 142), (70, 130, 180)]
VOID = len(CLASSES)


@pytest.fixture
def visualizer() -> PanopticVisualizer:
    visualizer = PanopticVisualizer(min_side=0)
    visualizer.dataset_meta = {'classes': CLASSES, 'palette': PALETTE}
    return visualizer


@pytest.fixture
def image() -> np.ndarray:
    return np.full((200, 300, 3), 100, np.uint8)


def _ground_truth() -> PixelData:
    ids = np.zeros((1, 200, 300), np.int32)
    ids[:, :100] = 9_000_000
    ids[:, 100:, 150:] = 70_000
    segments = [{'id': 9_000_000, 'label': 2, 'iscrowd': 0}, {'id': 70_000, 'label': 0, 'iscrowd': 1}]
    return PixelData(sem_seg=torch.from_numpy(ids), metainfo={'segments_info': segments})


def _prediction() -> PixelData:
    panoptic = np.full((1, 200, 300), VOID, np.int64)
    panoptic[:, :100] = 2
    panoptic[:, 100:, :150] = 1001
    panoptic[:, 100:, 150:] = 2001
    segments = [
        {'id': 2, 'label': 2, 'score': None},
        {'id': 1001, 'label': 1, 'score': 0.876},
        {'id': 2001, 'label': 1, 'score': 0.5},
    ]
    return PixelData(sem_seg=torch.from_numpy(panoptic), metainfo={'segments_info': segments})


def _instances() -> InstanceData:
    masks = torch.zeros(2, 200, 300, dtype=torch.bool)
    masks[0, 20:80, 20:80] = True
    masks[1, 120:180, 200:280] = True
    bboxes = torch.tensor([[20.0, 20, 80, 80], [200, 120, 280, 180]])
    return InstanceData(bboxes=bboxes, labels=torch.tensor([0, 1]), scores=torch.tensor([0.9, 0.2]), masks=masks)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Titles of the panels and all texts that were written."""
    seen: dict = {'titles': [], 'texts': []}
    header, put = draw.with_header, draw.put_text

    def with_header(picture: np.ndarray, title: str) -> np.ndarray:
        seen['titles'].append(title)
        return header(picture, title)

    def put_text(picture: np.ndarray, text: str, *args) -> None:
        seen['texts'].append(text)
        put(picture, text, *args)

    monkeypatch.setattr(draw, 'with_header', with_header)
    monkeypatch.setattr(draw, 'put_text', put_text)
    return seen


# ---------------------------------------------------------------------------------------------------- pure functions


def test_upscale_takes_the_least_whole_factor():
    assert draw.upscale(np.zeros((256, 300, 3), np.uint8), 360)[1] == 2
    assert draw.upscale(np.zeros((180, 300, 3), np.uint8), 360)[1] == 2
    assert draw.upscale(np.zeros((179, 300, 3), np.uint8), 360)[0].shape == (537, 900, 3)
    large = np.zeros((360, 400, 3), np.uint8)
    assert draw.upscale(large, 360)[0] is large


@pytest.mark.parametrize('color', [(220, 20, 60), (0, 0, 0), (255, 255, 255), (128, 128, 128), (0, 0, 142)])
def test_first_segment_has_the_class_colour_and_further_ones_differ(color):
    colors = draw.segment_colors([0] * 8 + [1], [color, (1, 2, 3)])
    assert tuple(colors[0]) == color
    assert tuple(colors[8]) == (1, 2, 3)
    shades = colors[:8].astype(int)
    distances = np.abs(shades[:, None] - shades[None]).max(-1) + 999 * np.eye(8, dtype=int)
    assert distances.min() >= 8
    np.testing.assert_array_equal(colors, draw.segment_colors([0] * 8 + [1], [color, (1, 2, 3)]))


def test_no_segments_no_colors():
    assert draw.segment_colors([], PALETTE).shape == (0, 3)


def test_segment_indices_gives_void_to_ids_that_no_segment_has():
    ids = np.array([[0, 16_777_215], [5, 7]])
    segments = [{'id': 7}, {'id': 16_777_215}, {'id': 20_000_000}]
    np.testing.assert_array_equal(draw.segment_indices(ids, segments), [[0, 2], [0, 1]])
    np.testing.assert_array_equal(draw.segment_indices(ids, []), np.zeros((2, 2)))


def test_overlay_blends_segments_and_greys_void():
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = 200
    indices = np.ones((40, 60), np.uint16)
    indices[:, 30:] = 0
    picture = draw.overlay(image, indices, np.array([[0, 100, 50]], np.uint8), alpha=0.5)
    np.testing.assert_array_equal(picture[5, 5], (100, 50, 25))
    void = picture[:, 32:]
    assert (void == void[..., :1]).all(), 'void has no colour'
    assert len(np.unique(void)) == 2, 'void is hatched'
    assert (picture[:, 29] == 255).all(), 'the contour'
    assert (picture[:, :29] == picture[5, 5]).all()
    assert (image == [200, 0, 0]).all(), 'the input is left alone'


def test_overlay_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r'\(4, 5\).*\(4, 4\)'):
        draw.overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4), np.uint16), np.zeros((0, 3), np.uint8))


def _changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of what differs."""
    rows, columns = np.nonzero((before != after).any(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_label_lies_at_the_pole_and_not_at_the_centre_of_gravity():
    indices = np.zeros((300, 300), np.uint16)
    indices[10:30, 10:290] = 1  # an L: the centre of gravity is outside it
    indices[10:290, 10:30] = 1
    indices[200:290, 10:130] = 1  # and where it is widest
    picture = np.full((300, 300, 3), 90, np.uint8)
    labelled = draw.draw_labels(picture, indices, [{'label': 0, 'texts': ['cat']}], np.array([[255, 0, 0]], np.uint8))
    left, top, right, bottom = _changed(picture, labelled)
    assert left >= 10 and right <= 130 and top >= 200 and bottom <= 290
    assert (picture == 90).all(), 'the input is left alone'


def test_labels_stay_inside_do_not_overlap_and_spare_small_segments():
    rng = np.random.default_rng(0)
    indices = cv2.resize(rng.permutation(100).reshape(10, 10).astype(np.uint8), (400, 400), interpolation=0)
    indices = np.where(indices < 90, indices + 1, 0).astype(np.uint16)
    indices[:, 380:] = 91
    segments = [{'label': 0, 'texts': ['nucleus 0.91', 'nucleus']} for _ in range(90)]
    segments.append({'label': 1, 'texts': ['an edge with a long name']})
    picture = np.zeros((400, 400, 3), np.uint8)
    colors = np.full((91, 3), 200, np.uint8)
    boxes = []
    for max_cover in (0.4, 3.0):
        labelled = draw.draw_labels(picture, indices, segments, colors, max_cover=max_cover, max_cover_first=3.0)
        count, _, stats, _ = cv2.connectedComponentsWithStats(labelled.any(-1).astype(np.uint8))
        boxes.append(stats[1:, cv2.CC_STAT_AREA])
        assert count > 1
    assert len(boxes[0]) <= 2, 'one per class, the others would be hidden'
    assert len(boxes[1]) > 10


def test_text_that_does_not_fit_into_the_picture_gives_way_to_a_shorter_one(monkeypatch):
    written = []
    monkeypatch.setattr(draw, 'put_text', lambda picture, text, *args: written.append(text))
    indices = np.ones((100, 60), np.uint16)
    segments = [{'label': 0, 'texts': ['playingfield 0.77', 'dog']}]
    draw.draw_labels(np.zeros((100, 60, 3), np.uint8), indices, segments, np.zeros((1, 3), np.uint8))
    assert written == ['dog']


@pytest.mark.parametrize(('color', 'text'), [((255, 255, 0), (0, 0, 0)), ((0, 0, 142), (255, 255, 255))])
def test_contrasting(color, text):
    assert contrasting(color) == text


def test_segment_texts():
    assert segment_texts({'label': 0, 'iscrowd': 1}, CLASSES) == ['person (crowd)']
    assert segment_texts({'label': 2, 'iscrowd': 0}, CLASSES) == ['sky']
    assert segment_texts({'label': 2, 'score': None}, CLASSES) == ['sky']
    assert segment_texts({'label': 1, 'score': 0.876}, CLASSES) == ['car 0.88', 'car']


GREY = np.full((200, 300, 3), 100, np.uint8)
COLORS = np.array([[220, 20, 60], [0, 0, 142]], np.uint8)
BOXES = np.array([[20.0, 60, 80, 120], [60, 100, 280.4, 179.6]])


def _masks() -> np.ndarray:
    masks = np.zeros((2, 200, 300), bool)
    masks[0, 60:120, 20:80] = True
    masks[1, 100:180, 60:280] = True
    return masks


def test_masks_are_mixed_under_contours_the_first_one_above_the_others():
    picture = draw.draw_instances(GREY, None, _masks(), COLORS, ['a', 'b'], alpha=0.4)
    first, second = (np.rint(0.6 * 100 + 0.4 * color) for color in COLORS.astype(float))
    np.testing.assert_array_equal(picture[90, 40], first)
    np.testing.assert_array_equal(picture[150, 200], second)
    np.testing.assert_array_equal(picture[112, 70], np.rint(0.6 * second + 0.4 * COLORS[0]))
    assert (picture[99, 90:280] == 255).all() and (picture[119, 20:79] == 255).all(), 'the contours'
    assert (GREY == 100).all(), 'the input is left alone'


def test_boxes_have_the_colours_of_their_instances_the_first_one_above_the_others():
    picture = draw.draw_instances(GREY, BOXES, None, COLORS, ['a', 'b'])
    assert (picture[70:119, 20] == COLORS[0]).all() and (picture[119, 20:80] == COLORS[0]).all()
    assert (picture[101:179, 279] == COLORS[1]).all() and (picture[179, 81:279] == COLORS[1]).all()
    assert (picture[150, 100:270] == 100).all(), 'no mask, no filling'


def test_texts_stand_above_their_boxes_and_inside_the_picture(monkeypatch):
    places = {}
    monkeypatch.setattr(draw, 'put_text', lambda _, text, x, y, *args: places.update({text: (x, y)}))
    boxes = np.array([[20.0, 60, 80, 120], [-5, 3, 50, 40], [290, 195, 300, 200], [0, 0, 300, 200]])
    texts = ['cat', 'dog', 'a long name', 'as long a name as no picture of this width has room for']
    draw.draw_instances(GREY, boxes, None, np.zeros((4, 3), np.uint8), texts)
    sizes = {text: draw.text_box(text, draw.text_scale(GREY.shape))[:2] for text in texts}
    assert places['cat'] == (20, 60 - sizes['cat'][1])
    assert places['dog'] == (0, 3)
    assert places['a long name'] == (300 - sizes['a long name'][0], 195 - sizes['a long name'][1])
    assert places[texts[3]] == (0, 0)
    assert list(places) == texts[::-1], 'the first one above the others'


def test_without_boxes_texts_go_to_the_masks(spied):
    picture = draw.draw_instances(GREY, None, _masks(), COLORS, ['a', 'b'])
    assert spied['texts'] == ['b', 'a']
    _, height, _ = draw.text_box('a', draw.text_scale(GREY.shape))
    np.testing.assert_array_equal(picture[60 - height, 20], COLORS[0])
    np.testing.assert_array_equal(picture[100 - height, 60], COLORS[1])


def test_instances_without_boxes_and_masks_are_refused():
    with pytest.raises(ValueError, match='instances need boxes or masks'):
        draw.draw_instances(GREY, None, None, COLORS, ['a', 'b'])


@pytest.mark.parametrize('masks', [None, np.zeros((0, 200, 300), bool)])
def test_no_instances_give_the_picture_back(masks):
    picture = draw.draw_instances(GREY, np.zeros((0, 4)), masks, np.zeros((0, 3), np.uint8), [])
    np.testing.assert_array_equal(picture, GREY)
    assert picture is not GREY


# -------------------------------------------------------------------------------------------------------- visualizer


def test_three_panels_with_their_names(visualizer, image, spied, tmp_path):
    out_file = tmp_path / 'new' / 'picture.png'
    sample = DetDataSample(gt_panoptic_seg=_ground_truth(), pred_panoptic_seg=_prediction())
    visualizer.add_datasample('x', image, sample, out_file=str(out_file))
    assert spied['titles'] == ['image', 'ground truth', 'prediction']
    assert {'person (crowd)', 'sky', 'car 0.88', 'car 0.50'} <= set(spied['texts'])

    picture = cv2.cvtColor(cv2.imread(str(out_file)), cv2.COLOR_BGR2RGB)
    header = picture.shape[0] - 200
    assert 10 < header < 60
    assert picture.shape[1] == 3 * 300 + 2 * 6
    np.testing.assert_array_equal(picture[header:, :300], image)
    sky = np.rint(0.45 * 100 + 0.55 * np.array(PALETTE[2]))
    for left in (306, 612):
        np.testing.assert_allclose(picture[header + 3, left + 3], sky, atol=1)
    crowd = np.rint(0.45 * 100 + 0.55 * np.array(PALETTE[0]))
    np.testing.assert_allclose(picture[header + 195, 306 + 295], crowd, atol=1)
    left_car, right_car = picture[header + 195, 612 + 5], picture[header + 195, 612 + 295]
    assert np.abs(left_car.astype(int) - right_car).max() >= 8, 'instances of a class are told apart'
    np.testing.assert_array_equal(visualizer.get_image()[header:, :300], image)


@pytest.mark.parametrize(
    ('fields', 'options', 'titles'),
    [
        ({}, {}, ['image']),
        ({'gt_panoptic_seg'}, {}, ['image', 'ground truth']),
        ({'pred_panoptic_seg'}, {}, ['image', 'prediction']),
        ({'gt_panoptic_seg', 'pred_panoptic_seg'}, {'draw_gt': False}, ['image', 'prediction']),
        ({'gt_panoptic_seg', 'pred_panoptic_seg'}, {'draw_pred': False}, ['image', 'ground truth']),
    ],
)
def test_missing_panels_are_left_out(visualizer, image, spied, tmp_path, fields, options, titles):
    maps = {'gt_panoptic_seg': _ground_truth(), 'pred_panoptic_seg': _prediction()}
    sample = DetDataSample(**{field: maps[field] for field in fields})
    visualizer.add_datasample('x', image, sample, out_file=str(tmp_path / 'x.png'), **options)
    assert spied['titles'] == titles


def test_prediction_without_segments_info_and_empty_prediction(visualizer, image, spied, tmp_path):
    bare = PixelData(sem_seg=_prediction().sem_seg)
    visualizer.add_datasample('x', image, DetDataSample(pred_panoptic_seg=bare), out_file=str(tmp_path / 'x.png'))
    assert {'sky', 'car'} <= set(spied['texts'])
    empty = PixelData(sem_seg=torch.full((1, 200, 300), VOID), metainfo={'segments_info': []})
    visualizer.add_datasample('x', image, DetDataSample(pred_panoptic_seg=empty), out_file=str(tmp_path / 'y.png'))
    assert spied['titles'][-1] == 'prediction'


def test_small_images_are_enlarged(visualizer, image, spied, tmp_path):
    visualizer.min_side = 360
    sample = DetDataSample(gt_panoptic_seg=_ground_truth(), pred_instances=_instances())
    visualizer.add_datasample('x', image, sample, out_file=str(tmp_path / 'x.png'))
    height, width = cv2.imread(str(tmp_path / 'x.png')).shape[:2]
    assert width == 3 * 600 + 2 * 6 and height > 400
    assert sample.pred_instances.bboxes.max() == 280, 'the data sample is left alone'


@pytest.mark.parametrize('min_side', [0, 360])
def test_instances_are_drawn_where_there_is_no_panoptic_map(visualizer, image, spied, min_side):
    visualizer.min_side = min_side
    factor = 2 if min_side else 1
    sample = DetDataSample(pred_instances=_instances())
    visualizer.add_datasample('x', image, sample, pred_score_thr=0.5)
    drawn = visualizer.get_image()[:, 300 * factor + 6 :]
    drawn = drawn[-200 * factor :]
    assert spied['titles'] == ['image', 'prediction']
    assert np.abs(drawn[50 * factor, 50 * factor].astype(int) - 100).max() > 20, 'the instance above the threshold'
    assert np.abs(drawn[150 * factor, 240 * factor].astype(int) - 100).max() < 3, 'the one below it'


def test_drawing_instances_is_deterministic_and_draws_no_random_numbers(visualizer, image, tmp_path):
    pictures = []
    for seed in (1, 2):
        np.random.seed(seed)
        expected = np.random.RandomState(seed).rand()
        visualizer.add_datasample('x', image, DetDataSample(pred_instances=_instances()), out_file=f'{tmp_path}/x.png')
        pictures.append((tmp_path / 'x.png').read_bytes())
        assert np.random.rand() == expected
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize('boxes_type', [HorizontalBoxes, lambda boxes: boxes, None])
@pytest.mark.parametrize(
    'masks_type', [lambda masks: masks, lambda masks: masks.numpy(), lambda m: BitmapMasks(m.numpy(), 200, 300), None]
)
def test_instances_of_all_types_look_the_same(visualizer, image, spied, boxes_type, masks_type):
    visualizer.min_side = 360
    plain, other = _instances(), _instances()
    for field, to_type in (('bboxes', boxes_type), ('masks', masks_type)):
        if to_type is None:
            del plain[field], other[field]
        else:
            other[field] = to_type(plain[field])
    pictures = []
    for instances in (plain, other):
        del instances.scores  # as of a ground truth
        visualizer.add_datasample('x', image, DetDataSample(gt_instances=instances))
        pictures.append(visualizer.get_image())
    np.testing.assert_array_equal(*pictures)
    assert spied['titles'] == ['image', 'ground truth'] * 2
    drawn_texts = [text for text in spied['texts'] if text in CLASSES]
    assert drawn_texts == ([] if boxes_type is None and masks_type is None else ['car', 'person'] * 2)


def test_boxes_of_zeros_are_not_drawn(visualizer, image, spied):
    """Detectors of masks alone give such ones."""
    without, zeros = _instances(), _instances()
    del without.bboxes
    zeros.bboxes = torch.zeros(2, 4)
    pictures = []
    for instances in (without, zeros):
        visualizer.add_datasample('x', image, DetDataSample(pred_instances=instances), pred_score_thr=0)
        pictures.append(visualizer.get_image())
    np.testing.assert_array_equal(*pictures)
    assert {'person 0.90', 'car 0.20'} <= set(spied['texts'])


@pytest.mark.parametrize('instances', [InstanceData(), _instances()[:0]])
def test_no_instances(visualizer, image, instances):
    visualizer.add_datasample('x', image, DetDataSample(gt_instances=instances))
    np.testing.assert_array_equal(visualizer.get_image()[-200:, 306:], image)


@pytest.mark.parametrize('fields', [{'pred_panoptic_seg': _prediction()}, {'pred_instances': _instances()}])
def test_without_classes_is_an_error(image, fields):
    visualizer = PanopticVisualizer()
    with pytest.raises(ValueError, match='dataset_meta'):
        visualizer.add_datasample('x', image, DetDataSample(**fields))


def test_vis_backend_receives_the_picture(image, tmp_path):
    backends = [{'type': 'LocalVisBackend'}]
    visualizer = VISUALIZERS.build(
        {'type': 'PanopticVisualizer', 'name': str(tmp_path), 'vis_backends': backends, 'save_dir': str(tmp_path)}
    )
    assert isinstance(visualizer, PanopticVisualizer)
    visualizer.dataset_meta = {'classes': CLASSES, 'palette': PALETTE}
    visualizer.add_datasample('val', image, DetDataSample(pred_panoptic_seg=_prediction()), step=7)
    assert [path.name for path in tmp_path.rglob('*.png')] == ['val_7.png']


def test_ranks_other_than_0_draw_and_write_files_but_leave_the_backends_alone(image, visualizer, tmp_path, monkeypatch):
    sample = DetDataSample(gt_panoptic_seg=_ground_truth(), pred_instances=_instances())
    visualizer.add_datasample('x', image, sample)
    of_rank_0 = visualizer.get_image()
    monkeypatch.setattr(dist_utils, 'get_rank', lambda group=None: 1)
    assert not dist_utils.is_main_process()
    options = {'vis_backends': [{'type': 'LocalVisBackend'}], 'save_dir': str(tmp_path / 'backend'), 'min_side': 0}
    visualizer = PanopticVisualizer(**options)
    visualizer.dataset_meta = {'classes': CLASSES, 'palette': PALETTE}
    visualizer.add_datasample('x', image, sample)
    assert visualizer.get_image() is None
    assert not list(tmp_path.rglob('*.png'))
    visualizer.add_datasample('x', image, sample, out_file=str(tmp_path / 'x.png'))
    np.testing.assert_array_equal(visualizer.get_image(), of_rank_0)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'x.png'))[..., ::-1], of_rank_0)


def test_real_image(shared_data, visualizer, tmp_path):
    root = shared_data / 'coco_panoptic_sample'
    image = cv2.cvtColor(cv2.imread(str(root / 'images' / '000000000009.jpg')), cv2.COLOR_BGR2RGB)
    ids = rgb_to_id(cv2.cvtColor(cv2.imread(str(root / 'panoptic' / '000000000009.png')), cv2.COLOR_BGR2RGB))
    segments = [{'id': int(i), 'label': k % 3, 'iscrowd': 0} for k, i in enumerate(np.unique(ids[ids > 0]))]
    panoptic = PixelData(sem_seg=ids[None], metainfo={'segments_info': segments})
    visualizer.add_datasample('x', image, DetDataSample(gt_panoptic_seg=panoptic), out_file=str(tmp_path / 'x.png'))
    assert cv2.imread(str(tmp_path / 'x.png')).shape[1] == 2 * 640 + 6


@pytest.mark.timing
def test_drawing_is_cheap_next_to_writing_the_file():
    rng = np.random.default_rng(0)
    indices = cv2.resize(np.arange(1, 21, dtype=np.uint8).reshape(4, 5), (640, 480), interpolation=cv2.INTER_NEAREST)
    image = cv2.resize(rng.integers(0, 255, (48, 64, 3), np.uint8), (640, 480))
    segments = [{'id': i, 'label': i % 3, 'texts': [f'class {i}']} for i in range(1, 21)]

    def render() -> np.ndarray:
        indexed = draw.segment_indices(indices, segments)
        colors = draw.segment_colors([segment['label'] for segment in segments], PALETTE)
        return draw.draw_labels(draw.overlay(image, indexed, colors), indexed, segments, colors)

    picture = render()
    drawing, writing = [], []
    for _ in range(7):
        for function, times in ((render, drawing), (lambda: cv2.imencode('.png', picture), writing)):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    assert min(drawing) < 5 * min(writing)
