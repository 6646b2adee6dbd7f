//! `registry-grants graph`, from files and from a cluster.

mod cli;

use cli::{Folder, example};
use rstest::rstest;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

const EXAMPLES: [&str; 2] = ["article", "organization"];

/// Grants of two examples, one of them Ready by its status and one refused.
fn files(test: &str) -> Folder {
    let [article, organization] = EXAMPLES.map(example);
    let ready = "status:\n  conditions:\n  - {type: Ready, status: \"True\", reason: Granted, message: all is there, lastTransitionTime: \"2026-01-01T00:00:00Z\"}\n";
    let of_organization = organization.split("\n---\n").last().unwrap();
    let article = article.replace("names: [platform]", "names: [elsewhere]");
    Folder::new(test)
        .with("a.yaml", article + ready)
        .with("b.yaml", of_organization)
}

#[rstest]
#[case("table")]
#[case("dot")]
#[case("mermaid")]
#[case("json")]
fn graph_shows_all_access_in_every_format(#[case] output: &str) {
    let folder = files(&format!("form-{output}"));
    let printed = folder.printed(&["graph", "-f", "a.yaml", "-f", "b.yaml", "--output", output]);
    insta::assert_snapshot!(format!("graph_{output}"), printed);
    let turned = folder.printed(&["graph", "-f", "b.yaml", "-f", "a.yaml", "--output", output]);
    assert_eq!(turned, printed, "the order of files is no matter");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let hostile = "apiVersion: registrygrants.dev/v1alpha1\nkind: CrossAccountRegistryGrant\nmetadata: {name: a}\nspec: {access: Pull, registry: {accountID: \"\\e[2J\", regions: [\"\\n\"], repositories: [\"\\\"];x\\u202e\"]}, consumer: {accountID: \"<b>\"}}\n";
    let folder = Folder::new("hostile").with("a.yaml", hostile);
    for output in ["table", "dot", "mermaid"] {
        let (status, printed, told) = folder.run(&["graph", "-f", "a.yaml", "-o", output], "");
        assert!(
            !(printed.clone() + &told).contains(['\u{1b}', '\u{202e}']),
            "{printed:?} {told:?}"
        );
        assert_eq!(status, 1, "the API server would refuse this: {told}");
    }
}

/// Names that ECR, IAM or Kubernetes do not have, as the definition refuses them.
#[rstest]
#[case("team--b/web", "g", "spec.registry.repositories")]
#[case("team__b/web", "g", "spec.registry.repositories")]
#[case("team-b//web", "g", "spec.registry.repositories")]
#[case("/team-b/web", "g", "spec.registry.repositories")]
#[case("team-b/web/", "g", "spec.registry.repositories")]
#[case("-web", "g", "spec.registry.repositories")]
#[case("web-", "g", "spec.registry.repositories")]
#[case("team-b/web.-x", "g", "spec.registry.repositories")]
#[case("quay/foo__bar", "g", "spec.registry.repositories")]
#[case("web", &"g".repeat(200), "metadata.name must have at most 190 characters")]
#[case("a/b/c/d/e/f", "g", "")]
#[case("1web", "g", "")]
#[case("team_b/we.b", "g", "")]
fn manifest_the_cluster_would_reject_is_invalid(
    #[case] repository: &str,
    #[case] name: &str,
    #[case] told: &str,
) {
    let manifests = format!(
        r#"
apiVersion: registrygrants.dev/v1alpha1
kind: AWSAccount
metadata: {{name: "111111111111"}}
spec: {{registry: {{rules: [{{namespaces: {{names: [t]}}, repositories: ["*"], maxAccess: Pull, consumers: ["222222222222"]}}]}}}}
---
apiVersion: registrygrants.dev/v1alpha1
kind: CrossAccountRegistryGrant
metadata: {{name: {name}, namespace: t}}
spec:
  access: Pull
  paths: [Direct]
  registry: {{accountID: "111111111111", regions: [us-east-1], repositories: ["{repository}"]}}
  consumer: {{accountID: "222222222222", wholeAccount: true}}
"#
    );
    let folder = Folder::new("names").with("n.yaml", manifests);
    let graph = folder.run(&["graph", "-f", "n.yaml"], "");
    let handoff = folder.run(
        &["handoff", "-f", "n.yaml", "--account", "222222222222"],
        "",
    );
    for (status, out, err) in [graph, handoff] {
        match told {
            "" => assert_eq!((status, err.as_str()), (0, ""), "{out}"),
            told => assert!(
                status == 1 && err.contains("Invalid: ") && err.contains(told),
                "{status} {out} {err}"
            ),
        }
    }
}

