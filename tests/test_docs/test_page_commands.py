"""Commands of the pages are such as the tools take, and a page says what its commands need."""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from helpers.pages import PLACEHOLDER, Block, Command, blocks_of, code_spans, command_of, pages, split_commands
from helpers.repo import CONFIGS, ROOT, load_tool

from mmpanoptic.__main__ import commands
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError, find_config

MAKEFILE = (ROOT / 'Makefile').read_text(encoding='utf-8')
# Programs that are not this project's.
OTHERS = {'pip', 'source', '.venv/bin/pre-commit'}
# Variables that libraries read.
OF_LIBRARIES = {'OMP_NUM_THREADS'}
# A command, or the beginning of one, within a text.
COMMAND = re.compile(
    r'([A-Z_]+=\S+ |time )*'
    r'((python )?tools/\S+\.(py|sh)|bash tools/|mmpanoptic [a-z]|make [a-z]|(python -m )?pytest )'
)
# What a placeholder may be where an argument has a type or choices.
STANDS_FOR = {'FORMAT': 'cvat', 'GPUS': '2', 'N': '2'}
# Blocks that a test runs, by page and section, and the test. All others say what they need.
RUN_BY = {
    ('docs/add_a_head.md', 'Train it'): (
        'test_docs/test_add_a_head.py',
        'test_it_trains_and_is_scored_by_the_commands',
    ),
    ('docs/own_data.md', 'From an export of CVAT to predictions'): (
        'test_docs/test_own_data.py',
        'test_from_labels_to_predictions_and_back',
    ),
    ('docs/install.md', 'As a package'): (
        'test_main.py',
        'test_the_installed_package_works_from_an_empty_folder',
    ),
}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding='utf-8')


@cache
def tool(script: Path) -> ModuleType:
    return load_tool(str(script.relative_to(ROOT / 'tools').with_suffix('')))


def script_of(words: list[str]) -> tuple[Path | None, list[str]]:
    """The script that a command runs, and the arguments that it gets; None if there is no such script."""
    program, *rest = words
    if program == 'mmpanoptic':
        found = commands().get(rest[0])
        return found and found.resolve(), rest[1:]
    script = ROOT / (rest[0] if program in ('python', 'bash') else program)
    return (script if script.is_file() else None), rest[program in ('python', 'bash') :]


