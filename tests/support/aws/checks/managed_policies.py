"""Reads of managed policies: those of AWS, of the account, and of another account."""

import json

from aws.checks.stack import Check, allow, client, policy

AWS = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistry"
DOCUMENT = policy(allow("ecr:*", "arn:aws:ecr:us-east-1:111111111111:repository/a+b"))


class ManagedPolicies(Check):
    def setUp(self):
        self.own = self.account()
        self.iam = client("iam", self.own)

    def create(self, name="boundary", **more):
        return self.iam.create_policy(PolicyName=name, PolicyDocument=DOCUMENT, **more)["Policy"]["Arn"]

    def document(self, arn, iam=None):
        """Returns the document of the default version, read as the operator reads it."""
        iam = iam or self.iam
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]

    def test_those_of_aws_are_read_in_every_account(self):
        for name, has, lacks in (
            ("PullOnly", "ecr:BatchGetImage", "ecr:ListImages"),
            ("ReadOnly", "ecr:ListImages", "ecr:PutImage"),
            ("PowerUser", "ecr:PutImage", "ecr:SetRepositoryPolicy"),
        ):
            with self.subTest(name):
                found = self.iam.get_policy(PolicyArn=AWS + name)["Policy"]
                self.assertEqual((found["Arn"], found["PolicyName"]), (AWS + name, (AWS + name).rpartition("/")[2]))
                actions = self.document(AWS + name)["Statement"][0]["Action"]
                self.assertIn(has, actions)
                self.assertNotIn(lacks, actions)

    def test_the_default_version_of_one_need_not_be_the_first(self):
        self.assertEqual(self.iam.get_policy(PolicyArn=AWS + "ReadOnly")["Policy"]["DefaultVersionId"], "v3")
        get = self.iam.get_policy_version
        self.assertRefused("NoSuchEntity", get, PolicyArn=AWS + "ReadOnly", VersionId="v1", status=404)

    def test_an_accounts_own_are_read_there_and_nowhere_else(self):
        for path in ("/", "/registry-grants/"):
            arn = self.create(f"own{len(path)}", Path=path)
            self.assertEqual(self.document(arn), json.loads(DOCUMENT))
            other = client("iam", self.account())
            self.assertRefused("NoSuchEntity", other.get_policy, PolicyArn=arn, status=404)
            self.assertRefused("NoSuchEntity", other.get_policy_version, PolicyArn=arn, VersionId="v1", status=404)

    def test_others_are_no_such_entity(self):
        for arn in (AWS + "None", f"arn:aws:iam::{self.own}:policy/none"):
            self.assertRefused("NoSuchEntity", self.iam.get_policy, PolicyArn=arn, status=404)
            get = self.iam.get_policy_version
            self.assertRefused("NoSuchEntity", get, PolicyArn=arn, VersionId="v1", status=404)
        self.assertRefused("NoSuchEntity", get, PolicyArn=self.create(), VersionId="v2", status=404)

    def test_documents_come_back_percent_encoded(self):
        raw = []
        events = self.iam.meta.events
        event = "before-parse.iam.GetPolicyVersion"
        events.register(event, lambda response_dict, **_: raw.append(response_dict["body"]), unique_id="raw")
        self.document(self.create())
        self.document(AWS + "PullOnly")
        events.unregister(event, unique_id="raw")
        self.assertIn(b"a%2Bb", raw[0])
        for body in raw:
            self.assertIn(b"%7B%22Version%22%3A", body)

    def test_reading_one_takes_the_permission_on_its_arn(self):
        own, other = self.create(Path="/registry-grants/"), self.create("other")
        reads = ["iam:GetPolicy", "iam:GetPolicyVersion"]
        keys = self.instance(self.own, allow(reads, [own, AWS + "PullOnly"]))
        iam = client("iam", keys)
        for arn in (own, AWS + "PullOnly"):
            self.document(arn, iam)
        for arn in (other, AWS + "ReadOnly", f"arn:aws:iam::{self.own}:policy/none"):
            self.assertRefused("AccessDenied", iam.get_policy, PolicyArn=arn, status=403)
            self.assertRefused("AccessDenied", iam.get_policy_version, PolicyArn=arn, VersionId="v1", status=403)
        either = client("iam", self.instance(self.own, allow(reads[0]), name="either"))
        either.get_policy(PolicyArn=own)
        self.assertRefused("AccessDenied", either.get_policy_version, PolicyArn=own, VersionId="v1", status=403)

    def test_a_new_version_is_the_default_one_where_it_says_so(self):
        arn = self.create()
        changed = policy(allow("ecr:ListImages"))
        for default, version, found in ((False, "v2", DOCUMENT), (True, "v3", changed)):
            create = self.iam.create_policy_version
            made = create(PolicyArn=arn, PolicyDocument=changed, SetAsDefault=default)["PolicyVersion"]
            self.assertEqual((made["VersionId"], made["IsDefaultVersion"]), (version, default))
            self.assertEqual(self.document(arn), json.loads(found))
        named = {"PolicyArn": arn, "PolicyDocument": changed}
        self.assertRefused("AccessDenied", client("iam", self.instance(self.own)).create_policy_version, **named)

    def test_another_version_can_be_made_the_default_one_again(self):
        arn = self.create()
        changed = policy(allow("ecr:ListImages"))
        self.iam.create_policy_version(PolicyArn=arn, PolicyDocument=changed, SetAsDefault=True)
        self.iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
        self.assertEqual(self.document(arn), json.loads(DOCUMENT))
        defaults = [each["IsDefaultVersion"] for each in self.iam.list_policy_versions(PolicyArn=arn)["Versions"]]
        self.assertEqual(sorted(defaults), [False, True])
        set_default = self.iam.set_default_policy_version
        self.assertRefused("NoSuchEntity", set_default, PolicyArn=arn, VersionId="v9", status=404)
        self.assertRefused("AccessDenied", set_default, PolicyArn=AWS + "PullOnly", VersionId="v1", status=403)

    def test_a_policy_has_five_versions_and_keeps_its_default_one(self):
        arn = self.create()
        for _ in range(4):
            self.iam.create_policy_version(PolicyArn=arn, PolicyDocument=DOCUMENT, SetAsDefault=True)
        create = self.iam.create_policy_version
        self.assertRefused("LimitExceeded", create, PolicyArn=arn, PolicyDocument=DOCUMENT, status=409)
        delete = self.iam.delete_policy_version
        self.assertRefused("DeleteConflict", delete, PolicyArn=arn, VersionId="v5", status=409)
        delete(PolicyArn=arn, VersionId="v1")
        create(PolicyArn=arn, PolicyDocument=DOCUMENT)
