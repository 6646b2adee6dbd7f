//! `registry-grants iam-policy`: the documents of the operator's own role in an account.
//!
//! - `arguments`: the flags.
//! - `values`: parses the flags' values.
//! - `templates`: the documents as CloudFormation and Terraform.

mod arguments;
pub mod templates;
mod values;

pub use arguments::Arguments;

use super::io::write_into;
use super::json::{document as value, pretty};
use super::terminal::note;
use crate::grant::desired::MAX_INLINE_CHARACTERS;
use crate::grant::operator_role::{MAX_MANAGED_CHARACTERS, OperatorRole};
use crate::policy::Document;
use arguments::{DocumentKind, Format};
use serde_json::{Map, Value};
use std::error::Error;

/// Default quota of AWS for the length of a trust policy, in characters.
const MAX_TRUST_CHARACTERS: usize = 2_048;

/// Prints or writes the documents.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let printed = printed(arguments)?;
    if arguments.lacks_external_id() {
        note(
            "no --external-id: others could then make the operator assume the role on their behalf. An external ID is recommended; it is not a secret",
        );
    }
    match arguments.output_dir() {
        None => print!("{printed}"),
        Some(folder) => {
            for (kind, document) in documents(arguments)? {
                let file = format!("{}.json", kind.name());
                write_into(folder, &file, &pretty(&value(&document)))?;
            }
        }
    }
    Ok(())
}

fn printed(arguments: &Arguments) -> Result<String, String> {
    match arguments.format() {
        Format::Json => {
            let documents = documents(arguments)?;
            if let [(_, only)] = documents.as_slice() {
                return Ok(pretty(&value(only)));
            }
            let all: Map<String, Value> = documents
                .iter()
                .map(|(kind, document)| (kind.name().to_owned(), value(document)))
                .collect();
            Ok(pretty(&Value::Object(all)))
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

/// Replaces the account's number when the length of a template's documents is counted.
const NUMBER: &str = "000000000000";

/// Returns the requested documents. None is longer than AWS allows.
fn documents(arguments: &Arguments) -> Result<Vec<(DocumentKind, Document)>, String> {
    let mut documents = Vec::new();
    for kind in arguments.kinds() {
        documents.push((kind, document(arguments, kind)?));
    }
    Ok(documents)
}

fn document(arguments: &Arguments, kind: DocumentKind) -> Result<Document, String> {
    if kind == DocumentKind::Operator {
        return Ok(arguments.operator());
    }
    let management = arguments.management(kind)?;
    check(&management)?;
    Ok(match kind {
        DocumentKind::Trust => management.trust(),
        DocumentKind::Permissions => management.permissions(),
        DocumentKind::Boundary | DocumentKind::Operator => management.boundary(),
    })
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
                "the document `{}` would have {characters} characters; the limit of AWS is {limit}. Give fewer --repository or --region, prefixes, or shorter names",
                kind.name()
            ));
        }
    }
    Ok(())
}
