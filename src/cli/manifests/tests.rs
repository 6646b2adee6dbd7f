use super::documents::Input;
use super::*;
use proptest::prelude::*;
use rstest::rstest;

const GRANT: &str = r#"
apiVersion: registrygrants.dev/v1alpha1
kind: CrossAccountRegistryGrant
metadata: {name: web}
spec:
  access: Pull
  registry: {accountID: "111111111111", regions: [us-east-1], repositories: [team-b/web]}
  consumer: {accountID: "222222222222", wholeAccount: true}
"#;
const ACCOUNT: &str = "{apiVersion: registrygrants.dev/v1alpha1, kind: AWSAccount, metadata: {name: '111111111111'}, spec: {}}";

fn read(texts: &[&str]) -> Result<Files, String> {
    let input = |(at, text): (usize, &&str)| Input {
        name: format!("{}.yaml", at + 1),
        bytes: text.as_bytes().to_vec(),
    };
    Files::of(texts.iter().enumerate().map(input).collect(), "default")
}

fn refused(text: &str) -> String {
    read(&[text]).map(|_| ()).expect_err("it should be refused")
}

#[test]
fn grant_without_a_namespace_gets_the_given_one() {
    let files = read(&[GRANT]).unwrap();
    let name = GrantName {
        namespace: "default".into(),
        name: "web".into(),
    };
    assert_eq!(files.grants[&name].namespace().unwrap(), "default");
}

#[test]
fn schema_defaults_are_filled_in() {
    let files = read(&[GRANT, ACCOUNT]).unwrap();
    let (_, grant) = files.grants.first_key_value().unwrap();
    assert_eq!(grant.spec.paths.len(), 2);
    let account = files.account(&"111111111111".parse().unwrap()).unwrap();
    assert_eq!(account.spec.roles.path, "/registry-grants/");
}

#[test]
fn documents_and_lists_of_every_form_are_split() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {ACCOUNT}\n- apiVersion: v1\n  kind: Secret\n"
    );
    let typed = r#"{"apiVersion": "registrygrants.dev/v1alpha1", "kind": "CrossAccountRegistryGrantList", "metadata": {}, "items": [
	{"metadata": {"name": "a", "namespace": "x"}, "spec": {"access": "Pull",
	"registry": {"accountID": "111111111111", "regions": [], "repositories": []}, "consumer": {}}}]}"#;
    let files = read(&[&format!("---\n# nothing\n---\n{GRANT}---\n{list}"), typed]).unwrap();
    let names: Vec<String> = files.grants.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["default/web", "x/a"]);
    assert_eq!(files.accounts.len(), 1);
    assert_eq!(files.notes, ["skipped: v1 Secret"]);
}

#[test]
fn namespace_has_its_labels_and_its_name_label() {
    let files =
        read(&["{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {team: b}}}"])
            .unwrap();
    let labels = |namespace| {
        files
            .namespace_labels(namespace)
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>()
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        labels("a"),
        [pair("kubernetes.io/metadata.name", "a"), pair("team", "b")]
    );
    assert_eq!(labels("b"), [pair("kubernetes.io/metadata.name", "b")]);
}

