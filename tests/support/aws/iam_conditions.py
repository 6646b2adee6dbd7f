"""Permissions of IAM actions: the resource and condition keys of each check, and the second permission of some actions.

The operator runs as a management role with least privilege: only roles under one path, with one permissions boundary
and with its tag. ministack checks IAM actions on ARNs without paths, and does not know these condition keys. Without
this module, tests could not show what such a role may do and what it is denied.
"""

from contextvars import ContextVar

import ministack.core.iam_actions as actions
import ministack.core.iam_evaluator as evaluator
import ministack.services.iam as iam

from aws.patching import replaces

# The actions that set these keys, according to the service authorization reference. A policy that requires one of them for any
# other action allows nothing, as in AWS.
_WITH_BOUNDARY = {
    "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:DeleteRolePermissionsBoundary", "iam:PutRolePolicy",
    "iam:DeleteRolePolicy", "iam:AttachRolePolicy", "iam:DetachRolePolicy",
}  # fmt: skip
_WITH_POLICY_ARN = {"iam:AttachRolePolicy", "iam:DetachRolePolicy"}
# These actions set the boundary that the condition checks. For the others, it is the boundary that the role has.
_SETS_BOUNDARY = {"iam:CreateRole", "iam:PutRolePermissionsBoundary"}
# The second action that these need if they set tags.
_TAGS_AS_WELL = {
    "sts:AssumeRole": "sts:TagSession",
    "iam:CreateRole": "iam:TagRole",
    "iam:CreateInstanceProfile": "iam:TagInstanceProfile",
    "iam:CreatePolicy": "iam:TagPolicy",
}
# The key under which the request's parameters are passed to `enforce`, in ministack's context. No condition key has this form.
_PARAMETERS = "registry-grants parameters"
# The second permission that this request lacks.
_LACKS = ContextVar("lacks", default="")


@replaces(actions, "extract_resource_arn")
def resource_arn(original, service, method, path, headers, body, parameters, region, account):
    """Returns the ARN with its path, from the request if it creates the resource, otherwise from the stored resource.

    A missing resource has no path, so it is checked as `role/NAME`: a policy that is limited to a path denies reading it.
    """
    if service != "iam":
        return original(service, method, path, headers, body, parameters, region, account)
    named = {
        key: actions._query_param(parameters, key) for key in ("Action", "Path", "RoleName", "InstanceProfileName")
    }
    for kind, name, store in (
        ("instance-profile", named["InstanceProfileName"], iam._instance_profiles),
        ("role", named["RoleName"], iam._roles),
    ):
        if name:
            if named["Action"].startswith("Create") or name not in store:
                return f"arn:aws:iam::{account}:{kind}{named['Path'] or '/'}{name}"
            return store.get(name)["Arn"]
    if named["Action"] == "CreatePolicy":
        return f"arn:aws:iam::{account}:policy{named['Path'] or '/'}{actions._query_param(parameters, 'PolicyName')}"
    return original(service, method, path, headers, body, parameters, region, account)


@replaces(actions, "request_tag_context")
def condition_keys(original, service, action, body, parameters):
    context = original(service, action, body, parameters)
    if service != "iam":
        return context
    role = iam._roles.get(actions._query_param(parameters, "RoleName"))
    profile = iam._instance_profiles.get(actions._query_param(parameters, "InstanceProfileName"))
    if action in _WITH_BOUNDARY:
        asked = actions._query_param(parameters, "PermissionsBoundary")
        boundary = asked if action in _SETS_BOUNDARY else (role or {}).get("PermissionsBoundary")
        if boundary:
            context["iam:PermissionsBoundary"] = boundary
    if action in _WITH_POLICY_ARN:
        context["iam:PolicyARN"] = actions._query_param(parameters, "PolicyArn")
    if not action.startswith("iam:Create"):
        # An action on a profile is only checked on the profile, even if it names a role.
        resource = profile if "InstanceProfileName" in parameters else role
        context.update(resource_tag_keys("iam", (resource or {}).get("Tags")))
    context[_PARAMETERS] = parameters
    return context


def resource_tag_keys(service, tags):
    return {f"{prefix}:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags or [] for prefix in ("aws", service)}


@replaces(evaluator, "enforce")
def enforce(original, access_key, action, service, region, resource_arn="*", service_context=None):
    """Checks the second permission of some actions: tagging what they create or assume, passing a role to a profile."""
    context = dict(service_context or {})
    parameters = context.pop(_PARAMETERS, {})

    def denied(wanted, on, keys):
        refusal = original(access_key, wanted, service, region, resource_arn=on, service_context=keys)
        _LACKS.set(wanted if refusal and wanted != action else "")
        return refusal

    refusal = denied(action, resource_arn, context)
    if not refusal and action in _TAGS_AS_WELL and any(key.lower().startswith("aws:requesttag/") for key in context):
        refusal = denied(_TAGS_AS_WELL[action], resource_arn, context)
    if not refusal and action == "iam:AddRoleToInstanceProfile":
        role = iam._roles.get(actions._query_param(parameters, "RoleName"))
        if role:
            refusal = denied("iam:PassRole", role["Arn"], {"iam:PassedToService": "ec2.amazonaws.com"})
    return refusal


@replaces(actions, "access_denied_response")
def access_denied_response(original, service, action, *arguments, **named):
    """Names the missing permission, which may differ from the call's name."""
    return original(service, _LACKS.get() or action, *arguments, **named)
