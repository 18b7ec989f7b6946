"""``delete``, ``recover``, ``doctor`` and ``completion``, and the program around the verbs."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from postgres_server import session

import neptune_async
from neptune_async import Experiment, File, list_experiments
from neptune_async.cli import main
from neptune_async.exceptions import StorageError

from .conftest import CommandLine, digests, lose


def test_delete_asks_first(run: CommandLine, store: Path) -> None:
    refused = run('delete', 'digits-2')
    assert refused.code == 2 and '--yes' in refused.err
    assert run('delete', 'digits1', '--yes').code == 2
    assert list_experiments(store) == ['digits-1', 'digits-2']

    assert run('delete', 'digits-1', 'params', '--yes').code == 0
    left = run('show', 'digits-1', '--json').json['variables']
    assert [v['path'] for v in left] == ['events', 'made', 'tags', 'train/loss']
    unknown = run('delete', 'digits-1', 'tag', '--yes')
    assert unknown.code == 2 and "did you mean 'tags'" in unknown.err
    assert run('delete', 'digits-2', '--yes').code == 0
    assert list_experiments(store) == ['digits-1']


@pytest.mark.parametrize('kind', ['sqlite', 'postgres'])
def test_who_logs_to_an_experiment_that_another_process_deletes_is_told_once(
    run: CommandLine, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    url = run.folder / 'runs.db'
    if kind == 'postgres':
        url = request.getfixturevalue('postgres').url()
    with Experiment('digits', storage=url, echo=False) as exp:
        exp['loss'].extend([0.5, 0.25])
        exp['lr'].assign(0.1)
        exp.flush()
        assert run('delete', 'digits', '--yes', '--storage', url).code == 0
        for value in (1.0, 2.0):
            exp['loss'].log(value)
            exp.flush()
        exp['lr'].assign(0.2)
        assert exp['loss'].all() == [1.0, 2.0]
    told = [record.getMessage() for record in caplog.records if 'deleted' in record.message]
    (warning,) = told
    assert "'digits' was deleted by another process; it goes on anew" in warning
    assert 'warning in its log' in run('delete', '--help').out


def test_delete_makes_no_store(run: CommandLine) -> None:
    assert run('delete', 'a', '--storage', 'new/runs.db', '--yes').code == 2
    assert not (run.folder / 'new').exists()


def test_what_is_read_only_is_told_without_the_modes_of_a_program(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Root, as whom tests may run, can write to every file.
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    assert main(['delete', 'digits-2', '--yes', '--storage', str(store)]) == 2
    told = capsys.readouterr().err
    assert 'it is read-only; name another file, or make it writable' in told
    with pytest.raises(StorageError, match="read-only; open it with mode='read'"):
        Experiment('digits-2', storage=store)


def test_doctor_finds_a_whole_store_well(run: CommandLine, store: Path) -> None:
    examined = run('doctor', '--json')
    assert examined.code == 0
    assert examined.json['storage'] == str(store)
    findings = {f['what']: f['level'] for f in examined.json['findings']}
    assert findings["SQLite's integrity check finds nothing"] == 'good'
    assert 'wrong' not in findings.values()
    assert all(len(line) <= 80 for line in run('doctor').out.splitlines()[1:])


def test_doctor_says_what_is_wrong_and_what_to_do(run: CommandLine, store: Path) -> None:
    with sqlite3.connect(store) as connection:
        connection.execute('UPDATE chunks SET "values" = zeroblob(length("values"))')
    connection.close()
    (spilled := Path(f'{store}.spilled')).mkdir()
    (spilled / 'x.spill').write_bytes(b'')

    examined = run('doctor', '--json')
    assert examined.code == 1
    wrong = [f for f in examined.json['findings'] if f['level'] == 'wrong']
    assert any('the chunk of variable' in f['what'] for f in wrong)
    assert any('x.spill' in f['what'] and 'recover' in f['remedy'] for f in wrong)
    assert all(f['remedy'] for f in wrong)

    foreign = run.folder / 'notes.txt'
    foreign.write_text('no store at all')
    refused = run('doctor', '--json', '--storage', foreign)
    assert refused.code == 1
    assert 'no SQLite file' in refused.out
    assert run('doctor', '--storage', 'missing.db').code == 2


@pytest.mark.parametrize('kind', ['sqlite', 'postgres'])
def test_doctor_tells_of_the_contents_of_files(
    run: CommandLine, request: pytest.FixtureRequest, kind: str
) -> None:
    url = run.folder / 'runs.db'
    if kind == 'postgres':
        url = request.getfixturevalue('postgres').url()

    def found(code: int) -> dict[str, list[str]]:
        examined = run('doctor', '--json', '--storage', url)
        assert examined.code == code, examined
        findings = examined.json['findings']
        assert all(f['remedy'] for f in findings if f['level'] != 'good')
        return {
            level: [f['what'] for f in findings if f['level'] == level]
            for level in ('good', 'note', 'wrong')
        }

    contents = {'small': b'small', 'large': bytes(1_500_000), 'empty': b'', 'other': b'other'}
    with Experiment('digits', storage=url, echo=False) as exp:
        for name, content in contents.items():
            exp['files'].log(File(content, name=name))
        exp['model'].assign(File(b'first', name='first'))
        exp['model'].assign(File(b'second'))
    told = found(0)
    assert '6 contents of files (1,500,021 bytes) are whole' in told['good']
    assert 'nothing refers to 1 contents (5 bytes) of files' in told['note']
    assert run('clean', '--storage', url).code == 0
    told = found(0)
    assert '5 contents of files (1,500,016 bytes) are whole' in told['good']
    assert 'there are no contents of files that nothing refers to' in told['good']

    spoil(url, {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()})
    told = found(1)
    assert '2 contents of files (6 bytes) are whole' in told['good']  # of no bytes, and the second
    wrong = sorted(what for what in told['wrong'] if 'SHA-256' in what)
    assert [what.partition(' (')[0] for what in wrong] == [
        "the file 'large'", "the file 'other'", "the file 'small'"
    ]  # fmt: skip
    assert ' has 1,' in wrong[0] or 'cannot be read' in wrong[0]
    assert 'is another than was stored' in wrong[1] and 'is not there' in wrong[2]


def spoil(url: object, hashes: dict[str, str]) -> None:
    """Take a row away, change a content, and take a piece, or the file, of a large one away."""
    path = Path(str(url))
    changed = "UPDATE {} SET content = CAST('OTHER' AS {}) WHERE sha256 = {}"
    if str(url).startswith('postgresql'):
        with session(str(url)) as asked:
            at = {name: f"'\\x{sha256}'" for name, sha256 in hashes.items()}
            asked.execute(f'DELETE FROM files WHERE sha256 = {at["small"]}')
            asked.execute(changed.format('file_pieces', 'bytea', at['other']))
            asked.execute(f'DELETE FROM file_pieces WHERE sha256 = {at["large"]} AND number = 1')
        return
    at = {name: f"x'{sha256}'" for name, sha256 in hashes.items()}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f'DELETE FROM files WHERE sha256 = {at["small"]}')
        connection.execute(changed.format('files', 'blob', at['other']))
    (path.with_name(f'{path.name}.files') / hashes['large'][:2] / hashes['large']).unlink()


def test_clean_removes_what_nothing_refers_to(run: CommandLine, store: Path) -> None:
    with Experiment('digits-1', storage=store, echo=False) as exp:
        exp['model'].assign(File(bytes(100_000)))
        exp['other'].assign(File(b'kept'))
        exp.flush()
        exp['model'].delete()
    (spilled := Path(f'{store}.spilled')).mkdir(exist_ok=True)
    (spilled / 'x.staged').write_bytes(b'12345')
    os.utime(spilled / 'x.staged', (1, 1))
    before = digests(store.parent)

    told = run('clean', '--dry-run')
    assert (told.code, told.err) == (0, '')
    assert told.out.splitlines() == [
        'would remove 1 contents (100,000 bytes) that nothing refers to',
        'would remove 1 copies (5 bytes) that processes have left',
    ]
    assert digests(store.parent) == before and (spilled / 'x.staged').exists()
    assert run('clean', '--dry-run', '--json').json == {
        'storage': str(store),
        'dry_run': True,
        'contents': {'count': 1, 'bytes': 100_000},
        'copies': {'count': 1, 'bytes': 5},
    }
    assert run('clean').out.splitlines() == [
        'removed 1 contents (100,000 bytes) that nothing refers to',
        'removed 1 copies (5 bytes) that processes have left',
    ]
    assert run('clean', '--json').json['contents'] == {'count': 0, 'bytes': 0}
    assert not [path for path in Path(f'{store}.files').rglob('*') if path.is_file()]
    assert not (spilled / 'x.staged').exists()
    with Experiment('digits-1', storage=store, mode='read') as exp:
        assert exp['other'].read().bytes() == b'kept'


def test_clean_makes_no_store_and_leaves_a_damaged_one(run: CommandLine, store: Path) -> None:
    missing = run('clean', '--storage', 'missing.db')
    assert missing.code == 2 and not (run.folder / 'missing.db').exists()
    with Experiment('digits-1', storage=store, echo=False) as exp:
        exp['model'].assign(File(bytes(100_000)))
        exp['model'].assign(1)
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE atoms SET value = x'32' WHERE value = x'31'")
    refused = run('clean')
    assert refused.code == 2 and 'nothing was removed' in refused.err
    assert [path for path in Path(f'{store}.files').rglob('*') if path.is_file()]


def test_help_tells_verbs_options_and_exit_codes(run: CommandLine) -> None:
    for arguments in (['--help'], ['list', '-h'], ['import', '--help']):
        told = run(*arguments)
        assert told.code == 0 and 'Exit codes: 0' in told.out
    assert run('--version').out.split()[-1] == neptune_async.__version__
    nothing = run()
    assert nothing.code == 2 and 'Commands:' in nothing.out


def test_a_shell_completes_verbs_names_and_paths(run: CommandLine, store: Path) -> None:
    assert '_NEPTUNE_ASYNC_COMPLETE' in run('completion', 'bash').out

    def offered(words: str) -> list[str]:
        env = {'COMP_WORDS': words, 'COMP_CWORD': str(len(words.split()) - 1)}
        done = run(**env, _NEPTUNE_ASYNC_COMPLETE='bash_complete')
        return [line.partition(',')[2] for line in done.out.splitlines()]

    assert offered('neptune-async sh') == ['show']
    assert offered('neptune-async show dig') == ['digits-1', 'digits-2']
    assert offered('neptune-async tail digits-1 params/o') == ['params/optimizer/name']
    assert offered('neptune-async compare -p params/o') == ['params/optimizer/name']
    assert offered('neptune-async plot d') == ['digits-1', 'digits-2']
    assert offered('neptune-async plot digits-* t') == ['tags', 'train/loss']


def test_without_the_extra_only_recover_works(run: CommandLine, store: Path) -> None:
    blocked = run.folder / 'blocked' / 'click'
    blocked.mkdir(parents=True)
    (blocked / '__init__.py').write_text('raise ModuleNotFoundError(name="click")')
    env = {'PYTHONPATH': str(blocked.parent)}
    for arguments in (['list'], [], ['--help']):
        refused = run(*arguments, **env)
        assert (refused.code, refused.out) == (2, '')
        assert "pip install 'neptune-async[cli]'" in refused.err
        assert refused.err.count('\n') == 1
    recovered = run('recover', **env)
    assert (recovered.code, recovered.err) == (0, '')
    assert recovered.out == f'nothing was left behind beside {store}\n'
    assert run('recover').out == recovered.out
    assert run('recover', '--storage', 'missing.db', **env).code == 2
    assert run('sync', '--help', **env).code == 0
    assert run('sync', 'one.db', **env).code == 2
    buffered = {'PYTHONUNBUFFERED': ''}  # else argparse itself meets the error, and hides it
    with run.start('sync', '--help', **env, **buffered) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == ('', 141)


def test_doctor_names_the_experiments_that_are_lost(run: CommandLine, store: Path) -> None:
    for number in range(7):
        lose(run, f'lost-{number}')
    examined = run('doctor', '--json')
    assert examined.code == 0
    notes = [f for f in examined.json['findings'] if 'lost' in f['what'] and f['level'] == 'note']
    assert ["'lost-6'" in notes[0]['what'], "'lost-2'" in notes[4]['what']] == [True, True]
    assert notes[0]['what'].startswith("experiment 'lost-6' is lost: process ")
    assert notes[5]['what'] == '2 more experiments are lost' and len(notes) == 6
    for number in range(7):
        Experiment(f'lost-{number}', storage=store, echo=False).close()
    assert not [f for f in run('doctor', '--json').json['findings'] if 'lost' in f['what']]
