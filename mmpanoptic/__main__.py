"""The command ``mmpanoptic``: every tool of ``tools/`` by one name, in a checkout and in an installed package.

``mmpanoptic train ARGUMENTS`` runs the very script ``tools/train.py``. Without arguments, all tools are listed.
"""

import ast
import difflib
import importlib.util
import os
import re
import sys
from pathlib import Path

from mmpanoptic import __version__, missing_package
from mmpanoptic.utils import shipped

# Scripts that are of use in a checkout only.
DEVELOPERS = ('install', 'install_operators', 'install_plan', 'paper_tables', 'readme_tables', 'screenshot')
TITLES = {
    '.': 'Train, test, predict',
    'dataset_converters': 'Data',
    'analysis_tools': 'Analysis',
    'model_converters': 'Weights of others',
    'misc': 'More',
}
HELP = """\
mmpanoptic {version}

usage: mmpanoptic TOOL [ARGUMENTS]
       mmpanoptic TOOL --help

{tools}
Configs may be named by their place in the package: mmpanoptic train panoptic_fpn/panoptic-fpn_r18_fpn_shapes.py
"""


def commands() -> dict[str, Path]:
    """Scripts by the name of their command, in the order of the help; ``dist_train.sh`` is ``dist-train``."""
    tools, found = shipped('tools'), {}
    for folder in TITLES:
        for script in [*sorted((tools / folder).glob('*.py')), *sorted((tools / folder).glob('*.sh'))]:
            if script.stem not in DEVELOPERS:
                prefix = 'convert-' if folder == 'model_converters' else ''
                found[prefix + script.stem.replace('_', '-')] = script
    return found


def summary(script: Path) -> str:
    """The first line of a script's docstring, or of the comment at its top."""
    text = script.read_text(encoding='utf-8')
    if script.suffix == '.py':
        return (ast.get_docstring(ast.parse(text)) or '').partition('\n')[0]
    comment = re.search(r'^# (.*)', text, re.MULTILINE)
    return comment[1] if comment else ''


def help_text() -> str:
    """The list of all tools, by folder."""
    found, tools = commands(), shipped('tools')
    width, parts = max(map(len, found)) + 2, []
    for folder, title in TITLES.items():
        rows = [name for name, script in found.items() if script.parent == tools / folder]
        parts += [f'{title}:', *(f'  {name:{width}}{summary(found[name])}' for name in rows), '']
    return HELP.format(version=__version__, tools='\n'.join(parts))


def run_script(script: Path) -> None:
    """Execute a script as the main module. Unlike runpy's functions, this leaves ``sys.argv`` unchanged."""
    spec = importlib.util.spec_from_file_location('__main__', script)
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    module.__spec__ = None  # as for any script: spawned processes read the file again
    sys.modules['__main__'] = module
    spec.loader.exec_module(module)


def main() -> None:
    """Run the tool that the first argument names, with the other arguments, as if its script had been called."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else '--help'), sys.argv[2:]
    if name in ('-h', '--help', 'help'):
        print(help_text(), end='')
        return
    if name == '--version':
        print(__version__)
        return
    script = commands().get(name)
    if script is None:
        close = difflib.get_close_matches(name, commands(), n=1)
        hint = f'did you mean {close[0]}?' if close else 'mmpanoptic --help lists them'
        sys.exit(f'error: there is no tool {name}: {hint}')
    if script.suffix == '.sh':
        os.environ.setdefault('PYTHON', sys.executable)
        os.execvp('bash', ['bash', str(script), *arguments])
    sys.argv = [f'mmpanoptic {name}', *arguments]  # argparse takes its name from here
    try:
        run_script(script)
    except ModuleNotFoundError as error:
        text = missing_package(error.name)
        if text is None:
            raise
        sys.exit(f'error: {text}')


if __name__ == '__main__':
    main()
