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
    Folder::new(test).with("a.yaml", article + ready).with("b.yaml", of_organization)
}

#[rstest]
#[case("table")]
#[case("dot")]
#[case("mermaid")]
#[case("json")]
fn who_gets_what_in_every_form(#[case] output: &str) {
    let folder = files(&format!("form-{output}"));
    let printed = folder.printed(&["graph", "-f", "a.yaml", "-f", "b.yaml", "--output", output]);
    insta::assert_snapshot!(format!("graph_{output}"), printed);
    let turned = folder.printed(&["graph", "-f", "b.yaml", "-f", "a.yaml", "--output", output]);
    assert_eq!(turned, printed, "the order of files is no matter");
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    let hostile = "apiVersion: registrygrants.dev/v1alpha1\nkind: CrossAccountRegistryGrant\nmetadata: {name: a}\nspec: {access: Pull, registry: {accountID: \"\\e[2J\", regions: [\"\\n\"], repositories: [\"\\\"];x\\u202e\"]}, consumer: {accountID: \"<b>\"}}\n";
    let folder = Folder::new("hostile").with("a.yaml", hostile);
    for output in ["table", "dot", "mermaid"] {
        let printed = folder.printed(&["graph", "-f", "a.yaml", "-o", output]);
        assert!(!printed.contains(['\u{1b}', '\u{202e}']), "{printed:?}");
    }
}

#[test]
fn files_can_come_by_standard_input_and_from_a_folder() {
    let folder = Folder::new("stdin").with("a.yaml", example("article")).with("notes.txt", "no manifest");
    let (status, by_stdin, err) = folder.run(&["graph", "-f", "-"], &example("article"));
    assert_eq!(status, 0, "{err}");
    assert_eq!(folder.printed(&["graph", "-f", "."]), by_stdin);
}

#[rstest]
#[case(&["graph", "-f", "absent.yaml"], "absent.yaml: No such file")]
#[case(&["graph", "-f", "-", "-f", "-"], "standard input can be read only once")]
#[case(&["graph", "-f", "-"], "standard input, document 1: not an object")]
#[case(&["graph", "-f", "."], "no .yaml, .yml or .json file is in this folder")]
fn what_cannot_be_read_is_an_error(#[case] arguments: &[&str], #[case] told: &str) {
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
fn a_cluster_is_asked_for_its_grants_and_for_nothing_else() {
    let (kubeconfig, cluster) = cluster(vec![page("b", "more"), page("a", "")]);
    let folder = Folder::new("cluster").with("kubeconfig", kubeconfig);
    let printed = folder.printed(&["graph"]);
    let asked = cluster.join().unwrap();
    assert!(asked[0].starts_with("GET /apis/registrygrants.dev/v1alpha1/crossaccountregistrygrants?"), "{asked:?}");
    assert!(asked[1].contains("continue=more"), "{asked:?}");
    let (a, b) = (printed.find("team-b/a").unwrap(), printed.find("team-b/b").unwrap());
    assert!(a < b, "{printed}");
    assert!(printed.contains("team-b/a: NotSeen: the operator has not looked at it"), "{printed}");
}

#[test]
fn one_namespace_can_be_asked_for() {
    let (kubeconfig, cluster) = cluster(vec![page("b", "")]);
    let folder = Folder::new("namespace").with("kubeconfig", kubeconfig);
    folder.printed(&["graph", "--namespace", "team-b", "--context", "here"]);
    let asked = cluster.join().unwrap();
    assert!(asked[0].contains("/namespaces/team-b/crossaccountregistrygrants?"), "{asked:?}");
}

#[test]
fn a_cluster_that_does_not_answer_is_an_error() {
    let folder = Folder::new("silent").with("kubeconfig", "apiVersion: v1\nkind: Config\ncurrent-context: nowhere\n");
    let (status, out, err) = folder.run(&["graph"], "");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.starts_with("registry-grants: "), "{err}");
}
