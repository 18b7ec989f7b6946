"""What the system tells of files: which they are, and whether machines share where they are."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TypeAlias

Identity: TypeAlias = tuple[int, int]

_NAMES = {
    0x6969: 'NFS',
    0xFF534D42: 'CIFS',
    0xFE534D42: 'SMB',
    0x517B: 'SMB',
    0x01021997: '9P',
    0x65735546: 'FUSE',
    0x0BD00BD0: 'Lustre',
    0x00C36400: 'Ceph',
    0x5346414F: 'AFS',
    0x6B414653: 'AFS',
    0x47504653: 'GPFS',
    0x19830326: 'BeeGFS',
    0x20030528: 'OrangeFS',
    0x73757245: 'Coda',
    0x786F4256: 'VirtualBox shared folder',
    0xAAD7AAEA: 'PanFS',
    0x013111A8: 'IBRIX',
    0x7461636F: 'OCFS2',
    0x01161970: 'GFS2',
}
"""What Linux's statfs(2) says of each, in ``f_type``."""


def network_file_system(folder: Path) -> str | None:
    """Return the name of the network file system that a folder is on.

    :returns: None for a local one, and where the system does not tell: it does on
        Linux, on machines of little-endian order.
    """
    if not sys.platform.startswith('linux') or sys.byteorder == 'big':
        return None
    # f_type comes first, and no statfs is as long as this.
    found = (ctypes.c_uint32 * 256)()
    if ctypes.CDLL(None).statfs(os.fsencode(folder), found) != 0:
        return None
    return _NAMES.get(found[0])


def identity(path: Path) -> Identity | None:
    """Return what tells a file from all others, whatever its name is; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
