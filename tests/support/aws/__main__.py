"""`python -m aws --fd N --call-log FILE`: serves the emulation on the listening socket that it inherits as N.

With a socket instead of a port number, the parent knows the port in advance, and no other process can take it.
"""

import argparse
import asyncio
import os
import signal

from aws import patching

# ministack reads these when it is imported. AUTH makes it check signatures and permissions. Services that are not listed do
# not start, and open no listeners.
SETTINGS = {
    "AUTH": "true",
    "SERVICES": "iam,sts,ecr",
    "IOT_MTLS_ENABLED": "0",
    "SFTP_ENABLED": "0",
    "LOG_LEVEL": "WARNING",
    "MINISTACK_WORKER_THREADS": "4",
}


def main():
    arguments = argparse.ArgumentParser(prog="python -m aws", description=__doc__)
    arguments.add_argument("--fd", type=int, required=True, help="the listening socket")
    arguments.add_argument("--call-log", required=True, help="gets a line of JSON for each AWS call")
    options = arguments.parse_args()

    patching.require_version()
    os.environ.update(SETTINGS)
    with open(options.call_log, "a", encoding="utf-8") as log:
        asyncio.run(serve(options.fd, log))


async def serve(fd, log):
    import hypercorn.asyncio
    import ministack.app
    from hypercorn.config import Config

    # Each module replaces its part of ministack when it is imported. If two replace the same function, the later one
    # is called first.
    from aws import (  # noqa: F401
        managed_policies,
        policy_versions,
        principals,
        not_principal,
        registry_policies,
        request_validation,
        iam_conditions,
        iam_documents,
        iam_responses,
        sts_sessions,
        sts_tags,
        sts_permissions,
        ecr_accounts,
        ecr_repositories,
        registry_data_plane,
        organizations,
        service_callers,
    )  # isort: skip
    from aws.front import Front

    controls = {
        "organizations": organizations.join,
        "service-may": service_callers.may,
        "plant-policy": ecr_repositories.plant_policy,
        "close-account": principals.close_account,
    }
    config = Config()
    config.bind = [f"fd://{fd}"]
    config.loglevel = SETTINGS["LOG_LEVEL"]
    config.keep_alive_timeout = 75
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await hypercorn.asyncio.serve(Front(ministack.app.app, log, controls), config, shutdown_trigger=end.wait)


if __name__ == "__main__":
    main()
