"""Checkpoints from anywhere: what real ones hold comes through unchanged, and no other one runs anything."""

import codecs
import collections
import contextlib
import copyreg
import functools
import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.optim import MultiStepLR
from mmengine.runner.checkpoint import CheckpointLoader

from mmpanoptic.engine import closed_pickle
from mmpanoptic.engine.checkpoint_files import read_checkpoint, use_strict_loading
from mmpanoptic.utils import UserError


class Call:
    """Pickled as a call of a function, whatever that is."""

    def __init__(self, function, *args, state=None):
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.parts

    def __call__(self):
        """Pickle wants what is to be called to look like it."""


def name(module, *attributes):
    """A function by name, as pickles name what lies in a class: by getattr."""
    found = module
    for attribute in attributes:
        found = Call(getattr, found, attribute)
    return found


class SetState:
    """Pickled as a name of the list whose attributes are set, as BUILD does where there is no ``__setstate__``."""

    def __init__(self, function, attributes):
        self.function, self.attributes = function, attributes


class _Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)

    def save_set_state(self, value):
        self.save_global(value.function)
        self.save((None, value.attributes))
        self.write(pickle.BUILD)

    dispatch[SetState] = save_set_state


def pickle_of(content, protocol=2):
    """The pickle of anything, with :class:`SetState` in it."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol).dump(content)
    return buffer.getvalue()


def archive_of(content, protocol=2):
    """The bytes of a checkpoint as torch writes it, with any pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('archive/data.pkl', pickle_of(content, protocol))
        archive.writestr('archive/version', '3\n')
        archive.writestr('archive/byteorder', 'little')
    return buffer.getvalue()


def write(path, content, protocol=2):
    path.write_bytes(archive_of(content, protocol))
    return str(path)


def attacks(marker):
    """Pickles that make a folder when they are loaded by a loader that allows too much."""
    run = (os.mkdir, str(marker))
    text = f'__import__("os").mkdir({str(marker)!r})'
    # What mmengine allows is enough to reach builtins: a method's globals, by getattr.
    poisoned = HistoryBuffer()
    poisoned.update = os.mkdir
    builtins = Call(dict.get, name(HistoryBuffer.update, '__globals__'), '__builtins__')
    return {
        'a call': Call(*run),
        'eval': Call(eval, text),
        'exec': Call(exec, text),
        'getattr': Call(Call(getattr, HistoryBuffer, 'update'), *run),
        'a chain of getattr': Call(Call(dict.get, builtins, 'eval'), text),
        'partial': Call(functools.partial(*run)),
        'partial in a value': functools.partial(*run),
        'rebuild from type': Call(torch._tensor._rebuild_from_type_v2, os.mkdir, torch.Tensor, (str(marker),), {}),
        'copyreg': Call(copyreg._reconstructor, HistoryBuffer, object, None),
        'reconstruct of another class': Call(np._core.multiarray._reconstruct, HistoryBuffer, (0,), b'b'),
        'objects in an array': np.array([Call(*run)], dtype=object),
        'load from bytes': Call(torch.storage._load_from_bytes, archive_of(Call(*run))),
        'a config': Call(Config.fromstring, f'import os\nos.mkdir({str(marker)!r})', '.py'),
        'a default': collections.defaultdict(functools.partial(*run)),
        'hooks of a tensor': Call(torch._utils._rebuild_tensor_v2, None, 0, (1,), (1,), False, OrderedDict(a=os.mkdir)),
        'state of a dict': Call(OrderedDict, state={'copy': functools.partial(*run), 'items': eval}),
        'a history of objects': poisoned,
        'attributes of a function': SetState(getattr, {'__name__': '/tmp/x', 'dump_patches': True}),
        'state of a class': SetState(HistoryBuffer, {'update': 1}),
        'a slice': slice(os.mkdir, 1),
    }


@pytest.mark.parametrize('attack', attacks('/nowhere'))
@pytest.mark.parametrize('protocol', [2, 4])
def test_attack_is_refused_in_one_line(tmp_path, attack, protocol):
    marker = tmp_path / 'ran'
    path = write(tmp_path / 'bad.pth', dict(state_dict={}, meta=attacks(marker)[attack]), protocol)
    with pytest.raises(UserError, match=r'bad\.pth') as refused:
        read_checkpoint(path)
    assert '\n' not in str(refused.value)
    assert not marker.exists()


