"""Whether gevent or eventlet has replaced the threads of Python, and when."""

from __future__ import annotations

import sys


def _patcher() -> str:
    """Return the library that has replaced threads; empty if none has."""
    gevent = sys.modules.get('gevent.monkey')
    if gevent is not None and gevent.is_module_patched('threading'):
        return 'gevent'
    eventlet = sys.modules.get('eventlet.patcher')
    if eventlet is not None and eventlet.is_monkey_patched('thread'):
        return 'eventlet'
    return ''


_AT_IMPORT = _patcher()


def late_patch() -> str:
    """Return what to say where threads were replaced after this library was imported; empty if
    they were not.

    Replaced before, they work. After that, libraries have the queues and locks of Python, and wait
    in them for what runs in the same thread now: for ever.
    """
    patcher = '' if _AT_IMPORT else _patcher()
    if not patcher:
        return ''
    return (
        f'{patcher} has replaced the threads of Python after neptune_async was imported, and no '
        'experiment can be opened, read or flushed then; patch first, before any other import '
        '(with gunicorn: without --preload, or by monkey.patch_all() at the top of its '
        'configuration); what is logged is kept in a spill file when the process ends'
    )
