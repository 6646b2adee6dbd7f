"""The stack that the checks share, with AWS clients, accounts and policies for it."""

import base64
import contextlib
import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path
from typing import NamedTuple

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

STACK = Path(__file__).resolve().parents[2] / "stack.py"
REGION = "us-east-1"
# The addresses that the running stack printed.
facts = {}


@contextlib.contextmanager
def running():
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(STACK), "up", "--dir", directory]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the stack did not start, see above")
            facts.update(json.loads(line))
            yield
        finally:
            process.stdin.close()
            process.wait()
            process.stdout.close()


class Keys(NamedTuple):
    """Credentials for a client."""

    access_key: str
    secret: str = "x"
    token: str = ""


class Check(unittest.TestCase):
    """A test with its own account numbers."""

    _numbers = itertools.count(100000000001)

    @classmethod
    def account(cls):
        """Returns an account number that no other test has. As an access key, it is that account's root."""
        return str(next(cls._numbers))

    def assertRefused(self, code, call, *arguments, status=None, **named):
        with self.assertRaises(ClientError) as refused:
            call(*arguments, **named)
        error = refused.exception.response
        self.assertEqual(error["Error"]["Code"], code, error["Error"]["Message"])
        if status:
            self.assertEqual(error["ResponseMetadata"]["HTTPStatusCode"], status)
        return error["Error"]["Message"]

    def session(self, keys, role_arn, **more):
        """Returns the credentials of a role's session."""
        answer = client("sts", keys).assume_role(RoleArn=role_arn, RoleSessionName="check", **more)["Credentials"]
        return Keys(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])

    def instance(self, account, *statements, name="instance"):
        """Returns the session of an EC2 instance in the account, whose role has these permissions."""
        iam = client("iam", account)
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="permissions", PolicyDocument=policy(*statements))
        return self.session(account, role["Role"]["Arn"])


@functools.cache
def _session():
    # Without the user's configuration and environment: keys are passed explicitly.
    session = botocore.session.Session(include_builtin_handlers=True)
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    return session


@functools.cache
def client(service, keys, region=REGION):
    """Returns an AWS client with these keys. An account's number alone means its root."""
    keys = keys if isinstance(keys, Keys) else Keys(keys)
    return _session().create_client(
        service,
        region_name=region,
        endpoint_url=facts["awsEndpoint"],
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret,
        aws_session_token=keys.token or None,
        # The emulation must report invalid requests, not the client.
        config=Config(retries={"total_max_attempts": 1}, proxies={}, parameter_validation=False),
    )


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(actions, resources="*", **more):
    return {"Effect": "Allow", "Action": actions, "Resource": resources, **more}


def trust(principal, **more):
    return policy({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more})


def root(account):
    return f"arn:aws:iam::{account}:root"


def token(keys, region=REGION):
    """Returns user and password for a registry client."""
    data = client("ecr", keys, region).get_authorization_token()["authorizationData"][0]
    return base64.b64decode(data["authorizationToken"]).decode().split(":")


def control(path, body=None):
    """Calls a control of the emulation."""
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(facts["awsEndpoint"] + path, data=data), timeout=10) as answer:
        return json.load(answer)
