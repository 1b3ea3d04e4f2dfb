"""Whether a model numbers the classes as a test server does."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmpanoptic.utils import UserError

_WAY_OUT = "take a checkpoint of that data set's classes, or name the files of the data that it was trained on"


def check_categories(
    categories: Sequence[Mapping[str, Any]], listed: Mapping[str, Sequence[Mapping[str, Any]]], checkpoint: str
) -> None:
    """Compare ids, names and kinds of a model's categories with those of a server.

    A list of images may name the things alone, without saying that they are (COCO's do); the stuff of a model is
    compared with a list that has some. A model of instances has no stuff.

    Args:
        categories: The model's: ``id``, ``name``, ``isthing``.
        listed: The server's, by the file that names them; those of one file have to be the model's.
        checkpoint: What to call the model in an error.

    Raises:
        UserError: Naming the first category that differs, of the file that has the fewest such.
    """
    problems = {source: _differences(categories, entries, source, checkpoint) for source, entries in listed.items()}
    fewest = min(problems.values(), key=len)
    if fewest:
        raise UserError(f'{fewest[0]}: {_WAY_OUT}')


def _differences(
    categories: Sequence[Mapping[str, Any]], listed: Sequence[Mapping[str, Any]], source: str, checkpoint: str
) -> list[str]:
    """A sentence for each category that differs, by id."""
    try:
        server = {one['id']: one for one in listed}
        names = {number: one['name'] for number, one in server.items()}
    except (KeyError, TypeError):
        return [f'{source} has categories without id or name']
    if not server:
        return [f'{source} lists no categories, so nobody can tell what its ids mean']
    model = {one['id']: one for one in categories}
    has_stuff = any(not one['isthing'] for one in categories)
    tells_kinds = all('isthing' in one for one in server.values())
    found = []
    for number in sorted({*server, *model}, key=lambda number: (isinstance(number, str), number)):
        theirs, ours = server.get(number), model.get(number)
        if ours is None:
            if has_stuff or not tells_kinds or theirs['isthing']:
                found.append(f'{source} lists category {number!r} ({names[number]!r}), which {checkpoint} lacks')
        elif theirs is None:
            if ours['isthing'] or tells_kinds:
                found.append(f'{checkpoint} finds category {number!r} ({ours["name"]!r}), which {source} lacks')
        elif names[number] != ours['name']:
            found.append(f'category {number!r} is {names[number]!r} in {source} and {ours["name"]!r} in {checkpoint}')
        elif tells_kinds and bool(theirs['isthing']) != bool(ours['isthing']):
            kinds = [('stuff', 'a thing')[bool(one['isthing'])] for one in (theirs, ours)]
            found.append(
                f'category {number!r} ({names[number]!r}) is {kinds[0]} in {source}, {kinds[1]} in {checkpoint}'
            )
    return found
