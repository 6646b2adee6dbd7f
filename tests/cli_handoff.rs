//! `registry-grants handoff`, as an account's admin sees it.

mod cli;

use cli::{Folder, example, example_with_accounts};
use rstest::rstest;
use serde_json::Value;
use std::fs;

/// The article's grant, whose consumer account has no AWSAccount.
fn unmanaged() -> String {
    without(&example("article"), "name: \"222222222222\"")
}

/// The documents of a text but for the one that contains this.
fn without(text: &str, what: &str) -> String {
    text.split("\n---\n")
        .filter(|document| !document.contains(what))
        .collect::<Vec<_>>()
        .join("\n---\n")
}

#[rstest]
#[case("json")]
#[case("cli")]
#[case("cloudformation")]
#[case("terraform")]
fn consumer_side_is_printed_in_every_format(#[case] format: &str) {
    let folder = Folder::new(&format!("consumer-{format}")).with("grants.yaml", unmanaged());
    insta::assert_snapshot!(
        format!("consumer_{format}"),
        folder.printed(&["handoff", "-f", "grants.yaml", "--format", format])
    );
}

#[rstest]
#[case("json")]
#[case("cli")]
#[case("cloudformation")]
#[case("terraform")]
fn registry_side_is_printed_in_every_format(#[case] format: &str) {
    let folder = Folder::new(&format!("registry-{format}")).with("grants.yaml", unmanaged());
    let arguments = [
        "handoff",
        "-f",
        "grants.yaml",
        "--account",
        "111111111111",
        "--format",
        format,
    ];
    insta::assert_snapshot!(format!("registry_{format}"), folder.printed(&arguments));
}

#[rstest]
#[case("lambda", "111111111111")]
#[case("lambda", "222222222222")]
#[case("organization", "333333333333")]
#[case("roles-of-others", "222222222222")]
#[case("roles-of-others", "111111111111")]
fn other_kinds_of_grants_are_printed_as_scripts(#[case] of: &str, #[case] account: &str) {
    let folder =
        Folder::new(&format!("{of}-{account}")).with("grants.yaml", example_with_accounts(of));
    let script = folder.printed(&[
        "handoff",
        "-f",
        "grants.yaml",
        "--account",
        account,
        "--format",
        "cli",
    ]);
    insta::assert_snapshot!(format!("{of}_{account}"), script);
}

#[test]
fn handed_off_statement_never_has_an_installations_sid() {
    let folder = Folder::new("sids").with("grants.yaml", unmanaged());
    for account in ["111111111111", "222222222222"] {
        for format in ["json", "cli", "cloudformation", "terraform"] {
            let printed = folder.printed(&[
                "handoff",
                "-f",
                "grants.yaml",
                "--account",
                account,
                "--format",
                format,
            ]);
            assert!(!printed.contains("RegistryGrants"), "{printed}");
        }
    }
}

/// A grant for team-b with this in its spec, and the article's registry account.
fn grant(registry: &str, consumer: &str) -> String {
    let account = example("article")
        .split("\n---\n")
        .nth(1)
        .unwrap()
        .to_owned();
    format!(
        "{account}\n---\napiVersion: registrygrants.dev/v1alpha1\nkind: CrossAccountRegistryGrant\nmetadata: {{name: web, namespace: team-b}}\nspec:\n  access: Pull\n  registry: {registry}\n  consumer: {consumer}\n"
    )
}

const REGISTRY: &str = "{accountID: '111111111111', regions: [us-east-1], repositories: [team-b/web], role: {name: web}}";
const CONSUMER: &str = "{accountID: '222222222222', roles: [ci/deployer, 'ci/x/*']}";

#[rstest]
#[case("a: [", "grants.yaml: not YAML")]
#[case(
    "{apiVersion: v1, kind: Secret}",
    "there is no CrossAccountRegistryGrant in these manifests"
)]
#[case(&without(&grant(REGISTRY, CONSUMER), "kind: AWSAccount"), "team-b/web: AccountNotFound: there is no AWSAccount 111111111111")]
#[case(&grant(&REGISTRY.replace("team-b/web", "team-c/web"), CONSUMER), "team-b/web: NotAdmitted: AWSAccount 111111111111 does not admit this grant")]
#[case(&grant(&REGISTRY.replace("us-east-1", "nowhere"), CONSUMER), "team-b/web: Invalid: spec.registry.regions: `nowhere` is not a region")]
#[case(&grant(&REGISTRY.replace(", role: {name: web}", ""), CONSUMER), "give --installation")]
#[case(&grant(REGISTRY, "{accountID: 'x', wholeAccount: true}"), "`x` is not an AWS account number")]
#[case(&grant(REGISTRY, "{}"), "team-b/web: Invalid: spec.consumer: accountID or organization is needed")]
#[case(&example("article"), "every consumer account has an AWSAccount here")]
fn unsupported_handoff_is_refused_with_the_reason(#[case] text: &str, #[case] told: &str) {
    let folder = Folder::new(&format!("refused-{}", told.len())).with("grants.yaml", text);
    let (status, out, err) = folder.run(&["handoff", "-f", "grants.yaml"], "");
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    assert!(err.contains(told), "{err}");
}

