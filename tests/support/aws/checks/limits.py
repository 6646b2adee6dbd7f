"""Limits of access that both sides grant: boundaries, denials on each side, a recreated principal."""

import datetime
import json
import time

from aws.checks.sides import ALL, PULL, READ, Sides, deny, deny_identity, statement
from aws.checks.stack import REGION, allow, client, policy, root, trust

PULL_ONLY = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly"
TOKEN = allow("ecr:GetAuthorizationToken")


class Boundaries(Sides):
    def setUp(self):
        super().setUp()
        self.open()

    def bound(self, *statements):
        """Sets the role's boundary to these statements, as a new version of the policy."""
        document = policy(*statements)
        if "PermissionsBoundary" in self.iam.get_role(RoleName="instance")["Role"]:
            arn = f"arn:aws:iam::{self.b}:policy/boundary"
            for version in self.iam.list_policy_versions(PolicyArn=arn)["Versions"]:
                if not version["IsDefaultVersion"]:
                    self.iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
            self.iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
        else:
            arn = self.iam.create_policy(PolicyName="boundary", PolicyDocument=document)["Policy"]["Arn"]
            self.iam.put_role_permissions_boundary(RoleName="instance", PermissionsBoundary=arn)

    def test_a_session_may_do_with_ecr_only_what_its_roles_boundary_allows(self):
        self.assertEqual(self.may(), ALL)
        self.bound(TOKEN, allow(PULL))
        self.assertEqual(self.may(), {"pull"})
        self.bound(TOKEN, allow(READ, self.arn))
        self.assertEqual(self.may(), {"list"})
        self.bound(TOKEN, allow("ecr:*", f"{self.arn}-other"))
        self.assertEqual(self.may(), set())
        self.bound(allow("ecr:*"))
        self.assertEqual(self.may(), ALL)

    def test_without_a_token_in_the_boundary_there_is_none(self):
        self.bound(allow("ecr:*", self.arn))
        self.assertRefused("AccessDeniedException", client("ecr", self.keys).get_authorization_token)

    def test_it_holds_for_the_token_that_a_client_already_has(self):
        with self.crane(self.keys) as crane:
            self.assertEqual(crane.pull("app:v1").returncode, 0)
            self.bound(TOKEN, allow(READ))
            self.assertRegex(crane.pull("app:v1").stdout, "DENIED|403 Forbidden")

    def test_a_policy_of_aws_can_be_the_boundary(self):
        self.iam.put_role_permissions_boundary(RoleName="instance", PermissionsBoundary=PULL_ONLY)
        self.assertEqual(self.may(), {"pull"})
        self.iam.delete_role_permissions_boundary(RoleName="instance")
        self.assertEqual(self.may(), ALL)

    def test_a_boundary_gives_nothing(self):
        self.bound(allow("*"))
        self.iam.delete_role_policy(RoleName="instance", PolicyName="permissions")
        self.assertRefused("AccessDeniedException", client("ecr", self.keys).get_authorization_token)

    def test_what_it_denies_is_denied(self):
        self.bound(allow("*"), deny_identity("ecr:PutImage"))
        self.assertEqual(self.may(), {"list", "pull"})

    def test_only_the_default_version_counts(self):
        self.bound(allow("*"))
        arn = f"arn:aws:iam::{self.b}:policy/boundary"
        self.iam.create_policy_version(PolicyArn=arn, PolicyDocument=policy(deny_identity("*")))
        self.assertEqual(self.may(), ALL)
        self.iam.set_default_policy_version(PolicyArn=arn, VersionId="v2")
        self.assertRefused("AccessDeniedException", client("ecr", self.keys).get_authorization_token)

    def test_it_limits_what_a_policy_of_the_same_account_gives_to_the_role(self):
        keys = self.instance(self.a, TOKEN)
        role = f"arn:aws:iam::{self.a}:role/instance"
        self.repository(statement({"AWS": role}))
        self.assertEqual(self.may(keys), ALL)
        client("iam", self.a).put_role_permissions_boundary(RoleName="instance", PermissionsBoundary=PULL_ONLY)
        self.assertEqual(self.may(keys), {"pull"})

    def test_a_role_is_assumed_only_where_the_callers_boundary_allows_it(self):
        role = f"arn:aws:iam::{self.a}:role/registry"
        client("iam", self.a).create_role(RoleName="registry", AssumeRolePolicyDocument=trust({"AWS": self.role}))
        assume = client("sts", self.keys).assume_role
        named = {"RoleArn": role, "RoleSessionName": "check"}
        assume(**named)
        for statements in ([allow("ecr:*")], [allow("sts:AssumeRole", f"{role}-other")]):
            self.bound(*statements)
            self.assertRefused("AccessDenied", assume, status=403, **named)
        self.bound(allow("sts:AssumeRole", role))
        assume(**named)

    def test_the_session_of_an_assumed_role_has_that_roles_boundary(self):
        iam = client("iam", self.a)
        document = trust({"AWS": root(self.b)})
        iam.create_role(RoleName="registry", AssumeRolePolicyDocument=document, PermissionsBoundary=PULL_ONLY)
        iam.put_role_policy(RoleName="registry", PolicyName="p", PolicyDocument=policy(allow("*")))
        self.assertEqual(self.may(self.session(self.keys, f"arn:aws:iam::{self.a}:role/registry")), {"pull"})


