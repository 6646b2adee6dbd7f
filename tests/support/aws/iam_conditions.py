"""IAM's own permissions: which resource an action is checked on, with which condition keys, and what it needs besides.

The operator runs as a management role of least privilege: roles only under one path, only with one permissions boundary
and with its tag. ministack checks IAM actions on ARNs without paths and knows none of those condition keys, so such a
role could not be tested at all, neither what it may do nor what it is denied.
"""

from contextvars import ContextVar

import ministack.core.iam_actions as actions
import ministack.core.iam_evaluator as evaluator
import ministack.services.iam as iam

from aws.patching import replaces

# The actions that set these keys, by the service authorization reference. A policy that asks for one of them on any other
# action allows nothing, here as there.
_WITH_BOUNDARY = {
    "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:DeleteRolePermissionsBoundary", "iam:PutRolePolicy",
    "iam:DeleteRolePolicy", "iam:AttachRolePolicy", "iam:DetachRolePolicy",
}  # fmt: skip
_WITH_POLICY_ARN = {"iam:AttachRolePolicy", "iam:DetachRolePolicy"}
# These set the boundary that the condition is about; the others meet the one that the role has.
_SETS_BOUNDARY = {"iam:CreateRole", "iam:PutRolePermissionsBoundary"}
# Where these are given tags, by the second action.
_TAGS_AS_WELL = {
    "sts:AssumeRole": "sts:TagSession",
    "iam:CreateRole": "iam:TagRole",
    "iam:CreateInstanceProfile": "iam:TagInstanceProfile",
    "iam:CreatePolicy": "iam:TagPolicy",
}
# How the request's parameters reach `enforce`, through the context that ministack passes there; no condition key has
# this form.
_PARAMETERS = "registry-grants parameters"
# The second permission that this request lacks.
_LACKS = ContextVar("lacks", default="")


@replaces(actions, "extract_resource_arn")
def resource_arn(original, service, method, path, headers, body, parameters, region, account):
    """The ARN with its path: of the request where it creates, of what is stored otherwise.

    What does not exist has no path, so it is checked as `role/NAME`: a policy limited to a path denies reading it.
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
        # An action on a profile is an action on that alone, also where it names a role.
        resource = profile if "InstanceProfileName" in parameters else role
        context.update(resource_tag_keys("iam", (resource or {}).get("Tags")))
    context[_PARAMETERS] = parameters
    return context


def resource_tag_keys(service, tags):
    return {f"{prefix}:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags or [] for prefix in ("aws", service)}


@replaces(evaluator, "enforce")
def enforce(original, access_key, action, service, region, resource_arn="*", service_context=None):
    """Some actions need a second permission: tagging what is created or assumed, passing the role that joins a profile."""
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
    """Names the permission that is lacking, which need not be the one of the call's name."""
    return original(service, _LACKS.get() or action, *arguments, **named)
