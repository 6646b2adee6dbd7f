"""What a node needs from the system: programs, and the Debian packages that they are in."""

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
# Whatever else a system may have, the images that are made here need one that needs no library.
BUSYBOX = [Path("/bin/busybox"), Path("/usr/bin/busybox")]


class Failure(Exception):
    """The text is for the person who runs this."""


def ensure():
    """Installs what is missing, where that is possible."""
    if sys.platform != "linux":
        raise Failure("a node needs Linux; with Docker, `make e2e CLUSTER=kind` works elsewhere as well")
    if os.geteuid() != 0:
        raise Failure("a node needs root; with Docker, there is `make e2e CLUSTER=kind`")
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    packages = missing()
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise Failure(f"install what these Debian packages have: {' '.join(packages)} (there is no apt-get here)")
    print(f"node: apt-get install {' '.join(packages)}", file=sys.stderr, flush=True)
    # containerd's package starts a service of its own where there is systemd; it is neither used nor touched.
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for attempt in (command, ["apt-get", "update", "--quiet"], command):
        installed = subprocess.run(attempt, stdout=sys.stderr.fileno(), stderr=sys.stderr.fileno(), env=environment)
        if attempt == command and installed.returncode == 0:
            break
    if packages := missing():
        raise Failure(f"apt-get could not install {' '.join(packages)}; why stands above")


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
    """A static busybox, or None."""
    for path in BUSYBOX:
        if path.exists() and b"not a dynamic executable" in linkage(path):
            return path
    return None


def linkage(path):
    said = subprocess.run(["ldd", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return said.stdout
