"""SetDefaultPolicyVersion, which ministack lacks. Tests restore a boundary with it."""

import ministack.services.iam as iam


def set_default_policy_version(parameters):
    arn, version = iam._p(parameters, "PolicyArn"), iam._p(parameters, "VersionId")
    if iam._is_aws_managed_arn(arn):
        return iam._error(403, "AccessDenied", f"The policy {arn} is of AWS.")
    policy = iam._policies.get(arn)
    if not policy or version not in policy["Versions"]:
        return iam._error(404, "NoSuchEntity", f"Policy {arn} version {version} does not exist or is not attachable.")
    for each in policy["Versions"].values():
        each["IsDefaultVersion"] = each["VersionId"] == version
    policy.update(DefaultVersionId=version, UpdateDate=iam._now())
    return iam._xml(200, "SetDefaultPolicyVersionResponse", "")


iam._IAM_HANDLERS["SetDefaultPolicyVersion"] = set_default_policy_version