def test_the_attacks_are_real(tmp_path):
    """At least what the list is about: a loader that allows names from anywhere runs them."""
    for attack in ('a call', 'eval', 'partial', 'rebuild from type', 'load from bytes', 'a config'):
        marker = tmp_path / attack
        path = write(tmp_path / 'bad.pth', attacks(marker)[attack])
        with contextlib.suppress(AttributeError, TypeError):  # what the call gives back does not fit
            torch.load(path, weights_only=False)
        assert marker.exists(), attack


def test_trust_is_an_argument(tmp_path):
    marker = tmp_path / 'ran'
    path = write(tmp_path / 'odd.pth', Call(os.mkdir, str(marker)))
    with pytest.raises(UserError, match='trust_checkpoint=True') as refused:
        read_checkpoint(path)
    assert refused.value.argument == 'trust_checkpoint' and not marker.exists()
    read_checkpoint(path, trust=True)
    assert marker.exists()


class Persistent:
    """Pickled as a persistent id."""

    def __init__(self, *pid):
        self.pid = pid


def with_persistent(content):
    buffer = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.pid if isinstance(value, Persistent) else None

    Pickler(buffer, 2).dump(content)
    return buffer.getvalue()


def test_source_of_a_module_is_not_followed(tmp_path):
    """torch's loader of the old format reads the source file of a module, and writes a patch beside it."""
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, dict(little_endian=True))]
    parts.append(with_persistent(Persistent('module', OrderedDict, str(tmp_path / 'source.py'), 'text', 0)))
    (tmp_path / 'bad.pth').write_bytes(b''.join([*parts, pickle.dumps([], 2)]))
    with pytest.raises(UserError, match='a persistent id that is no storage'):
        read_checkpoint(tmp_path / 'bad.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['bad.pth']


def test_tar_is_not_unpacked(tmp_path):
    """The oldest format is a tar, whose members may be links and pipes."""
    with tarfile.open(tmp_path / 'bad.pth', 'w') as tar:
        pipe = tarfile.TarInfo('storages')
        pipe.type = tarfile.FIFOTYPE
        tar.addfile(pipe)
    with pytest.raises(UserError, match='is not a checkpoint'):
        read_checkpoint(tmp_path / 'bad.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['bad.pth']


def tensor_call(key, count, size, stride):
    storage = Persistent('storage', torch.FloatStorage, key, 'cpu', count)
    return Call(torch._utils._rebuild_tensor_v2, storage, 0, size, stride, False, OrderedDict())


@pytest.mark.parametrize(
    ('count', 'size', 'stride'), [(1, (10**10,), (0,)), (10**10, (10**10,), (1,)), (4, (9,), (1,)), (4, (2,), (7,))]
)
def test_tensors_are_no_larger_than_their_storage(tmp_path, count, size, stride):
    with zipfile.ZipFile(tmp_path / 'bad.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', with_persistent(dict(a=tensor_call('0', count, size, stride))))
        archive.writestr('archive/data/0', bytes(16))
    with pytest.raises(UserError, match='is not a checkpoint') as refused:
        read_checkpoint(tmp_path / 'bad.pth')
    assert size != (10**10,) or 'of shape (10000000000,) with 4 numbers' in str(refused.value)
    assert 'trust' not in str(refused.value)


def test_expanded_tensors_come_through(tmp_path):
    weights = dict(a=torch.tensor([2.0]).expand(3, 4), b=torch.arange(3.0)[:, None].expand(3, 2))
    torch.save(weights, tmp_path / 'x.pth')
    loaded = read_checkpoint(tmp_path / 'x.pth')
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_compressed_records_are_refused(tmp_path):
    """A small file that would take much memory."""
    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', pickle.dumps({}))
        archive.writestr('archive/data/0', bytes(2**22))
    with pytest.raises(UserError, match='larger than the file'):
        read_checkpoint(tmp_path / 'bomb.pth')


@pytest.mark.parametrize('kind', [dict(milestones=[1, 2]), dict(milestones=[3], by_epoch=False)])
def test_schedules_of_mmengine_come_through(tmp_path, kind):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    state = MultiStepLR(optimizer, **kind).state_dict()
    torch.save(dict(param_schedulers=[state]), tmp_path / 'x.pth')
    (loaded,) = read_checkpoint(tmp_path / 'x.pth')['param_schedulers']
    assert loaded == state and type(loaded['milestones']) is collections.Counter


@pytest.mark.parametrize('protocol', [2, 5])
def test_numbers_of_numpy_come_through(tmp_path, protocol):
    arrays = [np.zeros((0, 3)), np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((2, 3), '>f4')), np.bool_(True)]
    torch.save(dict(arrays=arrays), tmp_path / 'x.pth', pickle_protocol=protocol)
    for ours, theirs in zip(read_checkpoint(tmp_path / 'x.pth')['arrays'], arrays, strict=True):
        assert ours.dtype == theirs.dtype.newbyteorder('=') and np.array_equal(ours, theirs)


def test_types_of_numbers_without_a_storage_class_come_through(tmp_path):
    weights = dict(a=torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn), b=torch.arange(4).to(torch.uint16)[1:])
    torch.save(weights, tmp_path / 'x.pth')
    loaded = read_checkpoint(tmp_path / 'x.pth')
    assert all(loaded[key].dtype == weights[key].dtype for key in weights)
    assert torch.equal(loaded['a'].float(), weights['a'].float()) and torch.equal(loaded['b'].int(), weights['b'].int())


