"""The local stack: a Kubernetes control plane, AWS, and the way to its registry, all on the loopback interface.

    python stack.py up --dir DIR [--detach]

Starts etcd, kube-apiserver, kube-controller-manager, the AWS emulation (tests/support/aws) and its registry proxy, and
when they are ready prints one line of JSON that says where everything is. It runs until its stdin ends (not with
--detach) or SIGTERM, and ends everything with it: also when it is killed itself, on Linux. All that it writes is in DIR;
what an earlier run left there is removed first. Any number of them run side by side, each in a DIR of its own.

Standard library only; what it runs comes from tools/install. tests/support/node adds a node to it: a subclass of Stack.
"""

import argparse
import base64
import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
REPOSITORY = SUPPORT.parent.parent
READY_SECONDS = 300  # only what hangs takes longer, also on a busy machine
LAST_LINES = 25

ADMIN = "stack-admin"
CONTROLLER_MANAGER = "stack-controller-manager"
# What a test can see: things made by a Deployment, owners' garbage, ends of namespaces, ServiceAccounts and their
# tokens, and the type checks of admission policies. The others only cost time, without nodes.
CONTROLLERS = [
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
]
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        # The control plane talks to itself all the time.
        {"level": "None", "users": [CONTROLLER_MANAGER, "system:apiserver", "system:anonymous"]},
        {"level": "None", "nonResourceURLs": ["/*"]},
        {"level": "Metadata"},
    ],
}


class Failure(Exception):
    """The stack cannot start, or cannot go on; the text is for the person who started it."""


class Ended(BaseException):
    """A signal asked for the end."""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = arguments.add_subparsers(required=True)
    up_arguments = commands.add_parser("up", help="start a stack, print where it is, run until stdin ends or SIGTERM")
    up_arguments.add_argument("--dir", type=Path, required=True, help="where it may write; made if missing")
    up_arguments.add_argument("--detach", action="store_true", help="do not watch stdin: run until SIGTERM")
    up_arguments.add_argument("--api-server-only", action="store_true", help="start no AWS and no controllers")
    options = arguments.parse_args()
    run(ApiServerOnly if options.api_server_only else Stack, options.dir.absolute(), options.detach)


def run(kind, directory, detach=False):
    """Starts a stack of this kind (Stack, or what is made of it), and returns when it has ended."""
    try:
        up(kind, directory, detach)
    except Failure as failure:
        print(f"stack: {failure}", file=sys.stderr)
        sys.exit(1)
    except Ended:
        pass  # everything has ended already


def up(kind, directory, detach):
    signal.signal(signal.SIGTERM, end)
    for from_terminal in (signal.SIGINT, signal.SIGHUP):
        # Its Ctrl-C and its end are not meant for what is to stay.
        signal.signal(from_terminal, signal.SIG_IGN if detach else end)
    programs = installed(kind.PROGRAMS)
    with only_one(directory):
        stack = kind(directory, programs)
        try:
            print(json.dumps(stack.start()), flush=True)
            stack.watch(None if detach else sys.stdin)
        finally:
            for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(ending, signal.SIG_IGN)  # the end is not to be interrupted
            stack.stop()


def end(_signal, _frame):
    raise Ended


def installed(names):
    """Name → path of what tools/install provides; builds what is missing."""
    install = subprocess.run([str(REPOSITORY / "tools" / "install"), *names], stdout=subprocess.PIPE, text=True)
    if install.returncode:
        raise Failure("tools/install failed, see above")
    return dict(line.split("=", 1) for line in install.stdout.splitlines())


