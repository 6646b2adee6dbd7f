# A registry client of account B, in a Pod: pushes what it is itself made of to $IMAGE. The token is its own, from AWS's
# credential provider for kubelets, with the identity that the environment says: AWS_PROFILE=by-role assumes $ROLE first.
set -eu
busybox() { /bin/busybox "$@"; }
export HOME=/tmp AWS_CONFIG_FILE=/tmp/aws-config
printf '[profile direct]\ncredential_source = Environment\n[profile by-role]\nrole_arn = %s\ncredential_source = Environment\n' \
  "${ROLE:-}" >"$AWS_CONFIG_FILE"
[ "${AWS_PROFILE:-}" != direct ] || unset AWS_PROFILE

request="{\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\"kind\":\"CredentialProviderRequest\",\"image\":\"$IMAGE\"}"
token=$(echo "$request" | ecr-credential-provider | busybox sed 's/.*"password":"\([^"]*\)".*/\1/')
echo "$token" | crane auth login "${IMAGE%%/*}" --username AWS --password-stdin

export HTTP_PROXY="$REGISTRY_PROXY" HTTPS_PROXY="$REGISTRY_PROXY"
busybox echo "$IMAGE" | busybox tee /tmp/pushed >/dev/null
busybox tar -cf /tmp/layer.tar -C /tmp pushed
crane append --insecure --oci-empty-base --new_layer /tmp/layer.tar --new_tag "$IMAGE"
crane --insecure digest "$IMAGE"
