"""Copying between stores: the same, bit for bit, once, from wherever it was broken off."""

from __future__ import annotations

import io
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from postgres_server import PostgresServer

from neptune_async import (
    Experiment,
    File,
    Histogram,
    StoredFile,
    delete_experiment,
    list_experiments,
)
from neptune_async._engine import copying
from neptune_async._engine.copying import Copied, copy_experiments
from neptune_async._engine.store import opened
from neptune_async.cli import syncing, without_extras
from neptune_async.exceptions import (
    ExperimentNotFoundError,
    InvalidStorageError,
    StorageError,
    StorageFormatError,
)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A store with all kinds of things in it."""
    path = str(tmp_path / 'source.db')
    zone = timezone(timedelta(hours=5, minutes=45))
    with Experiment('all', storage=path) as exp:
        exp['loss'].extend([1.5, float('nan'), -0.0, 5e-324, float('inf')])
        exp['loss'].log(1.0, step=-3.25, timestamp=-1.5)
        exp['loss'].log(2.0, step=2**53)
        exp['loss'].log(3.0)
        exp['many'].extend(list(map(float, range(100_000))))
        exp['says'].extend(['', 'nul \0', '\ud800', 'ü', '\U0001f600'])
        exp['when'].extend([datetime(2026, 1, 2, 3, tzinfo=zone), datetime(1, 1, 1)])
        exp['atoms'].assign(
            {'int': 2**200, 'none': None, 'list': [1, [None, 'x\0']], 'zero': -0.0, 'yes': True}
        )
        exp['sets/texts'].add('a', '\ud800', 'long' * 5_000)
        exp['sets/numbers'].add(1.5, -0.0)
        exp['sets/empty'].add(1)
        exp['sets/empty'].remove(1)
        exp['files/small'].assign(File(b'small'))
        exp['files/large'].assign(File(bytes(300_000), name='large.bin'))
        exp['files/series'].extend([File(b'%d' % n * (n * 50_000)) for n in range(3)])
        exp['weights'].extend([Histogram([1.0, 2.0]), Histogram(counts=[1], edges=[-0.0, 0.5])])
    with Experiment('other', storage=path) as exp:
        exp['x'].log(1.0)
    return path


@pytest.fixture(params=['sqlite', 'postgres'])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)  # where what a server cannot take is spilled
    if request.param == 'sqlite':
        return str(tmp_path / 'target.db')
    server: PostgresServer = request.getfixturevalue('postgres')
    return server.url()


def contents(storage: str, name: str = 'all') -> dict[str, Any]:
    """Return all that an experiment holds, so that it is equal only to the same bits."""
    found: dict[str, Any] = {}
    with Experiment(name, storage=storage, mode='read') as exp:
        paths = ['loss', 'many', 'says', 'when', 'sets/texts', 'sets/numbers', 'sets/empty', 'x']
        paths += [f'atoms/{atom}' for atom in ('int', 'none', 'list', 'zero', 'yes')]
        paths += ['files/small', 'files/large', 'files/series', 'weights']
        for path in paths:
            if not exp[path].exists():
                continue
            kind, content = exp[path].variable_type()
            reads = {'Series': lambda view: view.all(True, True), 'Atom': lambda view: view.read(),
                     'Set': lambda view: view.get()}  # fmt: skip
            found[path] = (kind, content, bits(reads[kind.__name__](exp[path])))
    return found


def bits(value: Any) -> Any:
    if isinstance(value, float):
        return struct.pack('<d', value)
    if isinstance(value, (list, tuple)):
        return [*map(bits, value)]
    if isinstance(value, StoredFile):
        return value, value.bytes()
    if isinstance(value, Histogram):
        return bits([*value.counts, *value.edges])
    if isinstance(value, set):
        return {(type(member), bits(member)) for member in value}
    return type(value), value


def test_a_copy_of_a_copy_is_the_same_bit_for_bit(source: str, target: str, tmp_path: Path) -> None:
    back = str(tmp_path / 'back.db')
    copied = copy_experiments(source, target)
    assert [(one.experiment, one.variables, one.of, one.points) for one in copied] == [
        ('all', 16, 16, 100_020), ('other', 1, 1, 1),
    ]  # fmt: skip
    copy_experiments(target, back)
    for name in ('all', 'other'):
        assert contents(source, name) == contents(target, name) == contents(back, name)
    assert len(contents(source)) == 16
    assert list_experiments(back) == list_experiments(source)


def test_a_copy_was_made_when_its_source_was(source: str, target: str) -> None:
    with opened(source) as store:
        made = [store.find(name).created for name in ('all', 'other')]
    copy_experiments(source, target)
    with opened(target) as store:
        copied = [store.find(name).created for name in ('all', 'other')]
    assert copied == pytest.approx(made, abs=1e-6, rel=0)  # microseconds are what a server has


def test_what_came_later_is_added_and_nothing_is_copied_twice(source: str, target: str) -> None:
    copy_experiments(source, target, ['all'])
    assert list_experiments(target) == ['all']
    assert [one.points for one in copy_experiments(source, target, ['all'])] == [0]
    with Experiment('all', storage=source) as exp:
        exp['loss'].log(4.0, step=5)
        exp['new/deep'].log('hello')
        exp['atoms'].assign({'int': 'now a text'})
        exp['sets/texts'].reset('only')
    assert [one.points for one in copy_experiments(source, target, ['all'])] == [2]
    assert contents(source) == contents(target)
    with Experiment('all', storage=target) as exp:
        assert exp['new/deep'].all() == ['hello']
        exp['loss'].log(5.0)  # the copy can be gone on with
        assert exp['loss'].tail(1, with_steps=True) == [(2**53, 5.0)]


def test_it_goes_on_from_wherever_it_was_broken_off(
    source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, '_BATCH_POINTS', 7_000)
    for batches in range(1, 8):
        seen: list[Copied] = []

        def report(copied: Copied, seen: list[Copied] = seen, batches: int = batches) -> None:
            seen.append(copied)
            if len(seen) > batches:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            copy_experiments(source, target, ['all'], report)
    copy_experiments(source, target)
    assert contents(source) == contents(target)


def test_several_at_once_copy_everything_once(
    source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, '_BATCH_POINTS', 5_000)
    together = Barrier(4)
    points: list[int] = []

    def copy() -> None:
        together.wait()
        points.append(sum(one.points for one in copy_experiments(source, target)))

    threads = [Thread(target=copy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(points) == 100_021
    assert contents(source) == contents(target)


@pytest.mark.parametrize(
    ('path', 'told'),
    [('loss', 'another point 7'), ('says', 'is a atom of int'), ('when', 'series of str')],
)
def test_what_is_no_copy_is_left_alone(source: str, target: str, path: str, told: str) -> None:
    with Experiment('all', storage=target) as exp:
        if path == 'loss':
            exp[path].extend([float(n) for n in range(8)])
        elif path == 'says':
            exp[path].assign(1)
        else:
            exp[path].log('a text')
    copied, _ = copy_experiments(source, target)
    assert told in str(copied.failure)
    with Experiment('all', storage=target) as exp:
        if path == 'loss':
            assert exp[path].all() == [float(n) for n in range(8)]


def test_a_target_that_is_ahead_is_left_alone(source: str, target: str) -> None:
    copy_experiments(source, target)
    with Experiment('other', storage=target) as exp:
        exp['x'].log(2.0)
    _, copied = copy_experiments(source, target)
    assert '2 points there, and only 1' in str(copied.failure)


def test_what_cannot_be_copied_keeps_no_other_from_being_copied(source: str, target: str) -> None:
    with Experiment('all', storage=target) as exp:
        exp['loss'].log(-1.0)
    unfit, copied = copy_experiments(source, target)
    assert unfit.failure is not None
    assert (copied.points, copied.failure) == (1, None)
    assert contents(source, 'other') == contents(target, 'other')


def test_a_damaged_experiment_keeps_no_other_from_being_copied(source: str, target: str) -> None:
    with closing(sqlite3.connect(source)) as store, store:
        store.execute("""UPDATE chunks SET "values" = x'00' WHERE count > 1000""")
    damaged, copied = copy_experiments(source, target)
    assert isinstance(damaged.failure, StorageFormatError)
    assert copied.failure is None
    assert contents(source, 'other') == contents(target, 'other')


def test_after_a_rewind_the_command_says_what_to_do_and_copies_the_others(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / 'target.db')
    assert syncing.sync(source, target) == 0
    with Experiment('all', storage=source) as exp:
        exp.rewind(50_000, 'many')
    with Experiment('other', storage=source) as exp:
        exp['x'].log(2.0)
    capsys.readouterr()
    assert syncing.sync(source, target) == 1
    told = capsys.readouterr()
    assert told.out == 'other: 1 variables, 1 points were new\n'
    assert "'many' has 100000 points there, and only 50001 here" in told.err
    assert 'a rewind or a deletion' in told.err
    assert f'(neptune-async delete all --storage {target}) and sync again' in told.err
    assert told.err.endswith('1 of 2 experiments were not copied\n')
    delete_experiment('all', target)
    assert syncing.sync(source, target) == 0
    assert contents(source) == contents(target)


def test_what_cannot_be_copied_is_told(source: str, target: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentNotFoundError, match="'alk'.*'all'"):
        copy_experiments(source, target, ['alk'])
    with pytest.raises(InvalidStorageError, match='same store'):
        copy_experiments(source, f'sqlite:///{source}')
    with pytest.raises(StorageError, match='no such file'):
        copy_experiments(str(tmp_path / 'missing.db'), target)


def test_what_is_deleted_meanwhile_is_not_made_in_the_copy(source: str, target: str) -> None:
    with Experiment('fleeting', storage=source) as exp:
        exp['a'].log(1.0)
        exp['b/atom'].assign(1)
        exp['b/series'].log(1.0)
        exp['b/set'].add(1)

    def delete_what_comes_next(copied: Copied) -> None:
        if copied.variables == 1:
            with Experiment('fleeting', storage=source) as exp:
                exp['b'].delete()

    copy_experiments(source, target, ['fleeting'], delete_what_comes_next)
    with Experiment('fleeting', storage=target, mode='read') as exp:
        assert [*exp.namespace_contents()] == ['a']


def test_the_command_says_what_it_did(source: str, target: str, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'neptune_async', 'sync', source, target]
    done = subprocess.run(
        [*command, '--experiment', 'other'], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, 'other: 1 variables, 1 points were new\n')
    done = subprocess.run(
        [*command, '--experiment', 'nobody'], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert 'nobody' in done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize('has_rich', [True, False])
def test_a_terminal_sees_how_far_it_is(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_rich: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    monkeypatch.setattr(syncing, '_INTERVAL', 0.0)
    if not has_rich:
        monkeypatch.setitem(sys.modules, 'rich.progress', None)
    assert syncing.sync(source, str(tmp_path / 'target.db')) == 0
    shown = terminal.getvalue()
    assert ('all: 16 of 16 variables' in shown) != has_rich
    assert ('all: 100,020 points' in shown) == has_rich


def test_it_works_without_any_extra(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / 'target.db')
    assert without_extras.run(['sync', source, target, '--experiment', 'other']) == 0
    assert capsys.readouterr().out == 'other: 1 variables, 1 points were new\n'
    assert without_extras.run(['sync', source, source]) == 2
    assert 'same store' in capsys.readouterr().err
