"""Work in some accounts stopped right after a write, as if the machine that did it had died in that moment.

A test that kills the operator after a write was carried out, and before the operator knew, has the accounts stopped after that
write, waits until they are, kills the operator, and lets them go on:

    POST /_stack/stop     {"accounts": ["1111…", "2222…"], "after": 3}   after the third write from now on, in these accounts together
    GET  /_stack/stopped  the accounts of those that have come so far, each as a list
    POST /_stack/resume   {"accounts": ["1111…", "2222…"]}               let them go on, and forget the stop

The write is carried out and is in the call log; its answer, and every further call, is kept back. Of a call that is kept back and whose
client goes away nothing is ever carried out. A write is a call that succeeded and may have changed something. An account's root
is whoever sets a test up: it is neither counted nor stopped.
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
        """The stop that the call's account is to have, or has; None: nobody asked for one."""
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