@contextlib.contextmanager
def only_one(directory):
    """The directory for this process alone, empty; the lock ends with the process."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Failure(f"another stack (process {lock.read().strip()}) runs in {directory}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for left in ("etcd", "kubernetes", "logs"):
            shutil.rmtree(directory / left, ignore_errors=True)
        yield


class Stack:
    PROGRAMS = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm", "crane", "python"]
    # Where the API server and AWS listen: an address that everybody who is to reach them can.
    HOST = "127.0.0.1"
    CONTROLLERS = CONTROLLERS
    API_SERVER_FLAGS = (
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        # The endpoint of the `kubernetes` Service may not be a loopback address, and nobody asks for it.
        "--endpoint-reconciler-type=none",
    )

    def __init__(self, directory, programs):
        self._programs = programs
        self._etcd = directory / "etcd"
        self._kubernetes = directory / "kubernetes"
        self._logs = directory / "logs"
        self._children = []
        self._sockets = []
        for folder in (self._kubernetes, self._logs):
            folder.mkdir(parents=True)

    # ---- What is started

    def start(self):
        """Starts all of it; gives back, once it is ready, what a user of it has to know."""
        etcd = self._start_etcd()
        aws, proxy, call_log = self._start_aws()
        server, admin = self._start_kubernetes(etcd)
        self._wait("aws", lambda: fetch(f"http://{aws}/_ministack/ready"))
        return self._info(self._kubeconfig(ADMIN, server, admin), server, aws, proxy, call_log)

    def _info(self, kubeconfig, server, aws, proxy, call_log):
        return {
            "kubeconfig": str(kubeconfig),
            "server": server,
            "ca": str(self._kubernetes / "ca.crt"),
            "awsEndpoint": aws and f"http://{aws}",
            "registryProxy": proxy and f"http://{proxy}",
            "auditLog": str(self._logs / "audit.jsonl"),
            "awsCallLog": str(call_log),
            "logs": str(self._logs),
            "bin": {name: self._programs.get(name, "") for name in ("kubectl", "helm", "crane")},
            "pid": os.getpid(),
        }

    def _start_aws(self):
        """AWS and its registry proxy; gives back where they are, and the call log."""
        aws_socket, proxy_socket = listening(self.HOST), listening(self.HOST)
        aws, proxy = address(aws_socket), address(proxy_socket)
        call_log = self._logs / "aws-calls.jsonl"
        call_log.touch()
        python = self._programs["python"]
        self._spawn(
            "aws",
            [python, "-m", "aws", "--fd", str(aws_socket.fileno()), "--call-log", str(call_log)],
            passing=aws_socket,
        )
        proxy_program = str(SUPPORT / "aws" / "registry_proxy.py")
        self._spawn(
            "registry-proxy",
            [python, proxy_program, "--fd", str(proxy_socket.fileno()), "--upstream", aws],
            passing=proxy_socket,
        )
        return aws, proxy, call_log

    def _start_etcd(self):
        client, peer = (f"http://{address(self._reserve())}" for _ in range(2))
        self._spawn(
            "etcd",
            [
                self._programs["etcd"],
                "--name=stack",
                f"--data-dir={self._etcd}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=stack={peer}",
                "--socket-reuse-port",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )
        return client

    def _start_kubernetes(self, etcd):
        """The API server and the controllers; gives back its URL and the admin's token."""
        admin, controllers = secrets.token_hex(16), secrets.token_hex(16)
        users = [(admin, ADMIN, "system:masters"), (controllers, CONTROLLER_MANAGER, "system:masters"), *self._users()]
        tokens = self._write(
            "tokens.csv", "".join(f'{token},{name},{name},"{group}"\n' for token, name, group in users)
        )
        account_key = self._write("service-accounts.key", new_private_key())
        audit_policy = self._write("audit-policy.json", json.dumps(AUDIT_POLICY))
        at = address(self._reserve(self.HOST))
        server = f"https://{at}"
        self._wait("etcd", lambda: fetch(f"{etcd}/health"))
        self._spawn(
            "kube-apiserver",
            [
                self._programs["kube-apiserver"],
                f"--etcd-servers={etcd}",
                f"--bind-address={self.HOST}",
                f"--advertise-address={self.HOST}",
                f"--secure-port={at.rpartition(':')[2]}",
                "--permit-port-sharing",
                *self.API_SERVER_FLAGS,
                f"--cert-dir={self._kubernetes}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={account_key}",
                f"--service-account-signing-key-file={account_key}",
                f"--token-auth-file={tokens}",
                f"--audit-policy-file={audit_policy}",
                f"--audit-log-path={self._logs / 'audit.jsonl'}",
                "--profiling=false",
            ],
        )
        self._wait("kube-apiserver", lambda: self._api_server_is_ready(server, admin))
        self._start_controllers(server, controllers, admin, account_key)
        return server, admin

    def _start_controllers(self, server, controllers, admin, account_key):
        self._spawn(
            "kube-controller-manager",
            [
                self._programs["kube-controller-manager"],
                f"--kubeconfig={self._kubeconfig(CONTROLLER_MANAGER, server, controllers)}",
                f"--controllers={','.join(self.CONTROLLERS)}",
                "--leader-elect=false",
                "--secure-port=0",
                f"--service-account-private-key-file={account_key}",
                f"--root-ca-file={self._kubernetes / 'ca.crt'}",
                "--profiling=false",
            ],
        )
        # Made by a controller: when it is there, they work.
        first_account = f"{server}/api/v1/namespaces/default/serviceaccounts/default"
        self._wait("kube-controller-manager", lambda: fetch(first_account, admin, self._kubernetes / "ca.crt"))

    def _users(self):
        """Further users of the API server: (token, name, group)."""
        return []

    def _api_server_is_ready(self, server, token):
        certificates = self._kubernetes / "apiserver.crt"
        if not certificates.exists():
            return False
        # The API server makes its certificate and the authority that signed it, and puts both into one file.
        begin = "-----BEGIN CERTIFICATE-----"
        authority = begin + certificates.read_text().rpartition(begin)[2]
        return fetch(f"{server}/readyz", token, self._write("ca.crt", authority))

    def _kubeconfig(self, user, server, token):
        authority = base64.b64encode((self._kubernetes / "ca.crt").read_bytes()).decode()
        return self._write(
            f"{user}.kubeconfig",
            f"""apiVersion: v1
kind: Config
current-context: stack
clusters: [{{name: stack, cluster: {{server: "{server}", certificate-authority-data: {authority}}}}}]
users: [{{name: {user}, user: {{token: {token}}}}}]
contexts: [{{name: stack, context: {{cluster: stack, user: {user}}}}}]
""",
        )

    def _write(self, name, text):
        path = self._kubernetes / name
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        return path

    # ---- How it is started, watched and ended

    def _reserve(self, host="127.0.0.1"):
        """A free port that nobody can take before the child that it is for.

        Held by a socket that does not listen; the child shares the port (SO_REUSEPORT), which only the same user's
        processes may.
        """
        held = socket.socket()
        self._sockets.append(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, 0))
        return held

    def _spawn(self, name, command, passing=None, more_environment=None):
        log = self._logs / f"{name}.log"
        # A clean environment: an AWS_ACCESS_KEY_ID, a proxy or a GOFLAGS of the person's must not reach into a test.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._logs), "PYTHONPATH": str(SUPPORT)}
        parent = os.getpid()
        # The API server, etcd and the controllers spend a third of their CPU on collecting garbage that fits into memory.
        environment |= {"GOGC": "400", "PYTHONDONTWRITEBYTECODE": "1", **(more_environment or {})}
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[passing.fileno()] if passing else [],
                start_new_session=True,  # the terminal's Ctrl-C is for us to pass on
                preexec_fn=lambda: end_with(parent),
            )
        if passing:
            passing.close()
        self._children.append((name, process, log))

    def _wait(self, name, is_ready):
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready():
            self._check()
            if time.monotonic() > deadline:
                raise Failure(f"{name} is not ready after {READY_SECONDS} s; {self._last_lines(name)}")
            time.sleep(0.02)

    def _check(self):
        for name, process, _ in self._children:
            if process.poll() is not None:
                raise Failure(f"{name} ended with status {process.returncode}; {self._last_lines(name)}")

    def _last_lines(self, name):
        log = next(log for child, _, log in self._children if child == name)
        lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return f"the end of {log}:\n" + "\n".join(f"    {line}" for line in lines)

    def watch(self, stdin):
        """Returns when stdin ends; raises Failure when a child does."""
        while True:
            self._check()
            if stdin is None:
                time.sleep(0.25)
            elif select.select([stdin], [], [], 0.25)[0] and not os.read(stdin.fileno(), 4096):
                return

    def stop(self):
        """Nothing of it is kept, so nothing is waited for but the processes' end."""
        for _, process, _ in self._children:
            process.kill()
        for _, process, _ in self._children:
            process.wait()
        for held in self._sockets:
            held.close()
        # 125 MB, and nobody reads it after the end.
        shutil.rmtree(self._etcd, ignore_errors=True)


