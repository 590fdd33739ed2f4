"""One service's journal with its history kept beside it: write a draft, and the history follows."""

from __future__ import annotations

import anyio

from warmd.core import history as h
from warmd.core.history import History
from warmd.core.journal import Draft
from warmd.errors import JournalError
from warmd.ports import JournalStore


class Ledger:
    """``history`` is always what the journal on disk amounts to. One writer a service."""

    def __init__(self, store: JournalStore, service: str) -> None:
        self.service = service
        self.history = History()
        self._store = store
        self._token = 0
        self._loaded = False
        self._writing = anyio.Lock()

    async def load(self) -> History:
        """Read the journal once; later calls return what is kept. Raises JournalError."""
        async with self._writing:
            if not self._loaded:
                records, self._token = await self._store.load(self.service)
                self.history = h.fold(records)
                self._loaded = True
        return self.history

    async def write(self, draft: Draft) -> History:
        """Append durably, then fold. Not interrupted half-way by a cancellation. After a JournalError the
        next ``load`` reads anew: what is kept may not be what lies there."""
        with anyio.CancelScope(shield=True):
            async with self._writing:
                try:
                    record, self._token = await self._store.append(self.service, draft, expected=self._token)
                except JournalError:
                    self._loaded = False
                    raise
                self.history = h.step(self.history, record)
        return self.history
