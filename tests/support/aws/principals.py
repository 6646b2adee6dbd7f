"""Principals: who a caller is to a policy, which ones may be named in one, and what deletion leaves behind."""

import copy
import json
import re

import ministack.core.iam_evaluator as evaluator
import ministack.services.ecr as ecr
import ministack.services.iam as iam
import ministack.services.sts as sts

from aws.patching import replaces
from aws.policy_documents import Malformed, map_aws_principals, statements_of

_ENTITY = re.compile(r"arn:aws:iam::(\d{12}):(role|user)/(?:.*/)?([^/]+)")
_SESSION = re.compile(r"arn:aws:sts::(\d{12}):assumed-role/([^/]+)/[^/]+")


class UnknownPrincipal(Malformed):
    def __init__(self, principal):
        super().__init__(f'Invalid principal in policy: "AWS":"{principal}"')


# ---- Who a caller is


@replaces(evaluator, "_resolve_condition_key")
def principal_arn_of_a_session(original, key, context):
    """aws:PrincipalArn of a role session is the role's ARN, path included; ministack answers with the session's."""
    session = _SESSION.fullmatch(context.principal_arn)
    if key.lower() != "aws:principalarn" or not session:
        return original(key, context)
    account, name = session.groups()
    role = iam._roles.get_scoped(account, None, name)
    return role["Arn"] if role else f"arn:aws:iam::{account}:role/{name}"


@replaces(evaluator, "evaluate_trust_policy")
def only_own_services(original, trust, caller_arn, context=None):
    """An account's root stands in for AWS services (an EC2 instance), but only for those of its own account.

    ministack lets any account's root assume a role that trusts a service: its stand-in for that service. Limited to
    the role's account, B's root is B's instance, and nobody else's root is.
    """
    role_account = context.resource_arn.split(":")[4] if context else ""
    if not caller_arn.endswith(f":{role_account}:root"):
        trust = _without_services(trust)
    return original(trust, caller_arn, context)


def _without_services(trust):
    try:
        document = json.loads(trust) if isinstance(trust, str) else copy.deepcopy(trust)
        for statement in statements_of(document):
            if isinstance(statement.get("Principal"), dict):
                statement["Principal"].pop("Service", None)
    except (ValueError, KeyError, AttributeError):
        return {}
    return document


# ---- Which principals may be named


def store_principals(document):
    """The document as AWS stores it: principals that exist, accounts by their root ARN; says whether that changed it.

    Raises UnknownPrincipal. AWS keeps a role or user by its unique ID and shows the ARN while it exists; an ID whose
    entity is gone is refused like a name that never was.
    """
    return map_aws_principals(document, _stored)


# Every number is an account here, but for this one: what names it is refused, as AWS refuses a number that nobody has.
NO_ACCOUNT = "000000000000"

_closed = set()


def close_account(asked):
    """POST /_stack/close-account {"account": "2222…"}: from now on nothing of it may be named in a policy. What names it already stays as it is."""
    _closed.add(asked["account"])
    return {}


def _stored(principal):
    account = principal.split(":")[4] if principal.startswith("arn:") else principal
    if account == NO_ACCOUNT or account in _closed:
        raise UnknownPrincipal(principal)
    if principal == "*" or re.fullmatch(r"arn:aws:iam::\d{12}:root", principal) or principal.startswith("arn:aws:sts:"):
        return principal
    if re.fullmatch(r"\d{12}", principal):
        return f"arn:aws:iam::{principal}:root"
    if principal.startswith(("AROA", "AIDA")):
        entity = _entity_with_id(principal)
        if entity:
            return entity["Arn"]
    named = _ENTITY.fullmatch(principal)
    if named:
        account, kind, name = named.groups()
        entity = (iam._roles if kind == "role" else iam._users).get_scoped(account, None, name)
        if entity and entity["Arn"] == principal:
            return principal
    raise UnknownPrincipal(principal)


def _entity_with_id(unique_id):
    for role in iam._roles.to_dict().values():
        if role["RoleId"] == unique_id:
            return role
    for user in iam._users.to_dict().values():
        if user["UserId"] == unique_id:
            return user
    return None


# ---- What deletion leaves


@replaces(iam._IAM_HANDLERS, "DeleteRole")
def delete_role(original, parameters):
    """Documents that name a deleted role show its ID from then on, and its sessions end.

    A role made again under the same name is another principal: without this a grant that is broken in AWS would go on
    working here.
    """
    role = iam._roles.get(iam._p(parameters, "RoleName"))
    response = original(parameters)
    if role and response[0] == 200:
        _forget(role["Arn"], role["RoleId"])
        for key, session in list(sts._sessions.items()):
            if _SESSION.fullmatch(session["Arn"]) and session["UserId"].startswith(role["RoleId"] + ":"):
                del sts._sessions[key]
    return response


@replaces(iam._IAM_HANDLERS, "DeleteUser")
def delete_user(original, parameters):
    user = iam._users.get(iam._p(parameters, "UserName"))
    response = original(parameters)
    if user and response[0] == 200:
        _forget(user["Arn"], user["UserId"])
    return response


def _forget(arn, unique_id):
    def by_id(principal):
        return unique_id if principal == arn else principal

    for role in iam._roles.to_dict().values():
        role["AssumeRolePolicyDocument"] = _changed(role["AssumeRolePolicyDocument"], by_id)
    for key, text in ecr._repo_policies.to_dict().items():
        ecr._repo_policies._data[key] = _changed(text, by_id)


def _changed(text, change):
    try:
        document = json.loads(text)
        return json.dumps(document) if map_aws_principals(document, change) else text
    except (ValueError, KeyError, AttributeError):
        return text
