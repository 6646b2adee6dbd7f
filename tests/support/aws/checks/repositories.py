"""Repositories and their policies: what ECR refuses, and the form in which it returns policies."""

import json

from aws.checks.stack import REGION, Check, allow, client, policy, root, trust

PULL = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]


def grant(principal, action=PULL, **more):
    return policy({"Effect": "Allow", "Principal": principal, "Action": action, **more})


class Repositories(Check):
    def setUp(self):
        self.own = self.account()
        self.ecr = client("ecr", self.own)
        self.ecr.create_repository(repositoryName="team/app")

    def set(self, text, name="team/app"):
        return self.ecr.set_repository_policy(repositoryName=name, policyText=text)

    def test_no_repository_and_no_policy_are_two_answers(self):
        for call in (self.ecr.get_repository_policy, self.ecr.delete_repository_policy):
            self.assertRefused("RepositoryNotFoundException", call, repositoryName="none", status=400)
            self.assertRefused("RepositoryPolicyNotFoundException", call, repositoryName="team/app", status=400)
        self.assertRefused("RepositoryNotFoundException", self.set, grant("*"), "none", status=400)

    def test_a_policy_comes_back_in_ecrs_own_print(self):
        condition = {"StringEquals": {"aws:PrincipalArn": ["x"]}}
        answer = self.set(grant({"AWS": [self.own]}, PULL[:1], Sid="with space", Condition=condition))
        self.assertEqual(answer["policyText"], self.ecr.get_repository_policy(repositoryName="team/app")["policyText"])
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": root(self.own)},
            "Action": PULL[0],
            "Sid": "with space",
            "Condition": {"StringEquals": {"aws:PrincipalArn": "x"}},
        }
        self.assertEqual(json.loads(answer["policyText"])["Statement"], [statement])
        self.assertIn("\n", answer["policyText"])
        deleted = self.ecr.delete_repository_policy(repositoryName="team/app")
        self.assertEqual(deleted["policyText"], answer["policyText"])
        self.assertRefused(
            "RepositoryPolicyNotFoundException", self.ecr.get_repository_policy, repositoryName="team/app"
        )

    def test_malformed_policies_are_refused(self):
        for text in (
            "not JSON",
            # It is not defined which of the two would apply.
            '{"Statement":[{"Effect":"Allow","Effect":"Deny","Principal":"*","Action":"ecr:*"}]}',
            '{"Statement":[],' + grant("*")[1:],
            policy(allow(PULL)),
            grant("*", Resource="*"),
            grant("*", "ecr:GetAuthorizationToken"),
            grant("*", "s3:GetObject"),
            grant({"AWS": f"arn:aws:iam::{self.own}:role/none"}),
            grant({"AWS": ["AROAAAAAAAAAAAAAAAAAA"]}),
            grant("*", Condition={"StringEquals": {"aws:PrincipalArn": "x" * 10240}}),
        ):
            with self.subTest(text[:80]):
                self.assertRefused("InvalidParameterException", self.set, text, status=400)
        self.assertRefused(
            "RepositoryPolicyNotFoundException", self.ecr.get_repository_policy, repositoryName="team/app"
        )

    def test_a_policy_has_at_most_10240_characters(self):
        def sized(characters):
            def padded(by):
                return grant("*", Condition={"StringEquals": {"aws:PrincipalTag/x": "x" * by}})

            return padded(characters - len(padded(0)))

        self.set(sized(10240))
        message = self.assertRefused("InvalidParameterException", self.set, sized(10241), status=400)
        self.assertIn("10240", message)

    def test_a_deleted_principal_shows_as_its_id(self):
        iam = client("iam", self.account())
        role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))["Role"]
        self.set(grant({"AWS": [role["Arn"], root(self.own)]}))
        iam.delete_role(RoleName="r")
        text = self.ecr.get_repository_policy(repositoryName="team/app")["policyText"]
        self.assertEqual(json.loads(text)["Statement"][0]["Principal"]["AWS"], [role["RoleId"], root(self.own)])

    def test_names_outside_the_model_are_refused(self):
        for name in ("Capital", "a", "a//b", "x" * 257):
            with self.subTest(name[:10]):
                create = self.ecr.create_repository
                self.assertRefused("InvalidParameterException", create, repositoryName=name, status=400)

    def test_a_list_comes_in_pages(self):
        own = self.account()
        ecr = client("ecr", own)
        names = [f"r{number:03}" for number in range(105)]
        for name in names:
            ecr.create_repository(repositoryName=name)
        first = ecr.describe_repositories()
        self.assertEqual(len(first["repositories"]), 100)
        second = ecr.describe_repositories(nextToken=first["nextToken"])
        self.assertNotIn("nextToken", second)
        listed = [repository["repositoryName"] for repository in first["repositories"] + second["repositories"]]
        self.assertEqual(listed, names)
        self.assertRefused("RepositoryNotFoundException", ecr.describe_repositories, repositoryNames=["r001", "none"])

    def test_regions_are_apart(self):
        elsewhere = client("ecr", self.own, "eu-central-1")
        self.assertRefused("RepositoryNotFoundException", elsewhere.get_repository_policy, repositoryName="team/app")
        made = elsewhere.create_repository(repositoryName="team/app")["repository"]
        self.assertEqual(made["repositoryUri"], f"{self.own}.dkr.ecr.eu-central-1.amazonaws.com/team/app")

    def test_registry_id_leads_into_another_account_where_its_policy_allows(self):
        repository = f"arn:aws:ecr:{REGION}:{self.own}:repository/team/app"
        other = self.account()
        keys = self.instance(other, allow(["ecr:BatchGetImage", "ecr:ListImages"], repository))
        call = client("ecr", keys).list_images
        named = {"registryId": self.own, "repositoryName": "team/app"}
        self.assertRefused("AccessDeniedException", call, **named)
        self.set(grant({"AWS": root(other)}, ["ecr:ListImages"]))
        self.assertEqual(call(**named)["imageIds"], [])
        narrowed = {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{other}:role/ci/*"}}
        self.set(grant({"AWS": root(other)}, ["ecr:ListImages"], Condition=narrowed))
        self.assertRefused("AccessDeniedException", call, **named)
        narrowed["ArnLike"]["aws:PrincipalArn"] = [f"arn:aws:iam::{other}:role/{name}" for name in ("ci/*", "instance")]
        self.set(grant({"AWS": root(other)}, ["ecr:ListImages"], Condition=narrowed))
        self.assertEqual(call(**named)["imageIds"], [])
        deny = {"Effect": "Deny", "Principal": "*", "Action": "ecr:ListImages"}
        self.set(policy({**deny, "Effect": "Allow"}, deny))
        self.assertRefused("AccessDeniedException", call, **named)
