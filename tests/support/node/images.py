"""Builds container images from files, without a container engine: archives in the format of `docker save`.

The operator's image follows the Dockerfile: user, entrypoint, paths and labels are read from its last stage, so they
cannot differ. Its base image is not fetched. Instead, the image gets the files that the binary needs from this machine.
"""

import hashlib
import io
import json
import platform
import re
import shlex
import subprocess
import tarfile
from pathlib import Path

from node import packages

REPOSITORY = Path(__file__).resolve().parents[3]
DOCKERFILE = REPOSITORY / "Dockerfile"
# The files of the Dockerfile's base image that we use. Update this list for another base image.
BASE = "gcr.io/distroless/cc-debian12:nonroot"
BASE_LIBRARIES = re.compile(
    r"ld-linux[a-z0-9-]*\.so\.\d|lib(c|m|dl|rt|pthread|resolv|util|nsl)\.so\.\d|libgcc_s\.so\.1|libstdc\+\+\.so\.6|libgomp\.so\.1"
)
BASE_ENVIRONMENT = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
]
BASE_FOLDER = "/home/nonroot"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILT_BINARY = "/build/target/release/registry-grants"


class Failure(Exception):
    """An error whose text is shown to the user."""


# ---- The images


def operator(binary, archive, tag):
    """Builds the operator's image with this binary, instead of one from the Dockerfile's first stage."""
    stage = final_stage(DOCKERFILE.read_text())
    files = {stage["binary"]: Path(binary), str(CERTIFICATES): CERTIFICATES, **shared_libraries(binary)}
    write(archive, f"docker.io/library/registry-grants:{tag}", files, stage["config"], folders=[BASE_FOLDER, "/tmp"])


def pause(archive, name):
    """Builds the pause image, which keeps a Pod's namespaces and does nothing."""
    write(archive, name, {"/bin/busybox": busybox()}, {"Entrypoint": ["/bin/busybox", "sleep", "2147483647"]})


def workload(archive, name, text):
    """Builds the image of a workload. Each text results in another image, with another layer."""
    note = Path(archive).with_suffix(".txt")
    note.write_text(text + "\n")
    config = {"Entrypoint": ["/bin/busybox", "sleep", "2147483647"], "User": "65532:65532"}
    write(archive, name, {"/bin/busybox": busybox(), "/text": note}, config)


def client(archive, name, crane, credential_provider):
    """Builds the image of a registry client that requests its own tokens from AWS (push.sh)."""
    files = {
        "/bin/busybox": busybox(),
        "/bin/crane": Path(crane),
        "/bin/ecr-credential-provider": Path(credential_provider),
        "/push.sh": Path(__file__).with_name("push.sh"),
    }
    config = {"Entrypoint": ["/bin/busybox", "sh", "/push.sh"], "User": "65532:65532", "Env": ["PATH=/bin"]}
    write(archive, name, files, config, folders=["/tmp"])


def busybox():
    found = packages.busybox()
    if not found:
        raise Failure("there is no static busybox on this machine: install Debian's package busybox-static")
    return found


# ---- Reading the Dockerfile


def final_stage(text):
    """Reads the last stage of the Dockerfile: the configuration of the image, and the path of the binary in it."""
    config = {"Env": BASE_ENVIRONMENT, "WorkingDir": BASE_FOLDER, "Labels": {}, "ExposedPorts": {}}
    arguments, binary = {}, None
    stages = re.split(r"^(?=FROM )", re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.M)), flags=re.M)
    for line in filter(None, map(str.strip, stages[-1].splitlines())):
        instruction, rest = line.split(maxsplit=1)
        match instruction:
            case "FROM" if rest == BASE:
                pass
            case "FROM":
                raise Failure(f"the Dockerfile's base is {rest}, not {BASE}: update the list of its files in {__name__}")
            case "ARG":
                name, _, value = rest.partition("=")
                arguments[name] = value
            case "LABEL":
                pairs = (word.partition("=") for word in shlex.split(rest))
                config["Labels"] |= {
                    name: re.sub(r"\$(\w+)", lambda used: arguments[used[1]], value) for name, _, value in pairs
                }
            case "COPY":
                source, binary = re.fullmatch(r"--from=builder (\S+) (\S+)", rest).groups()
                if source != BUILT_BINARY:
                    raise Failure(f"the Dockerfile copies {source}, but {__name__} only supports {BUILT_BINARY}")
            case "USER":
                config["User"] = rest
            case "EXPOSE":
                config["ExposedPorts"][f"{rest}/tcp"] = {}
            case "ENTRYPOINT" | "CMD":
                config[{"ENTRYPOINT": "Entrypoint", "CMD": "Cmd"}[instruction]] = json.loads(rest)
            case _:
                raise Failure(f"{__name__} does not support the Dockerfile's line `{line}`")
    return {"config": config, "binary": binary}


def shared_libraries(binary):
    """Returns the libraries that the binary is linked with, as path in the image → file. The base image must have all."""
    found = {}
    for line in packages.linkage(binary).decode().splitlines():
        if "linux-vdso" in line:
            continue
        path = re.search(r"(/\S+)", line)
        if not path or not BASE_LIBRARIES.fullmatch(Path(path[1]).name):
            raise Failure(f"{binary} needs `{line.strip()}`, which {BASE} does not have")
        found[path[1]] = Path(path[1])
    return found


# ---- Any image


def write(archive, name, files, config, folders=()):
    """Builds an archive with one image of one layer. `files` maps paths in the image to files."""
    layer = layer_of(files, folders)
    configuration = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created_by": "tests/support/node/images.py"}],
        }
    ).encode()
    configuration_name = hashlib.sha256(configuration).hexdigest() + ".json"
    manifest = [{"Config": configuration_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for entry, content in [
            ("manifest.json", json.dumps(manifest).encode()),
            (configuration_name, configuration),
            ("layer.tar", layer),
        ]:
            add(tar, entry, content)


def layer_of(files, folders):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in folders:
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
        for path, source in sorted(files.items()):
            add(tar, path.lstrip("/"), source.read_bytes(), source.stat().st_mode & 0o777 | 0o444)
    return buffer.getvalue()


def add(tar, name, content, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
