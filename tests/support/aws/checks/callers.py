"""Callers that are identified by more than their account: members of an organization, and AWS services."""

import json
import tempfile
import urllib.error

from aws.checks.stack import REGION, Check, allow, client, control, policy, root, trust
from aws.checks.story import Crane

PULL = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:ListImages"]
ORGANIZATION = "o-a1b2c3d4e5"
TEAM = f"{ORGANIZATION}/r-ab12/ou-ab12-11111111/"
INSIDE = f"{TEAM}ou-ab12-22222222/"
BESIDE = f"{ORGANIZATION}/r-ab12/ou-ab12-33333333/"
IN_ORGANIZATION = {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION}}
IN_TEAM = {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": [f"{TEAM}*"]}}


def statement(principal, action, **more):
    return {"Effect": "Allow", "Principal": principal, "Action": action, **more}


class Repository(Check):
    def setUp(self):
        self.own = self.account()
        self.ecr = client("ecr", self.own)
        self.ecr.create_repository(repositoryName="app")
        self.arn = f"arn:aws:ecr:{REGION}:{self.own}:repository/app"

    def set(self, *statements):
        self.ecr.set_repository_policy(repositoryName="app", policyText=policy(*statements))


class Organizations(Repository):
    def member(self, path):
        account = self.account()
        control("/_stack/organizations", {"account": account, "path": path})
        return account

    def may_list(self, keys):
        try:
            client("ecr", keys).list_images(registryId=self.own, repositoryName="app")
        except client("ecr", keys).exceptions.ClientError as refused:
            self.assertEqual(refused.response["Error"]["Code"], "AccessDeniedException")
            return False
        return True

    def callers(self):
        """A member of the unit, one of another unit, one of another organization and one of none, each with all permissions."""
        accounts = [self.member(path) for path in (INSIDE, BESIDE, "o-9999999999/r-ab12/ou-ab12-11111111/", None)]
        return [self.instance(account, allow("*")) for account in accounts]

    def assertWho(self, who, callers, condition):
        for everyone in ("*", {"AWS": "*"}):
            with self.subTest(condition=condition, everyone=everyone):
                self.set(statement(everyone, PULL, Condition=condition))
                self.assertEqual([self.may_list(keys) for keys in callers], who)

    def test_a_condition_on_the_organization_or_on_paths_in_it_lets_its_members_in(self):
        callers = self.callers()
        self.assertWho([True, True, False, False], callers, IN_ORGANIZATION)
        self.assertWho([True, False, False, False], callers, IN_TEAM)
        exactly = {"ForAnyValue:StringEquals": {"aws:PrincipalOrgPaths": [BESIDE, "o-x"]}}
        self.assertWho([False, True, False, False], callers, exactly)
        self.assertWho([True, False, False, False], callers, {**IN_ORGANIZATION, **IN_TEAM})

    def test_who_is_in_no_organization_has_neither_key(self):
        callers = self.callers()
        nowhere = {"Null": {"aws:PrincipalOrgID": "true", "aws:PrincipalOrgPaths": "true"}}
        self.assertWho([False, False, False, True], callers, nowhere)
        # Also true for the empty set, which is why it should not be used in an Allow.
        for_all = {"ForAllValues:StringLike": {"aws:PrincipalOrgPaths": f"{TEAM}*"}}
        self.assertWho([True, False, False, True], callers, for_all)
        not_ours = {"StringNotEquals": {"aws:PrincipalOrgID": ORGANIZATION}}
        self.assertWho([False, False, True, True], callers, not_ours)

    def test_a_list_of_paths_needs_an_operator_for_lists(self):
        forgotten = {"StringLike": {"aws:PrincipalOrgPaths": f"{TEAM}*"}}
        self.assertWho([False, False, False, False], self.callers(), forgotten)

    def test_who_leaves_the_organization_is_a_stranger(self):
        account = self.member(INSIDE)
        keys = self.instance(account, allow("*"))
        self.set(statement("*", PULL, Condition=IN_TEAM))
        self.assertTrue(self.may_list(keys))
        control("/_stack/organizations", {"account": account, "path": None})
        self.assertFalse(self.may_list(keys))

    def test_the_root_of_a_member_is_one_of_it(self):
        self.set(statement({"AWS": "*"}, PULL, Condition=IN_ORGANIZATION))
        self.assertTrue(self.may_list(self.member(INSIDE)))
        self.assertFalse(self.may_list(self.account()))

    def test_a_members_own_permissions_are_needed_as_well(self):
        self.set(statement("*", PULL, Condition=IN_ORGANIZATION))
        self.assertFalse(self.may_list(self.instance(self.member(INSIDE))))

    def test_trust_policies_know_organizations(self):
        iam = client("iam", self.own)
        for name, condition, who in (
            ("organization", IN_ORGANIZATION, [True, True, False, False]),
            ("team", IN_TEAM, [True, False, False, False]),
        ):
            document = trust({"AWS": "*"}, Condition=condition)
            role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
            for keys, expected in zip(self.callers(), who, strict=True):
                with self.subTest(condition=condition, expected=expected):
                    if expected:
                        self.session(keys, role)
                    else:
                        named = {"RoleArn": role, "RoleSessionName": "check"}
                        self.assertRefused("AccessDenied", client("sts", keys).assume_role, status=403, **named)

    def test_the_registry_knows_organizations(self):
        registry = f"{self.own}.dkr.ecr.{REGION}.amazonaws.com"
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(Crane(folder, registry, self.own).push("app:v1").returncode, 0)
        self.set(statement({"AWS": "*"}, PULL, Condition=IN_TEAM))
        came = []
        for keys in self.callers():
            with tempfile.TemporaryDirectory() as folder:
                came.append(Crane(folder, registry, keys).pull("app:v1"))
        self.assertEqual([ran.returncode == 0 for ran in came], [True, False, False, False], came)
        for ran in came[1:]:
            self.assertRegex(ran.stdout, "DENIED|403 Forbidden")

    def test_a_path_that_is_none_is_refused(self):
        for path in (ORGANIZATION, "r-ab12/", f"{ORGANIZATION}/r-ab12", "o-X/r-ab12/"):
            with self.subTest(path), self.assertRaises(urllib.error.HTTPError) as refused:
                self.member(path)
            self.assertEqual(refused.exception.code, 400)
            refused.exception.close()


class Services(Repository):
    LAMBDA = {"Service": "lambda.amazonaws.com"}

    def may(self, account, service="lambda.amazonaws.com", action="ecr:BatchGetImage"):
        asked = {
            "service": service,
            "action": action,
            "repository": self.arn,
            "sourceArn": f"arn:aws:lambda:{REGION}:{account}:function:f",
            "sourceAccount": account,
        }
        return control("/_stack/service-may", asked)["decision"]

    def test_lambda_of_the_account_that_is_meant_gets_the_image_and_no_other(self):
        consumer, other = self.account(), self.account()
        self.assertEqual(self.may(consumer), "ImplicitDeny")
        functions = f"arn:aws:lambda:{REGION}:{consumer}:function:*"
        for condition in (
            {"StringLike": {"aws:sourceArn": functions}},
            {"ArnLike": {"aws:SourceArn": functions}},
            {"StringEquals": {"aws:SourceAccount": consumer}},
        ):
            with self.subTest(condition):
                self.set(statement(self.LAMBDA, PULL, Condition=condition))
                self.assertEqual((self.may(consumer), self.may(other)), ("Allow", "ImplicitDeny"))
                self.assertEqual(self.may(consumer, service="ecs.amazonaws.com"), "ImplicitDeny")
                self.assertEqual(self.may(consumer, action="ecr:PutImage"), "ImplicitDeny")

    def test_a_service_is_nobodys_role_and_in_no_organization(self):
        consumer = self.account()
        control("/_stack/organizations", {"account": consumer, "path": INSIDE})
        self.set(statement({"AWS": root(consumer)}, PULL))
        self.assertEqual(self.may(consumer), "ImplicitDeny")
        self.set(statement("*", PULL, Condition={"ArnLike": {"aws:PrincipalArn": "*"}}))
        self.assertEqual(self.may(consumer), "ImplicitDeny")
        self.set(statement("*", PULL, Condition=IN_ORGANIZATION))
        self.assertEqual(self.may(consumer), "ImplicitDeny")

    def test_a_denial_of_services_is_one_of_services_alone(self):
        consumer = self.account()
        keys = self.instance(consumer, allow("*"))
        deny = {"Effect": "Deny", "Principal": "*", "Action": "ecr:*"}
        self.set(
            statement(self.LAMBDA, PULL),
            statement({"AWS": root(consumer)}, PULL),
            {**deny, "Condition": {"Bool": {"aws:PrincipalIsAWSService": "true"}}},
        )
        self.assertEqual(self.may(consumer), "Deny")
        client("ecr", keys).list_images(registryId=self.own, repositoryName="app")

    def test_a_statement_for_a_service_lets_no_identity_in(self):
        self.set(statement(self.LAMBDA, PULL))
        for keys in (self.account(), self.instance(self.account(), allow("*"))):
            call = client("ecr", keys).list_images
            self.assertRefused("AccessDeniedException", call, registryId=self.own, repositoryName="app")


class PlantedPolicies(Repository):
    def test_a_text_that_ecr_would_refuse_can_be_there_all_the_same(self):
        for text in ("{", '{"Statement":[],"Statement":[]}', ""):
            with self.subTest(text):
                asked = {"account": self.own, "region": REGION, "repository": "app", "text": text}
                control("/_stack/plant-policy", asked)
                self.assertEqual(self.ecr.get_repository_policy(repositoryName="app")["policyText"], text)
                # A policy that cannot be read allows nothing, and can be replaced.
                keys = self.instance(self.account(), allow("*"))
                call = client("ecr", keys).list_images
                self.assertRefused("AccessDeniedException", call, registryId=self.own, repositoryName="app")
                self.set(statement("*", PULL))
                set_now = json.loads(self.ecr.get_repository_policy(repositoryName="app")["policyText"])
                self.assertEqual(set_now["Statement"][0]["Principal"], "*")
