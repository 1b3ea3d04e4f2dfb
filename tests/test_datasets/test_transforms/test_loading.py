"""Loading images and panoptic annotations, and packing them."""

import cv2
import numpy as np
import pytest
from helpers.panoptic_files import PanopticFiles
from helpers.timing import cpu_seconds
from mmengine.registry import init_default_scope
from PIL import Image

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.datasets.shapes import write_split
from mmpanoptic.datasets.transforms import LoadImageFromFile, LoadPanopticAnnotations
from mmpanoptic.utils import DatasetError

LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadPanopticAnnotations'}]
META = ('img_id', 'img_path', 'ori_shape', 'img_shape')
TEST = [*LOAD, {'type': 'PackPanopticInputs', 'meta_keys': META}]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpanoptic')


@pytest.fixture
def files(tmp_path):
    return PanopticFiles(tmp_path)


@pytest.fixture(scope='module')
def coco_sample(shared_data):
    root = str(shared_data / 'coco_panoptic_sample')
    return CocoPanopticDataset(ann_file='panoptic.json', data_root=root, data_prefix={'img': 'images'})


@pytest.fixture(scope='module')
def shapes_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes')
    write_split(root, 'val', 3)
    return root


def load(files, image_id, **options):
    """A sample as LoadPanopticAnnotations leaves it."""
    dataset = files.dataset(pipeline=[LoadPanopticAnnotations()], **options)
    return next(sample for sample in dataset if sample['img_id'] == image_id)


def slow_reference(info):
    """What the one pass must give, segment by segment."""
    rgb = np.asarray(Image.open(info['seg_map_path'])).astype(np.int64)
    ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
    semantic = np.full(ids.shape, 255, np.uint8)
    for segment in info['segments_info']:
        semantic[np.isin(ids, [segment['id']])] = segment['label']
    masks = [ids == info['segments_info'][instance['segment']]['id'] for instance in info['instances']]
    return ids, semantic, np.array(masks, np.uint8).reshape(-1, *ids.shape)


def test_one_pass_equals_the_slow_reference(coco_sample):
    transform = LoadPanopticAnnotations()
    crowds = masks = 0
    for index in range(len(coco_sample)):
        info = coco_sample.get_data_info(index)
        has_crowd = any(instance['ignore_flag'] for instance in info['instances'])
        if index % 4 and not has_crowd:
            continue
        ids, semantic, expected = slow_reference(info)
        loaded = transform(info)
        assert (loaded['gt_panoptic_map'].dtype, loaded['gt_seg_map'].dtype) == (np.int32, np.uint8)
        np.testing.assert_array_equal(loaded['gt_panoptic_map'], ids)
        np.testing.assert_array_equal(loaded['gt_seg_map'], semantic)
        np.testing.assert_array_equal(loaded['gt_masks'].masks, expected)
        assert loaded['gt_masks'].masks.sum(0).max(initial=0) <= 1  # masks cut from a PNG never overlap
        crowds += loaded['gt_ignore_flags'].sum()
        masks += len(expected)
    assert crowds == 6
    assert masks > 150


@pytest.mark.timing
@pytest.mark.usefixtures('one_thread', 'kept_memory')  # one thread: as mmengine sets OpenCV for every run
def test_time_of_loading(coco_sample):
    """Masks, semantic and panoptic map in at most 1.8 times what decoding the PNGs takes."""
    infos = [coco_sample.get_data_info(i) for i in range(0, 100, 4)]
    transform = LoadPanopticAnnotations()
    encoded = [np.fromfile(info['seg_map_path'], np.uint8) for info in infos]
    best = np.full((len(infos), 2), np.inf)

    for _ in range(9):  # in turns, so that a slow spell of the machine meets both
        for place, info in enumerate(infos):
            times = cpu_seconds(transform, info | {}), cpu_seconds(cv2.imdecode, encoded[place], cv2.IMREAD_COLOR)
            best[place] = np.minimum(best[place], times)
    loading, decoding = best.sum(0)
    print(f'LoadPanopticAnnotations takes {loading / decoding:.2f} times the decoding of the PNG')
    assert loading <= 1.8 * decoding


