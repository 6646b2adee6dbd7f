"""Stops the work in some accounts right after a write, as if the client's machine had died at that moment.

A test uses this to kill the operator after a write was executed and before the operator knows. It stops the accounts after that
write, waits until they are stopped, kills the operator, and resumes the accounts:

    POST /_stack/stop     {"accounts": ["1111…", "2222…"], "after": 3}   stop after the third write from now on, counted over these accounts
    GET  /_stack/stopped  the accounts of the stops that have happened, each as a list
    POST /_stack/resume   {"accounts": ["1111…", "2222…"]}               resume them, and cancel the stop

The write is executed and is in the call log. Its answer and every further call are held back. A call that is held back is never
executed if its client disconnects. A write is a call that succeeded and may have changed something. Tests use an account's root for
their setup: its calls are neither counted nor stopped.
"""

import asyncio

READS = ("Get", "List", "Describe", "BatchGet", "BatchCheck", "Assume", "Simulate")


class Stop:
    def __init__(self, accounts, after):
        self.accounts = accounts
        self.left = after
        self.resumed = asyncio.Event()

    def count(self, call, status):
        if status < 300 and self.left and not call.action.startswith(READS):
            self.left -= 1


class Stops:
    def __init__(self):
        self._stops = {}  # account → its stop

    def of(self, call):
        """Returns the stop that was requested for the call's account; None: there is none."""
        return None if call.access_key == call.account else self._stops.get(call.account)

    def stop(self, asked):
        stop = Stop(list(asked["accounts"]), int(asked["after"]))
        if stop.left < 1:
            raise ValueError("after: at least one write")
        self._stops.update(dict.fromkeys(stop.accounts, stop))
        return {}

    def resume(self, asked):
        for account in asked["accounts"]:
            if stop := self._stops.pop(account, None):
                stop.resumed.set()
        return {}

    def reset(self):
        for stop in self._stops.values():
            stop.resumed.set()
        self._stops.clear()

    def stopped(self):
        return [stop.accounts for stop in dict.fromkeys(self._stops.values()) if not stop.left]
