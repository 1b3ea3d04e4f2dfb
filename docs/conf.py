"""Sphinx's settings: the site is made of the pages and docstrings of this repository, without a network.

sphinx-build -c docs . build/docs (`make docs`). The source folder is the root of the repository, so that links between
pages are the same here and in the repository.
"""

import builtins
import importlib.util
import sys
import typing
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

OPTIONAL = ('supervision',)  # packages that a result can be converted for
logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmpanoptic  # noqa: E402

project = 'mmpanoptic'
release = version = mmpanoptic.__version__
root_doc = 'docs/index'
include_patterns = ['*.md', 'docs/**', 'configs/*/README.md']
exclude_patterns = ['README.md']  # docs/index.md has it
extensions = ['myst_parser', 'sphinx.ext.apidoc', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']

html_theme = 'furo'
html_title = f'{project} {release}'
html_copy_source = False
html_extra_path = ['site']  # index.html, which leads to docs/index.html
pygments_style = 'friendly'

myst_heading_anchors = 4
myst_enable_extensions = ['dollarmath']

apidoc_modules = [dict(path='../mmpanoptic', destination='docs/api')]
autodoc_default_options = {'members': True, 'show-inheritance': True, 'ignore-module-all': True}
autodoc_member_order = 'bysource'
viewcode_follow_imported_members = False
autodoc_inherit_docstrings = False
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
python_use_unqualified_type_names = True
napoleon_use_ivar = True  # fields of a class are listed once
napoleon_use_rtype = False
suppress_warnings = ['ref.python']  # names of fields that two modules are called by


def find_by_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Resolve a reference in a docstring by its last name, if one object of the package is called so.

    A name that nobody knows, neither this package nor the module that the docstring is of, is a warning.
    """
    if node.get('refdomain') != 'py':
        return None
    first, *_, last = node['reftarget'].split('.') * 2
    objects = env.domains.python_domain.objects
    found = [name for name, entry in objects.items() if name.split('.')[-1] == last and not entry.aliased]
    if len(found) == 1:
        entry = objects[found[0]]
        return make_refnode(app.builder, node['refdoc'], entry.docname, entry.node_id, content, found[0])
    places = builtins, typing, importlib.import_module(node.get('py:module') or 'typing')
    installed = importlib.util.find_spec(first) is not None or first in OPTIONAL
    if not found and not installed and not any(hasattr(place, first) for place in places):
        logger.warning('no such object: %s', node['reftarget'], location=node)
    return None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect('missing-reference', find_by_name)
