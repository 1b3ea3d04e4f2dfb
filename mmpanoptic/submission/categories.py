"""Check that a model numbers its classes as a test server does."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmpanoptic.utils import UserError

_WAY_OUT = "take a checkpoint of that data set's classes, or name the files of the data that it was trained on"


def check_categories(
    categories: Sequence[Mapping[str, Any]], listed: Mapping[str, Sequence[Mapping[str, Any]]], checkpoint: str
) -> None:
    """Compare ids, names and kinds of a model's categories with those of a server.

    COCO's list of test images holds only the thing categories, without ``isthing``. Stuff categories of the model are
    compared only if the server's categories have ``isthing``. Instance models have no stuff categories.

    Args:
        categories: Categories of the model: ``id``, ``name``, ``isthing``.
        listed: Categories of the server by the file that holds them. The model must match one of the files.
        checkpoint: Name of the model for errors.

    Raises:
        UserError: If no file matches. The error names the first difference from the file with the fewest differences.
    """
    problems = {source: _differences(categories, entries, source, checkpoint) for source, entries in listed.items()}
    fewest = min(problems.values(), key=len)
    if fewest:
        raise UserError(f'{fewest[0]}: {_WAY_OUT}')


def _differences(
    categories: Sequence[Mapping[str, Any]], listed: Sequence[Mapping[str, Any]], source: str, checkpoint: str
) -> list[str]:
    """A sentence for each category that differs, in the order of ids."""
    try:
        server = {category['id']: category for category in listed}
        names = {number: category['name'] for number, category in server.items()}
    except (KeyError, TypeError):
        return [f'{source} has categories without id or name']
    if not server:
        return [f'{source} lists no categories, so the classes of its ids are unknown']
    model = {category['id']: category for category in categories}
    has_stuff = any(not category['isthing'] for category in categories)
    tells_kinds = all('isthing' in category for category in server.values())
    found = []
    for number in sorted({*server, *model}, key=lambda number: (isinstance(number, str), number)):
        theirs, ours = server.get(number), model.get(number)
        if ours is None:
            if has_stuff or not tells_kinds or server[number]['isthing']:
                found.append(f'{source} lists category {number!r} ({names[number]!r}), which {checkpoint} lacks')
        elif theirs is None:
            if ours['isthing'] or tells_kinds:
                found.append(f'{checkpoint} finds category {number!r} ({ours["name"]!r}), which {source} lacks')
        elif names[number] != ours['name']:
            found.append(f'category {number!r} is {names[number]!r} in {source} and {ours["name"]!r} in {checkpoint}')
        elif tells_kinds and bool(theirs['isthing']) != bool(ours['isthing']):
            kinds = [('stuff', 'a thing')[bool(category['isthing'])] for category in (theirs, ours)]
            found.append(
                f'category {number!r} ({names[number]!r}) is {kinds[0]} in {source}, {kinds[1]} in {checkpoint}'
            )
    return found
