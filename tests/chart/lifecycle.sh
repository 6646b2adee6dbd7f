#!/usr/bin/env bash
# The chart's life in a cluster: install, upgrade, rollback, uninstall, and what stays. One line a step; exit status 1 when any failed.
#
# Needs KUBECONFIG, KUBECTL, HELM, CHART; an API server of its own with kube-controller-manager and nothing of ours in it. There is no node, so
# the Deployment has no replicas. tests/integration/chart.rs gives it all this.
set -uo pipefail

NS=chart-test
R=chart-test
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
FAILED=0
export HELM_CACHE_HOME=$T/c HELM_CONFIG_HOME=$T/f HELM_DATA_HOME=$T/d KUBECACHEDIR=$T/k

# Two sets of values: the second changes one account, leaves one out, adds one.
A="-f $CHART/ci/accounts-values.yaml --set replicaCount=0"
B="-f $T/b.yaml --set replicaCount=0"
cat >"$T/b.yaml" <<'VALUES'
accounts:
  "111111111111": {alias: changed}
  "333333333333": {alias: new}
VALUES

k() { "$KUBECTL" --cache-dir "$T/k" "$@"; }
h() { "$HELM" "$@" -n $NS; }

# ok WHAT COMMAND…: the command must succeed.
ok() {
  local what=$1
  shift
  if "$@" >"$T/out" 2>&1; then
    echo "ok    $what"
  else
    echo "FAIL  $what"
    cat "$T/out"
    FAILED=1
  fi
}

# refused WHAT TEXT COMMAND…: the command must fail, and say TEXT.
refused() {
  local what=$1 text=$2
  shift 2
  if "$@" >"$T/out" 2>&1; then
    echo "FAIL  $what: accepted"
    FAILED=1
  elif grep -q -- "$text" "$T/out"; then
    echo "ok    $what"
  else
    echo "FAIL  $what: another error"
    cat "$T/out"
    FAILED=1
  fi
}

# is WHAT WANTED FOUND
is() {
  if [ "$2" = "$3" ]; then
    echo "ok    $1"
  else
    echo "FAIL  $1: expected [$2], found [$3]"
    FAILED=1
  fi
}

aliases() { k get awsaccounts -o jsonpath='{range .items[*]}{.metadata.name}={.spec.alias} {end}'; }
hooks() { k get awsaccounts -o jsonpath='{range .items[*]}{.metadata.annotations.helm\.sh/hook} {end}'; }
crds() { k get crd -o name | grep -c registrygrants.dev; }
gone() {
  k -n $NS get deployments,serviceaccounts,clusterroles,clusterrolebindings -l app.kubernetes.io/instance=$R -o name
}
can() { k auth can-i --as "$1" "${@:2}" -n $NS 2>/dev/null; }
clean() {
  h uninstall $R
  k delete awsaccounts --all
  k delete crd awsaccounts.registrygrants.dev crossaccountregistrygrants.registrygrants.dev
} >/dev/null 2>&1

# shellcheck disable=SC2086 # $A and $B are several words on purpose
{
ok      "first install, accounts in the same release" h install $R "$CHART" --create-namespace --wait $A
is      "both accounts are there" "111111111111=registry 222222222222=team-b " "$(aliases)"
ok      "upgrade takes them into the release" h upgrade $R "$CHART" --wait $B
is      "changed, kept, added" "111111111111=changed 222222222222=team-b 333333333333=new " "$(aliases)"
is      "the account left out is named" 1 "$(h get notes $R | grep -c 'STILL OPEN.*222222222222')"
ok      "rollback to the first revision" h rollback $R 1 --wait
is      "its accounts are back, nothing is deleted" "111111111111=registry 222222222222=team-b 333333333333=new " "$(aliases)"
ok      "upgrade again" h upgrade $R "$CHART" --wait $A
is      "all of the release, none a hook" "   " "$(hooks | sed 's/post[^ ]*//3')"
ok      "uninstall" h uninstall $R
is      "definitions and accounts stay" "2 111111111111=registry 222222222222=team-b 333333333333=new " "$(crds) $(aliases)"
is      "nothing else stays" "" "$(gone)"
ok      "re-install over what was kept, changed" h install $R "$CHART" --wait $B
is      "the change is applied" "111111111111=changed 222222222222=team-b 333333333333=new " "$(aliases)"
ok      "uninstall again" h uninstall $R
refused "another release does not take the definitions" "invalid ownership metadata" h install other "$CHART" $A
ok      "unless it is told to" h install other "$CHART" $A --take-ownership --wait
ok      "uninstall the other" h uninstall other
clean
refused "crds.install=false without definitions" "ensure CRDs are installed first" h install $R "$CHART" $A --set crds.install=false
ok      "crds.install=false, no accounts" h install $R "$CHART" --set crds.install=false,replicaCount=0 --wait
ok      "definitions and accounts by an upgrade" h upgrade $R "$CHART" --wait $A
is      "both accounts are there" "111111111111=registry 222222222222=team-b " "$(aliases)"
ok      "crds.install=false later" h upgrade $R "$CHART" --wait $A --set crds.install=false
is      "the definitions stay" 2 "$(crds)"
clean
ok      "definitions by kubectl" k apply --server-side -f "$CHART/files/crds"
k wait --for=condition=Established crd --all >/dev/null
ok      "crds.install=false over them" h install $R "$CHART" --wait $A --set crds.install=false
is      "accounts are no hooks" "  " "$(hooks)"
clean
ok      "crds.keep=false" h install $R "$CHART" --wait --set crds.keep=false,replicaCount=0
ok      "uninstall" h uninstall $R
for _ in $(seq 50); do [ "$(crds)" = 0 ] && break; sleep 0.1; done
is      "the definitions go" 0 "$(crds)"
refused "an unknown field inside an account" "spec.registry.rulez" h install $R "$CHART" --wait --set replicaCount=0 --set-json 'accounts={"111111111111":{"registry":{"rulez":[]}}}'
ok      "the failed release is mended by upgrade --install" h upgrade --install $R "$CHART" --wait $A
is      "both accounts are there" "111111111111=registry 222222222222=team-b " "$(aliases)"
SA=system:serviceaccount:$NS:$R-registry-grants
k -n $NS create rolebinding e --clusterrole=edit --user=editor >/dev/null; k -n $NS create rolebinding v --clusterrole=view --user=viewer >/dev/null
for _ in $(seq 50); do [ "$(can editor create carg)" = yes ] && [ "$(can viewer get carg)" = yes ] && break; sleep 0.1; done
is "editor writes grants, not accounts" "yes no no" "$(can editor create carg) $(can editor get awsaccounts) $(can editor create awsaccounts)"
is "viewer reads grants, not accounts" "yes no no" "$(can viewer get carg) $(can viewer create carg) $(can viewer list awsaccounts)"
is "the operator does not create accounts or read secrets" "no no no" "$(can $SA create awsaccounts) $(can $SA get secrets) $(can $SA create pods)"
k -n $NS delete rolebinding e v >/dev/null
clean; k delete ns $NS --wait=false >/dev/null
}
exit $FAILED
