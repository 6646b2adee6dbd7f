"""AWS services as callers: Lambda, which fetches a function's image with its service principal.

No Lambda runs here, so no test could show whether a statement for `lambda.amazonaws.com` allows the right functions. A
test requests the decision instead:

    POST /_stack/service-may  {"service": "lambda.amazonaws.com", "action": "ecr:BatchGetImage", "repository": ARN,
                               "sourceArn": ARN, "sourceAccount": "2222…"}   → {"decision": "Allow"}

The same evaluator decides as for every other call, with the stored policy. A service has no identity policy, so only the
repository's policy matters.
"""

import ministack.core.iam_evaluator as evaluator
import ministack.services.ecr as ecr

from aws.patching import replaces

_TYPE = "Service"
# Keys that identify the calling IAM identity. A service is not one.
_OF_IDENTITIES = {"aws:principalarn", "aws:principalaccount", "aws:principaltype", "aws:userid", "aws:username"}


def may(asked):
    arn = asked["repository"]
    account, _, repository = arn.partition(":repository/")
    region, account = account.split(":")[3:5]
    if ecr._repositories.get_scoped(account, region, repository) is None:
        raise ValueError(f"there is no {arn}")
    context = evaluator.EvalContext(
        principal_arn=asked["service"],
        principal_type=_TYPE,
        principal_account="",
        action=asked["action"],
        resource_arn=arn,
        region=region,
        service_context={
            "aws:sourcearn": asked["sourceArn"],
            "aws:sourceaccount": asked["sourceAccount"],
            "aws:principalservicename": asked["service"],
        },
    )
    policy, _ = ecr.repository_policy_for_arn(arn)
    return {"decision": evaluator.evaluate_resource_policy(policy, context, service=asked["service"]).decision}


@replaces(evaluator, "_resolve_condition_key")
def keys_of_a_service(original, key, context):
    """Checks that a statement that requires a role's ARN does not apply to services, and the other way round."""
    if key.lower() == "aws:principalisawsservice":
        return str(context.principal_type == _TYPE).lower()
    if context.principal_type == _TYPE and key.lower() in _OF_IDENTITIES:
        return None
    return original(key, context)