#[test]
fn all_examples_are_read_together() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let folder = Folder::new("all");
    let graph = folder.printed(&["graph", "-f", examples, "-o", "json"]);
    let graph: serde_json::Value = serde_json::from_str(&graph).unwrap();
    let grants = graph["grants"].as_array().unwrap();
    for grant in [
        "team-b/miq-devops",
        "team-b/functions",
        "platform/base-images",
        "team-b/web",
    ] {
        let edge = grants
            .iter()
            .find(|edge| edge["grant"] == grant)
            .unwrap_or_else(|| panic!("no {grant} in {graph}"));
        assert_eq!(edge["reason"], "Admitted", "{edge}");
    }
    let of_platform = folder.printed(&["graph", "-f", examples, "-n", "platform"]);
    assert!(
        of_platform.contains("platform/base-images") && !of_platform.contains("team-b/web"),
        "{of_platform}"
    );
    for account in ["111111111111", "222222222222", "333333333333"] {
        folder.printed(&["handoff", "-f", examples, "--account", account]);
    }
}

/// A port of this machine on which nobody listens.
const NOBODY: &str = "https://127.0.0.1:9";

/// What is said of a cluster that nobody serves, by a kubeconfig with this proxy.
fn graph_of_nobody(proxy: &str, environment: &[(&str, &str)]) -> String {
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{{proxy} server: '{NOBODY}', insecure-skip-tls-verify: true}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\ncurrent-context: c\nusers: [{{name: u, user: {{token: x}}}}]\n"
    );
    let folder = Folder::new("connection").with("kubeconfig", kubeconfig);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_registry-grants"));
    for variable in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(variable);
    }
    let command = command
        .arg("graph")
        .env("KUBECONFIG", folder.path().join("kubeconfig"))
        .envs(environment.iter().copied());
    let output = command.output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[rstest]
#[case("", &[], "the API server https://127.0.0.1:9: cannot list the grants: ")]
#[case("", &[("HTTPS_PROXY", "http://127.0.0.1:10")], "the API server https://127.0.0.1:9: cannot list the grants: ")]
#[case(
    "proxy-url: 'http://127.0.0.1:10',",
    &[("NO_PROXY", "127.0.0.1")],
    "the API server https://127.0.0.1:9, through the proxy http://127.0.0.1:10: cannot list the grants: "
)]
#[case("proxy-url: 'socks5://127.0.0.1:10',", &[], "the API server https://127.0.0.1:9, through the proxy socks5://127.0.0.1:10: ")]
fn connection_error_names_host_proxy_and_cause(
    #[case] proxy: &str,
    #[case] environment: &[(&str, &str)],
    #[case] told: &str,
) {
    let err = graph_of_nobody(proxy, environment);
    let cause = ["Connection refused", "SOCKS error"]
        .iter()
        .any(|cause| err.contains(cause));
    assert!(err.contains(told) && cause, "{err}");
}

#[rstest]
#[case("example.com,", "NO_PROXY has an empty entry")]
#[case(
    "example.com,<local>",
    "the entry `<local>` of NO_PROXY is neither a host, "
)]
fn unreadable_no_proxy_entry_is_named(#[case] entries: &str, #[case] told: &str) {
    let err = graph_of_nobody(
        "",
        &[
            ("HTTPS_PROXY", "http://127.0.0.1:10"),
            ("NO_PROXY", entries),
        ],
    );
    assert!(err.contains(told), "{err}");
}