def test_attributes_set_on_an_ordered_dict_are_gone(tmp_path):
    state = {'copy': 'poison', '_metadata': OrderedDict(a=dict(version=1))}
    path = write(tmp_path / 'odd.pth', dict(state_dict=Call(OrderedDict, state=state)))
    weights = read_checkpoint(path)['state_dict']
    assert vars(weights) == {'_metadata': {'a': {'version': 1}}}
    assert weights.copy() == {}


def test_no_name_on_the_list_calls_another(tmp_path):
    """Every name of the list, called with every other one: nothing comes out that was not put in as data."""
    functions = [*closed_pickle.ALLOWED.values(), os.mkdir]
    for function in closed_pickle.ALLOWED.values():
        for given in functions:
            for args in ((given,), (given, (str(tmp_path / 'ran'),)), (given, 0, (1,), (1,))):
                try:
                    function(*args)
                except Exception:
                    continue
    assert not (tmp_path / 'ran').exists()


@pytest.fixture(scope='module')
def real_content():
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    history = HistoryBuffer(np.arange(5.0), np.ones(5, int), 1000)
    return dict(
        meta=dict(epoch=1, seed=0, dataset_meta=dict(classes=('a', 'b'), palette=[(1, 2, 3)]), cfg='a = 1'),
        state_dict=layer.state_dict(),
        message_hub=dict(log_scalars=OrderedDict(loss=history), runtime_info=OrderedDict(iter=3, best=np.float64(0.5))),
        optimizer=optimizer.state_dict(),
        param_schedulers=[dict(last_step=3)],
        others=dict(
            half=torch.ones(2, dtype=torch.bfloat16), empty=torch.zeros(0, 3), view=torch.arange(6).view(2, 3).T,
            number=torch.tensor(3), array=np.arange(6, dtype='>i2').reshape(2, 3, order='F'), flag=np.bool_(True),
            size=torch.Size([2, 3]), kind=torch.float16, where=torch.device('cpu'), members={1, 2}, raw=b'\x00\xff',
            parameter=torch.nn.Parameter(torch.ones(1)),
        ),
    )  # fmt: skip


def assert_same(ours, theirs):
    if isinstance(theirs, torch.nn.Parameter):
        theirs = theirs.detach()
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        assert getattr(ours, '_metadata', None) == getattr(theirs, '_metadata', None)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs, strict=True):
            assert_same(*pair)
    elif isinstance(theirs, torch.Tensor):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    elif isinstance(theirs, HistoryBuffer):
        assert_same((ours._log_history, ours._count_history), (theirs._log_history, theirs._count_history))
        assert ours.mean() == theirs.mean()
        ours.update(1.0)
    else:
        assert ours == theirs


