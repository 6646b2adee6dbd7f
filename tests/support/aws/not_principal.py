"""`Deny` with `NotPrincipal`. ministack ignores such a statement, so a policy that denies access to all but a few would deny nothing.

AWS denies every principal that is not listed. A caller is several principals at once (its account, its role, its session), which must
all be listed. A caller with a permissions boundary is always denied. `Allow` with `NotPrincipal` allows nothing here, although AWS
would allow nearly every caller.
"""

import ministack.core.iam_evaluator as evaluator
import ministack.services.iam as iam

from aws.patching import replaces
from aws.policy_documents import as_list, readable_statements


@replaces(evaluator, "evaluate_resource_policy")
def evaluate(original, document, context, *arguments, **named):
    statements = []
    for statement in readable_statements(document):
        if "NotPrincipal" in statement and statement.get("Effect") == "Deny":
            if _listed(statement["NotPrincipal"], context):
                continue
            statement = {**statement, "Principal": "*"}
        statements.append(statement)
    return original({"Statement": statements}, context, *arguments, **named)


def _listed(listed, context):
    if listed == "*":
        return True
    if context.principal_type == "Service":
        return context.principal_arn in as_list(listed.get("Service"))
    aws = as_list(listed.get("AWS"))
    # The role of a session, otherwise the caller itself.
    entity = evaluator._resolve_condition_key("aws:PrincipalArn", context)
    account = context.principal_account
    of_account = account in aws or f"arn:aws:iam::{account}:root" in aws
    return "*" in aws or (of_account and _each_in(aws, entity, context) and not _bounded(entity, account))


def _each_in(listed, entity, context):
    return context.principal_type == "Root" or {entity, context.principal_arn} <= set(listed)


def _bounded(entity, account):
    store = iam._roles if ":role/" in entity else iam._users
    return bool((store.get_scoped(account, None, entity.rpartition("/")[2]) or {}).get("PermissionsBoundary"))
