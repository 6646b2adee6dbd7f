"""Registry policies: writes, reads, and their effect on every request to the registry."""

import json

from aws.checks.sides import ALL, PULL, READ, Sides, deny, statement
from aws.checks.stack import REGION, Check, allow, client, control, policy, root, trust
from aws.checks.story import PUSH_AND_PULL

NOT_FOUND = "RegistryPolicyNotFoundException"


class Written(Check):
    def setUp(self):
        self.own = self.account()
        self.ecr = client("ecr", self.own)

    def put(self, *statements):
        return self.ecr.put_registry_policy(policyText=policy(*statements))

    def principal(self):
        return json.loads(self.ecr.get_registry_policy()["policyText"])["Statement"][0]["Principal"]

    def test_without_one_it_is_not_found(self):
        for call in (self.ecr.get_registry_policy, self.ecr.delete_registry_policy):
            self.assertRefused(NOT_FOUND, call, status=400)

    def test_it_comes_back_as_ecr_prints_it_until_it_is_deleted(self):
        put = self.put(statement({"AWS": [self.own]}, PULL, Resource=["*"], Sid="all of it"))
        got = self.ecr.get_registry_policy()
        for answer in (put, got):
            self.assertEqual(answer["registryId"], self.own)
        self.assertEqual(put["policyText"], got["policyText"])
        self.assertEqual(self.principal(), {"AWS": root(self.own)})
        self.put(statement("*", PULL, Resource="*"))
        self.assertEqual(self.principal(), "*")
        self.assertEqual(self.ecr.delete_registry_policy()["registryId"], self.own)
        self.assertRefused(NOT_FOUND, self.ecr.get_registry_policy)

    def test_each_account_and_region_has_its_own(self):
        self.put(statement("*", PULL, Resource="*"))
        for other in (client("ecr", self.account()), client("ecr", self.own, "eu-central-1")):
            self.assertRefused(NOT_FOUND, other.get_registry_policy)

    def test_malformed_ones_are_refused(self):
        for text in (
            "not JSON",
            policy(allow("ecr:*")),
            policy(statement("*")),
            policy(statement("*", "s3:GetObject", Resource="*")),
            policy(statement("*", Resource="here")),
            policy(statement({"AWS": f"arn:aws:iam::{self.own}:role/none"}, Resource="*")),
            policy(statement("*", Resource="*", Sid="x" * 10240)),
        ):
            with self.subTest(text[:80]):
                put = self.ecr.put_registry_policy
                self.assertRefused("InvalidParameterException", put, policyText=text, status=400)
        self.assertRefused(NOT_FOUND, self.ecr.get_registry_policy)

    def test_each_call_takes_its_permission_on_everything(self):
        calls = {"Get": "get_registry_policy", "Put": "put_registry_policy", "Delete": "delete_registry_policy"}
        for name, method in calls.items():
            self.put(statement("*", PULL, Resource="*"))
            named = {"policyText": policy(statement("*", PULL, Resource="*"))} if name == "Put" else {}
            action = f"ecr:{name}RegistryPolicy"
            for permitted, resource in ((True, "*"), (False, f"arn:aws:ecr:{REGION}:{self.own}:repository/*")):
                with self.subTest(action=action, permitted=permitted):
                    keys = self.instance(self.own, allow(action, resource), name=f"{name}{permitted}")
                    call = getattr(client("ecr", keys), method)
                    if permitted:
                        call(**named)
                    else:
                        self.assertRefused("AccessDeniedException", call, status=400, **named)

    def test_a_deleted_principal_shows_as_its_id(self):
        iam = client("iam", self.own)
        role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust({"AWS": root(self.own)}))["Role"]
        self.put(statement({"AWS": role["Arn"]}, Resource="*"))
        self.assertEqual(self.principal(), {"AWS": role["Arn"]})
        iam.delete_role(RoleName="r")
        self.assertEqual(self.principal(), {"AWS": role["RoleId"]})