class ApiServerOnly(Stack):
    """The API server and etcd, without what works on the objects."""

    PROGRAMS = ["etcd", "kube-apiserver"]

    def start(self):
        server, admin = self._start_kubernetes(self._start_etcd())
        return self._info(self._kubeconfig(ADMIN, server, admin), server, "", "", "")

    def _start_controllers(self, server, controllers, admin, account_key):
        pass


def listening(host):
    """A socket for a child that serves on what it inherits."""
    found = socket.socket()
    found.bind((host, 0))
    found.listen(1024)
    return found


def address(bound):
    return "{}:{}".format(*bound.getsockname())


def end_with(parent):
    """In the child, before it becomes the program: the kernel ends it with its parent, however that ends."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # too late: it has ended already


def fetch(url, token="", authority=None):
    """Whether the URL answers with a success."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        context = ssl.create_default_context(cafile=str(authority)) if authority else None
        https = urllib.request.HTTPSHandler(context=context)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
        with opener.open(request, timeout=30) as response:
            return response.status == 200
    except (OSError, ValueError):  # among them urllib's own errors, and a certificate that is not written whole yet
        return False


def new_private_key():
    """A private key on the curve P-256, as PEM (RFC 5915): as good as any 32 random bytes are one."""
    # SEQUENCE { INTEGER 1, OCTET STRING key, [0] { OID prime256v1 } }; the public key in it is optional.
    der = bytes.fromhex("30310201010420") + secrets.token_bytes(32) + bytes.fromhex("a00a06082a8648ce3d030107")
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.encodebytes(der).decode()}-----END EC PRIVATE KEY-----\n"


if __name__ == "__main__":
    main()
