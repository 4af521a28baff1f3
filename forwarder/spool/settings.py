"""What of the configuration concerns one spool."""

from typing import Literal

import msgspec

_MIB = 1024 * 1024
_LEAST_SEGMENT = 16 * 1024
_SEGMENTS = 8
"""A spool is made of at least so many segments, so that trimming and eviction work in small steps."""


class SpoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, durations in seconds."""

    segment_size: int = 64 * _MIB
    max_size: int = 1024 * _MIB
    durability: Literal["fsync", "written", "memory"] = "fsync"
    checkpoint_interval: float = 1.0
    when_full: Literal["refuse", "evict_oldest"] = "refuse"

    @property
    def effective_segment_size(self) -> int:
        """Return the size at which a segment is sealed: smaller than asked for where the spool itself is small."""
        return max(_LEAST_SEGMENT, min(self.segment_size, self.max_size // _SEGMENTS))