class Enforced(Sides):
    def put(self, *statements, region=REGION):
        client("ecr", self.a, region).put_registry_policy(policyText=policy(*statements))

    def all(self, account=None):
        return f"arn:aws:ecr:{REGION}:{account or self.a}:repository/*"

    def test_what_it_denies_is_denied_whatever_the_repository_allows(self):
        self.open()
        self.assertEqual(self.may(), ALL)
        self.put(deny({"AWS": root(self.b)}, Resource=self.all()))
        self.assertEqual(self.may(), set())
        self.put(deny({"AWS": self.role}, ["ecr:PutImage", *READ], Resource=self.all()))
        self.assertEqual(self.may(), {"pull"})
        self.ecr.delete_registry_policy()
        self.assertEqual(self.may(), ALL)

    def test_it_denies_the_registrys_own_roles_too(self):
        keys = self.instance(self.a, allow("*"))
        self.assertEqual(self.may(keys), ALL)
        self.put(deny("*", "ecr:PutImage", Resource="*"))
        self.assertEqual(self.may(keys), {"list", "pull"})

    def test_a_denial_counts_for_calls_about_no_repository(self):
        ecr = client("ecr", self.instance(self.a, allow("*")))
        for call in (ecr.get_authorization_token, ecr.get_registry_policy):
            self.put(deny("*", "ecr:Get*", Resource=self.all()))
            call()
            self.put(deny("*", "ecr:Get*", Resource="*"))
            self.assertRefused("AccessDeniedException", call, status=400)
        # A token is requested from the caller's own registry, not from those where it is used.
        client("ecr", self.keys).get_authorization_token()

    def test_what_it_allows_is_allowed_like_by_the_repositorys_policy(self):
        self.put(statement({"AWS": root(self.b)}, Resource=self.all()))
        self.assertEqual(self.may(), ALL)
        self.permit(allow("ecr:GetAuthorizationToken"), allow(PULL))
        self.assertEqual(self.may(), {"pull"})
        self.assertEqual(self.may(self.instance(self.account(), allow("*"))), set())

    def test_it_and_the_repositorys_policy_together_allow_what_either_does(self):
        self.repository(statement({"AWS": root(self.b)}, PULL))
        self.assertEqual(self.may(), {"pull"})
        rest = [action for action in PUSH_AND_PULL if action not in PULL]
        self.put(statement({"AWS": root(self.b)}, rest, Resource=self.arn))
        self.assertEqual(self.may(), ALL)

    def test_it_is_about_the_repositories_that_it_names(self):
        for resource in (f"{self.arn}-other", self.all(self.b), f"arn:aws:ecr:{REGION}:{self.a}:repository/team/*"):
            with self.subTest(resource):
                self.put(statement({"AWS": root(self.b)}, Resource=resource))
                self.assertEqual(self.may(), set())
        self.put(statement({"AWS": root(self.b)}, Resource=self.arn))
        self.assertEqual(self.may(), ALL)

    def test_it_is_about_its_own_region(self):
        self.put(statement({"AWS": root(self.b)}, Resource="*"), region="eu-central-1")
        self.assertEqual(self.may(), set())

    def test_in_its_own_account_a_role_that_it_names_needs_no_other_permission(self):
        keys = self.instance(self.a)
        role = f"arn:aws:iam::{self.a}:role/instance"
        token = statement({"AWS": role}, "ecr:GetAuthorizationToken", Resource="*")
        self.put(token, statement({"AWS": root(self.a)}, READ, Resource="*"))
        self.assertEqual(self.may(keys), set())
        self.put(token, statement({"AWS": role}, READ, Resource="*"))
        self.assertEqual(self.may(keys), {"list"})

    def test_it_may_let_others_make_repositories(self):
        create = client("ecr", self.keys).create_repository
        named = {"registryId": self.a, "repositoryName": "b/new"}
        self.assertRefused("AccessDeniedException", create, **named)
        own = f"arn:aws:ecr:{REGION}:{self.a}:repository/b/*"
        self.put(statement({"AWS": root(self.b)}, "ecr:CreateRepository", Resource=own))
        self.assertEqual(create(**named)["repository"]["registryId"], self.a)

    def test_it_may_let_services_in(self):
        asked = {
            "service": "lambda.amazonaws.com",
            "action": "ecr:BatchGetImage",
            "repository": self.arn,
            "sourceArn": f"arn:aws:lambda:{REGION}:{self.b}:function:f",
            "sourceAccount": self.b,
        }
        self.put(statement({"Service": "lambda.amazonaws.com"}, PULL, Resource="*"))
        self.assertEqual(control("/_stack/service-may", asked)["decision"], "Allow")
        self.put(deny("*", Resource="*"))
        self.assertEqual(control("/_stack/service-may", asked)["decision"], "Deny")

    def test_by_one_that_cannot_be_read_nobody_gets_in_and_nobody_is_kept_out(self):
        control("/_stack/plant-policy", {"account": self.a, "region": REGION, "text": "{"})
        self.assertEqual(self.ecr.get_registry_policy()["policyText"], "{")
        self.assertEqual(self.may(), set())
        self.open()
        self.assertEqual(self.may(), ALL)
