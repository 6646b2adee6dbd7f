"""The same cluster with kind, for machines with Docker. This module only has the differences: kind creates cluster and node.

AWS runs outside of it, on this machine's address in a separate Docker network. Leftovers of an earlier run are removed first.
Needs Linux, because Docker's networks are not part of the machine on other systems.
"""

import base64
import json
import os
import re
import shutil
import subprocess

import stack
from node import registry

NAME = "registry-grants-e2e"  # of the cluster and of the network
NODE = f"{NAME}-control-plane"
SHARED = "/registry-grants"  # the path in the node of the shared folder
PROVIDER = {
    "image-credential-provider-config": f"{SHARED}/credential-provider.json",
    "image-credential-provider-bin-dir": f"{SHARED}/bin",
}


class Kind(stack.Stack):
    PROGRAMS = ["kubectl", "helm", "crane", "python", "ecr-credential-provider"]
    PLAIN_REGISTRIES = ()

    def __init__(self, directory, programs):
        super().__init__(directory, programs)
        self._shared = directory / "node"
        shutil.rmtree(self._shared, ignore_errors=True)
        for folder in ("bin", "registries"):
            (self._shared / folder).mkdir(parents=True)
        for program in ("docker", "kind"):
            if not shutil.which(program):
                raise stack.Failure(f"`make e2e CLUSTER=kind` needs {program}")

    def start(self):
        self._remove()
        run("docker", "network", "create", NAME)
        addresses = run("docker", "network", "inspect", NAME, "--format={{range .IPAM.Config}}{{.Gateway}} {{end}}")
        self.HOST = next(address for address in addresses.split() if "." in address)
        aws, proxy, call_log = self._start_aws()
        self._wait("aws", lambda: stack.fetch(f"http://{aws}/_ministack/ready"))

        credentials, _ = registry.write(self._shared, SHARED, aws)
        shutil.copy(self._programs["ecr-credential-provider"], self._shared / "bin")
        for host in self.PLAIN_REGISTRIES:
            folder = self._shared / "registries" / host
            folder.mkdir()
            (folder / "hosts.toml").write_text(registry.hosts_toml(host))
        kubeconfig = self._kubernetes / "kind.kubeconfig"
        config = self._write("kind.json", json.dumps(cluster(self._shared)))
        # kind passes these to the node. The proxy lets containerd reach the registry by its real name.
        environment = {"HTTP_PROXY": f"http://{proxy}", "NO_PROXY": self.HOST, "KIND_EXPERIMENTAL_DOCKER_NETWORK": NAME}
        create = ["kind", "create", "cluster", f"--config={config}", f"--kubeconfig={kubeconfig}", "--wait=120s"]
        run(*create, environment=environment)

        text = kubeconfig.read_text()
        authority = re.search(r"certificate-authority-data: (\S+)", text)[1]
        self._write("ca.crt", base64.b64decode(authority).decode())
        (self._logs / "audit.jsonl").touch()
        info = self._info(kubeconfig, re.search(r"server: (\S+)", text)[1], aws, proxy, call_log)
        info["node"] = {
            "loadImage": ["kind", "load", "image-archive", f"--name={NAME}"],
            "instanceCredentials": str(credentials),
            "restartKubelet": ["docker", "exec", NODE, "systemctl", "restart", "kubelet"],
            "credentialProvider": self._programs["ecr-credential-provider"],
        }
        return info

    def stop(self):
        subprocess.run(["kind", "export", "logs", str(self._logs / "kind"), f"--name={NAME}"], capture_output=True)
        self._remove()
        super().stop()

    @staticmethod
    def _remove():
        for command in (["kind", "delete", "cluster", f"--name={NAME}"], ["docker", "network", "rm", NAME]):
            subprocess.run(command, capture_output=True)


def cluster(shared):
    # kubeadm has two forms for flags. kind uses the one of its version.
    patches = [
        {
            "kind": "InitConfiguration",
            "apiVersion": "kubeadm.k8s.io/v1beta3",
            "nodeRegistration": {"kubeletExtraArgs": PROVIDER},
        },
        {
            "kind": "InitConfiguration",
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "nodeRegistration": {
                "kubeletExtraArgs": [{"name": name, "value": value} for name, value in PROVIDER.items()]
            },
        },
    ]
    mounts = [
        {"hostPath": str(shared), "containerPath": SHARED},
        {"hostPath": str(shared / "registries"), "containerPath": "/etc/containerd/certs.d"},
    ]
    node = {"role": "control-plane", "extraMounts": mounts, "kubeadmConfigPatches": [json.dumps(each) for each in patches]}
    return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "name": NAME, "nodes": [node]}


def run(*command, environment=None):
    ran = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True)
    if ran.returncode:
        raise stack.Failure(f"`{' '.join(command)}` failed: {ran.stderr.strip()}")
    return ran.stdout


def up(directory, plain_registries):
    Kind.PLAIN_REGISTRIES = plain_registries
    stack.run(Kind, directory)
