"""``doctor`` on a store in PostgreSQL."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from postgres_server import PostgresServer, free_port, session

from neptune_async import Experiment
from neptune_async._storage.postgres import SCHEMA_VERSION, PostgresStorage

from .conftest import CommandLine

FLOATS = 'regular', 'irregular'
ALL = *FLOATS, 'texts'
NOT_ITS_SUMMARY = 'its summary is not that of its points'


@pytest.fixture
def url(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a store with a series in it."""
    monkeypatch.chdir(tmp_path)
    url = postgres.url()
    with Experiment('digits', storage=url, echo=False) as exp:
        exp['train/loss'].extend([0.5, 0.25, 0.125])
    return url


def found(run: CommandLine, url: str, code: int = 0) -> dict[str, str]:
    """Return what doctor finds, and what to do, by how bad it is."""
    examined = run('doctor', '--json', '--storage', url)
    assert examined.code == code, examined
    by_level: defaultdict[str, str] = defaultdict(str)
    for finding in examined.json['findings']:
        by_level[finding['level']] += f'{finding["what"]} → {finding["remedy"]}\n'
    return by_level


def spill(url: str) -> Path:
    """Leave a spill file for a store."""
    folder = PostgresStorage(url).spill_folder
    assert folder is not None
    folder.mkdir(parents=True)
    (folder / 'x.spill').write_bytes(b'')
    return folder / 'x.spill'


def test_doctor_tells_what_is_good_of_a_server(run: CommandLine, url: str) -> None:
    told = found(run, url)
    assert 'wrong' not in told
    for what in (
        'PostgreSQL ', 'the role may write to it', f'version {SCHEMA_VERSION}', ' MB of chunks',
        'all series have as many points', '1 rows of points are whole, 0 with summaries',
        'woken by the server', 'nothing was left behind',
    ):  # fmt: skip
        assert what in told['good']
    assert 'fsync is off' in told['note']  # the tests' server has no time for it
    assert all(len(line) <= 80 for line in run('doctor', '--storage', url).out.splitlines()[1:])


def test_doctor_tells_what_is_to_be_known_of_a_server(run: CommandLine, url: str) -> None:
    schema = url.partition('schema=')[2]
    with session(url) as asked:
        asked.execute(f"""
            DROP ROLE IF EXISTS onlooker;
            CREATE ROLE onlooker LOGIN;
            GRANT USAGE ON SCHEMA {schema} TO onlooker;
            GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO onlooker;
            INSERT INTO rejected (experiment_id, experiment, path, operation, count, reason)
            SELECT 1, 'digits', path, 'log', 7, 'a constraint'
            FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e', 'f', 'odd']) AS path;
        """)
        told = found(run, f'{url.replace("tests@", "onlooker@")}&synchronous_commit=off')['note']
        asked.execute('DROP OWNED BY onlooker; DROP ROLE onlooker')
    assert 'the role may only read → to log to it, GRANT' in told
    assert 'synchronous_commit is off' in told
    assert told.count('7 operations on ') == 5
    assert '2 more such rejections' in told


def test_doctor_writes_nothing_to_a_server(run: CommandLine, url: str) -> None:
    # The server would refuse it.
    told = found(run, f'{url}&default_transaction_read_only=on')
    assert 'the session is read-only' in told['note']
    assert 'wrong' not in told


def test_a_read_only_server_is_told_without_the_modes_of_a_program(
    run: CommandLine, url: str
) -> None:
    read_only = f'{url}&default_transaction_read_only=on'
    refused = run('delete', 'digits', '--yes', '--storage', read_only)
    assert refused.code == 2 and refused.err.endswith('a standby perhaps; name the primary\n')


def test_doctor_tells_what_a_server_has_lost(run: CommandLine, url: str) -> None:
    with Experiment('digits', storage=url, echo=False) as exp:
        exp['whole'].log(1.0)
        for n in range(7):
            exp[f'more/{n}'].log(1.0)
    with session(url) as asked:
        asked.execute('DELETE FROM chunks USING variables WHERE id = variable_id AND path <> '
                      "'whole'")  # fmt: skip
    told = found(run, url, 1)['wrong']
    assert 'more/0 of digits has 0 of 1 points' in told and 'restore the database' in told
    assert '3 more such faults' in told and 'whole' not in told.replace('what is whole', '')


