"""Signed HTTP requests from Slack instead of a socket, for installations behind a load balancer."""

from __future__ import annotations

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

BODY_LIMIT = 1_000_000
START_S = 10


def asgi(made: App) -> Starlette:
    """The ASGI application: POST /slack/events takes everything, GET /healthz tells that it lives."""

    async def events(request: Request) -> Response:
        body = await request.body()
        if len(body) > BODY_LIMIT:
            return PlainTextResponse("too large", status_code=413)
        answered = await run_in_threadpool(made.dispatch, to_bolt_request(request, body))
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
    server = uvicorn.Server(uvicorn.Config(asgi(made), host=host, port=port, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, name="http", daemon=True)
    thread.start()
    for _ in range(START_S * 100):
        if server.started or not thread.is_alive():
            break
        thread.join(0.01)
    if not server.started:
        raise Refused(f"{host}:{port} cannot be listened on. Choose another with --host and --port.")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(START_S)