#[rstest]
#[case("a: [", "1.yaml: not YAML: ")]
#[case("a: 1\na: 2", "duplicate")]
#[case("just text", "1.yaml, document 1: not an object")]
#[case("---\n[1]", "1.yaml, document 1: not an object")]
#[case("a: b", "1.yaml, document 1: apiVersion and kind are required")]
#[case(
    "apiVersion: registrygrants.dev/v1\nkind: AWSAccount",
    "apiVersion registrygrants.dev/v1 is not supported; use registrygrants.dev/v1alpha1"
)]
#[case(
    "apiVersion: registrygrants.dev/v1alpha1\nkind: AwsAccount",
    "kind AwsAccount does not exist in registrygrants.dev"
)]
#[case(
    "{apiVersion: registrygrants.dev/v1alpha1, kind: AWSAccount, metadata: {}, spec: {}}",
    "(AWSAccount): metadata.name is required"
)]
#[case(
    "{apiVersion: registrygrants.dev/v1alpha1, kind: AWSAccount, metadata: {name: prod}, spec: {}}",
    "an AWSAccount's name is the account's number, quoted"
)]
#[case(
    "{apiVersion: registrygrants.dev/v1alpha1, kind: AWSAccount, metadata: {name: 111111111111}, spec: {}}",
    "metadata.name: invalid type: integer `111111111111`, expected a string; numbers such as an account's must be quoted"
)]
#[case(
    "{apiVersion: registrygrants.dev/v1alpha1, kind: AWSAccount, metadata: {name: '111111111111'}, spec: {roles: {path: \"/a'b/\"}}}",
    "spec.roles.path: must start and end with /"
)]
#[case(
    "{apiVersion: v1, kind: Namespace, metadata: {name: \"a\\nb\"}}",
    "metadata.name: `a\\nb` is not a name"
)]
#[case(
    "{apiVersion: registrygrants.dev/v1alpha1, kind: AWSAccount, metadata: {name: '1'}}",
    "missing field `spec`"
)]
fn unreadable_manifest_is_refused_with_its_place(#[case] text: &str, #[case] reported: &str) {
    let refused = refused(text);
    assert!(
        refused.starts_with("1.yaml") && refused.contains(reported),
        "{refused}"
    );
}

#[test]
fn unknown_fields_are_all_named() {
    let text = GRANT
        .replace("wholeAccount", "wholeAcount")
        .replace("repositories:", "repos: [], repositories:");
    let reported = refused(&text);
    let at = "1.yaml, document 1 (CrossAccountRegistryGrant web): unknown field";
    assert!(
        reported.contains(&format!("{at} spec.registry.repos: ")),
        "{reported}"
    );
    assert!(
        reported.contains(&format!("{at} spec.consumer.wholeAcount: ")),
        "{reported}"
    );
    let role = GRANT.replace("registry: {", "registry: {role: {nmae: x}, ");
    assert!(
        refused(&role).contains("unknown field spec.registry.role.nmae: "),
        "{}",
        refused(&role)
    );
}

#[test]
fn status_of_a_newer_operator_is_accepted() {
    assert!(read(&[&format!("{GRANT}status: {{newer: 1}}\n")]).is_ok());
}

#[test]
fn duplicate_object_is_refused_with_both_places() {
    let reported = read(&[GRANT, GRANT]).map(|_| ()).unwrap_err();
    assert!(
        reported.starts_with("2.yaml, document 1")
            && reported.contains("it is a duplicate of 1.yaml, document 1"),
        "{reported}"
    );
}

#[test]
fn duplicate_namespace_with_equal_labels_is_accepted() {
    let namespace = |labels: &str| {
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: a, labels: {labels}}}}}")
    };
    assert!(read(&[&namespace("{team: b}"), &namespace("{team: b}")]).is_ok());
    let reported = read(&[&namespace("{team: b}"), &namespace("{team: c}")])
        .map(|_| ())
        .unwrap_err();
    assert!(
        reported.contains("it is a duplicate of 1.yaml, document 1"),
        "{reported}"
    );
}

#[test]
fn all_problems_are_reported_without_control_characters() {
    let reported = read(&[
        "a: b",
        "{apiVersion: \"registrygrants.dev/v1alpha1\", kind: \"\\e[31mRed\"}",
    ])
    .map(|_| ())
    .unwrap_err();
    assert_eq!(reported.lines().count(), 2, "{reported}");
    assert!(!reported.contains('\u{1b}'), "{reported}");
}

#[test]
fn yaml_aliases_expand_only_to_a_limit() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for at in 1..12 {
        let before = vec![format!("*a{}", at - 1); 10].join(", ");
        text += &format!("a{at}: &a{at} [{before}]\n");
    }
    assert!(refused(&text).contains("not YAML"));
    assert!(refused(&"[".repeat(100_000)).contains("not YAML"));
}

proptest! {
    #[test]
    fn any_text_is_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Files::of(vec![Input { name: "x".into(), bytes }], "default");
    }

    #[test]
    fn changed_manifest_is_parsed_without_panic(at in 0..GRANT.len(), with in "\\PC{0,4}") {
        let text = format!("{}{with}{}", &GRANT[..at], &GRANT[at..]);
        if let Err(reported) = read(&[&text]) {
            prop_assert!(!reported.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
