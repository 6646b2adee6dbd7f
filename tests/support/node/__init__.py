"""A whole one-node cluster around the local stack, for `make e2e`.

- isolation: Linux namespaces that end together with everything that runs in them.
- packages: the Debian packages that a node needs.
- cluster: the local stack with scheduler, containerd, kubelet and kube-proxy.
- images: builds container images from files, without a container engine; the operator's image according to the Dockerfile.
- registry: configures how a node reaches the emulated registry, and with which credentials.
- kind: the same cluster with kind, for machines with Docker.
"""
