"""Reading of unchecked label files, and finding of images."""

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from xml.etree import ElementTree
from xml.parsers import expat

import yaml

from mmpanoptic.formats.panoptic_json import parse_json
from mmpanoptic.utils import DatasetError, UserError, read_bytes
from mmpanoptic.utils.paths import safe_name

from .records import LeftOut

REPORT = 'import_report.json'  # in the folder of a result
SUFFIXES = ('.avif', '.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
T = TypeVar('T')
_YamlLoader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)  # the first is libyaml's, ten times as fast


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn errors from values that do not follow the format into errors of one line.

    Raises:
        DatasetError: Naming ``where``.
    """
    try:
        yield
    except UserError:
        raise
    except _UNREADABLE as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
        raise DatasetError(f'{where} is not as the format has it ({reason}): export it again') from None


def each(
    items: Sequence[Any], make: Callable[[Any], T], file: str, what: Callable[[Any], str]
) -> tuple[list[T], list[LeftOut]]:
    """Make a record of every item; items that cannot be read are left out.

    Args:
        items: Entries of a file, or files.
        make: Makes the record of an item.
        file: The file that holds the entries; '' if the items are files.
        what: Gives the name of an item for errors.

    Returns:
        The records, and a :class:`LeftOut` for every other item.
    """
    made, left_out = [], []
    for item in items:
        place = what(item)
        try:
            with reading(f'{file}: {place}' if file else place):
                made.append(make(item))
        except DatasetError as error:
            left_out.append(LeftOut(file or place, place, str(error)))
    return made, left_out


def load_json(path: Path, top: type, says: str) -> Any:
    """Load a JSON file whose top-level value has the type ``top``, a list or an object.

    Raises:
        DatasetError: If it cannot be read, or its top-level value has another type.
    """
    content = parse_json(read_bytes(str(path), remedy='name a file that exists'), str(path), object)
    if not isinstance(content, top):
        raise DatasetError(f'{path} holds a {type(content).__name__} at the top: {says}')
    return content


def load_yaml(path: Path, says: str) -> Any:
    """Load a YAML file that holds plain values only.

    Raises:
        DatasetError: If it cannot be read.
    """
    try:
        return yaml.load(read_bytes(str(path), remedy=says), Loader=_YamlLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise DatasetError(f'{path} is not valid YAML ({reason}): {says}') from None


def load_xml(path: Path) -> ElementTree.Element:
    """Load an XML file. Document types are refused, because their entities can expand without limit.

    Returns:
        The root element.

    Raises:
        DatasetError: If it cannot be read or declares a document type.
    """
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise DatasetError(f'{path} declares a document type (DTD), which exports of labels do not: remove it')

    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    data = read_bytes(str(path), remedy='name a file that exists')
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, AssertionError, ValueError, LookupError) as error:
        raise DatasetError(f'{path} is not valid XML ({error}): export it again') from None


class ImageFinder:
    """Finds images by their names in label files, never outside of its folders.

    Args:
        given: The folder that the user has named, or None.
        roots: Folders to look in without ``given``, in this order; missing ones are skipped. Folders whose names say
            that they hold images, and a given folder, are searched with all their subfolders.
    """

    _OF_IMAGES = ('images', 'img', 'data')

    def __init__(self, given: Path | None, roots: Sequence[Path]) -> None:
        self._given = given is not None
        self.roots = [given] if given else [root for root in dict.fromkeys(roots) if root.is_dir()]
        self._deep = [root for root in self.roots if given or root.name in self._OF_IMAGES]
        self._by_name: dict[str | None, list[Path]] | None = None

    def find(self, name: object, where: str, split: str | None = None) -> tuple[Path, str]:
        """Find the file of an image and its name below its folder.

        A name that leaves the folder, such as an address or a path on another machine, is looked for by its last part
        only. In a given folder, so is any name that does not exist there. A file that is found by its last part must
        not lie in a folder of another split.

        Args:
            name: The name in the label file.
            where: What holds the name, for errors.
            split: The split of the labels. None: the split of a folder in the name, or any.

        Raises:
            DatasetError: If there is no such file, or several.
        """
        whole = safe_name(name)
        last = safe_name(PurePosixPath(str(name).replace('\\', '/')).name)
        for relative in (whole, last if self._given or whole is None else None):
            for root in self.roots:
                if relative is not None and (root / relative).is_file():
                    return self._named(root / relative)
        known = self._index().get(last, [])
        if whole is not None and not self._given:
            known = [path for path in known if path.as_posix().endswith(f'/{whole}')]
        split = split or split_of(*PurePosixPath(whole or '').parts[:-1])
        found = [path for path in known if may_be_of(path, self.roots, split)]
        if len(found) == 1:
            return self._named(found[0])
        state = f'{len(found)} images of that name are' if found else 'no such image is'
        folders = ', '.join(map(str, self.roots)) or 'a folder'
        if known and not found:
            folders = f'{folders} but that of another split, {known[0]}'
        raise DatasetError(f'{where} names {str(name)[:200]!r}, and {state} in {folders}: give `images`, their folder')

    def _named(self, path: Path) -> tuple[Path, str]:
        """A file and its name below the innermost folder that holds it."""
        return path, min((path.relative_to(root).as_posix() for root in self.roots if root in path.parents), key=len)

    def _index(self) -> dict[str | None, list[Path]]:
        if self._by_name is None:
            self._by_name = defaultdict(list)
            for path in dict.fromkeys(path for root in self._deep for path in images_below(root)):
                self._by_name[path.name].append(path)
        return self._by_name


def _below(folder: Path) -> Iterator[Path]:
    """Files of a folder and its subfolders, linked ones too, without hidden ones and results of imports."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        real = os.path.realpath(place)
        if real in seen or (REPORT in files and place != str(folder)):  # a link to a folder above, or a result
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in files if not name.startswith('.'))


def images_below(folder: Path) -> list[Path]:
    """Images of a folder and its subfolders, sorted by name, without hidden ones."""
    return sorted(path for path in _below(folder) if path.suffix.lower() in SUFFIXES)


def files_below(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern in a folder and its subfolders, sorted by name, without hidden ones."""
    return sorted(path for path in _below(folder) if path.match(pattern))


def split_of(*names: str) -> str | None:
    """The split of the first name that is a split's name: train, val or test; None if there is no such name.

    Names may end in a year, as in train2017.
    """
    meant = {'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val', 'test': 'test'}
    meant |= {'testing': 'test'}
    plain = [re.sub(r'[0-9]{4}$', '', name.lower()) for name in names]
    return next((meant[name] for name in plain if name in meant), None)


def may_be_of(path: Path, roots: Sequence[Path], split: str | None) -> bool:
    """Whether no folder of a file, below the outermost root that holds it, names another split."""
    below = max((path.relative_to(root).parts[:-1] for root in roots if root in path.parents), key=len)
    return split is None or split_of(*below) in (None, split)


def require_folder_of(source: Path, says: str) -> None:
    """Refuse a source that is no folder.

    Raises:
        DatasetError: Saying what it should be.
    """
    if not source.is_dir():
        raise DatasetError(f'{source} is no folder: {says}')
