"""A machine within the machine: what is started in it cannot outlive it, and what it mounts and sets up ends with it.

The command gets process, mount and network namespaces of its own. There is no bridge, address, firewall rule or mount of it
outside, so nothing can be left there, however it ends: with the first process of a process namespace the kernel kills all
others (containers as well), and with the last one go its mounts and its network. It reaches nothing outside, either.

What is not in a namespace is the control groups' tree: they are in one of our own, removed afterwards, and before the next
start in case this process was killed.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Where the API server and AWS are, as seen from the node and its Pods. On the loopback interface of the namespace.
HOST = "10.250.0.1"
# One for each checkout: two of them can run at the same time.
CGROUP = f"registry-grants-{hashlib.sha256(__file__.encode()).hexdigest()[:8]}"
INSIDE = "REGISTRY_GRANTS_MACHINE"
CGROUPS = Path("/sys/fs/cgroup")

NEW_MOUNTS, NEW_PROCESSES, NEW_NETWORK = 0x00020000, 0x20000000, 0x40000000  # CLONE_NEW…, <linux/sched.h>
BIND, RECURSIVE, PRIVATE = 4096, 16384, 1 << 18  # MS_…, <linux/mount.h>
SET_PARENT_DEATH_SIGNAL = 1
LIBC = ctypes.CDLL(None, use_errno=True)
# The kubelet sets these for the whole machine. It gets files with the values that it wants instead.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}


class Ended(BaseException):
    """A signal asked for the end."""


# ---- From outside


def run(command, folders):
    """Runs the command in a machine of its own; gives back its status. When this process is killed, all of it ends.

    `folders`: what may be removed before it starts and when it has ended, for the mounts in there are gone then.
    """
    LIBC.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)  # `make` was killed
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    remove(folders)
    machine = None
    try:
        call("unshare", NEW_PROCESSES)  # from now on, of children alone: the first one is its process 1
        machine = subprocess.Popen(
            [sys.executable, "-m", "node", "inside", *command],
            preexec_fn=lambda: LIBC.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL),
        )
        return machine.wait()
    except Ended:
        return 130
    finally:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)  # the end is not to be interrupted
        if machine:
            machine.kill()
            machine.wait()  # the kernel lets it end last, after all others in it
        remove(folders)


def _end(_signal, _frame):
    raise Ended


def remove(folders):
    remove_cgroups()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def cgroup_roots():
    """Ours, in each of the trees (version 1) or in the one that there is (version 2)."""
    trees = [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else [*CGROUPS.glob("*/")]
    return [tree / CGROUP for tree in dict.fromkeys(tree.resolve() for tree in trees) if (tree / "cgroup.procs").exists()]


def make_cgroups():
    for root in cgroup_roots():
        root.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty at first, and nothing can run in it then
            if (root / setting).exists() and (root.parent / "cgroup.clone_children").exists():
                (root / setting).write_text((root.parent / setting).read_text())
    if (CGROUPS / "cgroup.controllers").exists():
        available = (CGROUPS / "cgroup.controllers").read_text().split()
        for folder in (CGROUPS, CGROUPS / CGROUP):
            for controller in available:
                with contextlib.suppress(OSError):  # one that cannot be handed down is none that the kubelet asks for
                    (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def remove_cgroups():
    deadline = time.monotonic() + 60
    for root in cgroup_roots():
        for folder, _, _ in os.walk(root, topdown=False):
            while True:
                try:
                    os.rmdir(folder)
                    break
                except FileNotFoundError:
                    break
                except OSError:  # a process that was killed is still on its way out
                    if time.monotonic() > deadline:
                        print(f"node: {folder} cannot be removed: it is in use", file=sys.stderr)
                        break
                    time.sleep(0.05)


# ---- Inside, as process 1


def inside(command):
    """Sets the machine up, runs the command, and takes in the orphans meanwhile; gives back the command's status."""
    # A Ctrl-C is for the command; process 1 ends with it. (Not ignored, for the command would inherit that.)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda _signal, _frame: None)
    call("unshare", NEW_MOUNTS | NEW_NETWORK)
    mount("none", "/", RECURSIVE | PRIVATE)
    mount("proc", "/proc", kind="proc")
    own_folders()
    own_kernel_settings()
    make_cgroups()
    ip("link", "set", "lo", "up")
    ip("address", "add", f"{HOST}/32", "dev", "lo")
    process = subprocess.Popen(command, env={**os.environ, INSIDE: "1"})
    while True:
        ended, status = os.wait()
        if ended == process.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def is_inside():
    return INSIDE in os.environ


def own_folders():
    """What containerd, the CNI plugins and the kubelet write to fixed places."""
    mount("tmpfs", "/run", kind="tmpfs")
    mount("tmpfs", "/var/log", kind="tmpfs")
    # /var/lib as it is, but for what they make in it: the folders need not exist outside.
    staged = Path(tempfile.mkdtemp(dir="/run"))
    for entry in Path("/var/lib").iterdir():
        if entry.name not in ("cni", "kubelet") and entry.is_dir() and not entry.is_symlink():
            (staged / entry.name).mkdir()
            mount(entry, staged / entry.name, BIND | RECURSIVE)
    mount(staged, "/var/lib", BIND | RECURSIVE)


def own_kernel_settings():
    for name, value in KERNEL_SETTINGS.items():
        file = Path("/run/kernel") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        if (Path("/proc/sys") / name).exists():
            mount(file, Path("/proc/sys") / name, BIND)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def mount(source, target, flags=0, kind=None):
    encoded = [os.fsencode(part) if part is not None else None for part in (source, target, kind)]
    call("mount", *encoded, flags, None)


def call(name, *arguments):
    """A system call; raises OSError when it fails."""
    if getattr(LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
