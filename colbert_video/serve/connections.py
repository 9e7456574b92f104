"""Connections of uvicorn with the time limits that it has not: for the heads of requests, and for reading answers."""

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)
MIN_BYTES_PER_SECOND = 1000
"""A client that reads an answer more slowly is cut off."""


class Connection(H11Protocol):
    """One client."""

    header_seconds = 10.0
    """Time for a head from its first byte; for the first head, from the connection's start."""
    stall_seconds = 30.0
    """How often it is seen to that the client reads what waits for it. Closing the connection would wait for it too."""

    _head_alarm: asyncio.TimerHandle | None = None
    _reading_alarm: asyncio.TimerHandle | None = None
    _unread = 0
    """Bytes that waited for the client when last looked at."""
    _drained = True
    """True if the client has read nearly all since then."""

    def connection_made(self, transport: Any) -> None:
        """Start both clocks."""
        super().connection_made(transport)
        self._start_head_clock()
        self._start_reading_clock()

    def data_received(self, data: bytes) -> None:
        """Stop the clock of a head that is complete; start it with the first byte of the next."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_clock()  # a head was read, or the client is being turned away
        elif self._head_alarm is None:
            self._start_head_clock()

    def resume_writing(self) -> None:
        """Note that the client reads."""
        self._drained = True
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both clocks."""
        self._stop_head_clock()
        if self._reading_alarm is not None:
            self._reading_alarm.cancel()
        super().connection_lost(exc)

    def _check_reading(self) -> None:
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        least = min(MIN_BYTES_PER_SECOND * self.stall_seconds, before)
        if before and self._unread and not self._drained and before - self._unread < least:
            logger.info("a client does not read; its connection is cut")
            self.transport.abort()
            return
        self._drained = False
        self._start_reading_clock()

    def _start_reading_clock(self) -> None:
        self._reading_alarm = self.loop.call_later(self.stall_seconds, self._check_reading)

    def _start_head_clock(self) -> None:
        self._head_alarm = self.loop.call_later(self.header_seconds, self.transport.close)

    def _stop_head_clock(self) -> None:
        if self._head_alarm is not None:
            self._head_alarm.cancel()
            self._head_alarm = None


def connection_class(header_seconds: float, stall_seconds: float) -> type[Connection]:
    """Return a class of connections with these limits; uvicorn makes the connections."""
    return type("LimitedConnection", (Connection,), {"header_seconds": header_seconds, "stall_seconds": stall_seconds})
