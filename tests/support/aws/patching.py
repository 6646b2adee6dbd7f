"""Replacing functions of ministack, whose internals are no API: hence one version, and an error for any other."""

import functools
import importlib.metadata

VERSION = "1.5.33"


def require_version():
    """Ends the program unless ministack is the version whose functions are replaced here."""
    installed = importlib.metadata.version("ministack")
    if installed != VERSION:
        raise SystemExit(
            f"the AWS emulation replaces functions of ministack {VERSION}, but {installed} is installed: "
            "run tools/install python, or go through tests/support/aws for the other version"
        )


def replaces(owner, name):
    """Puts the decorated function in place of `owner.name`; what was there is its first argument.

    `owner` is a module, or a table of handlers.
    """

    def put(function):
        if isinstance(owner, dict):
            owner[name] = functools.partial(function, owner[name])
        else:
            setattr(owner, name, functools.partial(function, getattr(owner, name)))
        return function

    return put
