"""AWS services as callers: Lambda, which gets a function's image by its own service principal.

No Lambda runs here, so nothing ever called a repository as a service, and nobody could say whether a statement for
`lambda.amazonaws.com` lets in the functions that it should. A test asks for the decision instead:

    POST /_stack/service-may  {"service": "lambda.amazonaws.com", "action": "ecr:BatchGetImage", "repository": ARN,
                               "sourceArn": ARN, "sourceAccount": "2222…"}   → {"decision": "Allow"}

It is made by the evaluator that decides every other call, on the policy as it is stored. A service has no identity policy, so
the repository's policy alone decides.
"""

import ministack.core.iam_evaluator as evaluator
import ministack.services.ecr as ecr

from aws.patching import replaces

_TYPE = "Service"
# Keys that say which IAM identity calls; a service is none.
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
    """A statement that asks for a role's ARN is not about services, and one for services is not about roles."""
    if key.lower() == "aws:principalisawsservice":
        return str(context.principal_type == _TYPE).lower()
    if context.principal_type == _TYPE and key.lower() in _OF_IDENTITIES:
        return None
    return original(key, context)
