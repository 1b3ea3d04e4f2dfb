"""The pages, their blocks of commands, and the commands in them as words."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from helpers.repo import ROOT

_FENCE = re.compile(r'^```([^\n`]*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_OPTIONAL = re.compile(r'\s\[[^\[\]]*\]')  # of a usage line; the brackets within brackets go first
_VARIABLE = re.compile(r'[A-Z_]+=.*', re.DOTALL)
_BRACES = re.compile(r'(.*?)\{([^{}]*,[^{}]*)\}(.*)')
#: A word in capitals stands for what a user has: CONFIG, GT_JSON, SYSTEM_r18_fpn_shapes.py. PQ is not one.
PLACEHOLDER = re.compile(r'(?<![A-Za-z])[A-Z][A-Z_]{2,}(?![a-z])')


@dataclass
class Command:
    """One command of a page.

    Attributes:
        words: Program and arguments, without the optional ones of a usage line.
        optional: What a usage line has in brackets.
        variables: Assignments to environment variables before the program.
    """

    words: list[str]
    optional: str = ''
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def placeholders(self) -> list[str]:
        return [word for word in self.words[1:] if PLACEHOLDER.search(word)]


@dataclass
class Block:
    """A fenced block of commands: where it is, and the text of its section above it."""

    line: int
    section: str
    before: str
    commands: list[Command]


def pages() -> list[str]:
    """Pages with commands, relative to the root of the repository."""
    docs = [path for path in ROOT.glob('docs/**/*.md') if path.relative_to(ROOT).parts[1] != 'api']
    found = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *docs, *ROOT.glob('configs/*/README.md')]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def prose_of(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub('', text)


def code_spans(text: str) -> list[str]:
    """What stands in single backticks in a page, each as one line."""
    return [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', prose_of(text))]


def blocks_of(text: str) -> Iterator[Block]:
    """Blocks of commands of a page: those without a language, or of bash."""
    for match in _FENCE.finditer(text):
        if match[1] in ('', 'bash'):
            above = prose_of(text[: match.start()])
            *_, section = re.split(r'^#+ +', above, flags=re.MULTILINE)
            title, _, before = section.partition('\n')
            line = text.count('\n', 0, match.start()) + 1
            yield Block(line, title, before, [command_of(one) for one in split_commands(match[2])])


def split_commands(block: str) -> list[str]:
    """Commands of a block, each joined to one text.

    A line that ends in a backslash goes on in the next one, as does an open quotation. Where lines begin with ``$``,
    the others are output.
    """
    lines = block.replace('\\\n', ' ').splitlines()
    if any(line.startswith('$ ') for line in lines):
        lines = [line[2:] for line in lines if line.startswith('$ ')]
    commands, text = [], ''
    for line in lines:
        text = f'{text}\n{line}' if text else line
        try:
            words = shlex.split(text, comments=True)
        except ValueError:  # a quotation that the next line closes
            continue
        if words:
            commands.append(text)
        text = ''
    return [*commands, text] if text else commands


def command_of(text: str) -> Command:
    """A command as words."""
    optional = ''
    while '\n' not in text and (match := _OPTIONAL.search(text)):
        optional += match[0]
        text = text[: match.start()] + text[match.end() :]
    words = [word for one in shlex.split(text, comments=True) for word in expand(one.removesuffix('...'))]
    variables = {}
    while words and (words[0] == 'time' or _VARIABLE.fullmatch(words[0])):
        name, equals, value = words.pop(0).partition('=')
        variables |= {name: value} if equals else {}
    return Command(words, optional, variables)


def expand(word: str) -> list[str]:
    """A word with the alternatives of its braces, as bash expands them: ``{a,b}_c`` is ``a_c`` and ``b_c``."""
    match = _BRACES.fullmatch(word)
    if not match:
        return [word]
    return [one for part in match[2].split(',') for one in expand(f'{match[1]}{part}{match[3]}')]
