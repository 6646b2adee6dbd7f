"""The longest duration of a session. ministack allows any duration."""

from urllib.parse import parse_qs

import ministack.services.iam as iam
import ministack.services.sts as sts
from ministack.core.router import extract_access_key_id

from aws.patching import replaces

CHAINED_SECONDS = 3600  # for a role that is assumed by a role's session, regardless of the role's setting


@replaces(sts, "handle_request")
async def bounded(original, method, path, headers, body, query):
    """Checks the duration after the permission: a caller who may not assume the role does not learn its settings."""
    parameters = {
        key: values[0] for key, values in {**parse_qs((body or b"").decode("utf-8", "replace")), **query}.items()
    }
    refusal = parameters.get("Action") == "AssumeRole" and _refusal(parameters, extract_access_key_id(headers, query))
    if not refusal:
        return await original(method, path, headers, body, query)
    before = set(sts._sessions)
    response = await original(method, path, headers, body, query)
    for key in set(sts._sessions) - before:
        del sts._sessions[key]
    return refusal if response[0] == 200 else response


def _refusal(parameters, caller):
    try:
        seconds = int(parameters.get("DurationSeconds", 3600))
        account, name = parameters["RoleArn"].split(":")[4], parameters["RoleArn"].rpartition("/")[2]
    except (KeyError, IndexError, ValueError):
        return None
    role = iam._roles.get_scoped(account, None, name)
    if caller in sts._sessions and seconds > CHAINED_SECONDS:
        message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
    elif role and seconds > role["MaxSessionDuration"]:
        message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    else:
        return None
    return iam._error(400, "ValidationError", message, ns="sts")
