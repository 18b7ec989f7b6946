"""``python -m neptune_async``: the command line."""

import sys

from neptune_async.cli import main

if __name__ == '__main__':
    sys.exit(main())