@pytest.mark.parametrize('is_zip', [True, False])
def test_real_checkpoint_comes_through(tmp_path, real_content, is_zip, caplog):
    path = tmp_path / 'real.pth'
    torch.save(real_content, path, _use_new_zipfile_serialization=is_zip)
    assert_same(read_checkpoint(path), torch.load(path, weights_only=False))


def test_shared_tensors_stay_shared(tmp_path):
    weight = torch.ones(3)
    torch.save(dict(a=weight, b=weight, c=weight[1:]), tmp_path / 'x.pth')
    loaded = read_checkpoint(tmp_path / 'x.pth')
    loaded['a'].zero_()
    assert loaded['b'].sum() == 0 and loaded['c'].sum() == 0


def test_old_format_is_said_to_be_unchecked(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmpanoptic.engine.checkpoint_files.print_log', lambda message, *args: said.append(message))
    torch.save(dict(a=torch.ones(1)), tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    read_checkpoint(tmp_path / 'old.pth')
    assert len(said) == 1 and 'old format without checksums' in said[0]


@pytest.mark.parametrize('trust', [False, True])
@pytest.mark.parametrize('where', [0.3, 0.6, 0.9])
def test_zeroed_bytes_are_noticed(tmp_path, where, trust):
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict=dict(a=torch.randn(40000))), path)
    data = bytearray(path.read_bytes())
    start = int(len(data) * where)
    data[start : start + 512] = bytes(512)
    path.write_bytes(data)
    with pytest.raises(UserError, match='damaged'):
        read_checkpoint(path, trust)


@pytest.mark.parametrize('trust', [False, True])
def test_torchscript_is_refused(tmp_path, trust):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'script.pt'))
    with pytest.raises(UserError, match='is a TorchScript program: save its weights by name') as refused:
        read_checkpoint(tmp_path / 'script.pt', trust)
    assert refused.value.argument is None


@pytest.mark.parametrize('trust', [False, True])
@pytest.mark.parametrize('content', [b'PK\5\6' + bytes(18), b'PK\3\4' + bytes(50), b'', b'PK'])
def test_archives_that_are_none(tmp_path, content, trust):
    (tmp_path / 'bad.pth').write_bytes(content)
    with pytest.raises(UserError, match='is not a checkpoint that torch can read') as refused:
        read_checkpoint(tmp_path / 'bad.pth', trust)
    assert refused.value.argument is None


def test_a_truncated_archive_is_not_to_be_trusted(tmp_path, capsys):
    torch.save(dict(a=torch.ones(9)), tmp_path / 'bad.pth')
    (tmp_path / 'bad.pth').write_bytes((tmp_path / 'bad.pth').read_bytes()[:-30])
    with pytest.raises(UserError, match='an archive without its end') as refused:
        read_checkpoint(tmp_path / 'bad.pth')
    assert refused.value.argument is None
    assert 'old format' not in capsys.readouterr().out


def test_a_pickle_that_ends_early_is_noticed(tmp_path):
    """Its checksum is not compared by what reads a part of it."""
    torch.save({f'weight{k}': torch.ones(1) for k in range(2500)}, tmp_path / 'x.pth')
    data = bytearray((tmp_path / 'x.pth').read_bytes())
    place = data.index(b'weight1500') - 5  # the operation that reads this text
    assert data[place : place + 1] == b'X'
    data[place] = ord('.')
    (tmp_path / 'x.pth').write_bytes(data)
    with pytest.raises(UserError, match='damaged'):
        read_checkpoint(tmp_path / 'x.pth')


def program(*parts):
    return b'\x80\x02' + b''.join(parts) + b'.'


BOMBS = {
    'a tuple nested too deeply': (program(b'})', b'\x85' * 3_000_000, b'Ns'), 'nested too deeply'),
    'lists nested too deeply': (program(b']' * 5000, b'a' * 4999), 'nested too deeply'),
    'a memory that is too large': (program(b'Nr', (2**28).to_bytes(4, 'little')), 'a memory larger than the pickle'),
    'bytes that are not there': (b'\x80\x05\x96' + (2**33).to_bytes(8, 'little') + b'.', 'is not a checkpoint'),
    'something after the end': (program(b'N') + b'N.', 'ends early'),
    'a list that holds itself': (program(b']q\x00h\x00a'), 'something that holds itself'),
}


