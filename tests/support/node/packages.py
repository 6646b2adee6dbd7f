"""The programs that a node needs from the system, with their Debian packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CNI_PLUGINS = [Path("/usr/lib/cni"), Path("/opt/cni/bin")]
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "ldd": "libc-bin",
}
# The images that are built here need a busybox that is linked statically.
BUSYBOX = [Path("/bin/busybox"), Path("/usr/bin/busybox")]


class Failure(Exception):
    """An error whose text is shown to the user."""


def ensure():
    """Installs missing packages, if possible."""
    if sys.platform != "linux":
        raise Failure("a node needs Linux; with Docker, use `make e2e CLUSTER=kind`")
    if os.geteuid() != 0:
        raise Failure("a node needs root; with Docker, use `make e2e CLUSTER=kind`")
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    packages = missing()
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise Failure(f"install the programs of these Debian packages: {' '.join(packages)} (apt-get is not available)")
    print(f"node: apt-get install {' '.join(packages)}", file=sys.stderr, flush=True)
    # On systems with systemd, containerd's package starts a service. It is neither used nor changed.
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for attempt in (command, ["apt-get", "update", "--quiet"], command):
        installed = subprocess.run(attempt, stdout=sys.stderr.fileno(), stderr=sys.stderr.fileno(), env=environment)
        if attempt == command and installed.returncode == 0:
            break
    if packages := missing():
        raise Failure(f"apt-get could not install {' '.join(packages)}; see its output above")


def missing():
    packages = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    if not cni_plugins():
        packages.add("containernetworking-plugins")
    if not busybox():
        packages.add("busybox-static")
    return sorted(packages)


def cni_plugins():
    return next((folder for folder in CNI_PLUGINS if (folder / "bridge").exists()), None)


def busybox():
    """Returns the path of a static busybox, or None."""
    for path in BUSYBOX:
        if path.exists() and b"not a dynamic executable" in linkage(path):
            return path
    return None


def linkage(path):
    said = subprocess.run(["ldd", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return said.stdout
