"""Which store a URL or a path names."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from neptune_async._storage import registry
from neptune_async.exceptions import InvalidStorageError


def test_a_file_has_one_name_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = tmp_path / 'runs.db'
    names = ['runs.db', './runs.db', absolute, 'sqlite:///runs.db', f'sqlite:///{absolute}']
    assert {registry.resolve(name) for name in names} == {f'sqlite:///{os.path.realpath(absolute)}'}
    assert registry.create(registry.resolve('a b%20.db')).location == str(tmp_path / 'a b%20.db')
    resolved = registry.resolve('runs.db')
    assert registry.resolve(resolved) == resolved
    for name in (':memory:', 'sqlite:///:memory:', registry.MEMORY):
        assert registry.create(registry.resolve(name)).location == ':memory:'


def test_a_text_that_begins_with_a_tilde_is_below_a_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    expected = f'sqlite:///{os.path.realpath(tmp_path / "home/runs.db")}'
    assert registry.resolve('~/runs.db') == expected
    monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, '~/runs.db')
    assert registry.resolve(None) == expected
    literal = f'sqlite:///{os.path.realpath(tmp_path / "~/runs.db")}'
    for name in ('./~/runs.db', Path('~/runs.db'), 'sqlite:///~/runs.db', literal):
        assert registry.resolve(name) == literal


@pytest.mark.skipif(not hasattr(os, 'getuid'), reason='a system without a list of its users')
def test_a_tilde_may_name_a_user() -> None:
    import pwd

    user = pwd.getpwuid(os.getuid())
    expected = f'sqlite:///{os.path.realpath(user.pw_dir)}/runs.db'
    assert registry.resolve(f'~{user.pw_name}/runs.db') == expected


def test_the_environment_names_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(registry.ENVIRONMENT_VARIABLE, raising=False)
    assert registry.resolve(None).endswith('/.neptune_async/experiments.db')
    monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, str(tmp_path / 'other.db'))
    assert registry.resolve(None).endswith('/other.db')


@pytest.mark.parametrize('storage', ['', 'sqlite://', 'sqlite:///', 'a\0b', b'bytes', 7], ids=repr)
def test_what_names_no_store_is_refused(storage: Any) -> None:
    with pytest.raises(InvalidStorageError):
        registry.resolve(storage)


def test_a_url_with_a_password_is_refused_without_it() -> None:
    with pytest.raises(InvalidStorageError) as refused:
        registry.resolve('postgresql://ada:sesame@h/\0')
    assert 'sesame' not in str(refused.value)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(InvalidStorageError, match="'ftp'"):
        registry.create(registry.resolve('ftp://host/x'))


def test_an_entry_point_adds_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint('fake', 'builtins:str', registry.ENTRY_POINTS)
    monkeypatch.setattr(metadata, 'entry_points', lambda group: [entry])
    assert registry.create(registry.resolve('fake://host/x')) == 'fake://host/x'