#[test]
fn files_are_read_from_standard_input_and_folders() {
    let folder = Folder::new("stdin")
        .with("a.yaml", example("article"))
        .with("notes.txt", "no manifest");
    let (status, by_stdin, err) = folder.run(&["graph", "-f", "-"], &example("article"));
    assert_eq!(status, 0, "{err}");
    assert_eq!(folder.printed(&["graph", "-f", "."]), by_stdin);
}

#[rstest]
#[case(&["graph", "-f", "absent.yaml"], "absent.yaml: No such file")]
#[case(&["graph", "-f", "-", "-f", "-"], "standard input can be read only once")]
#[case(&["graph", "-f", "-"], "standard input, document 1: not an object")]
#[case(&["graph", "-f", "."], "no .yaml, .yml or .json file is in this folder")]
fn unreadable_input_is_an_error(#[case] arguments: &[&str], #[case] told: &str) {
    let folder = Folder::new(&format!("error-{}", told.len()));
    let (status, out, err) = folder.run(arguments, "text");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains(told), "{err}");
}

/// Answers these requests, one after the other, and gives their first lines.
fn cluster(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\nclusters: [{{name: c, cluster: {{server: \"http://{address}\"}}}}]\ncontexts: [{{name: here, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    let serve = move || {
        let answered = answers.into_iter().map(|answer| {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
            let first = lines.next().unwrap();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
            write!(&stream, "{head} {}\r\n\r\n{answer}", answer.len()).unwrap();
            first
        });
        answered.collect()
    };
    (kubeconfig, std::thread::spawn(serve))
}

fn page(name: &str, next: &str) -> String {
    format!(
        r#"{{"apiVersion": "registrygrants.dev/v1alpha1", "kind": "CrossAccountRegistryGrantList", "metadata": {{"continue": "{next}"}}, "items": [
        {{"metadata": {{"name": "{name}", "namespace": "team-b"}}, "spec": {{"access": "Pull", "registry": {{"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["x"]}}, "consumer": {{"accountID": "222222222222", "wholeAccount": true}}}}}}]}}"#
    )
}

#[test]
fn cluster_is_asked_only_for_its_grants() {
    let (kubeconfig, cluster) = cluster(vec![page("b", "more"), page("a", "")]);
    let folder = Folder::new("cluster").with("kubeconfig", kubeconfig);
    let printed = folder.printed(&["graph"]);
    let asked = cluster.join().unwrap();
    assert!(
        asked[0].starts_with("GET /apis/registrygrants.dev/v1alpha1/crossaccountregistrygrants?"),
        "{asked:?}"
    );
    assert!(asked[1].contains("continue=more"), "{asked:?}");
    let (a, b) = (
        printed.find("team-b/a").unwrap(),
        printed.find("team-b/b").unwrap(),
    );
    assert!(a < b, "{printed}");
    assert!(
        printed.contains("team-b/a: NotSeen: the operator has not looked at it"),
        "{printed}"
    );
}

#[test]
fn namespace_flag_limits_the_graph_to_one_namespace() {
    let (kubeconfig, cluster) = cluster(vec![page("b", "")]);
    let folder = Folder::new("namespace").with("kubeconfig", kubeconfig);
    folder.printed(&["graph", "--namespace", "team-b", "--context", "here"]);
    let asked = cluster.join().unwrap();
    assert!(
        asked[0].contains("/namespaces/team-b/crossaccountregistrygrants?"),
        "{asked:?}"
    );
}

#[test]
fn unreachable_cluster_is_an_error() {
    let folder = Folder::new("silent").with(
        "kubeconfig",
        "apiVersion: v1\nkind: Config\ncurrent-context: nowhere\n",
    );
    let (status, out, err) = folder.run(&["graph"], "");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.starts_with("registry-grants: "), "{err}");
}
