"""Replaces functions of ministack. Its internals are not an API, so only one version is accepted."""

import functools
import importlib.metadata

VERSION = "1.5.33"


def require_version():
    """Ends the program unless ministack has the version whose functions are replaced here."""
    installed = importlib.metadata.version("ministack")
    if installed != VERSION:
        raise SystemExit(
            f"the AWS emulation replaces functions of ministack {VERSION}, but {installed} is installed: "
            "run tools/install python, or adapt tests/support/aws to the other version"
        )


def replaces(owner, name):
    """Replaces `owner.name` by the decorated function, whose first argument is the original.

    `owner` is a module, or a table of handlers.
    """

    def put(function):
        if isinstance(owner, dict):
            owner[name] = functools.partial(function, owner[name])
        else:
            setattr(owner, name, functools.partial(function, getattr(owner, name)))
        return function

    return put
