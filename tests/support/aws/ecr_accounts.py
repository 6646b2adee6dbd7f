"""ECR across accounts: `registryId` names the registry of a call. ministack only knows the caller's own registry.

The permission is checked on a repository of that account, whose policy must also allow it. The call is then executed
there.
"""

import json
import re

import ministack.core.iam_actions as actions
import ministack.core.iam_evaluator as evaluator
import ministack.services.ecr as ecr
from ministack.core.responses import get_account_id, set_request_account_id

from aws.iam_conditions import resource_tag_keys
from aws.patching import replaces
from aws.registry_policies import with_registry_policy

# A call may name several repositories, but ministack checks one. The others are passed to `enforce` under this name.
_REPOSITORIES = "registry-grants repositories"


@replaces(actions, "extract_resource_arn")
def resource_arn(original, service, method, path, headers, body, parameters, region, account):
    if service != "ecr":
        return original(service, method, path, headers, body, parameters, region, account)
    arns = _repositories(headers, body, region, account)
    return arns[0] if arns else "*"


@replaces(actions, "request_tag_context")
def remember_repositories(original, service, action, body, parameters):
    context = original(service, action, body, parameters)
    if service == "ecr":
        context[_REPOSITORIES] = _values(body).get("repositoryNames") or []
    return context


def _repositories(headers, body, region, account):
    values = _values(body)
    if values.get("resourceArn"):
        return [values["resourceArn"]]
    prefix = f"arn:aws:ecr:{region}:{_registry_of(values) or account}:repository/"
    if values.get("repositoryName"):
        return [prefix + values["repositoryName"]]
    if headers.get("x-amz-target", "").endswith(".DescribeRepositories"):
        # Listing all repositories is checked on each of them.
        return [prefix + name for name in values.get("repositoryNames") or ["*"]]
    return []


@replaces(evaluator, "enforce")
def enforce(original, access_key, action, service, region, resource_arn="*", service_context=None):
    """Checks every repository of the call with its tags. Another account's root needs the repository's policy."""
    context = dict(service_context or {})
    others = context.pop(_REPOSITORIES, [])[1:]
    arns = [resource_arn, *(f"{resource_arn.partition(':repository/')[0]}:repository/{name}" for name in others)]
    for arn in arns:
        keys = {**context, **_tags(arn)}
        denied = original(access_key, action, service, region, resource_arn=arn, service_context=keys)
        denied = denied or _foreign_root(access_key, action, region, arn, keys)
        if denied:
            return denied
    return None


def _tags(arn):
    if ":ecr:" not in arn or ":repository/" not in arn:
        return {}
    _, _, _, region, account, resource = arn.split(":", 5)
    repository = ecr._repositories.get_scoped(account, region, resource.partition("/")[2]) or {}
    return resource_tag_keys("ecr", repository.get("tags"))


def _foreign_root(access_key, action, region, arn, keys):
    """ministack allows root everything. In another account's registry, root needs the repository's policy like others."""
    account = get_account_id()
    if ":repository/" not in arn or arn.split(":")[4] == account or not evaluator.is_root_access_key(access_key):
        return None
    context = evaluator.EvalContext(
        principal_arn=f"arn:aws:iam::{account}:root",
        principal_type="Root",
        principal_account=account,
        action=action,
        resource_arn=arn,
        region=region,
        service_context={key.lower(): value for key, value in keys.items()},
    )
    decision = evaluator.evaluate_resource_policy(repository_policy(None, arn)[0], context)
    return None if decision.decision == "Allow" else decision


@replaces(actions, "access_denied_response")
def denial(original, service, *arguments, **named):
    """Denials of ECR have HTTP status 400, like all of its errors."""
    status, headers, body = original(service, *arguments, **named)
    return 400 if service == "ecr" and status == 403 else status, headers, body


@replaces(ecr, "repository_policy_for_arn")
def repository_policy(_original, arn):
    """Returns the policies of the repository and its registry, and their account. A missing repository has no policy."""
    _, _, _, region, account, resource = arn.split(":", 5)
    own = ecr._repo_policies.get_scoped(account, region, resource.partition("/")[2])
    return with_registry_policy(own, account, region), account


@replaces(ecr, "handle_request")
async def in_the_registrys_account(original, method, path, headers, body, query):
    account = _registry_of(_values(body))
    if account:
        set_request_account_id(account)
    return await original(method, path, headers, body, query)


def _registry_of(values):
    """Returns the account that the call names; None: the caller's own."""
    arn = str(values.get("resourceArn", "")).split(":")
    account = str(values.get("registryId") or (arn[4] if len(arn) > 4 else ""))
    return account if re.fullmatch(r"\d{12}", account) else None


def _values(body):
    try:
        values = json.loads(body or b"{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
