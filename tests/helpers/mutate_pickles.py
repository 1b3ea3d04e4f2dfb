"""Checkpoints that were made to do harm: pickles of any operations, archives and safetensors headers that lie."""

import io
import json
import pickle
import pickletools
import random
import struct
import zipfile

from helpers.mutate_bytes import damaged
from helpers.mutate_json import mutated_json

from mmpanoptic.engine.closed_pickle import ALLOWED

_FORBIDDEN = (
    *(('os', 'mkdir'), ('os', 'system'), ('posix', 'mkdir'), ('builtins', 'eval'), ('builtins', 'exec')),
    *(('builtins', '__import__'), ('subprocess', 'Popen'), ('functools', 'partial'), ('operator', 'attrgetter')),
    *(('torch', 'load'), ('torch.storage', '_load_from_bytes'), ('torch', 'nn.Module'), ('torch', 'os.mkdir')),
    *(
        ('mmengine.config', 'Config.fromstring'),
        ('collections', 'OrderedDict.__class__'),
        ('copyreg', '_reconstructor'),
    ),
    *(
        ('torch._utils', '_rebuild_tensor_v2.__globals__'),
        ('numpy', 'load'),
        ('shutil', 'rmtree'),
        ('', ''),
        ('a\0', 'é'),
    ),
)
_SIMPLE = [
    opcode.code.encode('latin1')
    for opcode in pickletools.opcodes
    if opcode.arg is None and opcode.name not in ('STOP', 'PROTO')
]


def _text(value: str) -> bytes:
    data = value.encode('utf-8', 'surrogatepass')
    return pickle.BINUNICODE + struct.pack('<I', len(data)) + data


def _name(rng: random.Random, protocol: int) -> bytes:
    module, name = rng.choice(list(ALLOWED) if rng.random() < 0.6 else _FORBIDDEN)
    if protocol >= 4 and rng.random() < 0.5:
        return _text(module) + _text(name) + pickle.STACK_GLOBAL
    if rng.random() < 0.15:
        return pickle.MARK + pickle.INST + f'{module}\n{name}\n'.encode()
    return pickle.GLOBAL + f'{module}\n{name}\n'.encode()


def _value(rng: random.Random, marker: str, protocol: int) -> bytes:
    """Operations that push something."""
    way = rng.randrange(14)
    number = rng.choice((0, 1, 2, 255, 2**31 - 1, -1))
    return (
        lambda: _name(rng, protocol),
        lambda: _name(rng, protocol),
        lambda: _text(marker),
        lambda: _text(f'__import__("os").mkdir({marker!r})'),
        lambda: _text(rng.choice(('latin1', 'f4', 'O8', 'storage', '0', '__globals__', 'data_ptr', '', '\ud800'))),
        lambda: pickle.BININT + struct.pack('<i', number),
        lambda: pickle.LONG1 + bytes([9]) + rng.randbytes(9),
        lambda: pickle.BINFLOAT + struct.pack('>d', rng.choice((0.0, float('nan'), 1e308))),
        lambda: pickle.NONE,
        lambda: pickle.EMPTY_TUPLE,
        lambda: pickle.EMPTY_DICT,
        lambda: pickle.EMPTY_LIST,
        lambda: pickle.SHORT_BINBYTES + bytes([8]) + rng.randbytes(8),
        lambda: (pickle.BINGET + bytes([rng.randrange(4)]), pickle.EXT1 + b'\1', pickle.EMPTY_SET)[rng.randrange(3)],
    )[way]()


def _call(rng: random.Random, marker: str, protocol: int) -> bytes:
    """A function with arguments, by one of the operations that call."""
    values = [_value(rng, marker, protocol) for _ in range(rng.choice((1, 1, 2, 3, 6)))]
    arguments = pickle.MARK + b''.join(values) + pickle.TUPLE
    way = rng.randrange(6)
    if way == 0:
        return pickle.MARK + _name(rng, protocol) + b''.join(values) + pickle.OBJ
    if way == 1:
        return _name(rng, protocol) + arguments + pickle.NEWOBJ
    if way == 2:
        return _name(rng, protocol) + arguments + pickle.EMPTY_DICT + pickle.NEWOBJ_EX
    if way == 3:
        return arguments + pickle.BINPERSID
    called = _name(rng, protocol) + arguments + pickle.REDUCE
    return called + (_value(rng, marker, protocol) + pickle.BUILD if way == 4 else b'')