class Denials(Sides):
    def setUp(self):
        super().setUp()
        self.open()

    def test_one_in_the_callers_inline_policy(self):
        self.permit(allow("*"), deny_identity("ecr:PutImage", self.arn))
        self.assertEqual(self.may(), {"list", "pull"})
        self.permit(allow("*"), deny_identity("ecr:PutImage", f"{self.arn}-other"))
        self.assertEqual(self.may(), ALL)

    def test_one_in_a_managed_policy_that_is_attached(self):
        document = policy(deny_identity("ecr:GetDownloadUrlForLayer"))
        arn = self.iam.create_policy(PolicyName="no", PolicyDocument=document)["Policy"]["Arn"]
        self.iam.attach_role_policy(RoleName="instance", PolicyArn=arn)
        self.assertEqual(self.may(), {"list", "push"})
        self.iam.detach_role_policy(RoleName="instance", PolicyArn=arn)
        self.assertEqual(self.may(), ALL)

    def test_one_in_the_repositorys_policy(self):
        yes = statement({"AWS": root(self.b)})
        self.repository(yes, deny({"AWS": self.role}, "ecr:PutImage"))
        self.assertEqual(self.may(), {"list", "pull"})
        elsewhere = {"StringNotEquals": {"aws:PrincipalAccount": self.b}}
        self.repository(yes, deny(Condition=elsewhere))
        self.assertEqual(self.may(), ALL)
        self.assertEqual(self.may(self.instance(self.a, allow("*"))), set())

    def test_one_of_all_who_are_not_listed(self):
        yes = statement({"AWS": root(self.b)})
        session = client("sts", self.keys).get_caller_identity()["Arn"]
        no = {"Effect": "Deny", "Action": "ecr:*"}
        for listed, works in (
            ([root(self.a)], set()),
            ([root(self.b)], set()),
            ([root(self.b), self.role], set()),
            ([root(self.b), self.role, session], ALL),
        ):
            with self.subTest(listed):
                self.repository(yes, {**no, "NotPrincipal": {"AWS": listed}})
                self.assertEqual(self.may(), works)
        # A caller with a boundary is always denied.
        everything = self.iam.create_policy(PolicyName="all", PolicyDocument=policy(allow("*")))["Policy"]["Arn"]
        self.iam.put_role_permissions_boundary(RoleName="instance", PermissionsBoundary=everything)
        self.assertEqual(self.may(), set())

    def test_one_in_a_trust_policy(self):
        iam = client("iam", self.a)
        role = f"arn:aws:iam::{self.a}:role/registry"
        yes = {"Effect": "Allow", "Principal": {"AWS": root(self.b)}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName="registry", AssumeRolePolicyDocument=policy(yes))
        assume = client("sts", self.keys).assume_role
        named = {"RoleArn": role, "RoleSessionName": "check"}
        assume(**named)
        iam.update_assume_role_policy(
            RoleName="registry", PolicyDocument=policy(yes, {**yes, "Effect": "Deny", "Principal": {"AWS": self.role}})
        )
        self.assertRefused("AccessDenied", assume, status=403, **named)

    def test_one_of_sessions_from_before(self):
        def before(moment):
            issued = {"DateLessThan": {"aws:TokenIssueTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}}
            return deny_identity("*", Condition=issued)

        now = datetime.datetime.now(datetime.timezone.utc)
        self.permit(allow("*"), before(now - datetime.timedelta(hours=1)))
        self.assertEqual(self.may(), ALL)
        with self.crane(self.keys) as crane:
            time.sleep(1.1)  # it counts whole seconds
            self.permit(allow("*"), before(datetime.datetime.now(datetime.timezone.utc)))
            self.assertRefused("AccessDeniedException", client("ecr", self.keys).get_authorization_token)
            self.assertRegex(crane.pull("app:v1").stdout, "DENIED|403 Forbidden")
        self.assertEqual(self.may(self.session(self.b, self.role)), ALL)


class MadeAgain(Sides):
    def again(self):
        self.iam.delete_role_policy(RoleName="instance", PolicyName="permissions")
        self.iam.delete_role(RoleName="instance")
        self.keys = self.instance(self.b, allow("*"))

    def test_a_role_made_again_is_not_the_one_that_the_repositorys_policy_names(self):
        self.repository(statement({"AWS": self.role}))
        self.assertEqual(self.may(), ALL)
        before = self.iam.get_role(RoleName="instance")["Role"]
        self.again()
        after = self.iam.get_role(RoleName="instance")["Role"]
        self.assertEqual(after["Arn"], before["Arn"])
        self.assertNotEqual(after["RoleId"], before["RoleId"])
        text = self.ecr.get_repository_policy(repositoryName="app")["policyText"]
        self.assertEqual(json.loads(text)["Statement"][0]["Principal"], {"AWS": before["RoleId"]})
        self.assertEqual(self.may(), set())
        self.repository(statement({"AWS": self.role}))
        self.assertEqual(self.may(), ALL)

    def test_nor_the_one_that_the_registrys_policy_names(self):
        everything = f"arn:aws:ecr:{REGION}:{self.a}:repository/*"
        self.ecr.put_registry_policy(policyText=policy(statement({"AWS": self.role}, Resource=everything)))
        self.assertEqual(self.may(), ALL)
        self.again()
        self.assertEqual(self.may(), set())

    def test_nor_the_one_that_a_trust_policy_names(self):
        role = f"arn:aws:iam::{self.a}:role/registry"
        client("iam", self.a).create_role(RoleName="registry", AssumeRolePolicyDocument=trust({"AWS": self.role}))
        self.session(self.keys, role)
        self.again()
        assume = client("sts", self.keys).assume_role
        self.assertRefused("AccessDenied", assume, RoleArn=role, RoleSessionName="check", status=403)

    def test_a_condition_on_the_arn_and_the_account_mean_the_new_one_too(self):
        narrowed = {"ArnLike": {"aws:PrincipalArn": self.role}}
        self.repository(statement({"AWS": root(self.b)}, Condition=narrowed))
        self.again()
        self.assertEqual(self.may(), ALL)
