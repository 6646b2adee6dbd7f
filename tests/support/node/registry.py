"""Access of a node to an emulated registry: containerd's configuration, and ECR's credential provider for the kubelet."""

import json
from pathlib import Path


def hosts_toml(registry):
    """Configures containerd to use plain HTTP for the registry, because the emulation has no certificate."""
    # `server` alone is not enough: containerd 1.6 changes it to https.
    return f"""server = "http://{registry}"

[host."http://{registry}"]
capabilities = ["pull", "resolve"]
"""


def write(folder, seen_as, aws):
    """Writes the provider's files and the kubelet's configuration for it. Returns both paths in the node.

    `seen_as` is the path of `folder` in the node. The provider reads the instance's identity from `instance-credentials.json`
    instead of the instance's metadata service.
    """
    seen_as = Path(seen_as)
    credentials, aws_config = "instance-credentials.json", "aws-config"
    (folder / credentials).write_text("{}")
    (folder / aws_config).write_text(f'[default]\ncredential_process = cat "{seen_as / credentials}"\n')
    environment = {
        "AWS_ENDPOINT_URL": f"http://{aws}",
        "AWS_CONFIG_FILE": str(seen_as / aws_config),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    provider = {
        "name": "ecr-credential-provider",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "matchImages": ["*.dkr.ecr.*.amazonaws.com"],
        "defaultCacheDuration": "0s",
        "env": [{"name": name, "value": value} for name, value in environment.items()],
    }
    configuration = {
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [provider],
    }
    (folder / "credential-provider.json").write_text(json.dumps(configuration))
    return folder / credentials, seen_as / "credential-provider.json"
