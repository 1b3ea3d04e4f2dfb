"""`make docs`: it builds without a warning, has every public class, and loads nothing from elsewhere."""

import importlib
import inspect
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.tiny_run import tool_env
from helpers.repo import ROOT
from sphinx.util.inventory import InventoryFile

import mmpanoptic


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run(
        ['make', 'docs', f'SITE={folder}'], cwd=ROOT, env=tool_env(), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def public() -> Iterator[tuple[str, object]]:
    """Names that a package of ours exports, with what they are."""
    for module in pkgutil.walk_packages(mmpanoptic.__path__, 'mmpanoptic.'):
        if module.ispkg and '.mim' not in module.name:
            package = importlib.import_module(module.name)
            yield from ((f'{module.name}.{name}', getattr(package, name)) for name in getattr(package, '__all__', ()))


@pytest.mark.slow
def test_every_public_class_and_function_has_an_entry(site):
    inventory = InventoryFile.loads((site / 'objects.inv').read_bytes(), uri='')
    documented = {*inventory.data['py:class'], *inventory.data['py:function'], *inventory.data['py:exception']}
    asked = {
        name: f'{value.__module__}.{value.__qualname__}'
        for name, value in public()
        if inspect.isclass(value) or inspect.isfunction(value)
    }
    assert len(asked) > 100
    assert {name for name, place in asked.items() if place not in documented} == set()


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site):
    pages = [site / 'index.html', *(site / 'docs').glob('*.html'), *(site / 'docs' / 'api').glob('*.html')]
    assert len(pages) > 40
    loaded = re.compile(r'<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)="(https?:)?//[^"]*"')
    assert {page.name for page in pages if loaded.search(page.read_text())} == set()


@pytest.mark.slow
def test_every_page_is_reached_from_the_first(site):
    """Sphinx warns of a page in no table of contents; here is the way to the site itself."""
    assert 'url=docs/index.html' in (site / 'index.html').read_text()
    first = (site / 'docs' / 'index.html').read_text()
    for page in ('install', 'architecture', 'add_a_head', 'api/modules', 'papers/tables'):
        assert f'href="{page}.html"' in first