def test_doctor_notes_a_server_that_does_not_check_what_it_reads(
    run: CommandLine, url: str
) -> None:
    told = found(run, url)
    with session(url) as asked:
        is_checked = asked.value('SHOW data_checksums') == 'on'
    # Which of both the tests' server does depends on its version.
    assert ('(data_checksums)' in told['good']) == is_checked
    assert ('data_checksums is off' in told['note']) != is_checked


DAMAGES = {
    'summary': ('summary = set_byte(summary, 20, 77)', ALL, NOT_ITS_SUMMARY),
    'no summary': ("summary = '\\x00'", ALL, NOT_ITS_SUMMARY),
    'steps': ('greatest_step = greatest_step + 1', ALL, NOT_ITS_SUMMARY),
    'times': ('least_time = NULL', ALL, NOT_ITS_SUMMARY),
    'values': ('"values" = array_replace("values", 7, -1)', FLOATS, NOT_ITS_SUMMARY),
    'count': ('"values" = "values"[2:]', FLOATS, 'it has 599 of 600 values'),
    'texts': ('texts[7] = NULL', ('texts',), 'it is no value'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_doctor_holds_what_a_server_keeps_of_points_against_them(
    run: CommandLine, url: str, damage: str
) -> None:
    with Experiment('digits', storage=url, echo=False) as exp:
        exp['regular'].extend(map(float, range(600)))
        exp['irregular'].extend(map(float, range(600)), steps=[n * n for n in range(600)])
        exp['texts'].extend(map(str, range(600)))
    assert '4 rows of points are whole, 3 with summaries' in found(run, url)['good']
    change, hurt, why = DAMAGES[damage]
    with session(url) as asked:
        asked.execute(f'UPDATE chunks SET {change} WHERE summary IS NOT NULL')
    told = found(run, url, 1)['wrong'].splitlines()
    for path in hurt:
        assert f'{path} of digits: the row at point 0: {why} → restore' in '\n'.join(told)
    assert len(told) == len(hurt)


@pytest.mark.parametrize('column', ['largest_step', 'last_time'])
def test_doctor_knows_where_a_series_stands(run: CommandLine, url: str, column: str) -> None:
    with session(url) as asked:
        asked.execute(f'UPDATE series SET {column} = 7')
    told = found(run, url, 1)['wrong']
    assert 'train/loss of digits: its last step or time is not that of its points' in told


@pytest.mark.parametrize(
    ('wrong', 'why'),
    [('/nowhere?', 'create the database'), ('guarded:wrong@', 'check user and password')],
)
def test_doctor_says_why_a_server_lets_nobody_in(
    run: CommandLine, url: str, wrong: str, why: str
) -> None:
    right = '/postgres?' if wrong.startswith('/') else 'tests@'
    refused = run('doctor', '--json', '--storage', url.replace(right, wrong))
    assert (refused.code, refused.out) == (2, '')
    assert why in refused.err and ':wrong' not in refused.err
    assert refused.err.count('\n') == 1


def test_doctor_makes_no_store_where_there_is_none(
    run: CommandLine, postgres: PostgresServer
) -> None:
    url = postgres.url()
    told = found(run, url, 1)['wrong']
    assert 'has no store' in told and 'log to it to make one' in told
    with session(url) as asked:
        schema = url.partition('schema=')[2]
        assert not asked.rows(f"SELECT FROM pg_namespace WHERE nspname = '{schema}'")


def test_doctor_tells_of_a_newer_schema(run: CommandLine, url: str) -> None:
    with session(url) as asked:
        asked.execute('UPDATE store SET version = $1', SCHEMA_VERSION + 1)
    assert 'upgrade neptune_async' in found(run, url, 1)['wrong']


def test_doctor_tells_what_waits_for_a_server_that_is_away(
    run: CommandLine, url: str, postgres: PostgresServer
) -> None:
    away = postgres.url(port=free_port())
    waiting = spill(away)
    told = found(run, away, 1)['wrong']
    assert str(waiting) in told and 'neptune-async recover' in told
    assert 'cannot be reached' in told
