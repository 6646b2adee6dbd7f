"""The AWS managed policies of ECR. ministack attaches any name, but an unknown one grants nothing."""

import json

import ministack.services.iam as iam

from aws.patching import replaces

_PULL = [
    "ecr:GetAuthorizationToken",
    "ecr:BatchCheckLayerAvailability",
    "ecr:GetDownloadUrlForLayer",
    "ecr:GetRepositoryPolicy",
    "ecr:DescribeRepositories",
    "ecr:ListImages",
    "ecr:DescribeImages",
    "ecr:BatchGetImage",
    "ecr:GetLifecyclePolicy",
    "ecr:GetLifecyclePolicyPreview",
    "ecr:ListTagsForResource",
    "ecr:DescribeImageScanFindings",
]
_PUSH = ["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"]

POLICIES = {
    "AmazonEC2ContainerRegistryPullOnly": [
        "ecr:GetAuthorizationToken",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchImportUpstreamImage",
    ],
    "AmazonEC2ContainerRegistryReadOnly": _PULL,
    "AmazonEC2ContainerRegistryPowerUser": _PULL + _PUSH,
    "AmazonEC2ContainerRegistryFullAccess": ["ecr:*", "cloudtrail:LookupEvents"],
}
# AWS has changed these, so the default version is not the first: a client that reads `v1` gets another document.
DEFAULT_VERSIONS = {"AmazonEC2ContainerRegistryReadOnly": "v3", "AmazonEC2ContainerRegistryPowerUser": "v3"}


@replaces(iam, "_seed_aws_managed_policies")
def seed(original):
    original()
    for name, actions in POLICIES.items():
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        arn = iam._AWS_MANAGED_POLICY_PREFIX + name
        record = iam._make_aws_managed_record(name, json.dumps(document))
        version = DEFAULT_VERSIONS.get(name, "v1")
        # AWS still returns earlier versions; the emulation has none.
        record.update(DefaultVersionId=version, Versions={version: {**record["Versions"]["v1"], "VersionId": version}})
        iam._aws_managed_policies[arn] = record


iam._seed_aws_managed_policies()
