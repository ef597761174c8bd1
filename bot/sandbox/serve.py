"""The web application: routes, guards against foreign pages, and security headers."""

import mimetypes
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from bot.sandbox import files
from bot.sandbox.answers import response_url
from bot.sandbox.control import control, stream
from bot.sandbox.errors import SlackError
from bot.sandbox.links import Links
from bot.sandbox.site import Site
from bot.sandbox.webapi import web_api

PAGE = Path(__file__).parent / "page"
FOR_THE_APP = ("/api/", "/link", "/upload/", "/response/")  # called by the app's server, from wherever it runs
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
POLICY = (
    "default-src 'self'; connect-src 'self' ws://{host}; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


def application(site: Site) -> ASGIApp:
    """Everything the workspace serves."""
    links = site.delivery
    routes: list[Route | WebSocketRoute] = [
        Route("/", page),
        Route("/page/{path:path}", page),
        Route("/archives/{path:path}", _home_page),
        Route("/api/{method}", _bound(web_api, site), methods=["GET", "POST"]),
        Route("/response/{response_id}", _bound(response_url, site), methods=["POST"]),
        Route("/upload/{file_id}", _bound(upload, site), methods=["POST", "PUT"]),
        Route("/files/{file_id}/{name}", _bound(download, site)),
        Route("/control/{name}", _bound(control, site), methods=["GET", "POST", "DELETE"]),
        WebSocketRoute("/control/stream", _socket(partial(stream, site))),
    ]
    if isinstance(links, Links):
        routes += [WebSocketRoute(path, _socket(links.serve)) for path in ("/link", "/link/")]
    return Guard(Starlette(routes=routes))


class Guard:
    """Keeps pages from elsewhere out, adds the security headers, and lets handlers cut the connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        owner: Any = send.__self__  # type: ignore[attr-defined]  # uvicorn's send is a method of what holds the transport
        scope["sandbox.transport"] = owner.transport
        headers = Headers(scope=scope)
        if not scope["path"].startswith(FOR_THE_APP) and not from_here(headers):
            await _turn_away(scope, receive, send)
            return
        extra = {**HEADERS, "Content-Security-Policy": POLICY.format(host=headers.get("host", ""))}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(extra)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def from_here(headers: Headers) -> bool:
    """Whether the request was meant for a loopback name, and by a page of this very server if by a page at all."""
    host = headers.get("host", "")
    origin = headers.get("origin")
    if host.rsplit(":", 1)[0] not in LOOPBACK and host not in LOOPBACK:
        return False
    # A link from elsewhere may open the page, but no script, image or form from elsewhere may call anything.
    linked = headers.get("sec-fetch-mode") == "navigate" and origin is None
    foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") and not linked
    return origin in (None, f"http://{host}") and not foreign


async def _turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).close(1008)
        return
    refusal = JSONResponse({"ok": False, "error": "foreign_origin", "message": "Open this by its own address."}, 403)
    await refusal(scope, receive, send)


async def page(request: Request) -> Response:
    """A file of the page; index.html at /."""
    path = (PAGE / (request.path_params.get("path") or "index.html")).resolve()
    if not path.is_relative_to(PAGE) or not path.is_file():
        return PlainTextResponse("not found", 404)
    return FileResponse(path, media_type=KINDS.get(path.suffix))


async def _home_page(request: Request) -> Response:
    return FileResponse(PAGE / "index.html")


async def upload(site: Site, request: Request) -> Response:
    """Takes the content of a file as the raw body, which is how the SDK sends it."""
    try:
        return PlainTextResponse(files.receive(site.ws, request.path_params["file_id"], await request.body()))
    except SlackError as refusal:
        return PlainTextResponse(refusal.error, 400)


async def download(site: Site, request: Request) -> Response:
    """Gives the content of a file back; anything but an image only as a download."""
    content = site.ws.store.blob(request.path_params["file_id"])
    if content is None:
        return PlainTextResponse("not found", 404)
    kind = mimetypes.guess_type(request.path_params["name"])[0] or ""
    safe = kind.startswith("image/") and kind != "image/svg+xml"
    headers = {} if safe else {"Content-Disposition": "attachment"}
    return Response(content, media_type=kind if safe else "application/octet-stream", headers=headers)


def _bound(
    handler: Callable[[Site, Request], Awaitable[Response]], site: Site
) -> Callable[[Request], Awaitable[Response]]:
    async def bound(request: Request) -> Response:
        return await handler(site, request)

    return bound


def _socket(handler: Callable[[WebSocket], Awaitable[None]]) -> Callable[[WebSocket], Awaitable[None]]:
    async def bound(socket: WebSocket) -> None:
        await handler(socket)

    return bound
