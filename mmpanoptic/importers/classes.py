"""The classes of an imported dataset, and which of them are stuff."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.formats.panoptic_json import parse_categories
from mmpanoptic.formats.panoptic_writer import read_categories
from mmpanoptic.utils import DatasetError, UserError

from .records import LabelledImage


def given_classes(path: Path) -> list[dict[str, Any]]:
    """Read a user's list of classes: a JSON of categories, or a text file with a name per line.

    Raises:
        UserError: If it cannot be read, or lists no class.
    """
    if path.suffix == '.json':
        return read_categories(path)
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error}): name a text with a class a line', 'categories') from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UserError(f'{path} names no class: write one a line', 'categories')
    return [{'name': name} for name in names]


def merge_classes(classes_of: Mapping[str, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Merge the classes of several files by name; ids are kept if all files give the classes the same ids.

    Args:
        classes_of: Classes by file; names within a file differ.

    Raises:
        DatasetError: If a class is a thing in one file and stuff in another.
    """
    merged: dict[str, dict[str, Any]] = {}
    alike = True
    for file, classes in classes_of.items():
        for category in classes:
            other = merged.setdefault(category['name'], dict(category))
            alike = alike and other.get('id') == category.get('id')
            if other.get('isthing', 1) != category.get('isthing', 1):
                raise DatasetError(
                    f'{file}: class {category["name"]!r} is a thing in one file and stuff in another: choose'
                )
    if not alike:
        for category in merged.values():
            category.pop('id', None)
    return list(merged.values())


def as_stuff(classes: Sequence[dict[str, Any]], stuff: Collection[str]) -> list[dict[str, Any]]:
    """Copy the classes and make those with the names in ``stuff`` stuff classes."""
    return [{**category, 'isthing': 0} if category['name'] in stuff else dict(category) for category in classes]


def decide(
    classes: Sequence[dict[str, Any]], stuff: Sequence[str] | None, background: str | None, source: str
) -> list[dict[str, Any]]:
    """Combine the classes of a format and a user's choices to the categories of a dataset.

    Args:
        classes: See :class:`~.records.Labels`.
        stuff: Names of stuff classes; the others are thing classes unless the format says otherwise.
        background: Name of a stuff class, which need not be among the classes.
        source: What to call the source of the classes in an error.

    Returns:
        Categories with ``id``, ``name``, ``isthing`` and any other keys of the format. The format's ids are kept if all
        are distinct positive integers, else ids are 1, 2, ...

    Raises:
        UserError: If a name is unknown or contradicts the format, or the categories are invalid.
    """
    names = [category['name'] for category in classes]
    for name in stuff or ():
        if name not in names and name != background:
            listed = ', '.join(map(repr, names[:20]))
            raise UserError(f'{name!r} is no class of {source}: its classes are {listed}', 'stuff')
    decided = [dict(category) for category in classes]
    for category in decided:
        category['isthing'] = 0 if category['name'] in (stuff or ()) else int(category.get('isthing', 1))
    known = {category['name']: category for category in decided}
    if background in known and known[background]['isthing'] and background not in (stuff or ()):
        if 'isthing' in classes[names.index(background)]:
            raise UserError(f'{background!r} is a thing in {source}: name another class', 'background')
        known[background]['isthing'] = 0
    if background is not None and background not in known:
        decided.append({'name': background, 'isthing': 0})
    ids: list[Any] = [category.get('id') for category in classes]
    keep_ids = all(type(number) is int and 0 < number < 2**31 for number in ids) and len(set(ids)) == len(ids)
    for number, category in enumerate(decided, 1):
        if not keep_ids:
            category['id'] = number
        elif 'id' not in category:
            category['id'] = max(ids, default=0) + 1
    decided = [{'id': category['id'], **category} for category in decided]
    parse_categories(decided, source)
    return decided


def names_of(images: Sequence[LabelledImage], declared: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Classes of a format that does not list all classes: the declared ones, then other labels of shapes, sorted."""
    found = {shape.label for image in images for shape in image.shapes if shape.label is not None} - {*declared}
    return [{'name': name} for name in (*declared, *sorted(found))]
