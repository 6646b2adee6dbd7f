"""The local stack: a Kubernetes control plane, AWS, and a proxy to its registry, all on the loopback interface.

    python stack.py up --dir DIR [--detach]
    python stack.py aws --dir DIR [--detach]           only the AWS emulation
    python stack.py api-server --dir DIR [--detach]    only the API server and etcd

Starts etcd, kube-apiserver, kube-controller-manager, the AWS emulation (tests/support/aws) and its registry proxy. When
they are ready, it prints their addresses as one line of JSON. It runs until its stdin ends (not with --detach) or it gets
SIGTERM, and then ends all its processes. On Linux, they also end when it is killed. It only writes to DIR, and removes the
leftovers of an earlier run there first. Several stacks can run at the same time, each with its own DIR.

Standard library only. tools/install builds the programs that it runs. tests/support/node adds a node, in a subclass of Stack.
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
READY_SECONDS = 300  # even on a busy machine, only a process that hangs takes longer
LAST_LINES = 25

ADMIN = "stack-admin"
CONTROLLER_MANAGER = "stack-controller-manager"
# The controllers whose effects tests can see: Deployments, garbage collection, the deletion of namespaces, ServiceAccounts and
# their tokens, and the type checks of admission policies. Without nodes, the others only cost time.
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
        # The control plane itself makes requests all the time.
        {"level": "None", "users": [CONTROLLER_MANAGER, "system:apiserver", "system:anonymous"]},
        {"level": "None", "nonResourceURLs": ["/*"]},
        {"level": "Metadata"},
    ],
}


class Failure(Exception):
    """The stack cannot start or continue. The text is shown to the user."""


class Ended(BaseException):
    """A signal requested the end."""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = arguments.add_subparsers(required=True)
    kinds = {
        "up": (Stack, "a stack"),
        "aws": (AwsAlone, "the AWS emulation alone"),
        "api-server": (ApiServerAlone, "the API server and etcd alone"),
    }
    for name, (kind, what) in kinds.items():
        command = commands.add_parser(name, help=f"start {what}, print its addresses, run until stdin ends or SIGTERM")
        command.add_argument("--dir", type=Path, required=True, help="the folder for its files; created if missing")
        command.add_argument("--detach", action="store_true", help="do not watch stdin: run until SIGTERM")
        command.set_defaults(kind=kind)
    options = arguments.parse_args()
    run(options.kind, options.dir.absolute(), options.detach)


def run(kind, directory, detach=False):
    """Starts a stack of this class (Stack or a subclass), and returns when it has ended."""
    try:
        up(kind, directory, detach)
    except Failure as failure:
        print(f"stack: {failure}", file=sys.stderr)
        sys.exit(1)
    except Ended:
        pass  # all processes have already ended


def up(kind, directory, detach):
    signal.signal(signal.SIGTERM, end)
    for from_terminal in (signal.SIGINT, signal.SIGHUP):
        # Ctrl-C and the end of this process must not end the detached stack.
        signal.signal(from_terminal, signal.SIG_IGN if detach else end)
    programs = installed(kind.PROGRAMS)
    with only_one(directory):
        stack = kind(directory, programs)
        try:
            print(json.dumps(stack.start()), flush=True)
            stack.watch(None if detach else sys.stdin)
        finally:
            for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(ending, signal.SIG_IGN)  # the shutdown must not be interrupted
            stack.stop()


def end(_signal, _frame):
    raise Ended


def installed(names):
    """Returns the programs of tools/install, as name → path. Builds missing ones."""
    install = subprocess.run([str(REPOSITORY / "tools" / "install"), *names], stdout=subprocess.PIPE, text=True)
    if install.returncode:
        raise Failure("tools/install failed, see above")
    return dict(line.split("=", 1) for line in install.stdout.splitlines())


@contextlib.contextmanager
def only_one(directory):
    """Empties the directory and locks it for this process. The lock ends with the process."""
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
    # The address where the API server and AWS listen. All their clients must be able to reach it.
    HOST = "127.0.0.1"
    CONTROLLERS = CONTROLLERS
    API_SERVER_FLAGS = (
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        # The endpoint of the `kubernetes` Service may not be a loopback address. Nothing uses it.
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

    # ---- Starting

    def start(self):
        """Starts everything, and returns its addresses and credentials once it is ready."""
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
            "awsEndpoint": f"http://{aws}",
            "registryProxy": f"http://{proxy}",
            "auditLog": str(self._logs / "audit.jsonl"),
            "awsCallLog": str(call_log),
            "logs": str(self._logs),
            "bin": {name: self._programs[name] for name in ("kubectl", "helm", "crane")},
            "pid": os.getpid(),
        }

    def _start_aws(self):
        """Starts AWS and its registry proxy. Returns their addresses and the call log."""
        aws, call_log = self._start_emulation()
        proxy_socket = listening(self.HOST)
        proxy = address(proxy_socket)
        python = self._programs["python"]
        proxy_program = str(SUPPORT / "aws" / "registry_proxy.py")
        self._spawn(
            "registry-proxy",
            [python, proxy_program, "--fd", str(proxy_socket.fileno()), "--upstream", aws],
            passing=proxy_socket,
        )
        return aws, proxy, call_log

    def _start_emulation(self):
        """Starts AWS. Returns its address and the call log."""
        aws_socket = listening(self.HOST)
        aws = address(aws_socket)
        call_log = self._logs / "aws-calls.jsonl"
        call_log.touch()
        self._spawn(
            "aws",
            [self._programs["python"], "-m", "aws", "--fd", str(aws_socket.fileno()), "--call-log", str(call_log)],
            passing=aws_socket,
        )
        return aws, call_log

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
        """Starts the API server and the controllers. Returns the URL and the admin's token."""
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
        # Created by a controller: once it exists, the controllers work.
        first_account = f"{server}/api/v1/namespaces/default/serviceaccounts/default"
        self._wait("kube-controller-manager", lambda: fetch(first_account, admin, self._kubernetes / "ca.crt"))

    def _users(self):
        """Returns further users of the API server: (token, name, group)."""
        return []

    def _api_server_is_ready(self, server, token):
        certificates = self._kubernetes / "apiserver.crt"
        if not certificates.exists():
            return False
        # The API server creates its certificate and the authority that signed it, and writes both to one file.
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

    # ---- Processes

    def _reserve(self, host="127.0.0.1"):
        """Reserves a free port for a child process.

        A socket that does not listen reserves the port. The child shares it (SO_REUSEPORT), which only processes of the same
        user may do.
        """
        held = socket.socket()
        self._sockets.append(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, 0))
        return held

    def _spawn(self, name, command, passing=None, more_environment=None):
        log = self._logs / f"{name}.log"
        # A clean environment: the user's AWS_ACCESS_KEY_ID, proxy or GOFLAGS must not affect a test.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._logs), "PYTHONPATH": str(SUPPORT)}
        parent = os.getpid()
        # By default, the API server, etcd and the controllers use a third of their CPU for garbage collection, although memory suffices.
        environment |= {"GOGC": "400", "PYTHONDONTWRITEBYTECODE": "1", **(more_environment or {})}
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[passing.fileno()] if passing else [],
                start_new_session=True,  # this process handles the terminal's Ctrl-C
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
        """Ends the processes. Their data is not kept, so there is nothing to save."""
        for _, process, _ in self._children:
            process.kill()
        for _, process, _ in self._children:
            process.wait()
        for held in self._sockets:
            held.close()
        # 125 MB that nothing reads after the end.
        shutil.rmtree(self._etcd, ignore_errors=True)


