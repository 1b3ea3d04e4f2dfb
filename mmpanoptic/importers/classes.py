"""Which classes there are, and which of them are stuff."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.formats.panoptic_json import parse_categories
from mmpanoptic.formats.panoptic_writer import read_categories
from mmpanoptic.utils import DatasetError, UserError

from .records import LabelledImage


def given_classes(path: Path) -> list[dict[str, Any]]:
    """The classes that a user lists: a JSON of categories, or a text with a name a line.

    Raises:
        UserError: If it cannot be read, or lists none.
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
    """The classes of several files, by name; ids are kept if the files number all of them alike.

    Args:
        classes_of: Classes by file, each of its own names.

    Raises:
        DatasetError: If a class is a thing in one file and stuff in another.
    """
    merged: dict[str, dict[str, Any]] = {}
    alike = True
    for file, classes in classes_of.items():
        for one in classes:
            other = merged.setdefault(one['name'], dict(one))
            alike = alike and other.get('id') == one.get('id')
            if other.get('isthing', 1) != one.get('isthing', 1):
                raise DatasetError(f'{file}: class {one["name"]!r} is a thing in one file and stuff in another: choose')
    if not alike:
        for one in merged.values():
            one.pop('id', None)
    return list(merged.values())


def as_stuff(classes: Sequence[dict[str, Any]], stuff: Collection[str]) -> list[dict[str, Any]]:
    """The classes, those of the names stuff whatever they were."""
    return [{**one, 'isthing': 0} if one['name'] in stuff else dict(one) for one in classes]


def decide(
    classes: Sequence[dict[str, Any]], stuff: Sequence[str] | None, background: str | None, source: str
) -> list[dict[str, Any]]:
    """Categories of a dataset from what its format says and a user adds.

    Args:
        classes: See :class:`~.records.Labels`.
        stuff: Names of classes that are stuff; the others are things unless the format says otherwise.
        background: A stuff class that need not be among the classes.
        source: What to call the classes in an error.

    Returns:
        ``id``, ``name``, ``isthing`` and what else the format says. Ids are those of the format if these are whole
        numbers from 1 on, else 1, 2, ...

    Raises:
        UserError: If a name is unknown or means two things, or the classes are none of a dataset.
    """
    names = [one['name'] for one in classes]
    for name in stuff or ():
        if name not in names and name != background:
            listed = ', '.join(map(repr, names[:20]))
            raise UserError(f'{name!r} is no class of {source}: its classes are {listed}', 'stuff')
    decided = [dict(one) for one in classes]
    for one in decided:
        one['isthing'] = 0 if one['name'] in (stuff or ()) else int(one.get('isthing', 1))
    known = {one['name']: one for one in decided}
    if background in known and known[background]['isthing'] and background not in (stuff or ()):
        if 'isthing' in classes[names.index(background)]:
            raise UserError(f'{background!r} is a thing in {source}: name another class', 'background')
        known[background]['isthing'] = 0
    if background is not None and background not in known:
        decided.append({'name': background, 'isthing': 0})
    ids = [one.get('id') for one in classes]
    own = all(type(one) is int and 0 < one < 2**31 for one in ids) and len(set(ids)) == len(ids)
    for number, one in enumerate(decided, 1):
        if not own:
            one['id'] = number
        elif 'id' not in one:
            one['id'] = max(ids, default=0) + 1
    decided = [{'id': one['id'], **one} for one in decided]
    parse_categories(decided, source)
    return decided


def names_of(images: Sequence[LabelledImage], declared: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Classes of a format that does not list them: those that are declared, and the labels of all shapes, sorted."""
    found = {shape.label for image in images for shape in image.shapes} - {None, *declared}
    return [{'name': name} for name in (*declared, *sorted(found))]
