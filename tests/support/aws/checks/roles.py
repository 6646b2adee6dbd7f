"""Roles and instance profiles: reads return what was written, and errors have AWS's codes."""

import json

from aws.checks.stack import Check, allow, client, policy, root, trust
from aws.iam_documents import INLINE_POLICIES_CHARACTERS, TRUST_POLICY_CHARACTERS

EC2 = trust({"Service": "ec2.amazonaws.com"})
TAGS = [{"Key": "registrygrants.dev/grant", "Value": "team-b/miq-devops"}]
READ_ONLY = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly"


class Roles(Check):
    def setUp(self):
        self.own = self.account()
        self.iam = client("iam", self.own)

    def create(self, name="role", trust_policy=EC2, **more):
        return self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust_policy, **more)["Role"]

    def role(self, name="role"):
        return self.iam.get_role(RoleName=name)["Role"]

    def test_a_role_comes_back_as_it_was_made(self):
        boundary = self.iam.create_policy(PolicyName="boundary", PolicyDocument=policy(allow("*")))["Policy"]["Arn"]
        made = self.create(
            Path="/registry-grants/",
            Tags=TAGS,
            PermissionsBoundary=boundary,
            MaxSessionDuration=7200,
            Description="a & b",
        )
        role = self.role()
        self.assertEqual(role["Arn"], f"arn:aws:iam::{self.own}:role/registry-grants/role")
        self.assertEqual(role["Path"], "/registry-grants/")
        self.assertEqual(role["Tags"], TAGS)
        self.assertEqual(role["PermissionsBoundary"]["PermissionsBoundaryArn"], boundary)
        self.assertEqual(role["MaxSessionDuration"], 7200)
        self.assertEqual(role["Description"], "a & b")
        self.assertEqual(role["AssumeRolePolicyDocument"], json.loads(EC2))
        self.assertEqual(role["RoleId"], made["RoleId"])
        self.assertTrue(role["RoleId"].startswith("AROA"))

    def test_a_list_leaves_out_what_only_a_single_read_gives(self):
        self.create(Tags=TAGS)
        self.iam.create_instance_profile(InstanceProfileName="profile", Tags=TAGS)
        self.iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName="role")
        self.assertNotIn("Tags", self.iam.list_roles()["Roles"][0])
        self.assertNotIn("Tags", self.iam.list_instance_profiles()["InstanceProfiles"][0])
        self.assertNotIn("Tags", self.iam.list_instance_profiles_for_role(RoleName="role")["InstanceProfiles"][0])
        profile = self.iam.get_instance_profile(InstanceProfileName="profile")["InstanceProfile"]
        self.assertEqual(profile["Tags"], TAGS)
        self.assertEqual([role["RoleName"] for role in profile["Roles"]], ["role"])
        self.assertNotIn("Tags", profile["Roles"][0])

    def test_a_role_can_be_changed(self):
        boundary = self.iam.create_policy(PolicyName="boundary", PolicyDocument=policy(allow("*")))["Policy"]["Arn"]
        self.create(Tags=TAGS)
        self.iam.update_role(RoleName="role", MaxSessionDuration=3600, Description="new")
        self.iam.put_role_permissions_boundary(RoleName="role", PermissionsBoundary=boundary)
        self.iam.tag_role(RoleName="role", Tags=[{"Key": "x", "Value": "y"}])
        self.iam.untag_role(RoleName="role", TagKeys=[TAGS[0]["Key"]])
        self.iam.update_assume_role_policy(RoleName="role", PolicyDocument=trust({"AWS": root(self.own)}))
        role = self.role()
        self.assertEqual(role["Tags"], [{"Key": "x", "Value": "y"}])
        self.assertEqual(role["PermissionsBoundary"]["PermissionsBoundaryArn"], boundary)
        self.assertEqual(role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"], {"AWS": root(self.own)})
        self.iam.delete_role_permissions_boundary(RoleName="role")
        self.assertNotIn("PermissionsBoundary", self.role())

    def test_names_are_unique_without_regard_to_case(self):
        self.create("Role")
        self.assertRefused("EntityAlreadyExists", self.create, "role", status=409)
        self.iam.create_instance_profile(InstanceProfileName="Profile")
        self.assertRefused(
            "EntityAlreadyExists", self.iam.create_instance_profile, InstanceProfileName="profile", status=409
        )

    def test_what_is_not_there_is_no_such_entity(self):
        for call, named in (
            (self.iam.get_role, {}),
            (self.iam.delete_role, {}),
            (self.iam.list_attached_role_policies, {}),
            (self.iam.put_role_policy, {"PolicyName": "p", "PolicyDocument": policy(allow("*"))}),
            (self.iam.update_assume_role_policy, {"PolicyDocument": EC2}),
        ):
            self.assertRefused("NoSuchEntity", call, RoleName="none", status=404, **named)
        self.create()
        self.assertRefused("NoSuchEntity", self.iam.get_role_policy, RoleName="role", PolicyName="none", status=404)
        self.assertRefused(
            "NoSuchEntity", self.iam.detach_role_policy, RoleName="role", PolicyArn=READ_ONLY, status=404
        )
        self.assertRefused("NoSuchEntity", self.iam.get_instance_profile, InstanceProfileName="none", status=404)

    def test_a_role_goes_only_when_nothing_hangs_on_it(self):
        self.create()
        self.iam.put_role_policy(RoleName="role", PolicyName="inline", PolicyDocument=policy(allow("*")))
        self.iam.attach_role_policy(RoleName="role", PolicyArn=READ_ONLY)
        self.iam.create_instance_profile(InstanceProfileName="profile")
        self.iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName="role")
        attached = self.iam.list_attached_role_policies(RoleName="role")["AttachedPolicies"]
        self.assertEqual(attached, [{"PolicyName": "AmazonEC2ContainerRegistryReadOnly", "PolicyArn": READ_ONLY}])
        self.assertEqual(self.iam.list_role_policies(RoleName="role")["PolicyNames"], ["inline"])
        self.assertRefused(
            "DeleteConflict", self.iam.delete_instance_profile, InstanceProfileName="profile", status=409
        )
        for remove in (
            lambda: self.iam.remove_role_from_instance_profile(InstanceProfileName="profile", RoleName="role"),
            lambda: self.iam.delete_role_policy(RoleName="role", PolicyName="inline"),
            lambda: self.iam.detach_role_policy(RoleName="role", PolicyArn=READ_ONLY),
        ):
            self.assertRefused("DeleteConflict", self.iam.delete_role, RoleName="role", status=409)
            remove()
        self.iam.delete_role(RoleName="role")
        self.iam.delete_instance_profile(InstanceProfileName="profile")

    def test_a_profile_has_one_role(self):
        self.create("one")
        self.create("other")
        self.iam.create_instance_profile(InstanceProfileName="profile")
        add = self.iam.add_role_to_instance_profile
        add(InstanceProfileName="profile", RoleName="one")
        for name in ("one", "other"):
            self.assertRefused("LimitExceeded", add, InstanceProfileName="profile", RoleName=name, status=409)

    def test_documents_come_back_percent_encoded(self):
        document = policy(allow("ecr:*", "arn:aws:ecr:us-east-1:111111111111:repository/a+b"))
        self.create()
        self.iam.put_role_policy(RoleName="role", PolicyName="inline", PolicyDocument=document)
        raw = []
        event = "before-parse.iam.GetRolePolicy"
        self.iam.meta.events.register(
            event, lambda response_dict, **_: raw.append(response_dict["body"]), unique_id="raw"
        )
        answer = self.iam.get_role_policy(RoleName="role", PolicyName="inline")
        self.iam.meta.events.unregister(event, unique_id="raw")
        self.assertEqual(answer["PolicyDocument"], json.loads(document))
        self.assertIn(b"%7B%22Version%22%3A", raw[0])
        self.assertIn(b"a%2Bb", raw[0])

    def test_malformed_documents_are_refused(self):
        everyone = {"AWS": "*"}
        for document in (
            "not JSON",
            trust(everyone).replace('{"Version"', '{"Version": "2008-10-17", "Version"'),
            "[]",
            policy(),
            policy({"Effect": "Allow", "Action": "sts:AssumeRole"}),
            policy({"Effect": "Maybe", "Principal": everyone, "Action": "sts:AssumeRole"}),
            policy({"Effect": "Allow", "Principal": everyone, "Action": "ecr:PutImage"}),
            policy({"Effect": "Allow", "Principal": everyone, "Action": "sts:AssumeRole", "Resource": "*"}),
            policy({"Effect": "Allow", "Principal": {"NWS": "*"}, "Action": "sts:AssumeRole"}),
            trust(everyone, Sid="not alphanumeric"),
            trust(everyone, Condition={"StringIs": {"sts:ExternalId": "x"}}),
            trust({"AWS": f"arn:aws:iam::{self.own}:role/none"}),
            trust({"AWS": "arn:aws:iam::1:root"}),
            trust({"AWS": "AROAAAAAAAAAAAAAAAAAA"}),
        ):
            with self.subTest(document):
                self.assertRefused("MalformedPolicyDocument", self.create, "refused", document, status=400)
        self.create()
        for document in (
            "not JSON",
            trust(everyone),
            policy({"Effect": "Allow", "Action": "*"}),
            policy(allow("*", "here")),
        ):
            with self.subTest(document):
                put = self.iam.put_role_policy
                named = {"RoleName": "role", "PolicyName": "p", "PolicyDocument": document}
                self.assertRefused("MalformedPolicyDocument", put, status=400, **named)

    def test_requests_outside_the_model_are_refused(self):
        for named in (
            {"RoleName": "r" * 65},
            {"RoleName": "a b"},
            {"RoleName": "r", "Path": "no-slashes"},
            {"RoleName": "r", "MaxSessionDuration": 60},
            {"RoleName": "r", "Tags": [{"Key": "k", "Value": "a & b"}]},
            {"RoleName": "r", "Tags": [{"Key": f"k{n}", "Value": ""} for n in range(51)]},
        ):
            with self.subTest(str(named)[:60]):
                call = self.iam.create_role
                self.assertRefused("ValidationError", call, AssumeRolePolicyDocument=EC2, status=400, **named)

    def test_quotas(self):
        self.create()
        sized = {"StringEquals": {"sts:ExternalId": "x" * TRUST_POLICY_CHARACTERS}}
        document = trust({"AWS": root(self.own)}, Condition=sized)
        update = self.iam.update_assume_role_policy
        self.assertRefused("LimitExceeded", update, RoleName="role", PolicyDocument=document, status=409)
        half = policy(allow("ecr:*", "arn:aws:ecr:*:*:repository/" + "x" * (INLINE_POLICIES_CHARACTERS // 2)))
        put = self.iam.put_role_policy
        put(RoleName="role", PolicyName="one", PolicyDocument=half)
        put(RoleName="role", PolicyName="one", PolicyDocument=half)
        self.assertRefused("LimitExceeded", put, RoleName="role", PolicyName="two", PolicyDocument=half, status=409)
        for number in range(10):
            arn = self.iam.create_policy(PolicyName=f"p{number}", PolicyDocument=policy(allow("*")))["Policy"]["Arn"]
            self.iam.attach_role_policy(RoleName="role", PolicyArn=arn)
        attach = self.iam.attach_role_policy
        self.assertRefused("LimitExceeded", attach, RoleName="role", PolicyArn=READ_ONLY, status=409)

    def test_only_policies_that_exist_can_be_attached(self):
        self.create()
        for arn in ("arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryNone", f"arn:aws:iam::{self.own}:policy/none"):
            self.assertRefused("NoSuchEntity", self.iam.attach_role_policy, RoleName="role", PolicyArn=arn, status=404)

    def test_a_principal_made_again_is_another_one(self):
        other = client("iam", self.account())
        other.create_role(RoleName="caller", AssumeRolePolicyDocument=EC2)
        caller = other.get_role(RoleName="caller")["Role"]
        self.create(trust_policy=trust({"AWS": caller["Arn"]}))
        other.delete_role(RoleName="caller")

        def trusted():
            return self.role()["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["AWS"]

        self.assertEqual(trusted(), caller["RoleId"])
        other.create_role(RoleName="caller", AssumeRolePolicyDocument=EC2)
        self.assertEqual(trusted(), caller["RoleId"])

    def test_an_account_number_comes_back_as_its_root(self):
        self.create(trust_policy=trust({"AWS": self.own}))
        self.assertEqual(self.role()["AssumeRolePolicyDocument"]["Statement"][0]["Principal"], {"AWS": root(self.own)})
