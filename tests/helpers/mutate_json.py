"""Values of a JSON file exchanged for others."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from helpers.mutate_bytes import damaged

# Texts that stand in a file as they are; json.dumps would write none of them so.
_RAW = {
    f'@{number}@': text
    for number, text in enumerate(
        ('1e400', '-1e400', '-0', '1E5', '0.1e1', '1' * 5000, '"\\ud800"', '"\\u0000"', '[' * 3000 + ']' * 3000)
    )
}
VALUES = (
    *(None, True, False, -1, 0, 1, 2, 3.7, 1.0, 255, 256, 2**24, 2**31, 2**63, -(2**63), 10**30, 1e300, 5e-324),
    *(float('nan'), float('inf'), float('-inf'), '', 'x', '1', 'NaN', '../a\0', '../', '/', 'a/b', '.', '\n', '\ud83d'),
    *([], {}, [[]], [{}], [None], [1, 2], {'a': 1}, {'id': 1}, [[1, 2, 3, 4, 5, 6]], *_RAW),
)


def places(node: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths to all values below a node."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def value_at(content: Any, place: tuple) -> Any:
    """The value at a path."""
    for key in place:
        content = content[key]
    return content


def replaced(content: dict, place: tuple, value: Any) -> dict:
    """A copy of the content with another value in a place, or without it."""
    content = copy.deepcopy(content)
    node = value_at(content, place[:-1])
    if value == 'DROP':
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return content


def _set(content: dict, rng: random.Random, found: list[tuple]) -> dict:
    return replaced(content, rng.choice(found), rng.choice((*VALUES, 'DROP', 'DROP')))


def _change_number(content: dict, rng: random.Random, found: list[tuple]) -> dict:
    numbers = [place for place in found if type(value_at(content, place)) in (int, float)]
    if not numbers:
        return content
    place = rng.choice(numbers)
    value = value_at(content, place)
    other = rng.choice(numbers)
    changes = (value + 1, value - 1, -value, value + 0.5, value * 10, float(value), str(value), bool(value), [value])
    return replaced(content, place, rng.choice((*changes, value_at(content, other))))


def _exchange(content: dict, rng: random.Random, found: list[tuple]) -> dict:
    first, second = rng.choice(found), rng.choice(found)
    if first[: len(second)] == second or second[: len(first)] == first:  # one lies in the other
        return content
    values = [copy.deepcopy(value_at(content, place)) for place in (second, first)]
    return replaced(replaced(content, first, values[0]), second, values[1])


def _repeat(content: dict, rng: random.Random, found: list[tuple]) -> dict:
    lists = [place for place in found if isinstance(value_at(content, place), list) and value_at(content, place)]
    if not lists:
        return content
    place = rng.choice(lists)
    old = value_at(content, place)
    item = copy.deepcopy(rng.choice(old))
    longer = [*old, rng.choice((item, *VALUES))]
    return replaced(content, place, rng.choice((longer, [*old, item], old[::-1], old[:-1], old * 5)))


def _rename(content: dict, rng: random.Random, found: list[tuple]) -> dict:
    keys = [place for place in found if isinstance(place[-1], str)]
    if not keys:
        return content
    place = rng.choice(keys)
    value = value_at(content, place)
    return replaced(replaced(content, place, 'DROP'), (*place[:-1], rng.choice(('x', place[-1].upper(), ''))), value)


def _wrap(content: dict, rng: random.Random, found: list[tuple]) -> dict:
    place = rng.choice(found)
    value = value_at(content, place)
    return replaced(content, place, rng.choice(([value], {'a': value}, [[value]], str(value))))


_CHANGES = (_set, _set, _set, _change_number, _change_number, _exchange, _repeat, _rename, _wrap)


def mutated_json(content: dict, rng: random.Random, other: bytes) -> bytes:
    """A JSON file of another content, or one of damaged bytes.

    Args:
        content: Of a good file.
        rng: Chooses.
        other: Bytes of another file.
    """
    if rng.random() < 0.25:
        return damaged(json.dumps(content).encode(), rng, other)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        found = list(places(content))
        if not found:
            break
        content = rng.choice(_CHANGES)(content, rng, found)
    text = json.dumps(content)
    for token, raw in _RAW.items():
        text = text.replace(f'"{token}"', raw)
    if rng.random() < 0.03:
        start = '{' + f'"{rng.choice(list(content) or ["a"])}": 0, '  # a key twice
        text = text.replace('{', start, 1)
    encoding = rng.choices(('utf-8', 'utf-8-sig', 'utf-16', 'utf-32'), (97, 1, 1, 1))[0]
    return text.encode(encoding)