def hostile_pickle(rng: random.Random, marker: str) -> bytes:
    """A pickle of random operations, most of them in an order that works; ``marker`` is what some would make."""
    protocol = rng.choice((0, 2, 2, 4, 5))
    parts = [pickle.PROTO + bytes([protocol])] if protocol else []
    for _ in range(rng.choice((1, 2, 5, 12))):
        part = (_call if rng.random() < 0.6 else _value)(rng, marker, protocol)
        parts.append(
            part + rng.choice((b'', b'', pickle.BINPUT + bytes([rng.randrange(4)]), pickle.DUP, pickle.MEMOIZE))
        )
        if rng.random() < 0.2:
            parts.append(rng.choice(_SIMPLE))
    if rng.random() < 0.5:  # as what a checkpoint holds
        parts.append(pickle.POP_MARK if rng.random() < 0.1 else b'')
        parts.insert(1 if protocol else 0, pickle.EMPTY_DICT + _text('state_dict') + pickle.MARK)
        parts.append(pickle.LIST + pickle.SETITEM)
    content = b''.join(parts) + pickle.STOP
    return damaged(content, rng, content) if rng.random() < 0.2 else content


def attack_pickle(rng: random.Random, marker: str) -> bytes:
    """A pickle that is sure to run something where its names are allowed."""
    module, name, argument = rng.choice(
        (
            ('os', 'mkdir', marker),
            ('posix', 'mkdir', marker),
            ('builtins', 'eval', f'__import__("os").mkdir({marker!r})'),
            ('builtins', 'exec', f'import os\nos.mkdir({marker!r})'),
            ('os', 'system', f'mkdir {marker}'),
        )
    )
    named = rng.choice(
        (pickle.GLOBAL + f'{module}\n{name}\n'.encode(), _text(module) + _text(name) + pickle.STACK_GLOBAL)
    )
    call = rng.choice(
        (
            named + _text(argument) + pickle.TUPLE1 + pickle.REDUCE,
            pickle.MARK + named + _text(argument) + pickle.OBJ,
            pickle.MARK + _text(argument) + pickle.INST + f'{module}\n{name}\n'.encode(),
            named + pickle.BINPUT + b'\0' + pickle.POP + pickle.BINGET + b'\0' + _text(argument) + b'\x85R',
        )
    )
    before, after = rng.choice(((b'', b''), (b'}' + _text('meta'), b's'), (b'](', b'e'), (b'N0', b'')))
    return b'\x80\x04' + before + call + after + b'.'


def archive(rng: random.Random, content: bytes) -> bytes:
    """A checkpoint of torch's format with a pickle, whose records may lie."""
    buffer = io.BytesIO()
    folder = rng.choice(('archive', 'x', '', '../..', '/tmp'))
    with zipfile.ZipFile(buffer, 'w', rng.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,))) as file:
        file.writestr(f'{folder}/data.pkl', content)
        for name, data in (('version', b'3\n'), ('byteorder', b'little'), ('data/0', bytes(32))):
            for _ in range(rng.choice((0, 1, 1, 1, 1))):
                file.writestr(f'{folder}/{name}', data)
    data = buffer.getvalue()
    return damaged(data, rng, content) if rng.random() < 0.3 else data


def old_file(rng: random.Random, content: bytes) -> bytes:
    """A checkpoint of torch before 1.6 with a pickle in the place of one of its own, or alone."""
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, dict(little_endian=True), {}, [])]
    parts[rng.choice((0, 1, 2, 3, 3, 3, 3, 4))] = content
    return content if rng.random() < 0.1 else b''.join(parts)


def lying_safetensors(rng: random.Random) -> bytes:
    """A safetensors file with a header that is changed anywhere."""
    header = {
        '__metadata__': {'format': 'pt', 'meta': json.dumps({'epoch': 1, 'dataset_meta': {'classes': ['a']}})},
        'a': {'dtype': 'F32', 'shape': [2, 3], 'data_offsets': [0, 24]},
        'b': {'dtype': 'I64', 'shape': [1], 'data_offsets': [24, 32]},
    }
    text = mutated_json(header, rng, b'{"a": 1}') if rng.random() < 0.9 else json.dumps(header).encode()
    length = rng.choice((len(text),) * 6 + (0, len(text) - 1, len(text) + 9, 2**31, 2**63, 2**64 - 1)) % 2**64
    data = struct.pack('<Q', length) + text + bytes(range(rng.choice((32, 32, 32, 0, 31, 64))))
    return damaged(data, rng, text) if rng.random() < 0.15 else data
