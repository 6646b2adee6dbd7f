"""A registry and a consumer, and the access of the consumer through the API and with a real client."""

import contextlib
import itertools
import tempfile

from aws.checks.stack import REGION, Check, allow, client, policy, root
from aws.checks.story import PUSH_AND_PULL, Crane

READ = ["ecr:ListImages"]
PULL = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
ALL = {"list", "pull", "push"}


def statement(principal, action=PUSH_AND_PULL, effect="Allow", **more):
    return {"Effect": effect, "Principal": principal, "Action": action, **more}


def deny(principal="*", action="ecr:*", **more):
    return statement(principal, action, "Deny", **more)


def deny_identity(actions, resources="*", **more):
    return {**allow(actions, resources, **more), "Effect": "Deny"}


class Sides(Check):
    """Registry A has the repository `app` with an image. Account B allows its instance everything."""

    # A client does not push an image that exists.
    _tags = (f"pushed-{number}" for number in itertools.count())

    def setUp(self):
        self.a, self.b = self.account(), self.account()
        self.ecr = client("ecr", self.a)
        self.ecr.create_repository(repositoryName="app")
        self.arn = f"arn:aws:ecr:{REGION}:{self.a}:repository/app"
        self.registry = f"{self.a}.dkr.ecr.{REGION}.amazonaws.com"
        with self.crane(self.a) as crane:
            self.assertEqual(crane.push("app:v1").returncode, 0)
        self.iam = client("iam", self.b)
        self.keys = self.instance(self.b, allow("*"))
        self.role = self.iam.get_role(RoleName="instance")["Role"]["Arn"]

    def repository(self, *statements):
        self.ecr.set_repository_policy(repositoryName="app", policyText=policy(*statements))

    def permit(self, *statements):
        self.iam.put_role_policy(RoleName="instance", PolicyName="permissions", PolicyDocument=policy(*statements))

    def open(self):
        self.repository(statement({"AWS": root(self.b)}))

    @contextlib.contextmanager
    def crane(self, keys):
        with tempfile.TemporaryDirectory() as folder:
            yield Crane(folder, self.registry, keys)

    def may(self, keys=None):
        """Returns which of these work: listing with the API, pulling and pushing with a client. The others are denied."""
        keys = keys or self.keys
        works = set()
        ecr = client("ecr", keys)
        try:
            ecr.list_images(registryId=self.a, repositoryName="app")
            works.add("list")
        except ecr.exceptions.ClientError as refused:
            self.assertEqual(refused.response["Error"]["Code"], "AccessDeniedException")
        with self.crane(keys) as crane:
            for name, ran in (("pull", crane.pull("app:v1")), ("push", crane.push(f"app:{next(self._tags)}"))):
                if ran.returncode == 0:
                    works.add(name)
                else:
                    self.assertRegex(ran.stdout, "DENIED|403 Forbidden")
        return works