def parse(script: Path, arguments: list[str]) -> tuple[object | None, str]:
    """What a tool makes of arguments, and what it prints; None if it ends."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, 'argv', [script.name, *arguments])
        try:
            return tool(script).parse_args(), printed.getvalue()
        except SystemExit:
            return None, printed.getvalue()
        except UserError as error:
            return None, str(error)


@cache
def flags_of(script: Path) -> set[str]:
    """Options of a tool, by its help."""
    return set(re.findall(r'(?<![\w-])--?[a-z][\w-]*', parse(script, ['--help'])[1]))


def unknown_flags(script: Path, text: str) -> list[str]:
    used = re.findall(r'(?:^|\s|\[)(--?[a-z][\w-]*)', text)
    return [f'{script.name} has no option {flag}' for flag in used if flag not in flags_of(script)]


def python_script(script: Path, arguments: list[str]) -> tuple[Path, list[str]]:
    """Of a shell script that starts processes: the tool that they run, and what it is given."""
    if script.suffix != '.sh':
        return script, arguments
    (usage,) = re.findall(rf'^# {script.name} ((?:[A-Z]+ )+)\[', script.read_text(encoding='utf-8'), re.MULTILINE)
    at = usage.split().index('GPUS')
    name = script.stem.removeprefix('dist_')
    return ROOT / f'tools/{name}.py', [*arguments[:at], *arguments[at + 1 :], '--launcher', 'pytorch']


def wrong_with_tool(command: Command) -> Iterator[str]:
    script, arguments = script_of(command.words)
    if script is None:
        yield f'there is no tool {" ".join(command.words[:2])}'
        return
    script, arguments = python_script(script, [STANDS_FOR.get(word, word) for word in arguments])
    if ROOT / 'tools' not in script.parents:  # a script of the tests
        text = script.read_text(encoding='utf-8')
        yield from (f'{script.name} lacks {word}' for word in arguments if word.startswith('--') and word not in text)
        return
    yield from unknown_flags(script, command.optional)
    args, printed = parse(script, arguments)
    if args is None:
        yield printed.strip().splitlines()[-1]
        return
    yield from wrong_options(getattr(args, 'config', None), getattr(args, 'cfg_options', None))


def wrong_options(config: object, options: dict | None) -> Iterator[str]:
    """What ``load_config`` says of options, where the page names the config and all values."""
    if not options or any(PLACEHOLDER.search(str(value)) for value in options.values()):
        return
    if isinstance(config, str) and Path(find_config(config)).is_file():
        try:
            load_config(config, options)
        except UserError as error:
            yield str(error)


def wrong_with_make(words: list[str]) -> Iterator[str]:
    for word in words:
        name = word.partition('=')[0]
        pattern = rf'\$\({name}\)' if '=' in word else rf'^{name}:'
        if not re.search(pattern, MAKEFILE, re.MULTILINE):
            yield f'the Makefile knows no {name}'


def wrong_with_pytest(words: list[str], variables: dict[str, str]) -> Iterator[str]:
    """Files exist; what selects tests, and variables that they read, stand in them."""
    files = [ROOT / word for word in words if word.startswith('tests/')]
    texts = ''
    for file in files:
        if not file.exists():
            yield f'there is no {file.relative_to(ROOT)}'
        elif file.is_file():
            texts += file.read_text(encoding='utf-8')
    selected = words[words.index('-k') + 1].split() if '-k' in words else []
    names = [*selected, *(f"'{name}'" for name in variables if name not in OF_LIBRARIES)]
    yield from (f'no test has {name}' for name in names if texts and name not in texts)


def wrong_with(command: Command) -> Iterator[str]:
    """What is wrong with a command of a page."""
    program, *rest = command.words
    if program == 'make':
        yield from wrong_with_make(rest)
    elif program == 'pytest' or command.words[:3] == ['python', '-m', 'pytest']:
        yield from wrong_with_pytest(rest, command.variables)
    elif command.words[:2] == ['python', '-c']:
        compile(rest[1], 'page', 'exec')
    elif program in ('python', 'bash') or (program == 'mmpanoptic' and rest):
        yield from wrong_with_tool(command)
    elif program not in (*OTHERS, 'mmpanoptic'):
        yield f'{program} is no program that the pages use; a block that is no command is marked as text'


def missing_configs(words: list[str], page: str) -> Iterator[str]:
    """Configs and suites that there are not; one of the user's own must be shown on the page."""
    for word in words:
        if not re.search(r'\.(py|yml)$', word) or word.startswith(('work_dirs/', 'tests/')) or PLACEHOLDER.search(word):
            continue
        if '/' in word and not (ROOT / find_config(word)).is_file():
            yield f'there is no config {word}'
        elif '/' not in word and word not in ' '.join(code_spans(text_of(page))):
            yield f'the page does not say what {word} is'


def has_what_it_needs(page: str, block: Block) -> bool:
    """Whether a block can be copied, or it is said what has to be there before."""
    ours = all(command.words[0] == 'mmpanoptic' for command in block.commands)
    return (
        ((page, block.section) in RUN_BY and ours)
        or any(command.placeholders for command in block.commands)
        or re.search(r'\bNeeds\b', block.before) is not None
    )


