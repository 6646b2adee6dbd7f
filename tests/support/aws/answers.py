"""Replaces answers with ones that AWS does not give: truncated, of another call, or from a proxy.

    POST /_stack/answer  {"account": "1111…", "action": "GetRepositoryPolicy", "status": 200, "body": "{}"}
                         every such call gets this answer and is not executed
    POST /_stack/answer  {"account": "1111…", "action": "GetRepositoryPolicy"}
                         the calls are executed again

`account` is the caller's. Tests use an account's root for their setup: its calls are always executed.
"""

from typing import NamedTuple


class Answer(NamedTuple):
    status: int
    body: bytes

    async def send(self, send):
        headers = [(b"content-type", b"application/x-amz-json-1.1"), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class Answers:
    def __init__(self):
        self._given = {}  # (account, action) → answer

    def of(self, call):
        """Returns the replacement answer; None: the call is executed."""
        return None if call.access_key == call.account else self._given.get((call.account, call.action))

    def give(self, asked):
        key = (asked["account"], asked["action"])
        self._given.pop(key, None)
        if "status" in asked:
            self._given[key] = Answer(int(asked["status"]), asked["body"].encode())
        return {}

    def reset(self):
        self._given.clear()
