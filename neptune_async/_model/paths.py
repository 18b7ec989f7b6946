"""The grammar of paths and of experiment names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from neptune_async._model.showing import shortened
from neptune_async.exceptions import InvalidNameError, InvalidPathError

MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 256

# C0 and C1 control characters break terminals and logs, a lone surrogate has no UTF-8 form.
_REFUSED = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff]')


def normalise(path: object) -> str:
    """Return the path with leading, trailing and doubled slashes left out.

    :raises InvalidPathError: for what is not a str, or has no segment, a
        control character, a lone surrogate or over 1,024 bytes of UTF-8.
    """
    if not isinstance(path, str):
        raise InvalidPathError(
            f'a path must be a str, not {type(path).__name__}: {shortened(path)}; '
            "write the segments as 'a/b'"
        )
    # The str that a subclass is: an enum would format as its own name.
    path = str.__str__(path)
    normal = '/'.join([segment for segment in path.split('/') if segment])
    if normal == path:
        normal = path  # one object in memory, not two
    if not normal:
        raise InvalidPathError(f'a path needs at least one segment: {path!r}; name a variable')
    _refuse_characters('path', normal, InvalidPathError)
    _refuse_length('path', normal, MAX_PATH_BYTES, InvalidPathError)
    return normal


def checked_name(name: object) -> str:
    """Return an experiment's name as it is.

    :raises InvalidNameError: for what is not a str, is empty, or has a control
        character, a lone surrogate or over 256 bytes of UTF-8.
    """
    if not isinstance(name, str):
        raise InvalidNameError(
            f"an experiment's name must be a str, not {type(name).__name__}: {shortened(name)}"
        )
    if not name:
        raise InvalidNameError("an experiment's name is empty; leave it out to have one made")
    _refuse_characters('name', name, InvalidNameError)
    _refuse_length('name', name, MAX_NAME_BYTES, InvalidNameError)
    return str.__str__(name)


def namespaces_of(path: str) -> Iterator[str]:
    """Yield the namespaces that a path lies in, the innermost first."""
    parent = path.rpartition('/')[0]
    while parent:
        yield parent
        parent = parent.rpartition('/')[0]


def is_at_or_below(path: str, above: str) -> bool:
    """Whether a path is another one or below it; all are below the empty one."""
    return not above or path == above or path.startswith(f'{above}/')


def _refuse_characters(kind: str, text: str, error: type[Exception]) -> None:
    found = _REFUSED.search(text)
    if found:
        what = 'a lone surrogate' if found[0] >= '\ud800' else 'a control character'
        raise error(f'the {kind} holds {what}, {found[0]!r}: {shortened(text)}; leave it out')


def _refuse_length(kind: str, text: str, limit: int, error: type[Exception]) -> None:
    length = len(text.encode())
    if length > limit:
        raise error(
            f'the {kind} has {length:,} bytes of UTF-8, the limit is {limit:,}: {shortened(text)}; '
            'shorten it'
        )