@pytest.mark.parametrize('bomb', BOMBS)
def test_bombs_are_refused(tmp_path, bomb):
    content, words = BOMBS[bomb]
    with zipfile.ZipFile(tmp_path / 'bad.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', content)
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path / 'bad.pth')
    (tmp_path / 'bad.pth').write_bytes(content)
    with pytest.raises(UserError, match='is not a checkpoint'):
        read_checkpoint(tmp_path / 'bad.pth')


def test_bytes_that_are_used_again_and_again_are_refused(tmp_path):
    """A small file that would take much memory."""
    text = 'x' * 100_000
    path = write(tmp_path / 'bad.pth', [Call(codecs.encode, text, 'latin1') for _ in range(500)])
    with pytest.raises(UserError, match='more bytes of arrays than it holds'):
        read_checkpoint(path)


def test_an_old_storage_is_no_larger_than_the_file(tmp_path):
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, dict(little_endian=True))]
    parts += [with_persistent(dict(a=tensor_call('0', 2**45, (1,), (1,)))), pickle.dumps(['0'], 2)]
    (tmp_path / 'bad.pth').write_bytes(b''.join(parts) + (2**45).to_bytes(8, 'little'))
    with pytest.raises(UserError, match='is not a checkpoint'):
        read_checkpoint(tmp_path / 'bad.pth')


def test_every_counter_is_its_own(tmp_path):
    """Also where Python takes the same memory for what one after the other needs for a moment."""
    counters = [collections.Counter({i: i + 1}) for i in range(200)]
    path = write(tmp_path / 'x.pth', [[{} for _ in range(300)], counters])
    assert read_checkpoint(path)[1] == counters


def test_tensors_marked_as_conjugated_or_negative_come_through(tmp_path):
    number = torch.tensor([1 + 2j, 3 + 4j])
    weights = dict(a=number.conj(), b=number.clone().conj().imag, c=number)
    torch.save(weights, tmp_path / 'x.pth')
    loaded = read_checkpoint(tmp_path / 'x.pth')
    assert all(torch.equal(loaded[key], weights[key].resolve_conj().resolve_neg()) for key in weights)


def test_types_of_numbers_that_no_model_has_are_refused(tmp_path):
    torch.save(torch.ones(2).to(torch.uint8).view(torch.bits8), tmp_path / 'x.pth')
    with pytest.raises(UserError, match=r'torch\.bits8'):
        read_checkpoint(tmp_path / 'x.pth')


@pytest.fixture
def mmengine_loaders():
    before = dict(CheckpointLoader._schemes)
    yield
    CheckpointLoader._schemes = collections.OrderedDict(before)


def test_config_in_a_checkpoint_is_never_run(tmp_path, mmengine_loaders):
    """mmengine evaluates ``meta['config']`` when it resumes."""
    torch.save(dict(meta=dict(config='raise SystemExit', epoch=1), state_dict={}), tmp_path / 'x.pth')
    for trust in (False, True):
        use_strict_loading(trust)
        assert CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))['meta'] == dict(epoch=1)


def test_every_source_of_mmengine_is_strict(tmp_path, mmengine_loaders, monkeypatch):
    use_strict_loading()
    monkeypatch.setattr('mmpanoptic.engine.checkpoint_files.fileio.get', lambda path: bad)
    write(tmp_path / 'bad.pth', Call(os.mkdir, str(tmp_path / 'ran')))
    bad = (tmp_path / 'bad.pth').read_bytes()
    for source in ('s3://bucket/bad.pth', 'petrel://bucket/bad.pth', str(tmp_path / 'bad.pth')):
        with pytest.raises(UserError, match='could run any code'):
            CheckpointLoader.load_checkpoint(source)
    assert not (tmp_path / 'ran').exists()


def test_unknown_name_of_a_checkpoint():
    with pytest.raises(UserError, match='mmengine knows no checkpoint of that name'):
        read_checkpoint('open-mmlab://nothing')
