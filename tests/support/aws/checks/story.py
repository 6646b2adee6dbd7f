"""The article's four steps with a real registry client: they only suffice together with an identity policy."""

import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

from aws.checks.stack import REGION, Check, allow, client, facts, policy, root, token, trust

PUSH_AND_PULL = [
    "ecr:GetDownloadUrlForLayer",
    "ecr:BatchGetImage",
    "ecr:BatchCheckLayerAvailability",
    "ecr:PutImage",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:ListImages",
]


class Crane:
    """crane, with the credentials of one registry token and the real name of the registry."""

    def __init__(self, folder, registry, keys):
        self.registry = registry
        self._folder = Path(folder)
        user, password = token(keys)
        config = {"auths": {registry: {"username": user, "password": password}}}
        (self._folder / "config.json").write_text(json.dumps(config))
        with tarfile.open(self._folder / "layer.tar", "w") as layer:
            layer.addfile(tarfile.TarInfo("file"), io.BytesIO())

    def __call__(self, *arguments):
        proxies = {f"{scheme}_proxy": facts["registryProxy"] for scheme in ("http", "https")}
        return subprocess.run(
            [facts["bin"]["crane"], "--insecure", *arguments],
            env={"DOCKER_CONFIG": str(self._folder), "HOME": str(self._folder), **proxies},
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )

    def push(self, name):
        return self("append", "--new_layer=layer.tar", f"--new_tag={self.registry}/{name}")

    def pull(self, name):
        return self("pull", f"{self.registry}/{name}", "pulled.tar")


class TheArticle(Check):
    def setUp(self):
        self.a, self.b = self.account(), self.account()
        self.registry = f"{self.a}.dkr.ecr.{REGION}.amazonaws.com"
        self.repository = f"arn:aws:ecr:{REGION}:{self.a}:repository/miqp-devops"
        client("ecr", self.a).create_repository(repositoryName="miqp-devops")
        iam = client("iam", self.a)
        role = iam.create_role(
            RoleName="ECS-AssumeRole-MIQDevOps", AssumeRolePolicyDocument=trust({"AWS": root(self.b)})
        )
        self.role = role["Role"]["Arn"]
        managed = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser"
        iam.attach_role_policy(RoleName="ECS-AssumeRole-MIQDevOps", PolicyArn=managed)
        statement = {"Sid": "new statement", "Effect": "Allow", "Principal": {"AWS": [root(self.b), self.role]}}
        document = {"Version": "2008-10-17", "Statement": [{**statement, "Action": PUSH_AND_PULL}]}
        client("ecr", self.a).set_repository_policy(repositoryName="miqp-devops", policyText=json.dumps(document))
        self.instance_keys = self.instance(self.b)

    def crane(self, keys):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Crane(folder.name, self.registry, keys)

    def permit(self, *statements):
        client("iam", self.b).put_role_policy(
            RoleName="instance", PolicyName="registry", PolicyDocument=policy(*statements)
        )

    def assertWorks(self, ran):
        self.assertEqual(ran.returncode, 0, ran.stdout)

    def assertDenied(self, ran):
        self.assertNotEqual(ran.returncode, 0, ran.stdout)
        self.assertRegex(ran.stdout, "DENIED|403 Forbidden")

    def test_the_four_steps_alone_open_neither_path(self):
        self.assertRefused("AccessDeniedException", client("ecr", self.instance_keys).get_authorization_token)
        assume = client("sts", self.instance_keys).assume_role
        self.assertRefused("AccessDenied", assume, RoleArn=self.role, RoleSessionName="check", status=403)

    def test_with_an_identity_policy_the_direct_path_is_open(self):
        self.permit(allow("ecr:GetAuthorizationToken"), allow(PUSH_AND_PULL, self.repository))
        crane = self.crane(self.instance_keys)
        self.assertWorks(crane.push("miqp-devops:v1"))
        self.assertWorks(crane.pull("miqp-devops:v1"))
        tags = client("ecr", self.instance_keys).list_images(registryId=self.a, repositoryName="miqp-devops")
        self.assertEqual([image["imageTag"] for image in tags["imageIds"]], ["v1"])

    def test_with_an_identity_policy_the_role_is_open(self):
        self.permit(allow("sts:AssumeRole", self.role))
        crane = self.crane(self.session(self.instance_keys, self.role))
        self.assertWorks(crane.push("miqp-devops:v1"))
        self.assertWorks(crane.pull("miqp-devops:v1"))

    def test_a_grant_to_pull_is_none_to_push(self):
        pull = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        self.permit(allow("ecr:GetAuthorizationToken"), allow(PUSH_AND_PULL, self.repository))
        self.assertWorks(self.crane(self.instance_keys).push("miqp-devops:v1"))
        self.permit(allow("ecr:GetAuthorizationToken"), allow(pull, self.repository))
        self.assertWorks(self.crane(self.instance_keys).pull("miqp-devops:v1"))
        self.assertDenied(self.crane(self.instance_keys).push("miqp-devops:v2"))

    def test_a_token_is_worth_what_the_policies_say_now(self):
        self.permit(allow("ecr:GetAuthorizationToken"), allow(PUSH_AND_PULL, self.repository))
        crane = self.crane(self.instance_keys)
        self.assertWorks(crane.push("miqp-devops:v1"))
        client("ecr", self.a).delete_repository_policy(repositoryName="miqp-devops")
        self.assertDenied(crane.pull("miqp-devops:v1"))

    def test_a_stranger_with_every_permission_of_its_own_is_denied(self):
        stranger = self.instance(self.account(), allow("*"))
        self.assertDenied(self.crane(stranger).push("miqp-devops:v1"))
        assume = client("sts", stranger).assume_role
        self.assertRefused("AccessDenied", assume, RoleArn=self.role, RoleSessionName="check")

    def test_the_root_of_another_account_is_a_stranger_too(self):
        self.assertDenied(self.crane(self.account()).push("miqp-devops:v1"))

    def test_the_proxy_leads_nowhere_else(self):
        crane = self.crane(self.a)
        for elsewhere in ("registry.example.com/x:v1", f"{self.a}.dkr.ecr.{REGION}.amazonaws.com.example.com/x:v1"):
            ran = crane("manifest", elsewhere)
            self.assertNotEqual(ran.returncode, 0)
            self.assertIn("leads to ECR only", ran.stdout)
