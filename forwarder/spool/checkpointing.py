"""Checkpointing: when acks are folded into a checkpoint. The loop owns it; the writer thread writes the files."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from forwarder.core.spool.checkpoint import Checkpoint
from forwarder.core.spool.journal import RECORD_SIZE, Ack
from forwarder.core.spool.segment import Extent
from forwarder.spool.checkpoint_file import AckJournal, JournalFile, Keeper, Saved
from forwarder.spool.writer import Writer

_SHARE = 4
"""A checkpoint that takes long (many intervals, a slow disk) is followed by a pause at least so many times as long.

What is resolved meanwhile is what a power cut may send twice, so this stretches the interval only where a checkpoint
takes more than a quarter of it.
"""
_TROUBLE_PAUSE_S = 5.0


class Checkpointing:
    """Saves the state `interval_s` after it changed, or at once when asked; one at a time."""

    def __init__(
        self,
        *,
        keeper: Keeper,
        journal: AckJournal,
        spare: JournalFile | None,
        writer: Writer,
        interval_s: float,
        state: Callable[[int], Checkpoint],
        drained: Callable[[], list[Extent]],
        on_saved: Callable[[Saved], None],
        post: Callable[..., object],
    ) -> None:
        self._keeper = keeper
        self._journal = journal
        self._generation = spare.generation - 1 if spare else 0
        self._spare = spare
        self._writer = writer
        self.interval_s = interval_s
        self._state = state
        self._drained = drained
        self._on_saved = on_saved
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._running = False
        self._changed = False
        self._urgent = False
        self._waiting: list[asyncio.Future[Saved]] = []
        self._started = 0.0
        self._closed = False

    def ended(self, acks: Sequence[Ack]) -> None:
        """Journal what has just ended."""
        self._journal.write(acks)
        self.changed()

    def changed(self) -> None:
        """See to it that the state is saved before long."""
        self._changed = True
        if self._timer is None and not self._running and not self._closed:
            self._timer = self._loop.call_later(self.interval_s, self._save)

    def soon(self) -> None:
        """See to it that the state is saved now: space depends on it."""
        self._changed = True
        if self._running:
            self._urgent = True
        else:
            self._save()

    def quiet(self) -> None:
        """Save only when asked from now on."""
        self._closed = True

    async def now(self) -> Saved:
        """Save the state as it is now; return when that is done."""
        saved: asyncio.Future[Saved] = self._loop.create_future()
        self._waiting.append(saved)
        self._changed = True
        if not self._running:
            self._save()
        return await saved

    def _save(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._running, self._changed, self._urgent = True, False, False
        self._started = self._loop.time()
        old = None
        if self._spare is not None:
            self._generation = self._spare.generation
            old, self._spare = self._journal.switch(self._spare), None
        job = partial(self._keeper.save, self._state(self._generation), old, self._drained(), self._spare)
        waiting, self._waiting = self._waiting, []

        def run() -> None:
            self._post(self._finish, job(), waiting)

        self._writer.submit(run)

    def _finish(self, saved: Saved, waiting: list[asyncio.Future[Saved]]) -> None:
        self._running = False
        self._spare = saved.spare
        self._on_saved(saved)
        for future in waiting:
            if not future.done():
                future.set_result(saved)
        if self._waiting or (self._urgent and not saved.error):
            self._save()
        elif (self._changed or saved.error) and not self._closed:
            pause = _SHARE * (self._loop.time() - self._started)
            pause = max(self.interval_s, pause, _TROUBLE_PAUSE_S if saved.error else 0.0)
            self._timer = self._loop.call_later(pause, self._save)

    @property
    def journal_bytes(self) -> int:
        """Return the size of the journals on disk, the spare one included."""
        return self._journal.size + (RECORD_SIZE if self._spare else 0)

    def close(self) -> None:
        """Stop the timer and close the journals."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._journal.close()
        if self._spare is not None:
            self._journal.switch(self._spare)
            self._journal.close()
