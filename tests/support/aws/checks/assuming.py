"""Assuming a role: when the trust policy alone suffices, and the conditions on both sides."""

from aws.checks.sides import deny_identity
from aws.checks.stack import Check, allow, client, policy, root, trust


class Assuming(Check):
    def setUp(self):
        self.a, self.b = self.account(), self.account()
        self.iam = client("iam", self.a)
        self.arn = f"arn:aws:iam::{self.a}:role/path/target"
        self.iam.create_role(RoleName="target", Path="/path/", AssumeRolePolicyDocument=trust({"AWS": root(self.a)}))

    def trust(self, principal, **more):
        self.iam.update_assume_role_policy(RoleName="target", PolicyDocument=trust(principal, **more))

    def assertDenied(self, keys, **more):
        assume = client("sts", keys).assume_role
        self.assertRefused("AccessDenied", assume, RoleArn=self.arn, RoleSessionName="check", status=403, **more)

    def test_in_one_account_naming_the_role_is_enough_naming_the_account_is_not(self):
        keys = self.instance(self.a)
        self.assertDenied(keys)
        self.trust({"AWS": f"arn:aws:iam::{self.a}:role/instance"})
        self.session(keys, self.arn)
        role = client("iam", self.a)
        role.put_role_policy(RoleName="instance", PolicyName="p", PolicyDocument=policy(deny_identity("sts:*")))
        self.assertDenied(keys)

    def test_a_boundary_limits_that(self):
        keys = self.instance(self.a)
        self.trust({"AWS": f"arn:aws:iam::{self.a}:role/instance"})
        only_ecr = self.iam.create_policy(PolicyName="only-ecr", PolicyDocument=policy(allow("ecr:*")))["Policy"]["Arn"]
        self.iam.put_role_permissions_boundary(RoleName="instance", PermissionsBoundary=only_ecr)
        self.assertDenied(keys)

    def test_across_accounts_it_is_not_enough(self):
        keys = self.instance(self.b)
        self.trust({"AWS": f"arn:aws:iam::{self.b}:role/instance"})
        self.assertDenied(keys)

    def test_a_condition_on_the_external_id_takes_it(self):
        asked = {"StringEquals": {"sts:ExternalId": ["one", "other"]}}
        for account in (self.a, self.b):
            keys = self.instance(account, allow("sts:AssumeRole"), name="caller")
            for principal in (root(account), f"arn:aws:iam::{account}:role/caller"):
                with self.subTest(account=account, principal=principal):
                    self.trust({"AWS": principal}, Condition=asked)
                    self.assertDenied(keys)
                    self.assertDenied(keys, ExternalId="wrong")
                    self.session(keys, self.arn, ExternalId="other")
        self.trust({"AWS": root(self.b)}, Condition={"Null": {"sts:ExternalId": "true"}})
        self.assertDenied(keys, ExternalId="one")
        self.session(keys, self.arn)

    def test_a_callers_own_policy_may_ask_for_it_too(self):
        asked = {"StringEquals": {"sts:ExternalId": "one"}}
        self.trust({"AWS": root(self.b)})
        keys = self.instance(self.b, allow("sts:AssumeRole", self.arn, Condition=asked))
        self.assertDenied(keys)
        self.session(keys, self.arn, ExternalId="one")

    def test_a_trust_policy_may_end_what_old_sessions_may(self):
        keys = self.instance(self.b, allow("sts:AssumeRole"))
        for year, allowed in (("2000", True), ("2100", False)):
            with self.subTest(year):
                issued = {"DateGreaterThan": {"aws:TokenIssueTime": f"{year}-01-01T00:00:00Z"}}
                self.trust({"AWS": root(self.b)}, Condition=issued)
                if allowed:
                    self.session(keys, self.arn)
                else:
                    self.assertDenied(keys)
