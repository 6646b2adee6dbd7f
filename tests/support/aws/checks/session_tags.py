"""Transitive session tags, and the trust policy that the operator prints for such sessions."""

import json
from pathlib import Path

from aws.checks.sides import deny_identity
from aws.checks.stack import Check, allow, client, policy, root, trust

EXAMPLES = Path(__file__).resolve().parents[4] / "examples" / "management-roles"
POD_IDENTITY = {
    "eks-cluster-arn": "arn:aws:eks:us-east-1:333333333333:cluster/tools",
    "eks-cluster-name": "tools",
    "kubernetes-namespace": "registry-grants",
    "kubernetes-pod-name": "registry-grants-6f8d9c7b54-x2x4k",
    "kubernetes-pod-uid": "6b8b9bd0-52c7-4d5c-9d36-0c1c2b0c7a11",
    "kubernetes-service-account": "registry-grants",
}
OURS = {"registrygrants.dev/installation": "0123456789ab", "registrygrants.dev/namespace": "team-b"}


def listed(tags):
    return [{"Key": key, "Value": value} for key, value in tags.items()]


class SessionTags(Check):
    def setUp(self):
        self.registry, self.operator = self.account(), self.account()

    def operators_session(self, *statements):
        """Returns a session with the tags of EKS Pod Identity, all transitive."""
        iam = client("iam", self.operator)
        service = trust({"Service": "pods.eks.amazonaws.com"}, Action=["sts:AssumeRole", "sts:TagSession"])
        role = iam.create_role(RoleName="registry-grants-operator", AssumeRolePolicyDocument=service)["Role"]["Arn"]
        both = allow(["sts:AssumeRole", "sts:TagSession"])
        document = policy(both, *statements)
        iam.put_role_policy(RoleName="registry-grants-operator", PolicyName="p", PolicyDocument=document)
        keys = list(POD_IDENTITY)
        return self.session(self.operator, role, Tags=listed(POD_IDENTITY), TransitiveTagKeys=keys)

    def management_role(self, document):
        iam = client("iam", self.registry)
        return iam.create_role(RoleName="registry-grants", AssumeRolePolicyDocument=document)["Role"]["Arn"]

    def printed_trust(self):
        text = (EXAMPLES / "registry" / "trust.json").read_text().replace("333333333333", self.operator)
        return json.dumps(json.loads(text))

    def test_a_tag_that_is_passed_on_takes_permission_to_tag_on_both_sides(self):
        keys = self.operators_session()
        role = self.management_role(trust({"AWS": root(self.operator)}))
        assume = client("sts", keys).assume_role
        said = self.assertRefused("AccessDenied", assume, RoleArn=role, RoleSessionName="check", status=403)
        self.assertIn("sts:TagSession", said)
        both = trust({"AWS": root(self.operator)}, Action=["sts:AssumeRole", "sts:TagSession"])
        client("iam", self.registry).update_assume_role_policy(RoleName="registry-grants", PolicyDocument=both)
        chained = self.session(keys, role)
        # The tag stays transitive.
        further = client("iam", self.registry).create_role(
            RoleName="further", AssumeRolePolicyDocument=trust({"AWS": f"arn:aws:iam::{self.registry}:role/registry-grants"})
        )["Role"]["Arn"]
        said = self.assertRefused("AccessDenied", client("sts", chained).assume_role, RoleArn=further, RoleSessionName="check")
        self.assertIn("sts:TagSession", said)

    def test_a_callers_own_denial_of_tagging_counts(self):
        keys = self.operators_session(deny_identity("sts:TagSession"))
        role = self.management_role(self.printed_trust())
        assume = client("sts", keys).assume_role
        self.assertRefused(
            "AccessDenied", assume, RoleArn=role, RoleSessionName="check", ExternalId="registry-grants-example", status=403
        )

    def test_a_tag_that_is_passed_on_cannot_be_set_again(self):
        keys = self.operators_session()
        role = self.management_role(self.printed_trust())
        assume = client("sts", keys).assume_role
        again = listed({"Kubernetes-Namespace": "other"})
        self.assertRefused(
            "InvalidParameterValue",
            assume,
            RoleArn=role,
            RoleSessionName="check",
            ExternalId="registry-grants-example",
            Tags=again,
        )

    def test_the_printed_trust_policy_lets_such_a_session_in_with_our_tags_and_with_no_other(self):
        keys = self.operators_session()
        role = self.management_role(self.printed_trust())
        self.session(keys, role, ExternalId="registry-grants-example", Tags=listed(OURS))
        other = listed({**OURS, "team": "b"})
        assume = client("sts", keys).assume_role
        self.assertRefused(
            "AccessDenied", assume, RoleArn=role, RoleSessionName="check", ExternalId="registry-grants-example", Tags=other
        )

    def test_there_is_no_room_for_the_tag_of_a_long_namespace(self):
        keys = self.operators_session()
        role = self.management_role(self.printed_trust())
        assume = client("sts", keys).assume_role
        long = {**OURS, "registrygrants.dev/namespace": "n" * 63}
        self.assertRefused(
            "PackedPolicyTooLarge",
            assume,
            RoleArn=role,
            RoleSessionName="check",
            ExternalId="registry-grants-example",
            Tags=listed(long),
            status=400,
        )
        del long["registrygrants.dev/namespace"]
        self.session(keys, role, ExternalId="registry-grants-example", Tags=listed(long))
