"""Everything that has to hold before a change goes in.

``nox`` runs all of it, ``nox -l`` lists the sessions, and what follows ``--``
goes to pytest: ``nox -s tests-3.12 -- -k flush``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nox

nox.needs_version = '>=2025.2.9'
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = 'yes'

PYPROJECT = nox.project.load_toml('pyproject.toml')
PYTHONS = nox.project.python_versions(PYPROJECT)
THIS_PYTHON = '{}.{}'.format(*sys.version_info)

nox.options.sessions = ['lint', 'types', 'wheel', 'examples', 'coverage']
# On the Python that runs nox, coverage runs all of them.
nox.options.sessions += [f'tests-{python}' for python in PYTHONS if python != THIS_PYTHON]


def group(name: str) -> tuple[str, ...]:
    """Return what a dependency group of pyproject.toml installs."""
    return nox.project.dependency_groups(PYPROJECT, name)


def offer_every_pyenv_version() -> None:
    """Let pyenv's shims start each installed Python.

    By itself a shim such as ``python3.12`` is on the PATH, but runs only if that
    version was selected, and its session would be skipped.
    """
    if shutil.which('pyenv') is None:
        return
    listed = subprocess.run(
        ['pyenv', 'versions', '--bare'], stdout=subprocess.PIPE, text=True
    ).stdout.split()
    selected = os.environ.get('PYENV_VERSION', '').split(':')
    os.environ['PYENV_VERSION'] = ':'.join(filter(None, [*selected, *reversed(listed)]))


offer_every_pyenv_version()
os.environ['PIP_NO_COMPILE'] = '1'  # installing takes half the time: few modules are ever imported


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, and that imports go down the layers only."""
    session.install(*group('lint'))
    session.run('ruff', 'check')
    session.run('ruff', 'format', '--check')
    session.run('lint-imports')


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, and of a user's code that calls it."""
    session.install('-e', '.', *group('types'))
    session.run('mypy')


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the sdist and the wheel, and import the wheel in an empty environment.

    There is nothing there but the wheel and what it requires, not even pip: an
    import of anything else would fail.
    """
    session.install('build[virtualenv]')
    with TemporaryDirectory() as tmp:
        session.run('python', '-m', 'build', '--outdir', tmp)
        (built,) = Path(tmp).glob('*.whl')
        empty = Path(tmp, 'empty')
        session.run('virtualenv', '--quiet', '--without-pip', str(empty))
        session.run('python', '-m', 'pip', '--python', str(empty), 'install', str(built))
        check = (
            'import neptune_async; from importlib.resources import files; '
            'assert files(neptune_async).joinpath("py.typed").is_file(); '
            'print("imported", neptune_async.__version__)'
        )
        session.run(str(empty / 'bin' / 'python'), '-I', '-c', check, external=True)


@nox.session
def examples(session: nox.Session) -> None:
    """Train the example classifier twice into one store, with only its extra installed."""
    session.install('.[examples]')
    with TemporaryDirectory() as tmp:
        for _ in range(2):
            session.run('python', 'examples/train_digits.py', '--storage', f'{tmp}/experiments.db')


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests under coverage: of the branches, 95 % must have been taken."""
    session.install('-e', '.[examples]', *group('test'))
    session.run('coverage', 'erase')
    session.run('coverage', 'run', '-m', 'pytest', '-n', '3', *session.posargs)
    session.run('coverage', 'combine', '--quiet')
    session.run('coverage', 'report')


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on each Python, but for those that ``coverage`` alone runs by default, which
    take minutes: the ones that kill, fork and fill memory, and those on a PostgreSQL server.
    """
    session.install('-e', '.[examples]', *group('test'))
    options = session.posargs or ['--ignore', 'tests/faults', '-k', 'not postgres']
    session.run('pytest', '-n', '3', *options)


# It ends with the process that has started it, however that ends.
SPIN = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy with something else."""
    spin = [sys.executable, '-c', SPIN, str(os.getpid())]
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            # In a session of its own: a Ctrl-C goes to nox, which then ends it.
            spinning = stack.enter_context(subprocess.Popen(spin, start_new_session=True))
            stack.callback(spinning.kill)
        yield


@nox.session(default=False)
def tests_busy(session: nox.Session) -> None:
    """Run the tests while as many processes as there are cores do nothing but compute."""
    session.install('-e', '.[examples]', *group('test'))
    with busy_cores():
        session.run('pytest', '-n', '2', *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure floors and ourselves, write tests/benchmarks/results.md, draw growth.svg and
    growth_reading.svg.
    """
    session.install('-e', '.[postgres]', *group('bench'))
    session.run('python', '-m', 'tests.benchmarks', *session.posargs)


@nox.session(default=False)
def bench_peers(session: nox.Session) -> None:
    """The workloads that peers take part in, each peer in an environment of its own:
    results_peers.md.
    """
    session.install('-e', '.[postgres]', *group('bench'))
    workloads = [f'W{number}' for number in (1, 2, 3, 4, 5, 6, 8, 11, 16)]
    options = ['--output', 'tests/benchmarks/results_peers.md', '--workloads', *workloads]
    session.run('python', '-m', 'tests.benchmarks', '--peers', 'all', *options, *session.posargs)


@nox.session(default=False, python='3.11')
def fuzz(session: nox.Session) -> None:
    """Feed the decoders of chunks and spill files with bytes until told to stop, a minute if not.

    What follows ``--`` goes to libFuzzer: ``nox -s fuzz -- -max_total_time=600``.
    """
    session.install('-e', '.', *group('fuzz'))
    options = session.posargs or ['-max_total_time=60']
    session.run('python', 'tests/faults/fuzz.py', '-rss_limit_mb=2048', '-timeout=10', *options)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Inject every failure, with ten times the trials, and print the table."""
    session.install('-e', '.[examples]', *group('test'))
    env = {'NEPTUNE_ASYNC_TRIALS': '10'}
    options = ['-v', '-n', '2', '--timeout', '3000', '-m', 'failure']
    session.run('pytest', *options, 'tests', *session.posargs, env=env)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Ten minutes of kills, lock holders and full disks; ``-- --minutes 60 --seed 2`` for more."""
    session.install('-e', '.')
    session.run('python', '-m', 'tests.faults.soak', *session.posargs)
