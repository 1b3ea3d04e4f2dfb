"""Writing of labels as a dataset that configs can read, whole or not at all."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mmpanoptic.formats.instances_writer import InstanceItem, fill_instances
from mmpanoptic.formats.panoptic_writer import PanopticItem, fill_panoptic, image_ids
from mmpanoptic.utils import DatasetError, UserError, tracked_map, whole_folder
from mmpanoptic.utils.outputs import place_image

from .convert import Converted, Rules, convert
from .records import LabelledImage, Labels, LeftOut
from .sources import REPORT

MAKER = 'tools/dataset_converters/import.py'


@dataclass(frozen=True)
class Plan:
    """Choices for a dataset to write.

    Attributes:
        categories: Categories of the dataset: ``id``, ``name``, ``isthing`` and any other keys.
        order: See :mod:`.layers`.
        background: Name of the class of pixels without a label; None: void.
        split_of: Split of each image by its name; None: the split in the format, or 'train' if it has none.
        copy_images: Whether to copy images instead of linking them.
        workers: Number of processes.
        listed: Name of the list of classes, for the report.
    """

    categories: Sequence[Mapping[str, Any]]
    order: str
    background: str | None = None
    split_of: Mapping[str, str] | None = None
    copy_images: bool = False
    workers: int = 2
    listed: str = 'the classes'


def write_dataset(labels: Labels, out: Path, plan: Plan) -> dict[str, Any]:
    """Write a dataset in COCO's panoptic and instances formats, with links to its images.

    ``OUT/SPLIT/`` holds the images. ``OUT/annotations/`` holds ``panoptic_SPLIT.json``, ``panoptic_SPLIT/*.png`` and
    ``instances_SPLIT.json``, with the same image ids and categories. ``OUT/import_report.json`` holds the result.

    Args:
        labels: The labels from a reader.
        out: The folder; what an earlier call made there is replaced.
        plan: Choices for the dataset.

    Returns:
        ``order`` and ``categories`` of the plan, ``splits`` with counts and shares, and ``left_out``.

    Raises:
        UserError: If ``out`` holds anything that no such call made.
        DatasetError: If no image is left, or two images of a split have the same name.
        WriteError: If it cannot be written.
    """
    parts, left_out = _parts(labels, plan)
    by_name = {category['name']: category for category in plan.categories}
    background = by_name[plan.background]['id'] if plan.background is not None else None
    job = partial(convert, rules=Rules(by_name, plan.order, background, plan.listed))
    out = Path(os.path.realpath(out))
    report: dict[str, Any] = {'order': plan.order, 'categories': list(plan.categories), 'splits': {}}
    left_out = [*labels.left_out, *left_out]
    ids = _ids(labels.images, plan)
    with whole_folder(out, MAKER, 'OUT') as folder:
        for split, images in parts.items():
            jobs = [(image, ids[split, image.name], png) for image, png in zip(images, _png_names(images), strict=True)]
            results = tracked_map(job, jobs, plan.workers, f'Importing {split}')
            written = _write_split(folder, out, split, zip(images, results, strict=True), plan, left_out)
            if written['images']:
                report['splits'][split] = written
        if not report['splits']:
            reason = f'{left_out[0].what}: {left_out[0].reason}' if left_out else 'the source lists none'
            raise DatasetError(f'no image is left of {len(labels.images)}, the first because of this: {reason}')
        report['left_out'] = [asdict(entry) for entry in left_out]
        (folder / REPORT).write_text(json.dumps(report, indent=1), encoding='utf-8')
    return report


def _split(image: LabelledImage, plan: Plan) -> str:
    return (image.split or 'train') if plan.split_of is None else plan.split_of[image.name]


def _parts(labels: Labels, plan: Plan) -> tuple[dict[str, list[LabelledImage]], list[LeftOut]]:
    """Images by split, train and val first; and images that were left out because several share one file."""
    seen: dict[tuple[str | None, str], LabelledImage] = {}
    by_file: dict[str, list[LabelledImage]] = defaultdict(list)
    files = [os.path.realpath(image.path) for image in labels.images]
    for image, file in zip(labels.images, files, strict=True):
        # Each split has its own folder, but --split uses only the name.
        key = (_split(image, plan) if plan.split_of is None else None, image.name)
        if key in seen:
            _refuse_name(seen[key], image)
        seen[key] = image
        by_file[file].append(image)
    parts: dict[str, list[LabelledImage]] = {'train': [], 'val': []}
    left_out = []
    for image, file in zip(labels.images, files, strict=True):
        split = _split(image, plan)
        if not split or split.startswith('.') or set(split) & set('/\\\0') or split == 'annotations':
            raise UserError(f'a split cannot be called {split!r}, as in {image.file}: take --split')
        if len(by_file[file]) > 1:
            left_out.append(LeftOut(image.file, f'image {image.name}', _why_shared(by_file[file])))
        else:
            parts.setdefault(split, []).append(image)
    return {split: images for split, images in parts.items() if images}, left_out


def _refuse_name(first: LabelledImage, second: LabelledImage) -> None:
    files = f'from {first.file} and {second.file}'
    if os.path.realpath(first.path) == os.path.realpath(second.path):
        raise DatasetError(
            f'{second.path} occurs twice, and both would be called {second.name}, {files}: name it once, in one split'
        )
    raise DatasetError(
        f'{first.path} and {second.path} would both be called {second.name}, {files}: import them one by one, or '
        'rename one'
    )


def _why_shared(images: Sequence[LabelledImage]) -> str:
    first, second = images[:2]
    path, splits = first.path, list(dict.fromkeys(image.split or 'train' for image in images))
    if len(splits) > 1:
        return f'{path} is in the splits {" and ".join(splits)}: name each image in one of them'
    return f'{path} is the image of {first.name} in {first.file} and of {second.name} in {second.file}: remove one'


def _ids(images: Sequence[LabelledImage], plan: Plan) -> dict[tuple[str, str], int | str]:
    """Ids of images by split and name: those of the format if all differ, else see :func:`image_ids`."""
    ids: Sequence[int | str] = [image.image_id for image in images if image.image_id is not None]
    usable = len(ids) == len(images) and all(type(image_id) in (int, str) for image_id in ids)
    if not usable or len({str(image_id) for image_id in ids}) < len(ids):
        ids = image_ids([image.name for image in images])
    return {(_split(image, plan), image.name): image_id for image, image_id in zip(images, ids, strict=True)}


def _png_names(images: Sequence[LabelledImage]) -> list[str]:
    """A name for each PNG: the image's name with its folders, and with its old suffix too if names would be equal."""
    flat = [PurePosixPath(image.name.replace('/', '_')) for image in images]
    numbers = Counter(name.stem for name in flat)
    plain = [f'{name}.png' if numbers[name.stem] > 1 else f'{name.stem}.png' for name in flat]
    again = Counter(plain)
    return [f'{i}_{name}' if again[name] > 1 else name for i, name in enumerate(plain)]


def _write_split(
    folder: Path,
    out: Path,
    split: str,
    results: Iterator[tuple[LabelledImage, Converted]],
    plan: Plan,
    left_out: list[LeftOut],
) -> dict[str, Any]:
    """Write a split into the folder that will become ``out``; what was left out is appended to ``left_out``.

    Returns:
        The split's part of the report.
    """
    instances: list[InstanceItem] = []
    numbers: Counter[str] = Counter()
    annotations = folder / 'annotations'
    (annotations / f'panoptic_{split}').mkdir(parents=True, exist_ok=True)

    def items() -> Iterator[PanopticItem]:
        for image, result in results:
            left_out.extend(result.left_out)
            if result.panoptic is None or result.instances is None:
                continue
            place_image(image.path, folder / split / image.name, plan.copy_images)
            instances.append(result.instances)
            numbers.update(overlap=result.overlap, void=result.void, pixels=result.pixels, hidden=result.hidden)
            yield result.panoptic

    final = out / 'annotations' / f'panoptic_{split}'
    content = fill_panoptic(
        annotations / f'panoptic_{split}', items(), plan.categories, final.with_suffix('.json'), final
    )
    if not content['images']:
        (annotations / f'panoptic_{split}').rmdir()
        return {'images': 0}
    things = [category for category in plan.categories if category['isthing']]
    found = fill_instances(out / 'annotations' / f'instances_{split}.json', instances, things)
    for kind, part in (('panoptic', content), ('instances', found)):
        (annotations / f'{kind}_{split}.json').write_text(json.dumps(part), encoding='utf-8')
    segments = Counter(segment['category_id'] for entry in content['annotations'] for segment in entry['segments_info'])
    return {
        'images': len(content['images']),
        'segments': {category['name']: segments[category['id']] for category in plan.categories},
        'instances': len(found['annotations']),
        'hidden_instances': numbers['hidden'],
        'overlapping_pixels': numbers['overlap'],
        'void_share': numbers['void'] / numbers['pixels'],
    }
