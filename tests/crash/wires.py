"""A wire between the bot and a server, which can be cut, go dead, or end at something that answers 503."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

State = Literal["whole", "cut", "dead", "503"]
"""`cut` refuses and closes, as a server does that is not there; `dead` takes everything and never says a word."""
BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Wire:
    """Passes on what either side says, as long as it is whole."""

    def __init__(self, reach: Callable[[], socket.socket]) -> None:
        self._reach = reach
        self._state: State = "whole"
        self._held: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def becomes(self, state: State) -> None:
        """From now on; what is open is closed, unless the wire goes dead."""
        self._state = state
        for one in [] if state == "dead" else list(self._held):
            _shut(one)

    def end(self) -> None:
        """Closes everything."""
        _shut(self._listener)
        self._listener.close()
        self.becomes("cut")

    def _accept(self) -> None:
        while True:
            try:
                bot, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(bot,), daemon=True).start()

    def _converse(self, bot: socket.socket) -> None:
        self._held.add(bot)
        try:
            with bot:
                if self._state == "whole":
                    with self._reach() as server:
                        self._pass_on(bot, server)
                elif self._state == "503":
                    bot.recv(1 << 16)
                    bot.sendall(BROKEN)
                elif self._state == "dead":
                    while bot.recv(1 << 16):
                        pass
        except OSError:
            return
        finally:
            self._held.discard(bot)

    def _pass_on(self, bot: socket.socket, server: socket.socket) -> None:
        other = {bot: server, server: bot}
        while True:
            for one in select.select([bot, server], [], [])[0]:
                received = one.recv(1 << 16)
                if not received:
                    return
                if self._state == "whole":
                    other[one].sendall(received)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(reach: Callable[[], socket.socket]) -> Iterator[Wire]:
    """A wire for as long as the block lasts."""
    made = Wire(reach)
    try:
        yield made
    finally:
        made.end()
