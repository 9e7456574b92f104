"""Connections of slow clients: the head of a request must arrive in time."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def connection_class(header_seconds: float) -> type[H11Protocol]:
    """Connections of uvicorn with a time limit for heads, from the first byte; without one, from the connection's start.

    Args:
        header_seconds: The limit.
    """

    class Connection(H11Protocol):
        """One client."""

        _alarm: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wind_up()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop_clock()  # a head was read, or the client is being turned away
            elif self._alarm is None:
                self._wind_up()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_clock()
            super().connection_lost(exc)

        def _wind_up(self) -> None:
            self._alarm = self.loop.call_later(header_seconds, self.transport.close)

        def _stop_clock(self) -> None:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    return Connection
