"""What the bot serves: signed requests from Slack where there is no socket, and on a port of its own how it is.

The second port is apart because the first is reachable for the whole internet through the load balancer: there it says
no more than whether it lives and is ready.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import uvicorn
from slack_bolt import App
from slack_bolt.adapter.starlette.handler import to_bolt_request, to_starlette_response
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bot import health, metrics
from bot.meters import kind_of
from bot.pulse import Pulse
from core.addresses import HealthAddress
from core.errors import Refused

log = logging.getLogger(__name__)

BODY_LIMIT = 1_000_000
FINISH_S = 3
"""What is not acknowledged by then is too late for Slack."""
KEPT_S = 75
"""How long an idle connection is kept: load balancers keep theirs for 60 s as a rule, and whoever closes first must be
them. Else they send a click into a connection that is being closed, and Slack sends none twice."""
DRAIN_S = 2.0
"""How long everything is answered after /readyz has said no, since a load balancer notices only then."""


def slack(made: App, pulse: Pulse) -> Starlette:
    """What Slack and a load balancer ask: POST /slack/events takes everything; /healthz and /readyz give no details."""

    async def events(request: Request) -> Response:
        began, kind = time.monotonic(), "other"
        body = b""
        async for part in request.stream():  # given up as soon as it is too large, signed or not
            body += part
            if len(body) > BODY_LIMIT:
                pulse.meters.acknowledged(kind, 413, began)
                return PlainTextResponse("too large", status_code=413, headers={"connection": "close"})
        try:
            asked = to_bolt_request(request, body)
            kind = kind_of(asked.body)
            answered = await run_in_threadpool(made.dispatch, asked)
        except (ValueError, TypeError, AttributeError, LookupError) as error:  # what Bolt cannot even parse
            log.warning("a request that cannot be read: %s", type(error).__name__)
            pulse.meters.acknowledged(kind, 400, began)
            return PlainTextResponse("not understood", status_code=400)
        pulse.meters.acknowledged(kind, answered.status, began)
        answer = to_starlette_response(answered)
        if pulse.phase == "stopping":  # so that no other request follows on a connection that soon ends
            answer.headers["connection"] = "close"
        return answer

    def ready(_: Request) -> Response:
        is_ready = health.is_ready(health.parts(pulse))
        return PlainTextResponse("ready" if is_ready else "not ready", status_code=200 if is_ready else 503)

    def alive(_: Request) -> Response:
        is_alive = not health.liveness(pulse)
        return PlainTextResponse("ok" if is_alive else "not alive", status_code=200 if is_alive else 503)

    routes = [Route("/slack/events", events, methods=["POST"]), Route("/healthz", alive), Route("/readyz", ready)]
    return Starlette(routes=routes)


def watch(pulse: Pulse) -> Starlette:
    """What those ask who run the bot: /healthz, /readyz and /metrics, with all details."""

    def alive(_: Request) -> Response:
        fault = health.liveness(pulse)
        return PlainTextResponse(fault or "ok", status_code=503 if fault else 200)

    def ready(_: Request) -> Response:
        found = health.parts(pulse)
        return JSONResponse(health.told(found), status_code=200 if health.is_ready(found) else 503)

    def counted(request: Request) -> Response:
        content, content_type = metrics.page(pulse, request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    metrics.exposed(pulse)
    return Starlette(routes=[Route("/healthz", alive), Route("/readyz", ready), Route("/metrics", counted)])


@contextmanager
def watched(pulse: Pulse, address: HealthAddress) -> Iterator[None]:
    """Says how the process is until the end of the block.

    A port that nobody chose may be another bot's on this machine: then the log says so, and this one runs without.

    Raises:
        Refused: where the port was chosen and cannot be had.
    """
    with ExitStack() as stack:
        try:
            where = serving(watch(pulse), address.host, address.port, name="health", choice="PROMOTION_BOT_HEALTH")
            stack.enter_context(where)
        except Refused as refused:
            if address.is_chosen:
                raise
            log.warning("without /healthz, /readyz and /metrics: %s", refused)
        yield


@contextmanager
def serving(
    served: Starlette,
    host: str,
    port: int,
    *,
    name: str = "http",
    choice: str = "--host and --port",
    drains_s: float = 0.0,
) -> Iterator[threading.Thread]:
    """Serves until the end of the block and so much longer, in this thread; what it holds then is finished.

    Raises:
        Refused: where the port cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise Refused(f"{host}:{port} cannot be listened on ({error}). Choose with {choice}.") from error
    config = uvicorn.Config(
        served,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=FINISH_S,
        timeout_keep_alive=KEPT_S,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name=name, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        time.sleep(drains_s)
        server.should_exit = True
        thread.join(FINISH_S + 1)
