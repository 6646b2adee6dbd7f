"""Principals: those of a caller, those that a policy may name, and the effects of a deletion."""

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


# ---- The principals of a caller


@replaces(evaluator, "_resolve_condition_key")
def principal_arn_of_a_session(original, key, context):
    """Returns the role's ARN with its path as aws:PrincipalArn of a session. ministack uses the session's ARN."""
    session = _SESSION.fullmatch(context.principal_arn)
    if key.lower() != "aws:principalarn" or not session:
        return original(key, context)
    account, name = session.groups()
    role = iam._roles.get_scoped(account, None, name)
    return role["Arn"] if role else f"arn:aws:iam::{account}:role/{name}"


@replaces(evaluator, "evaluate_trust_policy")
def only_own_services(original, trust, caller_arn, context=None):
    """Lets an account's root act as an AWS service (an EC2 instance), but only in its own account.

    ministack lets any account's root assume a role that trusts a service, in place of that service. Limited to the
    role's account, only B's root can act as B's instance.
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


# ---- The principals that a policy may name


def store_principals(document):
    """Converts the principals of a document as AWS does when it stores it, and returns whether anything changed.

    Accounts become their root's ARN. Raises UnknownPrincipal. AWS stores a role or user by its unique ID, and shows the
    ARN while it exists. The ID of a deleted entity is refused, like a name that never existed.
    """
    return map_aws_principals(document, _stored)


# Every number is an account here except this one, which is refused, as AWS refuses an account that does not exist.
NO_ACCOUNT = "000000000000"

_closed = set()


def close_account(asked):
    """POST /_stack/close-account {"account": "2222…"}: from now on, policies that name it are refused. Existing policies do not change."""
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


# ---- The effects of a deletion


@replaces(iam._IAM_HANDLERS, "DeleteRole")
def delete_role(original, parameters):
    """Makes documents that name a deleted role show its ID, and ends the role's sessions.

    A recreated role of the same name is another principal. Without this, a grant that is broken in AWS would continue
    to work here.
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