@pytest.mark.parametrize('page', pages())
def test_commands_are_taken_by_their_tools(page: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    wrong = []
    for block in blocks_of(text_of(page)):
        for command in block.commands:
            found = [*wrong_with(command), *missing_configs(command.words[1:], page)]
            wrong += [f'{page}:{block.line}: {" ".join(command.words)}: {one}' for one in found]
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('page', pages())
def test_commands_within_a_text_name_tools_and_options_that_there_are(page: str, monkeypatch: pytest.MonkeyPatch):
    """Such a one may be a part of a command: ``tools/test.py --eval PQ``."""
    monkeypatch.chdir(ROOT)
    wrong = []
    for span in code_spans(text_of(page)):
        if not COMMAND.match(span):
            continue
        command = command_of(span)
        if command.words[0] in ('make', 'pytest') or command.words[1:2] == ['-m']:
            found = list(wrong_with(command))
        elif (script := script_of(command.words)[0]) is None:
            found = ['there is no such tool']
        else:
            script, _ = python_script(script, ['', '', ''])
            flags = ' '.join(word for word in command.words[1:] if word.startswith('-'))
            found = unknown_flags(script, flags + command.optional)
        found += missing_configs(command.words[2:], page)
        wrong += [f'{page}: `{span}`: {one}' for one in found]
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('page', pages())
def test_files_of_tests_that_a_page_names_exist(page: str):
    named = re.findall(r'(?<![\w/])tests/[\w./]*\w', text_of(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize('page', pages())
def test_configs_that_a_page_names_exist(page: str):
    """As a base, or in a text, where a star stands for several."""
    text = text_of(page)
    folders = '|'.join(folder.name for folder in CONFIGS.iterdir() if folder.is_dir())
    spans = re.findall(rf'`(?:configs/)?((?:{folders})/[\w./*-]+\.(?:py|yml))`', text)
    named = [*re.findall(r'mmpanoptic::([\w./-]+)', text), *spans]
    assert [name for name in named if not any(CONFIGS.glob(name)) and name != '...'] == []


@pytest.mark.parametrize('page', pages())
def test_a_block_is_run_by_a_test_or_says_what_it_needs(page: str):
    blocks = blocks_of(text_of(page))
    assert [(block.line, block.section) for block in blocks if not has_what_it_needs(page, block)] == []


@pytest.mark.parametrize(('place', 'test'), RUN_BY.items(), ids=lambda value: value[-1])
def test_the_test_that_runs_a_block_uses_its_tools(place: tuple[str, str], test: tuple[str, str]):
    page, section = place
    source = (ROOT / 'tests' / test[0]).read_text(encoding='utf-8')
    assert f'def {test[1]}(' in source
    blocks = [block for block in blocks_of(text_of(page)) if block.section == section]
    assert blocks
    for block in blocks:
        names = [one.words[1] for one in block.commands if one.words[0] == 'mmpanoptic']
        assert all(f"'{name}'" in source for name in names)


# The checks themselves.


@pytest.mark.parametrize(
    ('line', 'reason'),
    [
        ('mmpanoptic trrain CONFIG', 'there is no tool mmpanoptic trrain'),
        ('mmpanoptic train CONFIG --apm', 'unrecognized arguments: --apm'),
        ('mmpanoptic train CONFIG [--apm [TYPE]]', 'train.py has no option --apm'),
        ('mmpanoptic import FORMAT SOURCE', 'required: OUT'),
        ('python tools/tset.py CONFIG', 'there is no tool python tools/tset.py'),
        ('bash tools/dist_train.sh CONFIG 4 --apm', 'unrecognized arguments: --apm'),
        ('mmpanoptic dist-train CONFIG GPUS --apm', 'unrecognized arguments: --apm'),
        ('make instal', 'the Makefile knows no instal'),
        ('make wheels WHEEL=DIR', 'the Makefile knows no WHEEL'),
        ('MAI=1 pytest tests/test_main.py', "no test has 'MAI'"),
        ('pytest tests/test_main.py -k nothing_of_it', 'no test has nothing_of_it'),
        ('pytest tests/test_man.py', 'there is no tests/test_man.py'),
        ('mmpanoptic train ciae/ciae_r18_fpn_shape.py', 'there is no config'),
        ('mmpanoptic train configs/{ciae/ciae,oanet/oane}_r18_fpn_shapes.py', 'there is no config'),
        ('mmpanoptic train another.py', 'does not say what another.py is'),
        (
            'mmpanoptic train ciae/ciae_r18_fpn_shapes.py --cfg-options train_cfg.max_epoch=1',
            'option train_cfg.max_epoch',
        ),
        ('100 - PQ', '100 is no program'),
    ],
)
def test_a_wrong_command_is_seen(line: str, reason: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    command = command_of(line)
    assert any(reason in one for one in [*wrong_with(command), *missing_configs(command.words[1:], 'README.md')])


def test_commands_of_a_block():
    assert split_commands('$ make help   # targets\nprinted it\n$ make docs') == ['make help   # targets', 'make docs']
    assert split_commands('# only this\na \\\n  b\n\npython -c "1\n2"') == ['a    b', 'python -c "1\n2"']
    command = command_of('A=1 b {c,d}.py E... [--f [G]] # h')
    assert command == Command(['b', 'c.py', 'd.py', 'E'], ' [G] [--f]', {'A': '1'})


def test_blocks_of_a_page():
    page = '# One\nNeeds a.\n```\nmake help\n```\n## Two\nb `c` d\n```python\ne\n```\n```bash\nmake docs\n```\n'
    first, second = blocks_of(page)
    assert (first.line, first.section, first.before) == (3, 'One', 'Needs a.\n')
    assert (second.line, second.section) == (11, 'Two') and 'e' not in second.before
    assert [one.words for one in second.commands] == [['make', 'docs']]
    assert code_spans(page) == ['c']