def test_labels_void_and_crowds(files):
    sample = load(files, 10)
    semantic = sample['gt_seg_map']
    assert semantic[0, 0] == 2
    assert semantic[20, 0] == 3
    assert (semantic[30:] == 255).all()  # void
    assert (semantic[5, 30], semantic[11, 5], semantic[15, 12]) == (1, 0, 0)  # crowd, hidden and front instance
    assert set(np.unique(semantic)) == {0, 1, 2, 3, 255}
    assert sample['gt_ignore_flags'].tolist() == [False, False, True]
    assert sample['gt_bboxes_labels'].tolist() == [0, 0, 1]
    assert sample['gt_bboxes'].tensor.tolist() == [[4, 10, 14, 20], [10, 12, 26, 22], [28, 4, 38, 10]]
    for mask, segment_id in zip(sample['gt_masks'].masks, (300, 301, 65536), strict=True):
        np.testing.assert_array_equal(mask, files.ids[10] == segment_id)


def test_no_things(files):
    sample = load(files, 20)
    assert sample['gt_masks'].masks.shape == (0, 24, 36)
    assert sample['gt_bboxes'].tensor.shape == (0, 4)
    assert set(np.unique(sample['gt_seg_map'])) == {2, 3}
    assert load(files, 20, inst_ann_file='instances.json')['gt_masks'].masks.shape == (0, 24, 36)


def test_nothing_but_void(files):
    files.annotation(20)['segments_info'] = []
    files.ids[20][:] = 0
    files.write_png(20)
    files.save()
    assert (load(files, 20)['gt_seg_map'] == 255).all()


def test_extreme_ids(files):
    assert (load(files, 30)['gt_panoptic_map'] == files.ids[30]).all()
    assert load(files, 30)['gt_panoptic_map'].max() == 2**24 - 1


