use super::gather::gather;
use super::model::Handoff;
use super::*;
use crate::cli::json::document as document_value;
use crate::cli::manifests::Files;
use crate::grant::desired::{DesiredInstance, DesiredRole};
use crate::grant::ownership::Owner;
use crate::grant::{Grant, validate};
use crate::policy::repository::{GrantContribution, PolicyUpdate, plan};
use crate::policy::{Document, Installation, Statement};
use std::collections::BTreeSet;
use std::path::PathBuf;

const EXAMPLES: [&str; 4] = ["article", "lambda", "organization", "roles-of-others"];

/// Reads an example, with the accounts of the article's example.
fn files(example: &str) -> Files {
    let path = |name: &str| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.yaml"))
    };
    let mut files = Files::read(&[path("article")], "default").unwrap();
    if example != "article" {
        files.grants = Files::read(&[path(example)], "default").unwrap().grants;
    }
    files
}

fn installation() -> Installation {
    "0123456789ab".parse().unwrap()
}

/// Returns a document without its Sids, which are the only difference between a handoff and what
/// the operator writes.
fn meaning(document: &Document) -> String {
    let mut whole = document_value(document);
    let statements = whole["Statement"].as_array_mut().unwrap();
    for statement in statements {
        statement.as_object_mut().unwrap().remove("Sid");
    }
    whole.to_string()
}

#[test]
fn handoff_contains_what_the_operator_would_write() {
    for example in EXAMPLES {
        let files = files(example);
        let (name, resource) = files.grants.first_key_value().unwrap();
        let grant = validate(name, &resource.spec, &files, &installation()).unwrap();
        let owner = Owner {
            installation: installation(),
            grant: name.clone(),
            uid: "1".into(),
        };
        let desired = grant.desired(&owner);
        let consumer: AccountId = "222222222222".parse().unwrap();
        let handed = gather(&files, Some(&consumer), Some(&installation())).unwrap();
        if let Some(instance) = &desired.instance {
            assert_hands_instance(&handed, instance);
        }

        let handed = gather(&files, Some(&grant.registry), Some(&installation())).unwrap();
        if let Some(role) = &desired.registry_role {
            assert_hands_registry_role(&handed, role);
        }
        let ours = &handed.repositories[0].statements;
        assert_eq!(
            sorted_meanings(&Document::of(ours.iter().cloned())),
            sorted_meanings(&written_policy(&grant)),
            "{example}"
        );
        assert_belongs_to_no_operator(ours);
    }
}

fn assert_hands_instance(handed: &Handoff, instance: &DesiredInstance) {
    let permissions = &handed.permissions[0];
    assert_eq!(
        Some(&permissions.document),
        instance.role.inline.as_ref().map(|(_, document)| document)
    );
    assert!(permissions.roles.contains(&instance.role.name));
    let trust = Document::of([instance.role.trust.clone()]);
    if !instance.extends {
        let role = &handed.roles[&instance.role.name];
        assert_eq!(meaning(&role.trust), meaning(&trust));
        assert_eq!(
            (&role.path, &role.profile),
            (&instance.role.path, &instance.profile)
        );
    }
}

fn assert_hands_registry_role(handed: &Handoff, role: &DesiredRole) {
    let made = &handed.roles[&role.name];
    assert_eq!(made.trust, Document::of([role.trust.clone()]));
    assert_eq!(
        (&made.path, &made.attached, &made.boundary),
        (&role.path, &role.attached, &role.boundary)
    );
    let inline = handed
        .permissions
        .iter()
        .find(|permissions| permissions.roles.contains(&role.name));
    assert_eq!(
        inline.map(|permissions| &permissions.document),
        role.inline.as_ref().map(|(_, document)| document)
    );
}

/// Returns the repository policy that the operator writes for the grant alone.
fn written_policy(grant: &Grant) -> Document {
    let region = grant.regions.first().unwrap();
    let wanted = GrantContribution {
        id: (),
        contributions: grant.contributions(region, true),
        replaces: BTreeSet::new(),
        stays_as: None,
        if_there: Vec::new(),
    };
    let planned = plan(None, &[wanted], &installation()).unwrap();
    let PolicyUpdate::Set(written) = planned.change else {
        panic!("{} writes no policy", grant.name)
    };
    written
}

fn sorted_meanings(document: &Document) -> Vec<String> {
    let mut statements: Vec<String> = document
        .statements
        .iter()
        .map(|statement| meaning(&Document::of([statement.clone()])))
        .collect();
    statements.sort();
    statements
}

fn assert_belongs_to_no_operator(statements: &[Statement]) {
    let document = Document::of(statements.iter().cloned());
    assert_eq!(
        document.clone().without_ours(&installation()),
        document,
        "no operator takes it for its own"
    );
    for statement in statements {
        let sid = statement.sid_text().unwrap();
        assert!(
            sid.len() == 25
                && sid.starts_with("HandedOff")
                && sid.bytes().all(|b| b.is_ascii_alphanumeric())
        );
    }
}

#[test]
fn unmanaged_account_gets_the_documents_of_a_managed_one() {
    let mut files = files("article");
    let consumer: AccountId = "222222222222".parse().unwrap();
    let managed = value::of(&gather(&files, Some(&consumer), None).unwrap());
    files.accounts.remove(&consumer);
    let mut unmanaged = value::of(&gather(&files, None, None).unwrap());
    assert_eq!(
        unmanaged["roles"][0]["permissionsBoundary"].take(),
        serde_json::Value::Null
    );
    let mut without_boundary = managed.clone();
    without_boundary["roles"][0]["permissionsBoundary"].take();
    assert_eq!(unmanaged, without_boundary);
}

#[test]
fn policy_over_the_aws_limit_is_refused() {
    let mut files = files("lambda");
    let (_, resource) = files.grants.iter_mut().next().unwrap();
    resource.spec.registry.repositories = (0..100)
        .map(|at| format!("functions/{at}{}", "x".repeat(200)))
        .collect();
    let consumer: AccountId = "222222222222".parse().unwrap();
    let reported = gather(&files, Some(&consumer), None)
        .map(|_| ())
        .unwrap_err();
    assert!(
        reported.starts_with("team-b/functions: the permissions would have"),
        "{reported}"
    );
}
