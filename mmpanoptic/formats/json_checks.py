"""Checks of single entries of COCO's JSON files; each error names the file, the entry and the remedy."""

import math
from collections.abc import Iterable, Mapping

from mmpanoptic.utils import DatasetError

Types = Mapping[str, type | tuple[type, ...]]


def entries(values: object, path: str, key: str, remedy: str) -> list[dict]:
    """The list of objects under ``key`` in a JSON file; it must not be empty.

    Raises:
        DatasetError: If ``values`` is anything else; the message ends with ``remedy``.
    """
    if not values:
        raise DatasetError(f'{path} lists no {key}: {remedy}')
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DatasetError(f'{path}: `{key}` is no list of objects: {remedy}')
    return values


def check_types(entry: dict, types: Types, where: str) -> None:
    """Refuse an object of a JSON file that lacks a key, or has a value of another type or a number that is not finite.

    A ``file_name`` with line breaks is refused as well, because it would appear in many messages.

    Args:
        entry: The object.
        types: The types that the value of each key may have.
        where: What to call the object in an error.

    Raises:
        DatasetError: Naming ``where`` and the key.
    """
    for key, of in types.items():
        value = entry.get(key)
        if not isinstance(value, of) or (isinstance(value, (bool, float)) and not _is_number(value)):
            if key not in entry:
                raise DatasetError(f'{where} lacks `{key}`: add it')
            wanted = ' or '.join(kind.__name__ for kind in (of if isinstance(of, tuple) else (of,)))
            raise DatasetError(f'{where} has {key} {entry[key]!r}: write {wanted}')
        if key == 'file_name' and entry[key].splitlines() not in ([], [value]):
            raise DatasetError(f'{where} has file_name {value!r}, with line breaks in it: name the file without')


def check_bbox(bbox: list, where: str) -> None:
    """Refuse a box that is not [x, y, width, height].

    Raises:
        DatasetError: Naming ``where``.
    """
    if len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise DatasetError(f'{where} has bbox {bbox!r}: write [x, y, width, height]')


def _is_number(value: object) -> bool:
    """Whether a value is a finite number and no bool; Python's JSON parser also gives NaN and Infinity."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63  # fits into int64


def refuse_repeats(values: Iterable, what: str) -> None:
    """Refuse values that cannot be ids or names, and values that occur twice.

    Raises:
        DatasetError: Naming ``what`` and the value.
    """
    seen = set()
    for value in values:
        if not isinstance(value, (int, float, str)):
            raise DatasetError(f'{what} {value!r} is no number and no name: write one')
        if value in seen:
            raise DatasetError(f'{what} {value!r} occurs twice: ids and names must be unique')
        seen.add(value)
