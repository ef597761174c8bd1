"""Signed HTTP requests from Slack instead of a socket, for installations behind a load balancer."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from slack_bolt import App
from slack_bolt.adapter.starlette.handler import to_bolt_request, to_starlette_response
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.errors import Refused

log = logging.getLogger(__name__)

BODY_LIMIT = 1_000_000
FINISH_S = 3
"""What is not acknowledged by then is too late for Slack."""


def asgi(made: App) -> Starlette:
    """The ASGI application: POST /slack/events takes everything, GET /healthz tells that it lives."""

    async def events(request: Request) -> Response:
        body = b""
        async for part in request.stream():  # given up as soon as it is too large, signed or not
            body += part
            if len(body) > BODY_LIMIT:
                return PlainTextResponse("too large", status_code=413, headers={"connection": "close"})
        try:
            answered = await run_in_threadpool(made.dispatch, to_bolt_request(request, body))
        except (ValueError, TypeError, AttributeError, LookupError) as error:  # what Bolt cannot even parse
            log.warning("a request that cannot be read: %s", type(error).__name__)
            return PlainTextResponse("not understood", status_code=400)
        return to_starlette_response(answered)

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/slack/events", events, methods=["POST"]), Route("/healthz", alive)])


@contextmanager
def serving(made: App, host: str, port: int) -> Iterator[None]:
    """Serves until the end of the block.

    Raises:
        Refused: where the port cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise Refused(f"{host}:{port} cannot be listened on ({error}). Choose with --host and --port.") from error
    config = uvicorn.Config(asgi(made), log_config=None, access_log=False, timeout_graceful_shutdown=FINISH_S)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(FINISH_S + 1)
