"""Tests the local stack: it refuses what AWS refuses, and a push by a real client proves the access.

    $(tools/install python | cut -d= -f2) tests/support/aws/selfcheck.py [-v] [aws.checks.story …]

Starts one stack for all tests, which are in aws/checks. Needs the Python of tools/install, for botocore.
"""

import sys
import unittest
from pathlib import Path

CHECKS = [
    "aws.checks.story",
    "aws.checks.roles",
    "aws.checks.repositories",
    "aws.checks.permissions",
    "aws.checks.registry_policies",
    "aws.checks.limits",
    "aws.checks.assuming",
    "aws.checks.session_tags",
    "aws.checks.managed_policies",
    "aws.checks.callers",
    "aws.checks.control",
]

if __name__ == "__main__":
    sys.dont_write_bytecode = True
    # Python adds a script's own folder to the path, but the package is in the parent folder.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from aws.checks import stack

    chosen = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    with stack.running():
        program = unittest.main(module=None, argv=[sys.argv[0], *options, *(chosen or CHECKS)], exit=False)
    sys.exit(not program.result.wasSuccessful())
