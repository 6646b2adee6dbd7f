"""Permission for AssumeRole: within one account, a trust policy that names the caller itself suffices.

ministack always requires an identity policy. AWS requires one across accounts, and if the trust policy names the caller's account,
because that delegates the decision to the account's own policies. A boundary limits what a trust policy allows to a role, and a
denial on either side denies. The evaluator does both if it gets the trust policy as the resource's policy. ministack always checks
the role's trust policy when it executes the call.

Conditions on the external ID and the session's name also apply to the caller's policies. ministack does not pass these keys to them.
"""

import ministack.core.iam_actions as actions
import ministack.core.iam_evaluator as evaluator
import ministack.services.iam as iam
from ministack.core.responses import get_account_id

from aws.patching import replaces

_KEYS = {"ExternalId": "sts:ExternalId", "RoleSessionName": "sts:RoleSessionName"}


@replaces(actions, "request_tag_context")
def condition_keys(original, service, action, body, parameters):
    context = original(service, action, body, parameters)
    if action == "sts:AssumeRole":
        asked = {key: actions._query_param(parameters, field) for field, key in _KEYS.items()}
        context.update({key: value for key, value in asked.items() if value})
    return context


@replaces(evaluator, "_resource_policy")
def trust_policy(original, service, arn):
    if service != "sts":
        return original(service, arn)
    role = iam._roles.get(arn.rpartition("/")[2])  # of the caller's account: the only case that this module decides
    return (role["AssumeRolePolicyDocument"], get_account_id()) if role and role["Arn"] == arn else None
