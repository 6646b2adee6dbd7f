"""Who may call AssumeRole: within one account a trust policy that names the caller itself is enough.

ministack asks for an identity policy in any case. AWS does where the trust policy names the caller's account, which leaves it to the
account's own policies, and across accounts. A boundary limits what a trust policy gives to a role, and a denial on
either side denies: the evaluator does both, once it knows the trust policy as the resource's policy that it is. The
role's account looks at its trust policy in any case, when the call is carried out.

Conditions on the external ID and on the session's name are also for the caller's policies, which ministack does not tell them.
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
    role = iam._roles.get(arn.rpartition("/")[2])  # of the caller's account: the only case that it decides
    return (role["AssumeRolePolicyDocument"], get_account_id()) if role and role["Arn"] == arn else None