#[test]
fn unnamed_account_is_refused_and_ambiguous_one_needs_a_flag() {
    let two = grant(REGISTRY, CONSUMER)
        + &grant(REGISTRY, CONSUMER)
            .replace("name: web", "name: app")
            .replace("222222222222", "333333333333")
            .split_once("\n---\n")
            .map(|(_, grant)| format!("---\n{grant}"))
            .unwrap();
    let folder = Folder::new("several").with("grants.yaml", two);
    let (status, _, err) = folder.run(&["handoff", "-f", "grants.yaml"], "");
    assert_eq!(status, 1);
    assert!(
        err.contains("222222222222, 333333333333. Say which by --account"),
        "{err}"
    );
    let (status, _, err) = folder.run(
        &["handoff", "-f", "grants.yaml", "--account", "444444444444"],
        "",
    );
    assert_eq!(status, 1);
    assert!(
        err.contains("no grant in these manifests names this account"),
        "{err}"
    );
    let one: Value = serde_json::from_str(&folder.printed(&[
        "handoff",
        "-f",
        "grants.yaml",
        "--account",
        "222222222222",
    ]))
    .unwrap();
    assert_eq!(one["account"], "222222222222");
}

#[test]
fn named_roles_get_an_inline_policy_and_patterns_a_managed_one() {
    let folder = Folder::new("roles").with("grants.yaml", grant(REGISTRY, CONSUMER));
    let all: Value =
        serde_json::from_str(&folder.printed(&["handoff", "-f", "grants.yaml"])).unwrap();
    assert_eq!(all["policies"][0]["roles"], serde_json::json!(["deployer"]));
    assert_eq!(all["policies"][0]["alsoFor"], "ci/x/*");
}

#[test]
fn default_role_name_is_the_one_of_the_installation() {
    let text = grant(&REGISTRY.replace(", role: {name: web}", ""), CONSUMER);
    let folder = Folder::new("installation").with("grants.yaml", text);
    let printed = folder.printed(&[
        "handoff",
        "-f",
        "grants.yaml",
        "--installation",
        "0123456789ab",
    ]);
    assert!(
        printed.contains("arn:aws:iam::111111111111:role/registry-grants/team-b-web-"),
        "{printed}"
    );
}

/// An `aws` that has one repository's policy in a file, and writes down what is set.
const AWS: &str = r#"#!/bin/sh
case "$*" in
  "sts get-caller-identity"*) echo 111111111111 ;;
  "ecr get-repository-policy"*)
    if [ -f denied ]; then echo "An error occurred (AccessDeniedException)" >&2; exit 254; fi
    if [ -f policy.json ]; then cat policy.json; else echo "An error occurred (RepositoryPolicyNotFoundException)" >&2; exit 254; fi ;;
  "ecr set-repository-policy"*) for last; do :; done; printf '%s' "$last" > policy.json ;;
  *) echo "$*" >> calls ;;
esac
"#;

/// Runs the registry's script with that `aws`; gives its status, and the policy then.
fn repository_script(folder: &Folder) -> (bool, Value) {
    let script = folder.printed(&[
        "handoff",
        "-f",
        "grants.yaml",
        "--account",
        "111111111111",
        "--format",
        "cli",
    ]);
    fs::write(folder.path().join("handoff.sh"), script).unwrap();
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap()
    );
    let ran = std::process::Command::new("sh")
        .arg("handoff.sh")
        .env("PATH", path)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let policy =
        fs::read_to_string(folder.path().join("policy.json")).unwrap_or_else(|_| "null".into());
    (ran.status.success(), serde_json::from_str(&policy).unwrap())
}

#[test]
fn script_keeps_foreign_statements_and_is_idempotent() {
    let theirs = r#"{"Version":"2008-10-17","Id":"x","Statement":{"Sid":"Theirs","Effect":"Deny","Principal":"*","Action":"ecr:*"}}"#;
    let folder = Folder::new("merge")
        .with("grants.yaml", unmanaged())
        .with_program("aws", AWS)
        .with("policy.json", theirs);
    let (done, once) = repository_script(&folder);
    assert!(done);
    assert_eq!(
        (once["Version"].as_str(), once["Id"].as_str()),
        (Some("2008-10-17"), Some("x"))
    );
    assert_eq!(once["Statement"][0]["Sid"], "Theirs");
    let sids: Vec<&Value> = once["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .map(|statement| &statement["Sid"])
        .collect();
    assert!(
        sids.len() == 2 && sids[0] != sids[1],
        "AWS takes no Sid twice: {sids:?}"
    );
    assert_eq!(repository_script(&folder), (true, once));
}

#[test]
fn script_creates_a_missing_repository_policy() {
    let folder = Folder::new("new-policy")
        .with("grants.yaml", unmanaged())
        .with_program("aws", AWS);
    let (done, policy) = repository_script(&folder);
    assert!(done);
    assert_eq!(policy["Version"], "2012-10-17");
    assert!(
        policy["Statement"][0]["Sid"]
            .as_str()
            .unwrap()
            .starts_with("HandedOff")
    );
}

#[test]
fn script_writes_no_policy_that_it_may_not_read() {
    let folder = Folder::new("denied")
        .with("grants.yaml", unmanaged())
        .with_program("aws", AWS)
        .with("denied", "");
    assert_eq!(repository_script(&folder), (false, Value::Null));
}
