"""What the URL of a PostgreSQL store says: where it is, and how to connect to it.

asyncpg reads a URL as libpq does, with the environment variables and files that libpq
reads (``PGHOST``, ``PGPASSWORD``, ``~/.pgpass``, ``PGSSLMODE``, ...); what it does not know it
gives to the server as a setting. Here is what libpq knows beyond that.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from neptune_async.exceptions import InvalidStorageError

DEFAULT_SCHEMA = 'neptune_async'
CONNECT_TIMEOUT = 10.0
"""Seconds that a server has to answer, unless ``connect_timeout`` says otherwise."""
COMMAND_TIMEOUT = 60.0
"""Seconds that a statement may take, unless ``command_timeout`` says otherwise: a connection that
is cut without a word is given up then."""

_SECRET = ('password', 'sslpassword')
_SCHEMA_NAME = re.compile('[A-Za-z_][A-Za-z0-9_]{0,62}')
_SOCKET_OPTIONS = (
    'keepalives', 'keepalives_idle', 'keepalives_interval', 'keepalives_count', 'tcp_user_timeout',
)  # fmt: skip
"""What libpq does to notice a dead connection; here ``command_timeout`` does that."""
_WITHOUT_EFFECT = {'gssencmode': ('disable', 'prefer'), 'channel_binding': ('disable', 'prefer')}
"""What asyncpg never does, and the values that are content with that."""

_SETTINGS = {
    'application_name': 'neptune_async',
    # A batch that waited for another one is to see what that has stored.
    'default_transaction_isolation': 'read committed',
    # A statement that waits for longer is tried again, which is reported.
    'lock_timeout': '10s',
    # The server lets go of a transaction whose client has vanished.
    'idle_in_transaction_session_timeout': '60s',
}
_FROM_ENVIRONMENT = {'PGAPPNAME': 'application_name', 'PGOPTIONS': 'options'}


@dataclass(frozen=True, slots=True)
class Address:
    """A store in a PostgreSQL database.

    :ivar location: the URL without passwords.
    :ivar schema: the schema that holds the store's tables.
    :ivar spill_folder: where to keep what could not be stored: one a server, database and schema.
    :ivar url: what asyncpg is given, with the password if there was one.
    :ivar settings: what the server is told to set for the session.
    """

    location: str
    schema: str
    spill_folder: Path
    url: str = field(repr=False)
    settings: Mapping[str, str]
    connect_timeout: float
    command_timeout: float


def parsed(url: str) -> Address:
    """Return what a URL says.

    :raises InvalidStorageError: when it is not understood.
    """
    location = without_password(url)
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, strict_parsing=True, keep_blank_values=True))
    except ValueError:
        # What it quotes may be a part of a password.
        raise _refused(
            location, 'it is no URL, or what follows the question mark is not name=value&...'
        ) from None
    schema = query.pop('schema', DEFAULT_SCHEMA)
    if not _SCHEMA_NAME.fullmatch(schema):
        raise _refused(location, f'schema={schema!r} is no plain name')
    for option in _SOCKET_OPTIONS:
        query.pop(option, None)
    for option, accepted in _WITHOUT_EFFECT.items():
        wanted = query.pop(option, 'prefer')
        if wanted not in accepted:
            raise _refused(location, f'{option}={wanted} is not supported')
    connect_timeout = _seconds(
        location, 'connect_timeout', query.pop('connect_timeout', None)
        or os.environ.get('PGCONNECT_TIMEOUT'), CONNECT_TIMEOUT,
    )  # fmt: skip
    command_timeout = _seconds(
        location, 'command_timeout', query.pop('command_timeout', None), COMMAND_TIMEOUT
    )
    settings = _taken_settings(query)
    return Address(
        location=location,
        schema=schema,
        spill_folder=_spill_folder(location, query, schema),
        url=parts._replace(scheme='postgresql', query=urlencode(query, quote_via=quote)).geturl(),
        settings={**settings, 'search_path': schema},
        connect_timeout=connect_timeout,
        command_timeout=command_timeout,
    )


def _taken_settings(query: dict[str, str]) -> dict[str, str]:
    """Take what a session is to be set to out of a query; the environment says the rest."""
    inherited = {
        setting: os.environ[variable]
        for variable, setting in _FROM_ENVIRONMENT.items()
        if os.environ.get(variable)
    }
    settings = {**_SETTINGS, **inherited}
    return {setting: query.pop(setting, value) for setting, value in settings.items()}


def without_password(url: str) -> str:
    """Return a URL, however it is broken, without the passwords in it."""
    whole = url.partition('://')[2]
    rest, mark, query = whole.partition('?')
    credentials, at, server = rest.rpartition('@')
    if not at and '@' in query:
        # Perhaps a password with a mark in it that should have been quoted.
        credentials, at, server = whole.rpartition('@')
        server, mark, query = server.partition('?')
    user = credentials.partition(':')[0]
    shown = '&'.join(
        option for option in query.split('&') if option.partition('=')[0].lower() not in _SECRET
    )
    return f'postgresql://{user}{at}{server}{mark if shown else ""}{shown}'


def _spill_folder(location: str, query: Mapping[str, str], schema: str) -> Path:
    environment = os.environ.get
    place = location.removeprefix('postgresql://').partition('?')[0].rpartition('@')[2]
    server, _, database = place.partition('/')
    host = query.get('host') or environment('PGHOST') or 'localhost'
    port = query.get('port') or environment('PGPORT') or '5432'
    database = unquote(database) or query.get('dbname') or environment('PGDATABASE') or ''
    readable = re.sub('[^A-Za-z0-9.]+', '-', f'{server or host} {database}').strip('-')[:80]
    where = repr((server or (host, port), database, schema))
    digest = hashlib.sha256(where.encode()).hexdigest()[:8]
    return Path('.neptune_async', f'{readable}-{digest}.spilled').absolute()


def _seconds(location: str, option: str, given: str | None, default: float) -> float:
    if given is None:
        return default
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise _refused(location, f'{option} must be a number of seconds, not {given!r}')
    return seconds or 1e9  # libpq's zero is for ever


def _refused(location: str, why: str) -> InvalidStorageError:
    return InvalidStorageError(
        f'{location} is not understood: {why}; write postgresql://user@host:5432/database'
    )
