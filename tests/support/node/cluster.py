"""The local stack with a node: a scheduler, kube-proxy, and a kubelet with containerd, which runs real Pods.

The kubelet gets the credentials for private images from ECR's credential provider, as on an EC2 instance. Instead of the
instance's metadata service, the provider reads a file, `instanceCredentials`, in the form of a `credential_process`. It
caches a registry token for hours, so the kubelet must be restarted after a change of the instance's role. It is restarted
whenever it ends.
"""

import json
import secrets
import shutil
import subprocess

import stack
from node import images, isolation, packages, registry

NAME = "node"
SERVICES, PODS = "10.252.0.0/24", "10.251.0.0/24"
SOCKET = "/run/containerd/containerd.sock"  # the default; /run is private to the namespace (and paths of sockets must be short)
PAUSE = "docker.io/library/pause:made-here"
KUBELET, SCHEDULER, PROXY = f"system:node:{NAME}", "system:kube-scheduler", "system:kube-proxy"


class Cluster(stack.Stack):
    PROGRAMS = [*stack.Stack.PROGRAMS, "kube-scheduler", "kube-proxy", "kubelet", "ecr-credential-provider"]
    HOST = isolation.HOST
    # All controllers except those of volumes: no volumes are used here, and one of them creates a folder below /usr.
    CONTROLLERS = [
        "*",
        "-persistentvolume-attach-detach-controller",
        "-persistentvolume-binder-controller",
        "-persistentvolume-expander-controller",
    ]
    API_SERVER_FLAGS = (
        "--authorization-mode=Node,RBAC",
        f"--service-cluster-ip-range={SERVICES}",
        "--kubelet-preferred-address-types=InternalIP",
    )

    # Registries that are reached over plain HTTP, because the emulation has no certificate.
    PLAIN_REGISTRIES = ()

    def __init__(self, directory, programs):
        super().__init__(directory, programs)
        self._node = directory / "node"
        self._tokens = {user: secrets.token_hex(16) for user in (KUBELET, SCHEDULER, PROXY)}
        self._kubelet = None
        for folder in ("cni", "containerd", "kubelet", "credential-provider"):
            (self._node / folder).mkdir(parents=True)

    def _users(self):
        groups = {KUBELET: "system:nodes"}
        return [(token, user, groups.get(user, "")) for user, token in self._tokens.items()]

    def start(self):
        info = super().start()
        kubeconfigs = {user: self._kubeconfig(user, info["server"], token) for user, token in self._tokens.items()}
        self._start_scheduler(kubeconfigs[SCHEDULER])
        self._start_containerd(info["registryProxy"])
        credentials = self._start_kubelet(kubeconfigs[KUBELET], info["awsEndpoint"].removeprefix("http://"))
        self._start_proxy(kubeconfigs[PROXY])
        self._wait("kubelet", lambda: self._node_is_ready(info))
        restart = f"kill $(cat '{self._node / 'kubelet.pid'}')"
        info["node"] = {
            "loadImage": ["ctr", "--namespace", "k8s.io", "images", "import"],
            "instanceCredentials": str(credentials),
            "restartKubelet": ["sh", "-c", restart],
            "credentialProvider": self._programs["ecr-credential-provider"],
        }
        return info

    # ---- The control plane's part

    def _start_scheduler(self, kubeconfig):
        flags = ["--leader-elect=false", "--secure-port=0", f"--kubeconfig={kubeconfig}"]
        self._spawn("kube-scheduler", [self._programs["kube-scheduler"], *flags])

    def _node_is_ready(self, info):
        kubectl = [self._programs["kubectl"], f"--kubeconfig={info['kubeconfig']}", "get", f"node/{NAME}"]
        ready = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        said = subprocess.run([*kubectl, ready], capture_output=True, text=True, env={"HOME": str(self._node)})
        return said.stdout == "True"

    # ---- containerd

    def _start_containerd(self, proxy):
        self._file("cni/10-pods.conflist", json.dumps(pod_network(self._node / "cni" / "addresses")))
        for host in self.PLAIN_REGISTRIES:
            self._file(f"registries/{host}/hosts.toml", registry.hosts_toml(host))
        config = self._file("containerd.toml", containerd_configuration(self._node))
        # The proxy lets it reach a registry by its real name. (It uses the environment's proxy. The kubelet gets none.)
        self._spawn(
            "containerd",
            [shutil.which("containerd"), f"--config={config}"],
            more_environment={"HTTP_PROXY": proxy, "NO_PROXY": ""},
        )
        self._wait("containerd", lambda: self._ctr("version"))
        pause = self._node / "pause.tar"
        images.pause(pause, PAUSE)
        if not self._ctr("--namespace=k8s.io", "images", "import", str(pause)):
            raise stack.Failure(f"containerd does not accept the pause image; {self._last_lines('containerd')}")

    @staticmethod
    def _ctr(*arguments):
        return subprocess.run(["ctr", *arguments], capture_output=True).returncode == 0

    # ---- The kubelet

    def _start_kubelet(self, kubeconfig, aws):
        """Starts the kubelet, and returns the path for the instance's credentials."""
        provider = self._node / "credential-provider"
        shutil.copy(self._programs["ecr-credential-provider"], provider)
        credentials, provider_config = registry.write(self._node, self._node, aws)
        self._file("resolv.conf", "nameserver 127.0.0.1\n")  # unused: Pods find Services by environment variables
        config = self._file("kubelet.json", json.dumps(kubelet_configuration(self._node, self._logs)))
        self._kubelet = [
            self._programs["kubelet"],
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={self.HOST}",
            f"--root-dir={self._node / 'kubelet'}",
            f"--image-credential-provider-config={provider_config}",
            f"--image-credential-provider-bin-dir={provider}",
        ]
        self._spawn_kubelet()
        return credentials

    def _spawn_kubelet(self):
        self._spawn("kubelet", self._kubelet)
        (self._node / "kubelet.pid").write_text(str(self._children[-1][1].pid))

    def _check(self):
        kubelets = [child for child in self._children if child[0] == "kubelet" and child[1].poll() is not None]
        for kubelet in kubelets:
            self._children.remove(kubelet)
            if kubelet[1].returncode not in (0, -15):
                raise stack.Failure(f"the kubelet ended with status {kubelet[1].returncode}; its log is {kubelet[2]}")
            self._spawn_kubelet()
        super()._check()

    def _start_proxy(self, kubeconfig):
        configuration = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": PODS,
            "hostnameOverride": NAME,
            # Do not change the machine's limits.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
        config = self._file("kube-proxy.json", json.dumps(configuration))
        self._spawn("kube-proxy", [self._programs["kube-proxy"], f"--config={config}"])

    def _file(self, name, text):
        path = self._node / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def pod_network(addresses):
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "ipam": {
            "type": "host-local",
            "subnet": PODS,
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(addresses),
        },
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, {"type": "loopback"}]}


def containerd_configuration(node):
    home = node / "containerd"
    return f"""version = 2
root = "{home / "root"}"

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "{home / "opt"}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# In some environments, root may not lower the OOM score.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{packages.cni_plugins()}"
conf_dir = "{node / "cni"}"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{node / "registries"}"
"""


def kubelet_configuration(node, logs):
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": isolation.HOST,
        # It can only be reached in this namespace, so kubectl logs and exec need no certificates.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{isolation.CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "resolvConf": str(node / "resolv.conf"),
        "podLogsDir": str(logs / "pods"),
        "clusterDNS": ["127.0.0.1"],
        "volumePluginDir": str(node / "volume-plugins"),
        # Do not evict Pods because the user's disk is full.
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "50Mi"},
        # More frequent than in a normal cluster, which is possible because nothing else uses this API server.
        "nodeStatusUpdateFrequency": "5s",
    }


def up(directory, plain_registries):
    Cluster.PLAIN_REGISTRIES = plain_registries
    stack.run(Cluster, directory)
