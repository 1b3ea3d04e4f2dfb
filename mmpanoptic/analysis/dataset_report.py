"""Datasets that ``mmpanoptic check`` reads, and the tables that it prints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.table import Table

from mmpanoptic.datasets import CocoInstanceDataset, CocoPanopticDataset
from mmpanoptic.datasets.inspection import Source
from mmpanoptic.datasets.statistics import QUANTILES
from mmpanoptic.datasets.transforms import LoadImageFromFile
from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.engine.components import building, dataset_config
from mmpanoptic.evaluation.tables import render
from mmpanoptic.formats.panoptic_json import read_json
from mmpanoptic.registry import DATASETS
from mmpanoptic.results.coco import CocoImage, PanopticAnnotation
from mmpanoptic.structures.object_sizes import OBJECT_SIZES
from mmpanoptic.utils import DatasetError, UserError

SPLITS = ('train', 'val', 'test')


def source_of_json(path: str, panoptic_dir: str | None, images: str | None) -> Source:
    """The files that belong to an annotation file.

    Args:
        path: A panoptic JSON or an instances JSON.
        panoptic_dir: Folder of the panoptic PNGs; None: the path of the JSON without its suffix.
        images: Folder of the images; None: images are not checked.

    Raises:
        UserError: If the file is not JSON, or a folder does not exist.
    """
    data = read_json(path)
    annotations = data.get('annotations') or data.get('categories') or []
    first = annotations[0] if isinstance(annotations, list) and annotations else {}
    panoptic = isinstance(first, dict) and ('segments_info' in first or 'isthing' in first)
    folder = None
    if panoptic:
        folder = panoptic_dir or str(Path(path).with_suffix(''))
        if not Path(folder).is_dir():
            raise UserError(f'{folder}, the folder of the PNGs of {path}, does not exist: give --panoptic-dir')
    elif panoptic_dir is not None:
        raise UserError(f'{path} has instances and no panoptic maps: leave out --panoptic-dir {panoptic_dir}')
    if images is not None and not Path(images).is_dir():
        raise UserError(f'--images {images} is no folder')
    place = None if images is None else lambda image, annotation: str(Path(images, image['file_name']))
    need_masks = any('segmentation' in annotation for annotation in annotations if isinstance(annotation, dict))
    return Source(path, place, folder, need_masks=need_masks)


def sources_of_config(config: Config) -> Iterator[tuple[str, Source, str | None]]:
    """The files of all datasets of a config, wrapped ones included; the same files only once.

    Yields:
        The split, 'train', 'val' or 'test' (with a number if it has several datasets), the files, and the error of the
        dataset when it is built, None if there is none.

    Raises:
        UserError: If the config has no dataset.
    """
    seen = set()
    for split in SPLITS:
        if not (config.get(f'{split}_dataloader') or {}).get('dataset'):
            continue
        inside = list(inner_datasets(dataset_config(config, f'{split}_dataloader')))
        for number, inner in enumerate(inside, 1):
            with building(config, f'{split}_dataloader'):
                dataset = DATASETS.build({**inner, 'lazy_init': True})
            source = _source_of(dataset)
            key = source.ann_file, source.seg_dir, source.inst_ann_file
            if key not in seen:
                seen.add(key)
                yield f'{split} {number}' if len(inside) > 1 else split, source, _refusal(dataset)
    if not seen:
        raise UserError(f'{config.filename} has no dataset: set train_dataloader.dataset')


def _source_of(dataset: Any) -> Source:
    steps = getattr(dataset.pipeline, 'transforms', ())
    loader = next((step for step in steps if isinstance(step, LoadImageFromFile)), None)
    place = getattr(dataset, 'image_path', None)
    if place is None:  # a dataset of mmdet

        def place(image: CocoImage, annotation: PanopticAnnotation | None) -> str:
            return str(Path(dataset.data_prefix.get('img', ''), image['file_name']))

    panoptic = isinstance(dataset, CocoPanopticDataset) and not isinstance(dataset, CocoInstanceDataset)
    folder = dataset.data_prefix['seg'] if panoptic else None
    instances = getattr(dataset, 'inst_ann_file', None)
    return Source(dataset.ann_file, place, folder, instances, loader, getattr(dataset, 'need_masks', True))


def _refusal(dataset: Any) -> str | None:
    """The error that a dataset raises when it reads its files, or None."""
    try:
        dataset.full_init()
    except DatasetError as error:
        return str(error)
    return None


def tables(statistics: Mapping[str, dict]) -> str:
    """Statistics of all splits as text: a table of the splits and a table of their classes."""
    return f'{_overview(statistics)}\n{_classes(statistics)}'


def _table(headers: Sequence[str]) -> Table:
    table = Table(headers[0])
    for header in headers[1:]:
        table.add_column(header, justify='right')
    return table


def _overview(statistics: Mapping[str, dict]) -> str:
    table = _table(['', *statistics])
    rows: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        'images': lambda s: s['images'],
        'height x width, smallest': lambda s: _size(s, 0),
        'height x width, median': lambda s: _size(s, 1),
        'height x width, largest': lambda s: _size(s, 2),
        'things': lambda s: s['things'],
        'stuff segments': lambda s: s['stuff'],
        'crowds': lambda s: s['crowds'],
        'void, % of pixels': lambda s: _percent(s['void']),
        'crowds, % of pixels': lambda s: _percent(s['crowd_area']),
        'images without things': lambda s: s['without_things'],
        'images without a segment': lambda s: s['without_segments'],
    }
    rows |= {f'{name} things': partial(_things_of_size, name) for name in OBJECT_SIZES}
    rows |= {
        f'pixels of a thing, {quantile:.0%} below': partial(_thing_pixels, place)
        for place, quantile in enumerate(QUANTILES)
    }
    rows |= {
        'pixels in several masks, % of those in any': lambda s: _percent((s['overlaps'] or {}).get('pixels')),
        'pairs of masks that overlap': lambda s: (s['overlaps'] or {}).get('pairs'),
        'images with such a pair': lambda s: (s['overlaps'] or {}).get('images'),
    }
    for name, value in rows.items():
        cells = [value(numbers) for numbers in statistics.values()]
        if any(cell is not None for cell in cells):
            table.add_row(name, *('-' if cell is None else str(cell) for cell in cells))
    return render(table)


def _things_of_size(name: str, numbers: Mapping[str, Any]) -> int:
    return numbers['thing_sizes'][name]


def _thing_pixels(place: int, numbers: Mapping[str, Any]) -> int | None:
    return numbers['thing_pixels'] and numbers['thing_pixels'][place]


def _size(numbers: Mapping, place: int) -> str | None:
    return numbers['image_sizes'] and '{}x{}'.format(*numbers['image_sizes'][place])


def _percent(share: float | None) -> str | None:
    return None if share is None else f'{100 * share:.2f}'


def _classes(statistics: Mapping[str, dict]) -> str:
    keys = {'segments': 'segments', 'images': 'in images', 'area': '% of pixels', 'median': 'median pixels'}
    if len(statistics) > 2:  # more columns do not fit on a terminal
        keys = dict(list(keys.items())[:2])
    table = _table(['class', '', *(f'{split}: {text}' for split in statistics for text in keys.values())])
    rows: dict[str, dict[str, dict]] = {}
    for split, numbers in statistics.items():
        for row in numbers['classes']:
            rows.setdefault(row['name'], {})[split] = row
    for name, by_split in rows.items():
        kind = 'thing' if next(iter(by_split.values()))['isthing'] else 'stuff'
        cells = []
        for split in statistics:
            row = by_split.get(split, {})
            values = [_percent(row.get(key)) if key == 'area' else row.get(key) for key in keys]
            cells += ['-' if value is None else str(value) for value in values]
        table.add_row(name, kind, *cells)
    return render(table)


def listed(lines: Sequence[str], most: int = 20) -> str:
    """The first lines below a heading, indented, and the number of the others."""
    shown = [f'  {line}' for line in lines[:most]]
    return '\n'.join(shown + ([f'  ... and {len(lines) - most} more'] if len(lines) > most else []))
