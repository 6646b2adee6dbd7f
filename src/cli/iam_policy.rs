//! `registry-grants iam-policy`: the documents of the operator's own role in an account.
//!
//! - `arguments`: the flags, checked.
//! - `print`: JSON in the order in which people write policies.
//! - `templates`: the documents as CloudFormation and Terraform.

mod arguments;
pub mod print;
pub mod templates;

pub use arguments::Arguments;

use crate::grant::desired::MAX_INLINE_CHARACTERS;
use crate::grant::operator_role::{MAX_MANAGED_CHARACTERS, OperatorRole};
use crate::policy::Document;
use arguments::{DocumentKind, Format};
use print::pretty;
use serde_json::{Map, Value};
use std::error::Error;

/// What AWS takes in a trust policy unless its quota was raised, in characters.
const MAX_TRUST_CHARACTERS: usize = 2_048;

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let printed = printed(arguments)?;
    if arguments.lacks_external_id() {
        eprintln!(
            "registry-grants: no --external-id: the role can then be assumed by whoever makes the operator act for them. An external ID is recommended; it is no secret"
        );
    }
    match arguments.output_dir() {
        None => print!("{printed}"),
        Some(folder) => {
            for (kind, document) in documents(arguments)? {
                let file = folder.join(format!("{}.json", kind.name()));
                std::fs::create_dir_all(folder)
                    .and_then(|()| std::fs::write(&file, pretty(&value(&document))))
                    .map_err(|error| format!("--output-dir: {}: {error}", file.display()))?;
            }
        }
    }
    Ok(())
}

fn printed(arguments: &Arguments) -> Result<String, String> {
    match arguments.format() {
        Format::Json => {
            let documents = documents(arguments)?;
            Ok(match documents.as_slice() {
                [(_, only)] => pretty(&value(only)),
                several => {
                    let named = several
                        .iter()
                        .map(|(kind, document)| (kind.name().to_owned(), value(document)));
                    pretty(&Value::Object(named.collect::<Map<_, _>>()))
                }
            })
        }
        Format::Cloudformation => {
            let template =
                arguments.template("${AWS::AccountId}", "${OperatorRoleArn}", "${ExternalId}")?;
            check(&arguments.template(NUMBER, "arn", "id")?)?;
            Ok(templates::cloudformation(&template, arguments.defaults()))
        }
        Format::Terraform => {
            let account = "${data.aws_caller_identity.registry_grants.account_id}";
            let template =
                arguments.template(account, "${var.operator_role_arn}", "${var.external_id}")?;
            check(&arguments.template(NUMBER, "arn", "id")?)?;
            Ok(templates::terraform(&template, arguments.defaults()))
        }
    }
}

/// Stands for an account's number when the length of a template's documents is counted.
const NUMBER: &str = "000000000000";

/// The documents asked for, each of which AWS will take.
fn documents(arguments: &Arguments) -> Result<Vec<(DocumentKind, Document)>, String> {
    let of_kind = |kind| {
        if kind == DocumentKind::Operator {
            return Ok((kind, arguments.operator()));
        }
        let management = arguments.management(kind)?;
        check(&management)?;
        Ok((
            kind,
            match kind {
                DocumentKind::Trust => management.trust(),
                DocumentKind::Permissions => management.permissions(),
                DocumentKind::Boundary | DocumentKind::Operator => management.boundary(),
            },
        ))
    };
    arguments.kinds().into_iter().map(of_kind).collect()
}

fn check(management: &OperatorRole) -> Result<(), String> {
    for (kind, document, limit) in [
        (
            DocumentKind::Permissions,
            management.permissions(),
            MAX_INLINE_CHARACTERS,
        ),
        (
            DocumentKind::Boundary,
            management.boundary(),
            MAX_MANAGED_CHARACTERS,
        ),
        (
            DocumentKind::Trust,
            management.trust(),
            MAX_TRUST_CHARACTERS,
        ),
    ] {
        let characters = document.characters();
        if characters > limit {
            return Err(format!(
                "the document `{}` would have {characters} characters; AWS takes {limit}. Name fewer --repository or --region, or prefixes, or shorter names",
                kind.name()
            ));
        }
    }
    Ok(())
}

fn value(document: &Document) -> Value {
    // A document prints itself as JSON.
    document.to_string().parse().unwrap_or_default()
}