def test_more_segments_than_fit_into_a_byte(files):
    ids = np.arange(1, 24 * 36 + 1, dtype=np.int32).reshape(24, 36)
    files.ids[20] = ids
    files.write_png(20)
    files.annotation(20)['segments_info'] = [
        {'id': i, 'category_id': 3 if i % 2 else 7, 'area': 1, 'bbox': [(i - 1) % 36, (i - 1) // 36, 1, 1]}
        for i in range(1, ids.size + 1)
    ]
    files.save()
    sample = load(files, 20)
    np.testing.assert_array_equal(sample['gt_seg_map'], np.where(ids % 2, 0, 2))
    assert len(sample['gt_masks']) == ids.size // 2
    pixels = sample['gt_masks'].masks.reshape(ids.size // 2, -1)
    assert (pixels.sum(1) == 1).all()
    assert pixels.argmax(1).tolist() == list(range(0, ids.size, 2))


def test_masks_of_an_instances_json_replace_those_of_the_png(files):
    sample = load(files, 10, inst_ann_file='instances.json')
    hidden, front, crowd = sample['gt_masks'].masks
    assert hidden[10:20, 4:14].all()
    assert hidden.sum() == 100
    assert front[8:20, 8:20].all()
    assert front.sum() == 144
    assert (hidden & front).any()
    assert crowd[6:18, 15].all()  # run-length encoded, column by column
    assert crowd.sum() == 12
    assert sample['gt_ignore_flags'].tolist() == [False, False, True]
    np.testing.assert_array_equal(sample['gt_seg_map'], load(files, 10)['gt_seg_map'])
    np.testing.assert_array_equal(sample['gt_panoptic_map'], files.ids[10])


def test_broken_polygon_is_ignored(files):
    files.instances['annotations'][0]['segmentation'] = [[1, 2, 3, 4]]
    files.save()
    sample = load(files, 10, inst_ann_file='instances.json')
    assert sample['gt_ignore_flags'].tolist() == [True, False, True]


def test_shapes_masks_overlap(shapes_root):
    """The instances JSON of the built-in dataset (compressed RLE) brings masks that overlap, its PNGs do not."""

    def samples(**options):
        return CocoPanopticDataset(
            ann_file='annotations/panoptic_val.json',
            data_root=str(shapes_root),
            data_prefix={'img': 'val'},
            pipeline=[LoadPanopticAnnotations()],
            **options,
        )

    overlaps = 0
    for cut, whole in zip(samples(), samples(inst_ann_file='annotations/instances_val.json'), strict=True):
        assert cut['gt_masks'].masks.sum(0).max() == 1
        overlaps += int((whole['gt_masks'].masks.sum(0) > 1).sum())
        assert cut['gt_bboxes_labels'].tolist() == whole['gt_bboxes_labels'].tolist()
        assert cut['gt_ignore_flags'].tolist() == whole['gt_ignore_flags'].tolist()
        np.testing.assert_array_equal(cut['gt_seg_map'], whole['gt_seg_map'])
    assert overlaps > 100


def test_only_what_is_asked_for(files):
    info = files.dataset().get_data_info(1)
    keys = set(info)
    off = dict(with_bbox=False, with_label=False, with_mask=False, with_seg=False, with_panoptic=False)
    added = {
        'with_bbox': {'gt_bboxes', 'gt_ignore_flags'},
        'with_label': {'gt_bboxes_labels'},
        'with_mask': {'gt_masks'},
        'with_seg': {'gt_seg_map'},
        'with_panoptic': {'gt_panoptic_map'},
    }
    for option, new in added.items():
        assert set(LoadPanopticAnnotations(**off | {option: True})(info | {})) - keys == new
    files.png(10).unlink()
    assert set(LoadPanopticAnnotations(**off)(info | {})) == keys  # the PNG is not even read


def test_no_ground_truth(files):
    del files.panoptic['annotations']
    files.save()
    sample = files.dataset(pipeline=TEST, test_mode=True)[0]
    assert sample['inputs'].shape == (3, 32, 40)
    assert 'gt_panoptic_seg' not in sample['data_samples']
    assert 'gt_sem_seg' not in sample['data_samples']


def test_packing(files):
    sample = files.dataset(pipeline=TEST, test_mode=True)[1]['data_samples']
    truth = sample.gt_panoptic_seg
    assert truth.sem_seg.shape == (1, 32, 40)
    np.testing.assert_array_equal(truth.sem_seg[0].numpy(), files.ids[10])
    assert [s['id'] for s in truth.segments_info] == [5, 70000, 300, 301, 65536]
    assert truth.sample_idx == 1
    assert sample.gt_instances.labels.tolist() == [0, 0]  # the crowd is no instance to learn,
    assert sample.ignored_instances.labels.tolist() == [1]  # but one to ignore
    assert len(sample.gt_instances.masks) == 2
    np.testing.assert_array_equal(sample.ignored_instances.masks.masks[0], files.ids[10] == 65536)
    assert sample.gt_sem_seg.sem_seg.shape == (1, 32, 40)


@pytest.mark.parametrize('inst_ann_file', [None, 'instances.json'])
@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_training_pipeline(flip, inst_ann_file, files):
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadPanopticAnnotations', 'with_panoptic': False},
        {'type': 'Resize', 'scale': (100, 64), 'keep_ratio': True},
        {'type': 'RandomFlip', 'prob': flip},
        {'type': 'PackPanopticInputs'},
    ]
    config = {'pipeline': pipeline, 'inst_ann_file': inst_ann_file, 'filter_cfg': {'filter_empty_gt': True}}
    packed = list(files.dataset(**config))
    assert len(packed) == 2
    for one in packed:
        sample = one['data_samples']
        height, width = sample.img_shape
        assert one['inputs'].shape == (3, height, width)
        assert sample.img_shape != sample.ori_shape
        assert sample.gt_sem_seg.sem_seg.shape == (1, height, width)
        assert 'gt_panoptic_seg' not in sample
        assert len(sample.gt_instances) > 0
        for instances in (sample.gt_instances, sample.ignored_instances):
            assert instances.masks.masks.shape == (len(instances), height, width)
            boxes = instances.bboxes.tensor
            assert (boxes >= 0).all()
            assert (boxes <= boxes.new_tensor([width, height] * 2)).all()
            for mask, box in zip(instances.masks.masks, boxes.tolist(), strict=True):
                rows, columns = np.nonzero(mask)
                extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_allclose(extent, box, atol=2.5)  # flipped and resized alike
        if inst_ann_file is None:
            for mask, label in zip(sample.gt_instances.masks.masks, sample.gt_instances.labels, strict=True):
                inside = cv2.erode(mask, np.ones((5, 5), np.uint8)).astype(bool)
                assert inside.any()
                assert (sample.gt_sem_seg.sem_seg[0].numpy()[inside] == int(label)).all()


def test_testing_keeps_the_original_size(files):
    resize = {'type': 'Resize', 'scale': (100, 64), 'keep_ratio': True}
    pipeline = [LOAD[0], resize, LOAD[1], TEST[-1]]
    for index, image_id in enumerate((30, 10, 20)):
        packed = files.dataset(pipeline=pipeline, test_mode=True)[index]
        sample = packed['data_samples']
        height, width = files.ids[image_id].shape
        assert tuple(packed['inputs'].shape[1:]) == sample.img_shape != (height, width)
        assert sample.ori_shape == (height, width)
        np.testing.assert_array_equal(sample.gt_panoptic_seg.sem_seg[0].numpy(), files.ids[image_id])


# What is wrong with files.


def test_missing_files(files):
    dataset = files.dataset(pipeline=TEST)
    files.png(10).unlink()
    with pytest.raises(DatasetError, match=r'panoptic/10\.png does not exist: check `data_root` and `data_prefix`'):
        dataset[1]
    files.image(10).unlink()
    with pytest.raises(DatasetError, match=r'images/a\.png does not exist: check `data_root` and `data_prefix`'):
        dataset[1]
    files.image(10).mkdir()
    with pytest.raises(DatasetError, match=r'images/a\.png cannot be read \(Is a directory\): check `data_root`'):
        dataset[1]


def test_ids_that_the_json_lacks(files):
    files.ids[10][3, 3] = 12345
    files.write_png(10)
    with pytest.raises(DatasetError, match=r'10\.png holds segment id 12345 that its segments_info lacks: .* edited'):
        load(files, 10)
    files.ids[10][3, 3] = 5
    files.write_png(10)
    load(files, 10)  # nothing is left behind by the error


def test_sizes_that_differ(files):
    files.ids[10] = files.ids[10][:, :-1].copy()
    files.write_png(10)
    with pytest.raises(DatasetError, match=r'10\.png is 32x39 \(height x width\), its image 32x40: wrong file'):
        load(files, 10)
    cv2.imwrite(str(files.image(20)), np.zeros((36, 24, 3), np.uint8))
    with pytest.raises(DatasetError, match=r'b\.jpg is 36x24 .* its annotation says 24x36: wrong file, or an EXIF'):
        files.dataset(pipeline=TEST)[2]


@pytest.mark.parametrize('keep', [0, 20, 60, -30, -13])
def test_truncated_panoptic_png(keep, files):
    whole = files.png(10).read_bytes()
    files.png(10).write_bytes(whole[:keep])
    with pytest.raises(DatasetError, match=r'10\.png is (truncated|not a PNG)'):
        load(files, 10)


def test_damaged_panoptic_png(files, capfd):
    whole = bytearray(files.png(10).read_bytes())
    whole[len(whole) // 2] ^= 0x55
    files.png(10).write_bytes(whole)
    with pytest.raises(DatasetError, match=r'10\.png cannot be decoded: fetch or write it again'):
        load(files, 10)


def test_panoptic_png_of_another_kind(files):
    cv2.imwrite(str(files.png(10)), np.zeros((32, 40), np.uint8))
    with pytest.raises(DatasetError, match=r'10\.png is uint8 of shape \(32, 40\): panoptic maps are 8-bit RGB PNGs'):
        load(files, 10)
    files.png(10).write_bytes(cv2.imencode('.jpg', np.zeros((32, 40, 3), np.uint8))[1].tobytes())
    with pytest.raises(DatasetError, match=r'10\.png is not a PNG file: panoptic maps are 8-bit RGB PNGs'):
        load(files, 10)


def jpeg(path, thumbnail=False, progressive=False):
    """Write a JPEG of noise; its EXIF thumbnail has an end marker of its own."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 36, 3), np.uint8))
    exif = b''
    if thumbnail:
        small = cv2.imencode('.jpg', np.zeros((8, 8, 3), np.uint8))[1].tobytes()
        exif = b'Exif\x00\x00' + b'II*\x00\x08\x00\x00\x00' + small
    image.save(path, progressive=progressive, exif=exif)


@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('thumbnail', [False, True])
def test_truncated_jpeg(thumbnail, progressive, files, capfd):
    path = files.image(20)
    jpeg(path, thumbnail, progressive)
    whole = path.read_bytes()
    assert whole.count(b'\xff\xd9') == 1 + thumbnail
    dataset = files.dataset(pipeline=TEST)
    assert dataset[2]['inputs'].shape == (3, 24, 36)
    for keep in (0, 3, 100, 500, len(whole) // 2, len(whole) * 3 // 4, len(whole) - 30, len(whole) - 2):
        path.write_bytes(whole[:keep])
        with pytest.raises(DatasetError, match=r'images/b\.jpg (is truncated|cannot be decoded).*fetch or write it'):
            dataset[2]
    path.write_bytes(whole + b'\x00' * 10)  # bytes after the end do no harm
    assert dataset[2]['inputs'].shape == (3, 24, 36)


@pytest.mark.parametrize('extension', ['png', 'webp', 'bmp', 'tiff', 'jpg'])
def test_truncated_image_of_any_kind(extension, files, capfd):
    files.panoptic['images'][0]['file_name'] = f'x.{extension}'
    files.save()
    path = files.root / 'images' / f'x.{extension}'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8))
    whole = path.read_bytes()
    dataset = files.dataset(pipeline=TEST)
    assert dataset[1]['inputs'].shape == (3, 32, 40)
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DatasetError, match=rf'x\.{extension} (is truncated|cannot be decoded)'):
            dataset[1]
    path.write_bytes(b'no image at all')
    with pytest.raises(DatasetError, match=rf'x\.{extension} cannot be decoded as an image: fetch or write it again'):
        dataset[1]


def test_rotated_image(files):
    """cv2 turns an image as its EXIF says, the annotations do not; the error names the option that helps."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(files.image(20), exif=exif)
    info = files.dataset().get_data_info(2)
    with pytest.raises(DatasetError, match=r"b\.jpg is 36x24 .*EXIF rotation \(then use color_type='color_ignore_or"):
        LoadImageFromFile()(info | {})
    assert LoadImageFromFile(color_type='color_ignore_orientation')(info | {})['img'].shape == (24, 36, 3)


def test_ignore_empty_does_not_hide_a_broken_image(files):
    files.image(10).write_bytes(b'')
    with pytest.raises(DatasetError, match=r'a\.png is truncated \(0 bytes'):
        LoadImageFromFile(ignore_empty=True)(files.dataset().get_data_info(1))


def test_image_without_annotation_of_its_size(files):
    image = LoadImageFromFile(to_float32=True)({'img_path': str(files.image(10))})
    assert image['img'].dtype == np.float32
    assert image['img_shape'] == image['ori_shape'] == (32, 40)
