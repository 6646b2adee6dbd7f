"""Transitive session tags and the size limit of tags, which ministack lacks.

A transitive tag is passed on to every role that its session assumes. The target's trust policy and the caller's own policies must allow
sts:TagSession for it. It is among aws:RequestTag/… and aws:TagKeys there, as in AWS's example for EKS Pod Identity. (AWS does not document
whether inherited keys are in aws:TagKeys, so the emulation does the stricter of the two.) The tag stays transitive, and a request cannot
set its key again.

AWS does not document the limit of the packed size. Reportedly, the six tags of EKS Pod Identity use 74 % of it. The emulation limits
the characters of all keys and values together.
"""

from contextvars import ContextVar

import ministack.core.iam_evaluator as evaluator
import ministack.services.iam as iam
import ministack.services.sts as sts
from ministack.core.router import extract_access_key_id

from aws.patching import replaces

# The transitive tags of the session that makes this request.
_INHERITED = ContextVar("inherited", default=())
MOST_CHARACTERS = 390


def _passed_on(access_key):
    session = sts._sessions.get(access_key) or {}
    keys = session.get("TransitiveTagKeys", ())
    return [tag for tag in session.get("SessionTags") or [] if tag["Key"].lower() in keys]


@replaces(sts, "_session_tags")
def all_tags(original, parameters, check=True):
    tags, refusal = original(parameters, check)
    if refusal or not check:
        return tags, refusal
    inherited = _INHERITED.get()
    again = {tag["Key"].lower() for tag in inherited} & {tag["Key"].lower() for tag in tags}
    if again:
        message = (
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from "
            "the calling session."
        )
        return None, iam._error(400, "InvalidParameterValue", message, ns="sts")
    tags = [*inherited, *tags]
    if sum(len(tag["Key"]) + len(tag["Value"]) for tag in tags) > MOST_CHARACTERS:
        message = "Packed size of session tags consumes more than 100% of allotted space."
        return None, iam._error(400, "PackedPolicyTooLarge", message, ns="sts")
    return tags, None


@replaces(sts, "handle_request")
async def handle_request(original, method, path, headers, body, query):
    caller = extract_access_key_id(headers, query)
    inherited = _passed_on(caller)
    _INHERITED.set(inherited)
    before = set(sts._sessions)
    response = await original(method, path, headers, body, query)
    parameters = sts.parse_qs((body or b"").decode("utf-8", "replace"))
    asked = {value.lower() for name, [value, *_] in parameters.items() if name.startswith("TransitiveTagKeys.member.")}
    for key in set(sts._sessions) - before:
        session = sts._sessions[key]
        if session.get("SourceAccessKeyId") == caller:
            session["TransitiveTagKeys"] = asked | {tag["Key"].lower() for tag in inherited}
    return response


@replaces(evaluator, "enforce")
def enforce(original, access_key, action, service, region, resource_arn="*", service_context=None):
    """Adds the transitive tags to the condition keys of the caller's own policies."""
    context = dict(service_context or {})
    inherited = _passed_on(access_key) if action == "sts:AssumeRole" else []
    for tag in inherited:
        context[f"aws:RequestTag/{tag['Key']}".lower()] = tag["Value"]
    if inherited:
        context["aws:TagKeys"] = [*context.get("aws:TagKeys", []), *(tag["Key"] for tag in inherited)]
    return original(access_key, action, service, region, resource_arn=resource_arn, service_context=context)
