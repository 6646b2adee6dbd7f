"""Repository policies as ECR takes them and gives them back, and lists in pages.

ministack stores any text as a policy and returns it unchanged. ECR refuses malformed ones, names its principals by what
exists, and returns its own print of the document: an operator that compares texts would write it again for ever.
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
    """Puts a text in place of a repository's policy as it stands: one that ECR would not take today.

        POST /_stack/plant-policy  {"account": "1111…", "region": "us-east-1", "repository": "app", "text": "…"}

    Without `repository` it is the registry's own policy. An operator has to leave alone what it cannot read, and by
    SetRepositoryPolicy no such thing can be made.
    """
    account, region, name = asked["account"], asked["region"], asked.get("repository", registry_policies.NAME)
    if "repository" in asked and not ecr._repositories.contains_scoped(account, region, name):
        raise ValueError(f"there is no repository {name} in account {account}, {region}")
    ecr._repo_policies.set_scoped(account, region, name, asked["text"])
    return {}


@replaces(ecr, "_describe_repositories")
def describe_repositories(original, values):
    """ministack cuts the list at maxResults and gives no token for the rest."""
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
