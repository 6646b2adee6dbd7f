"""A whole one-node cluster around the local stack, for `make e2e`.

- isolation: a machine within the machine (Linux namespaces), with which all that runs in it ends.
- packages: the Debian packages that a node needs.
- cluster: the local stack with scheduler, containerd, kubelet and kube-proxy.
- images: container images made of files, without a container engine; the operator's according to the Dockerfile.
- registry: how a node gets at the emulated registry, and by which credentials.
- kind: the same cluster by kind, for those who have Docker.
"""