class AwsAlone(Stack):
    """The AWS emulation without a cluster."""

    PROGRAMS = ["python"]

    def start(self):
        aws, _ = self._start_emulation()
        self._wait("aws", lambda: fetch(f"http://{aws}/_ministack/ready"))
        return {"awsEndpoint": f"http://{aws}"}


class ApiServerAlone(Stack):
    """The API server and etcd, without controllers."""

    PROGRAMS = ["etcd", "kube-apiserver"]

    def start(self):
        server, admin = self._start_kubernetes(self._start_etcd())
        return {"kubeconfig": str(self._kubeconfig(ADMIN, server, admin))}

    def _start_controllers(self, server, controllers, admin, account_key):
        pass


def listening(host):
    """Returns a listening socket for a child process to inherit."""
    found = socket.socket()
    found.bind((host, 0))
    found.listen(1024)
    return found


def address(bound):
    return "{}:{}".format(*bound.getsockname())


def end_with(parent):
    """Runs in the child before it executes the program: the kernel kills the child when its parent ends."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the parent has already ended


def fetch(url, token="", authority=None):
    """Returns whether the URL answers with success."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        context = ssl.create_default_context(cafile=str(authority)) if authority else None
        https = urllib.request.HTTPSHandler(context=context)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
        with opener.open(request, timeout=30) as response:
            return response.status == 200
    except (OSError, ValueError):  # including errors of urllib, and a certificate that is only partly written
        return False


def new_private_key():
    """Returns a private key on the curve P-256 as PEM (RFC 5915). Nearly any 32 random bytes are a valid key."""
    # SEQUENCE { INTEGER 1, OCTET STRING key, [0] { OID prime256v1 } }; the public key is optional.
    der = bytes.fromhex("30310201010420") + secrets.token_bytes(32) + bytes.fromhex("a00a06082a8648ce3d030107")
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.encodebytes(der).decode()}-----END EC PRIVATE KEY-----\n"


if __name__ == "__main__":
    main()
