"""`Deny` with `NotPrincipal`: ministack passes over such a statement, so a policy that shuts out all but a few shut out nobody.

AWS denies everybody who is not listed. A caller is several principals at once (its account, its role, its session), all of which
have to be listed; and whoever has a permissions boundary is denied whatever is listed. `Allow` with `NotPrincipal` allows nothing
here, where AWS would let in nearly everybody.
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
    # The role of a session, else the caller itself.
    entity = evaluator._resolve_condition_key("aws:PrincipalArn", context)
    account = context.principal_account
    of_account = account in aws or f"arn:aws:iam::{account}:root" in aws
    return "*" in aws or (of_account and _each_in(aws, entity, context) and not _bounded(entity, account))


def _each_in(listed, entity, context):
    return context.principal_type == "Root" or {entity, context.principal_arn} <= set(listed)


def _bounded(entity, account):
    store = iam._roles if ":role/" in entity else iam._users
    return bool((store.get_scoped(account, None, entity.rpartition("/")[2]) or {}).get("PermissionsBoundary"))
