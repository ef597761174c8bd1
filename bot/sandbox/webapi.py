"""/api: tokens, scopes, rate limits and ordered failures around the methods."""

import asyncio
import json
import time
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from bot.sandbox.call import Call, missing_scope
from bot.sandbox.errors import RateLimited, SlackError
from bot.sandbox.faults import Fault
from bot.sandbox.methods import ANY, APP, BOT, METHODS, Method
from bot.sandbox.site import Site, cut
from bot.sandbox.store import Json
from bot.sandbox.workspace import Workspace


async def web_api(site: Site, request: Request) -> Response:
    """Answers one call; every call is recorded."""
    name = request.path_params["method"]
    started = time.monotonic()
    entry = site.log.add(method=name, ok=False, at=site.ws.clock())
    fault = site.faults.take(name)
    try:
        response, answer = await _answered(site, request, name, fault)
    except SlackError as refusal:
        answer = refusal.answer()
        headers = {"Retry-After": str(refusal.retry_after)} if isinstance(refusal, RateLimited) else {}
        response = JSONResponse(answer, 429 if headers else 200, headers)
    entry |= {"ok": answer["ok"], "ms": round((time.monotonic() - started) * 1_000, 1)}
    if "error" in answer:
        entry["error"] = answer["error"]
    return response


async def _answered(site: Site, request: Request, name: str, fault: Fault | None) -> tuple[Response, Json]:
    args = await arguments(request)
    kind = fault.kind if fault else ""
    if fault and kind == "slow":
        await asyncio.sleep(fault.seconds)
    if fault and kind == "ratelimited":
        raise RateLimited(max(1, round(fault.seconds)))
    if fault and kind == "error":
        raise SlackError(fault.error)
    if kind == "server_error":
        return PlainTextResponse("upstream unavailable", 503), {"ok": False, "error": "server_error"}
    if kind == "drop_before":
        cut(request)
        return Response(), {"ok": False, "error": "drop_before"}
    token = token_of(request, args)
    answer = run(site, name, token, args)
    if kind == "drop_after":
        cut(request)
    return JSONResponse(answer, headers={"x-oauth-scopes": ",".join(scopes_of(site.ws, token))}), answer


def run(site: Site, name: str, token: str, args: Json) -> Json:
    """What the method answers; SlackError where Slack refuses."""
    method = METHODS.get(name)
    if not method:
        raise SlackError("unknown_method", req_method=name)
    check_token(site.ws, method, token)
    if method.scope and method.scope not in site.ws.manifest.scopes:
        raise missing_scope(site.ws, method.scope)
    site.limits.count(name, method.per_minute)
    if name == "chat.postMessage":
        site.limits.count_post(_posted_to(site.ws, str(args.get("channel"))))
    with site.ws.store.together():
        return {"ok": True, **method.run(Call(site.ws, args))}


def scopes_of(ws: Workspace, token: str) -> list[str]:
    """What a token was given; Slack says it with every answer."""
    return {ws.bot_token: sorted(ws.manifest.scopes), ws.app_token: ["connections:write"]}.get(token, [])


def _posted_to(ws: Workspace, channel: str) -> str:
    person = ws.store.get("user", channel)
    return str(ws.im(channel)["id"]) if person and not person["is_bot"] else channel


def check_token(ws: Workspace, method: Method, token: str) -> None:
    """Refuse a token that is missing, unknown, dead or of the other kind."""
    if method.token == ANY and not token:
        return
    if not token:
        raise SlackError("not_authed")
    kinds = {ws.bot_token: BOT, ws.app_token: APP}
    if token not in kinds:
        raise SlackError("invalid_auth")
    if ws.standing != "live":
        raise SlackError("token_revoked" if ws.standing == "revoked" else "account_inactive")
    if method.token not in (ANY, kinds[token]):
        raise SlackError("not_allowed_token_type")


async def arguments(request: Request) -> Json:
    """The arguments of the query, the form or the JSON body."""
    args: dict[str, Any] = dict(request.query_params)
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            body = json.loads(await request.body() or b"{}")
            if not isinstance(body, dict):
                raise SlackError("json_not_object")
            return args | body
        return args | dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
    except ValueError:
        raise SlackError("invalid_json") from None
    except ClientDisconnect:
        raise SlackError("request_timeout") from None


def token_of(request: Request, args: Json) -> str:
    """The token of the header or of the arguments."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    sent = args.pop("token", "")
    return token.strip() if scheme.lower() == "bearer" else str(sent)
