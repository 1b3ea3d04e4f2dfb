"""Where the checkout lies, its tools as modules, and what they say of an error."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'


def load_tool(name: str) -> ModuleType:
    """``tools/<name>.py`` as a module."""
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_main(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *args: object) -> None:
    """Call ``main`` of a tool in this process, which saves the imports, with arguments of the command line."""
    monkeypatch.setattr(sys, 'argv', [Path(tool.__file__).name, *map(str, args)])
    tool.main()


def one_error_of(text: str) -> str:
    """What follows ``error:`` on stderr, which has one line."""
    assert text.startswith('error: ') and text.endswith('\n') and text.count('\n') == 1, text
    return text[len('error: ') : -1]
