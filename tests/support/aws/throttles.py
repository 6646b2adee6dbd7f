"""Accounts in which a service admits only so many calls a second, as AWS does when others use it as well.

    POST /_stack/throttle  {"account": "1111…", "perSecond": 5}   IAM and ECR each admit five calls a second of this account; 0: no limit

`account` is the caller's. A call beyond that is refused as AWS refuses it, and is in the call log with status 400. An
account's root is whoever sets a test up: it is not limited.
"""

import json
import time

LIMITED = ("iam", "ecr")


class Throttles:
    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._rates = {}  # account → calls a second
        self._levels = {}  # (account, service) → (tokens, when)

    def throttle(self, asked):
        account, rate = str(asked["account"]), float(asked["perSecond"])
        if rate > 0:
            self._rates[account] = rate
        else:
            self._rates.pop(account, None)
        return {}

    def reset(self):
        self._rates.clear()
        self._levels.clear()

    def admits(self, call):
        rate = self._rates.get(call.account)
        if rate is None or call.service not in LIMITED or call.access_key == call.account:
            return True
        key, now = (call.account, call.service), self._clock()
        tokens, then = self._levels.get(key, (rate, now))
        tokens = min(tokens + (now - then) * rate, rate)
        self._levels[key] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1


def refusal(call):
    """Content type and body of the answer to a call that is throttled."""
    if call.service == "ecr":
        body = json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"})
        return b"application/x-amz-json-1.1", body.encode()
    error = "<Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error>"
    return b"text/xml", f"<ErrorResponse>{error}<RequestId>throttled</RequestId></ErrorResponse>".encode()
