"""A signal handler waits for storage while the code that it interrupts does: nothing hangs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .harness import Ended, Store

Run = Callable[..., Ended]


# Coverage traces, too, and the worker waits for its lock while a handler has interrupted it.
pytestmark = pytest.mark.unmeasured

WAITS = """
    import asyncio, concurrent.futures, os, queue, selectors, sys, threading
    import anyio, trio
    from child import experiment, say, wait_for_storage
    import neptune_async
    from neptune_async import AsyncExperiment
    from neptune_async.exceptions import WorkerThreadError

    what, waits, face = sys.argv[1:]
    modules = threading, queue, concurrent.futures, selectors, neptune_async, asyncio, anyio, trio
    meant = [file.removesuffix('__init__.py') for file in map(lambda m: m.__file__, modules)]
    if face == 'sync':
        del meant[-3:]
    storage = os.environ['STORE']
    other = experiment('OTHER', flush_interval=0.002)
    other['loss'].log(-1)
    other.flush()
    other['texts'].log('open')
    logged = refused = 0
    seen = set()

    def handle():
        global logged, refused
        other['loss'].log(logged)
        logged += 1
        try:
            wait_for_storage(waits, other)
        except WorkerThreadError:
            refused += 1

    def handled_everywhere(call):
        '''Run a call, and a handler once at each line of its waiting that was not seen yet.'''

        def trace(frame, event, argument):
            code = frame.f_code
            if not code.co_filename.startswith(tuple(meant)):
                return None
            line = code, frame.f_lineno
            if event == 'line' and line not in seen:
                seen.add(line)
                sys.settrace(None)
                handle()
                sys.settrace(trace)
            return trace

        sys.settrace(trace)
        try:
            return call()
        finally:
            sys.settrace(None)

    def rounds(call):
        '''Call again and again, until there is no new line any more.'''
        n = 0
        while n < 100:
            before = len(seen)
            call(n)
            n += 1
            if n > 5 and len(seen) == before:
                break
        say('lines', len(seen))
        say('rounds', n)
        say('logged', logged)
        say('refused', refused)
"""


@pytest.mark.failure('F14', 'a signal handler waits for storage at each line of a wait, threads')
@pytest.mark.busy
@pytest.mark.parametrize('what', ['flush', 'read', 'follow', 'open', 'close', 'room'])
@pytest.mark.parametrize('waits', ['flush', 'read', 'open', 'list'])
def test_a_signal_handler_may_wait_where_the_synchronous_face_does(
    run: Run, store: Store, what: str, waits: str
) -> None:
    ended = run(
        WAITS
        + """
    exp = experiment(flush_interval=0.002, max_pending=2 if what == 'room' else 200_000)

    def wait(n):
        if what != 'open':
            exp['loss'].log(n)
        if what == 'close':
            # Of another store: its thread ends with it.
            one = experiment(storage=storage + '.one')
            one['loss'].log(n)
        handled_everywhere({
            'flush': exp.flush,
            'read': lambda: exp['loss'].tail(1),
            'follow': lambda: next(exp['loss'].follow(last=1)),
            'open': lambda: opened.append(experiment(storage=storage + '.one')),
            'close': lambda: one.close(),
            'room': lambda: exp['more'].extend(range(5)),
        }[what])
        while opened:
            opened.pop().close()

    opened = []
    rounds(wait)
    """,
        what,
        waits,
        'sync',
        limit=120,
    )

    assert len(ended.errors.splitlines()) == (1 if what == 'room' else 0)  # "log waits"
    store.tally.trials = ended.number('lines')
    assert ended.number('lines') > 5
    assert ended.number('refused') < ended.number('lines') == ended.number('logged')
    store.require('loss', range(-1, ended.number('logged')), 'OTHER')
    if what != 'open':
        store.require('loss', range(ended.number('rounds')))


@pytest.mark.failure(
    'F14', 'a signal handler waits for storage at each line of a wait, event loops'
)
@pytest.mark.parametrize(
    ('waits', 'beside'),
    [('flush', 'idle'), ('flush', 'busy'), ('open', 'idle')],
    indirect=['beside'],
)
@pytest.mark.parametrize('face', ['asyncio', 'trio'])
@pytest.mark.parametrize('what', ['flush', 'read', 'follow', 'drain', 'open', 'close'])
def test_a_signal_handler_may_wait_where_the_awaited_face_does(
    run: Run, store: Store, what: str, waits: str, face: str
) -> None:
    ended = run(
        WAITS
        + """
    async def wait(n):
        async with AsyncExperiment(
            'EXP', storage=storage, flush_interval=0.002, max_pending=2
        ) as exp:
            exp['loss'].log(n)
            if what == 'drain':
                exp['loss'].log(n + 0.5)
            another = exp
            if what == 'close':
                another = await AsyncExperiment.open('EXP', storage=storage + '.one')
                another['loss'].log(n)
            await {
                'flush': exp.flush,
                'read': lambda: exp['loss'].tail(1),
                'follow': lambda: anext(exp['loss'].follow(last=1)),
                'drain': exp.drain,
                'open': lambda: opened(n),
                'close': another.aclose,
            }[what]()

    async def opened(n):
        async with AsyncExperiment('EXP', storage=storage + '.one') as one:
            one['loss'].log(n)

    rounds(lambda n: handled_everywhere(lambda: anyio.run(wait, n, backend=face)))
    """,
        what,
        waits,
        face,
        limit=60,
    )

    assert ended.errors == ''
    store.tally.trials = ended.number('lines')
    assert ended.number('lines') > 100
    assert ended.number('refused') < ended.number('lines') == ended.number('logged')
    store.require('loss', range(-1, ended.number('logged')), 'OTHER')
    steps = [0.0, 0.5] if what == 'drain' else [0.0]
    store.require('loss', [n + step for n in range(ended.number('rounds')) for step in steps])
