"""A bare program, nothing of ours in it: appends numbered blocks, syncs each, says so. `bare_sync.py FILE DIARY`.

A number is in the diary, which lies on another file system, once the kernel has reported that its block is on the disk.
"""

import os
import sys

BLOCK = 4096
BLOCKS = 2048


def main(file: str, diary: str) -> None:
    """Write until killed, or until the disk fails."""
    said = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    blocks = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    directory = os.open(file.rpartition("/")[0], os.O_RDONLY)
    os.fsync(blocks)
    os.fsync(directory)
    for number in range(1, BLOCKS):
        os.pwrite(blocks, number.to_bytes(4, "little") * (BLOCK // 4), number * BLOCK)
        os.fdatasync(blocks)
        os.write(said, b"%d\n" % number)


if __name__ == "__main__":
    main(*sys.argv[1:])
