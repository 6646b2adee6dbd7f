"""Throttling: limits the calls per second of a service in an account, as AWS does when others use it, too.

    POST /_stack/throttle  {"account": "1111…", "perSecond": 5}   IAM and ECR each accept five calls per second from this account; 0: no limit

`account` is the caller's. Further calls are refused as by AWS, and are in the call log with status 400. Tests use an account's
root for their setup: it is not limited.
"""

import json
import time

LIMITED = ("iam", "ecr")


class Throttles:
    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._rates = {}  # account → calls per second
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
    """Returns content type and body of the answer to a throttled call."""
    if call.service == "ecr":
        body = json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"})
        return b"application/x-amz-json-1.1", body.encode()
    error = "<Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error>"
    return b"text/xml", f"<ErrorResponse>{error}<RequestId>throttled</RequestId></ErrorResponse>".encode()
