"""The registry policy, which each account has in each region and which ministack lacks.

It applies to every request to that registry (scope V2, the default): its Deny statements deny, and its Allow statements have the same
effect as those of the repository's policy. Without it, tests could not cover access that a registry opens or closes as a whole.
"""

import json

import ministack.core.iam_evaluator as evaluator
import ministack.services.ecr as ecr
from ministack.core.responses import get_account_id, get_region

from aws.patching import replaces
from aws.policy_documents import Malformed, check_registry_policy, pretty, readable_statements
from aws.principals import UnknownPrincipal, store_principals

# It is stored under this name among the repositories' policies, so that the deletion of a principal also affects it. No repository has
# this name.
NAME = ""


@replaces(ecr, "handle_request")
async def registry_policy_calls(original, method, path, headers, body, query):
    action = headers.get("x-amz-target", "").rpartition(".")[2]
    if action in ("GetRegistryPolicy", "DeleteRegistryPolicy"):
        return _answer(ecr._repo_policies.get(NAME) if action.startswith("Get") else ecr._repo_policies.pop(NAME, None))
    if action == "PutRegistryPolicy":
        return _put(json.loads(body)["policyText"])
    return await original(method, path, headers, body, query)


def _put(text):
    try:
        document = check_registry_policy(text)
        store_principals(document)
    except UnknownPrincipal:
        return _invalid("Principal not found")
    except Malformed:
        return _invalid("Invalid registry policy provided")
    ecr._repo_policies[NAME] = pretty(document)
    return _answer(ecr._repo_policies[NAME])


def _invalid(constraint):
    message = f"Invalid parameter at 'PolicyText' failed to satisfy constraint: '{constraint}'"
    return ecr.error_response_json("InvalidParameterException", message, 400)


def _answer(text):
    if text is None:
        message = f"Registry policy does not exist in the registry with id '{get_account_id()}'"
        return ecr.error_response_json("RegistryPolicyNotFoundException", message, 400)
    return ecr.json_response({"registryId": get_account_id(), "policyText": text})


# ---- Its decisions


def with_registry_policy(repository_policy, account, region):
    """Merges the policies of a repository and of its registry: all statements of both."""
    of_registry = ecr._repo_policies.get_scoped(account, region, NAME)
    return {"Statement": readable_statements(repository_policy) + readable_statements(of_registry)}


@replaces(evaluator, "_resource_policy")
def resource_policy(original, service, arn):
    """Checks a call without a repository, such as GetAuthorizationToken, on the caller's registry."""
    if service != "ecr" or arn.startswith("arn:"):
        return original(service, arn)
    account = get_account_id()
    return with_registry_policy("", account, get_region()), account
