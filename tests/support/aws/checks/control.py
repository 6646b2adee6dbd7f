"""The stack itself: the call log, calls held on demand, the API server, and the end of its processes."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from aws.checks.stack import STACK, Check, allow, client, control, facts, policy, trust

EC2 = trust({"Service": "ec2.amazonaws.com"})


def eventually(what, question):
    """Waits for a condition, but not for ever."""
    deadline = time.monotonic() + 30
    while not question():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited 30 s for: {what}")
        time.sleep(0.02)


class CallLog(Check):
    def test_each_call_is_in_it_with_its_caller(self):
        own = self.account()
        keys = self.instance(own, allow("ecr:*"))
        self.assertRefused("AccessDenied", client("iam", keys).list_roles)
        client("ecr", keys).describe_repositories()
        lines = [json.loads(line) for line in Path(facts["awsCallLog"]).read_text().splitlines()]
        ours = [line for line in lines if line["account"] == own]
        self.assertEqual(
            [(line["service"], line["action"], line["status"]) for line in ours],
            [
                ("iam", "CreateRole", 200),
                ("iam", "PutRolePolicy", 200),
                ("sts", "AssumeRole", 200),
                ("iam", "ListRoles", 403),
                ("ecr", "DescribeRepositories", 200),
            ],
        )
        self.assertEqual({line["accessKey"] for line in ours}, {own, keys.access_key})
        self.assertEqual(set(ours[0]), {"time", "service", "action", "accessKey", "account", "userAgent", "status", "milliseconds"})
        self.assertIn("Botocore", ours[0]["userAgent"])


class HeldCalls(Check):
    def setUp(self):
        self.own = self.account()
        self.call = {"account": self.own, "action": "PutRolePolicy"}
        client("iam", self.own).create_role(RoleName="role", AssumeRolePolicyDocument=EC2)

    def put(self):
        document = policy(allow("*"))
        client("iam", self.own).put_role_policy(RoleName="role", PolicyName="p", PolicyDocument=document)

    def held(self):
        return [call for call in control("/_stack/held") if call["account"] == self.own]

    def policies(self):
        return client("iam", self.own).list_role_policies(RoleName="role")["PolicyNames"]

    def test_a_held_call_is_carried_out_when_it_is_let_go(self):
        control("/_stack/hold", self.call)
        caller = threading.Thread(target=self.put)
        caller.start()
        eventually("the call is held", self.held)
        self.assertEqual(self.held(), [self.call])
        self.assertEqual(self.policies(), [])
        self.assertEqual(control("/_stack/release", self.call), {"released": 1})
        caller.join()
        self.assertEqual(self.policies(), ["p"])
        self.put()  # only the next call was held

    def test_a_held_call_whose_client_goes_away_is_never_carried_out(self):
        control("/_stack/hold", self.call)
        host, _, port = facts["awsEndpoint"].removeprefix("http://").partition(":")
        form = b"Action=PutRolePolicy&RoleName=role&PolicyName=p&PolicyDocument=" + policy(allow("*")).encode()
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST / HTTP/1.1\r\nHost: iam\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                + f"Authorization: AWS4-HMAC-SHA256 Credential={self.own}/20260101/us-east-1/iam/aws4_request, "
                "SignedHeaders=host, Signature=0\r\n".encode()
                + f"Content-Length: {len(form)}\r\n\r\n".encode()
                + form
            )
            eventually("the call is held", self.held)
        eventually("the call is abandoned", lambda: not self.held())
        self.assertEqual(self.policies(), [])

    def test_a_call_that_was_never_made_is_not_held_after_release(self):
        control("/_stack/hold", self.call)
        self.assertEqual(control("/_stack/release", self.call), {"released": 0})
        self.put()


class StoppedWork(Check):
    def test_the_write_is_carried_out_unanswered_and_nothing_after_it_is_until_they_go_on(self):
        own, other = self.account(), self.account()
        both = {"accounts": [own, other]}
        keys, others = (self.instance(account, allow("iam:*")) for account in (own, other))
        control("/_stack/stop", {**both, "after": 2})
        done = []

        def work():
            for keys_, name in ((keys, "one"), (others, "two"), (keys, "three")):
                client("iam", keys_).list_roles()
                client("iam", keys_).create_role(RoleName=name, AssumeRolePolicyDocument=EC2)
                done.append(name)

        caller = threading.Thread(target=work)
        caller.start()
        eventually("it is stopped", lambda: both["accounts"] in control("/_stack/stopped"))
        reader = threading.Thread(target=client("iam", keys).list_roles)
        reader.start()
        roles = [
            {role["RoleName"] for role in client("iam", account).list_roles()["Roles"]} for account in (own, other)
        ]
        self.assertEqual(roles, [{"instance", "one"}, {"instance", "two"}])  # root is not stopped
        self.assertEqual(done, ["one"])
        self.assertTrue(reader.is_alive())
        control("/_stack/resume", both)
        caller.join()
        reader.join()
        self.assertEqual(done, ["one", "two", "three"])
        self.assertNotIn(both["accounts"], control("/_stack/stopped"))


class Cluster(Check):
    def kubectl(self, *arguments):
        command = [facts["bin"]["kubectl"], "--kubeconfig", facts["kubeconfig"], *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def test_the_controllers_work_and_writes_are_audited(self):
        self.assertEqual(self.kubectl("create", "namespace", "check").returncode, 0)
        made = self.kubectl("create", "deployment", "app", "--image=x", "-n", "check")
        self.assertEqual(made.returncode, 0, made.stderr)
        eventually("a ReplicaSet", lambda: "app-" in self.kubectl("get", "rs", "-n", "check", "-o", "name").stdout)
        account_token = self.kubectl("create", "token", "default", "-n", "check")
        self.assertEqual(account_token.returncode, 0, account_token.stderr)
        account = "--as=system:serviceaccount:check:default"
        denied = self.kubectl("auth", "can-i", "list", "secrets", "-n", "check", account)
        self.assertEqual(denied.stdout.strip(), "no")
        ended = self.kubectl("delete", "namespace", "check", "--timeout=50s")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        events = [json.loads(line) for line in Path(facts["auditLog"]).read_text().splitlines()]
        written = [(event["verb"], event["objectRef"]["resource"]) for event in events if "objectRef" in event]
        for expected in (("create", "namespaces"), ("create", "deployments"), ("delete", "namespaces")):
            self.assertIn(expected, written)


class Processes(Check):
    """Starts stacks, ends each in another way, and checks that nothing is left of them."""

    def start(self, **environment):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        process = subprocess.Popen(
            [sys.executable, str(STACK), "up", "--dir", folder.name],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if environment else None,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                self.addCleanup(stream.close)
        return process, folder.name

    def test_stacks_run_side_by_side_and_nothing_of_them_stays(self):
        ended, killed = self.start(), self.start()
        servers = {json.loads(process.stdout.readline())["server"] for process, _ in (ended, killed)}
        self.assertEqual(len(servers | {facts["server"]}), 3)
        for _, folder in (ended, killed):
            if sys.platform == "linux":
                self.assertEqual(len(running_in(folder)), 6)
        ended[0].terminate()
        self.assertEqual(ended[0].wait(), 0)
        self.assertEqual(running_in(ended[1]), [])
        killed[0].kill()
        if sys.platform == "linux":
            eventually("the children of the killed one end", lambda: not running_in(killed[1]))

    def test_a_failed_start_names_what_failed_and_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as assets:
            broken = Path(assets, "etcd")
            broken.write_text("#!/bin/sh\necho no room on this machine\nexit 3\n")
            broken.chmod(0o755)
            process, folder = self.start(KUBEBUILDER_ASSETS=assets)
            said = process.stderr.read()
        self.assertEqual(process.wait(), 1)
        self.assertEqual(process.stdout.read(), "")
        self.assertIn("etcd ended with status 3", said)
        self.assertIn("no room on this machine", said)
        self.assertEqual(running_in(folder), [])


def running_in(folder):
    """Returns the processes whose command or standard output is in the folder (on Linux; elsewhere none)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode()
            if folder in command or folder in os.readlink(process / "fd/1"):
                found.append(int(process.name))
        except OSError:
            continue  # it has ended, or is not ours
    return found
