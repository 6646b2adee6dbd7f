"""A layer in front of ministack: it logs all calls, and holds calls on demand.

A test that kills the operator in the middle of a reconcile must know how far it got. So the test holds a call, waits
until it arrives, and kills the operator. The call is then never executed:

    POST /_stack/hold     {"account": "1111…", "action": "PutRolePolicy"}   hold the next such call
    GET  /_stack/held     the calls held now, as a list of the same objects
    POST /_stack/release  {"account": "1111…", "action": "PutRolePolicy"}   execute them, and hold no more of them
    POST /_stack/reset    {}                                                release all held or stopped calls, and cancel all requests for more

`account` is the caller's. A held call was received but not executed, and if its client disconnects, it never is. Their modules describe
the other controls: `answers`, `stops`, `throttles`, `organizations`, `service_callers`, `ecr_repositories`, `principals`.
"""

import asyncio
import collections
import datetime
import json
import time
import uuid

from aws.answers import Answers
from aws.calls import as_json, describe
from aws.stops import Stops
from aws.throttles import Throttles, refusal

CLIENT_GONE = 499  # in the call log, the status of a held call whose client disconnected; not a status of AWS


class Front:
    """The ASGI application `inner`. Logs calls to the file `log`, holds calls, and serves further `controls`.

    POST /_stack/NAME calls a control. It gets the body as data and returns the answer; ValueError: the request is invalid.
    """

    def __init__(self, inner, log, controls):
        self._inner = inner
        self._log = log
        self._controls = controls
        self._wanted = collections.Counter()  # (account, action) → how many of the next calls to hold
        self._held = []  # ((account, action), event that releases it)
        self._stops = Stops()
        self._answers = Answers()
        self._throttles = Throttles()

    async def __call__(self, scope, receive, send):
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith("/_stack/"):
            await self._control(scope, receive, send)
        elif scope["type"] == "http" and not path.startswith("/_ministack/"):
            await self._call(scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    async def _call(self, scope, receive, send):
        body = await _body(receive)
        if body is None:
            return
        call = describe(scope, body)
        begun = time.monotonic()
        stop = self._stops.of(call)

        async def goes_on():
            return not stop or stop.left or await _happens(stop.resumed, receive)

        if not (await goes_on() and await self._let_go(call, receive)):
            self._write(call, CLIENT_GONE, begun)
            return

        if answer := self._answers.of(call):
            self._write(call, answer.status, begun)
            await answer.send(send)
            return

        if not self._throttles.admits(call):
            self._write(call, 400, begun)
            content_type, answer = refusal(call)
            await send({"type": "http.response.start", "status": 400, "headers": [(b"content-type", content_type)]})
            await send({"type": "http.response.body", "body": answer})
            return

        async def logged_send(message):
            # Written before the answer is sent, so that a client with the answer finds the line.
            if message["type"] == "http.response.start":
                self._write(call, message["status"], begun)
                if stop:
                    stop.count(call, message["status"])
                message = _identified(message)
            if await goes_on():
                await send(message)

        await self._inner(scope, _again(body, receive), logged_send)

    def _write(self, call, status, begun):
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        took = round((time.monotonic() - begun) * 1000)
        self._log.write(as_json(call, time=now, status=status, milliseconds=took) + "\n")
        self._log.flush()

    async def _let_go(self, call, receive):
        """Waits while the call is held; False: its client disconnected, do not execute it."""
        key = (call.account, call.action)
        if not self._wanted[key]:
            return True
        self._wanted[key] -= 1
        entry = (key, asyncio.Event())
        self._held.append(entry)
        try:
            return await _happens(entry[1], receive)
        finally:
            self._held.remove(entry)

    async def _control(self, scope, receive, send):
        body = await _body(receive)
        if body is None:
            return
        status, answer = self._answer(scope["method"], scope["path"], body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _answer(self, method, path, body):
        if (method, path) == ("GET", "/_stack/held"):
            return 200, [{"account": account, "action": action} for (account, action), _ in self._held]
        if (method, path) == ("GET", "/_stack/stopped"):
            return 200, self._stops.stopped()
        controls = {
            **self._controls,
            "answer": self._answers.give,
            "reset": self._reset,
            "stop": self._stops.stop,
            "resume": self._stops.resume,
            "throttle": self._throttles.throttle,
        }
        try:
            asked = json.loads(body)
            if method == "POST" and (control := controls.get(path.removeprefix("/_stack/"))):
                return 200, control(asked)
            key = (asked["account"], asked["action"])
        except (ValueError, KeyError, TypeError) as error:
            return 400, {"error": f"the body is not valid for this control: {error!r}"}
        if (method, path) == ("POST", "/_stack/hold"):
            self._wanted[key] += 1
            return 200, {}
        if (method, path) == ("POST", "/_stack/release"):
            del self._wanted[key]
            waiting = [event for held, event in self._held if held == key]
            for event in waiting:
                event.set()
            return 200, {"released": len(waiting)}
        return 404, {"error": f"there is no {method} {path}"}


    def _reset(self, _asked):
        self._wanted.clear()
        for _, event in self._held:
            event.set()
        self._answers.reset()
        self._stops.reset()
        self._throttles.reset()
        return {}


def _identified(answer):
    """Returns the answer with a request ID, as in AWS. ministack's denials have none."""
    headers = list(answer.get("headers", []))
    if not any(name.lower() == b"x-amzn-requestid" for name, _ in headers):
        headers.append((b"x-amzn-requestid", str(uuid.uuid4()).encode()))
    return {**answer, "headers": headers}


async def _body(receive):
    """Returns the entire body of the request; None: its client disconnected before the end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _again(body, receive):
    """Returns a `receive` that returns the body that was already read, then later messages."""
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again():
        return first.pop() if first else await receive()

    return receive_again


async def _happens(event, receive):
    """Waits for the event; False: the client disconnected first."""
    happened, gone = asyncio.ensure_future(event.wait()), asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({happened, gone}, return_when=asyncio.FIRST_COMPLETED)
        return not gone.done()
    finally:
        happened.cancel()
        gone.cancel()


async def _disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass
