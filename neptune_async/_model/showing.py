"""How texts are shown that somebody else may have written: names, paths, values, reasons.

What a terminal would obey (a line break, an escape, the ring), what turns the order of characters
round, and what is not seen at all, is escaped as Python does it: ``\\n``, ``\\x1b``, ``\\u202e``.
"""

from __future__ import annotations

import re

_UNSHOWN = (
    '\x00-\x1f\x7f-\x9f'  # control characters, C0 and C1
    '\u2028\u2029'  # the end of a line, and of a paragraph
    '\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069'  # which way characters go
    '\xad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f'  # unseen
    '\ud800-\udfff'  # lone surrogates, which no encoding has
)
_OF_A_LINE = re.compile(f'[{_UNSHOWN}]')
_OF_A_TEXT = re.compile(rf'[{_UNSHOWN}]|\\(?=[\\nrtxuU{_UNSHOWN}])')


def on_one_line(text: str) -> str:
    r"""Return a text for one line, in which no two texts are the same.

    A backslash is doubled where it would look like the beginning of such an escape.

    >>> print(on_one_line('a\x1b[31m'), on_one_line(r'a\x1b[31m'), on_one_line(r'\alpha'))
    a\x1b[31m a\\x1b[31m \alpha
    """
    return _OF_A_TEXT.sub(_escaped, text)


def shortened(value: object) -> str:
    """Return the beginning of the repr of a value, for an error."""
    try:
        text = repr(value)
    except Exception:  # a repr that fails, or an int too long for decimal digits
        return f'a value of type {type(value).__name__}'
    if '\n' in text:  # as that of an array
        text = ' '.join(map(str.strip, text.splitlines()))
    return text if len(text) <= 60 else f'{text[:57]}...'


def harmless(line: str) -> str:
    r"""Return a line of a message, in which texts may be that were escaped before.

    >>> print(harmless('no experiment ' + repr('a\n') + ': \x1b'))
    no experiment 'a\n': \x1b
    """
    return _OF_A_LINE.sub(_escaped, line)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode('unicode_escape').decode()
