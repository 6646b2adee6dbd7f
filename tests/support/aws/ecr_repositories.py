"""Repository policies as ECR accepts and returns them, and lists in pages.

ministack stores any text as a policy and returns it unchanged. ECR refuses malformed documents, checks that principals
exist, and returns its own form of the document: an operator that compares texts would write the policy for ever.
"""

import base64
import binascii

import ministack.services.ecr as ecr

from aws import registry_policies
from aws.patching import replaces
from aws.policy_documents import Malformed, check_repository_policy, pretty
from aws.principals import UnknownPrincipal, store_principals

PAGE = 100


@replaces(ecr, "_set_repository_policy")
def set_repository_policy(original, values):
    if values.get("repositoryName") not in ecr._repositories:
        return original(values)
    try:
        document = check_repository_policy(values["policyText"])
        store_principals(document)
    except UnknownPrincipal:
        return _invalid("Principal not found")
    except Malformed:
        return _invalid("Invalid repository policy provided")
    return original({**values, "policyText": pretty(document)})


def _invalid(constraint):
    message = f"Invalid parameter at 'PolicyText' failed to satisfy constraint: '{constraint}'"
    return ecr.error_response_json("InvalidParameterException", message, 400)


def plant_policy(asked):
    """Sets a repository's policy to any text, even one that ECR would refuse.

        POST /_stack/plant-policy  {"account": "1111…", "region": "us-east-1", "repository": "app", "text": "…"}

    Without `repository`, it sets the registry policy. The operator must not change a policy that it cannot read, and
    SetRepositoryPolicy cannot create one.
    """
    account, region, name = asked["account"], asked["region"], asked.get("repository", registry_policies.NAME)
    if "repository" in asked and not ecr._repositories.contains_scoped(account, region, name):
        raise ValueError(f"there is no repository {name} in account {account}, {region}")
    ecr._repo_policies.set_scoped(account, region, name, asked["text"])
    return {}


@replaces(ecr, "_describe_repositories")
def describe_repositories(original, values):
    """ministack truncates the list at maxResults and returns no token for the rest."""
    if values.get("repositoryNames"):
        if "maxResults" in values or "nextToken" in values:
            message = "Paging is not possible together with repositoryNames."
            return ecr.error_response_json("InvalidParameterException", message, 400)
        return original(values)
    names = sorted(ecr._repositories.keys())
    try:
        after = base64.b64decode(values.get("nextToken", ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ecr.error_response_json("InvalidParameterException", "Invalid parameter at 'nextToken'", 400)
    rest = [name for name in names if name > after]
    size = values.get("maxResults", PAGE)
    page = {"repositories": [ecr._repo_shape(ecr._repositories[name]) for name in rest[:size]]}
    if len(rest) > size:
        page["nextToken"] = base64.b64encode(rest[size - 1].encode()).decode()
    return ecr.json_response(page)
