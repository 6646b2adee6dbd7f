"""Answers that AWS does not give: cut off, of something else, or from a proxy in its place.

    POST /_stack/answer  {"account": "1111…", "action": "GetRepositoryPolicy", "status": 200, "body": "{}"}
                         every such call gets this answer and is not carried out
    POST /_stack/answer  {"account": "1111…", "action": "GetRepositoryPolicy"}
                         they are carried out again

`account` is the caller's. An account's root is whoever sets a test up: its calls are carried out.
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
        """What the call is answered with; None: it is carried out."""
        return None if call.access_key == call.account else self._given.get((call.account, call.action))

    def give(self, asked):
        key = (asked["account"], asked["action"])
        self._given.pop(key, None)
        if "status" in asked:
            self._given[key] = Answer(int(asked["status"]), asked["body"].encode())
        return {}

    def reset(self):
        self._given.clear()
