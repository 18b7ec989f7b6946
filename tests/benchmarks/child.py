"""Runs one stage of a workload on one system: ``child SYSTEM STAGE FOLDER SHARE [RESULT]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .peers import PEERS
from .systems import FLOORS, OURSELVES
from .workloads import STAGES, write_result

SYSTEMS = {system.name: system for system in [*FLOORS, *OURSELVES, *PEERS]}


def main(name: str, stage: str, folder: str, share: str, result: str = os.devnull) -> None:
    measured = STAGES[stage](SYSTEMS[name](), Path(folder), float(share))
    write_result(measured, Path(result))


if __name__ == '__main__':
    main(*sys.argv[1:])
