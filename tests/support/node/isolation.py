"""Isolation by Linux namespaces: processes, mounts and networks in them cannot outlive them.

The command gets its own process, mount and network namespaces. It creates no bridge, address, firewall rule or mount
outside, so nothing is left there, however it ends. When the first process of a process namespace ends, the kernel kills all
others (containers, too), and the mounts and the network disappear with the last process. The command reaches nothing outside.

The control groups are not in a namespace. They are in a group of their own, which is removed afterwards, and also before the
next start in case this process was killed.
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

# The address of the API server and AWS for the node and its Pods, on the loopback interface of the namespace.
HOST = "10.250.0.1"
# One per checkout, so that two checkouts can run at the same time.
CGROUP = f"registry-grants-{hashlib.sha256(__file__.encode()).hexdigest()[:8]}"
INSIDE = "REGISTRY_GRANTS_MACHINE"
CGROUPS = Path("/sys/fs/cgroup")

NEW_MOUNTS, NEW_PROCESSES, NEW_NETWORK = 0x00020000, 0x20000000, 0x40000000  # CLONE_NEW…, <linux/sched.h>
BIND, RECURSIVE, PRIVATE = 4096, 16384, 1 << 18  # MS_…, <linux/mount.h>
SET_PARENT_DEATH_SIGNAL = 1
LIBC = ctypes.CDLL(None, use_errno=True)
# The kubelet sets these for the entire machine. Instead, it gets files with the values that it wants.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}


class Ended(BaseException):
    """A signal requested the end."""


# ---- Outside the namespaces


def run(command, folders):
    """Runs the command in its own namespaces, and returns its status. If this process is killed, everything ends.

    `folders` are removed before the start and after the end, when they contain no mounts.
    """
    LIBC.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)  # `make` was killed
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    remove(folders)
    machine = None
    try:
        call("unshare", NEW_PROCESSES)  # from now on, for children only: the first one is process 1 in it
        machine = subprocess.Popen(
            [sys.executable, "-m", "node", "inside", *command],
            preexec_fn=lambda: LIBC.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL),
        )
        return machine.wait()
    except Ended:
        return 130
    finally:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)  # the cleanup must not be interrupted
        if machine:
            machine.kill()
            machine.wait()  # it ends last, after all other processes in it
        remove(folders)


def _end(_signal, _frame):
    raise Ended


def remove(folders):
    remove_cgroups()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def cgroup_roots():
    """Returns our control groups: one in each hierarchy (version 1), or the only one (version 2)."""
    trees = [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else [*CGROUPS.glob("*/")]
    return [tree / CGROUP for tree in dict.fromkeys(tree.resolve() for tree in trees) if (tree / "cgroup.procs").exists()]


def make_cgroups():
    for root in cgroup_roots():
        root.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty at first, so that no process can run in it
            if (root / setting).exists() and (root.parent / "cgroup.clone_children").exists():
                (root / setting).write_text((root.parent / setting).read_text())
    if (CGROUPS / "cgroup.controllers").exists():
        available = (CGROUPS / "cgroup.controllers").read_text().split()
        for folder in (CGROUPS, CGROUPS / CGROUP):
            for controller in available:
                with contextlib.suppress(OSError):  # the kubelet does not need controllers that cannot be delegated
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
                except OSError:  # a process that was killed may still be ending
                    if time.monotonic() > deadline:
                        print(f"node: cannot remove {folder}: it is in use", file=sys.stderr)
                        break
                    time.sleep(0.05)


# ---- Inside, as process 1


def inside(command):
    """Sets up the namespaces, runs the command, reaps orphaned processes, and returns the command's status."""
    # Ctrl-C is meant for the command, and process 1 ends with it. (It is not ignored, because the command would inherit that.)
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
    """Mounts private folders over the fixed paths that containerd, the CNI plugins and the kubelet write to."""
    mount("tmpfs", "/run", kind="tmpfs")
    mount("tmpfs", "/var/log", kind="tmpfs")
    # /var/lib without their changes. The folders need not exist outside.
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
    """Makes a system call. Raises OSError if it fails."""
    if getattr(LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
