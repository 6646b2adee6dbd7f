//! `registry-grants explain`: whether a principal has access, and which permission is missing.
//!
//! - `answer`: what a verdict depends on, and the verdict.
//! - `arguments`: the question, and the files with policies.
//! - `offline`: reads the policies from files.
//! - `read`: reads the policies in AWS.
//! - `output`: the answer as text and as JSON.

mod answer;
mod arguments;
mod offline;
mod output;
mod read;

pub use arguments::Arguments;

use crate::cli::runtime::block_on;
use crate::cli::terminal::print;
use crate::grant::access::{Holder, calls};
use crate::grant::actions::GET_TOKEN;
use crate::policy::arn::Arn;
use crate::policy::evaluate::{
    Named, Principal, PrincipalKind, Request, RequestContext, Verdict, evaluate,
};
use answer::{AccessInputs, Call, Whole};
use arguments::{AccessQuestion, Action, Output};
use std::error::Error;
use std::process::ExitCode;

const DENIED: u8 = 2;
const DEPENDS: u8 = 3;

/// Evaluates the access, and returns the verdict as exit status.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let question = arguments.question()?;
    let read = if arguments.is_offline() {
        offline::read(&question, arguments)?
    } else {
        block_on(read::live(&question, arguments))??
    };
    let calls = judged(&question, &read);
    let whole = calls
        .iter()
        .map(|call| whole(&call.verdict))
        .max()
        .unwrap_or(Whole::Unknown);
    print(&match arguments.output {
        Output::Text => output::text(&question, whole, &calls, &read),
        Output::Json => output::json(&question, whole, &calls, &read),
    })?;
    Ok(match whole {
        Whole::Allowed => ExitCode::SUCCESS,
        Whole::Denied => ExitCode::from(DENIED),
        Whole::Depends | Whole::Unknown => ExitCode::from(DEPENDS),
    })
}

fn whole(verdict: &Verdict) -> Whole {
    match verdict {
        Verdict::Allowed => Whole::Allowed,
        Verdict::Depends(_) => Whole::Depends,
        Verdict::Unknown(_) => Whole::Unknown,
        Verdict::Denied(_) => Whole::Denied,
    }
}

/// An action on a resource.
struct ResourceAction<'a> {
    name: &'a str,
    resource: &'a str,
    /// The account that owns the resource.
    owner: &'a str,
}

/// Evaluates every call that the access takes, in order.
fn judged(question: &AccessQuestion, read: &AccessInputs) -> Vec<Call> {
    let AccessInputs {
        principal,
        role,
        registry,
    } = read;
    let mut judged = Vec::new();
    if let Some(role) = role {
        let assume = ResourceAction {
            name: "sts:AssumeRole",
            resource: &role.arn,
            owner: &role.account,
        };
        judged.push(judge(question, principal, &assume, [role.trust.clone()]));
    }
    let caller = role.as_ref().unwrap_or(principal);
    for name in actions(&question.action, caller) {
        if name.eq_ignore_ascii_case(GET_TOKEN) {
            let token = ResourceAction {
                name,
                resource: "*",
                owner: &caller.account,
            };
            judged.push(judge(question, caller, &token, []));
        } else {
            let action = ResourceAction {
                name,
                resource: &question.repository.arn,
                owner: question.repository.account.as_str(),
            };
            judged.push(judge(question, caller, &action, registry.iter().cloned()));
        }
    }
    judged
}

/// Returns the actions that a client calls. A service fetches images without a token.
fn actions<'a>(action: &'a Action, caller: &Holder) -> Vec<&'a str> {
    match action {
        Action::Images(action) => {
            let token = (kind(&caller.arn) != PrincipalKind::Service).then_some(GET_TOKEN);
            token
                .into_iter()
                .chain(calls(*action).iter().copied())
                .collect()
        }
        Action::Single(action) => vec![action],
    }
}

fn judge(
    question: &AccessQuestion,
    holder: &Holder,
    action: &ResourceAction,
    policies: impl IntoIterator<Item = Named>,
) -> Call {
    let kind = kind(&holder.arn);
    let is_service = kind == PrincipalKind::Service;
    let ResourceAction {
        name,
        resource,
        owner,
    } = *action;
    let request = Request {
        principal: Principal {
            arn: holder.arn.clone(),
            kind,
            account: (!is_service).then(|| holder.account.clone()),
            unique_id: holder.id.clone(),
        },
        action: name.to_owned(),
        resource: resource.to_owned(),
        resource_account: owner.to_owned(),
        context: context(question, holder),
    };
    let verdict = evaluate(&request, &holder.policies(policies));
    Call {
        who: holder.arn.clone(),
        action: name.to_owned(),
        resource: resource.to_owned(),
        verdict,
    }
}

fn context(question: &AccessQuestion, holder: &Holder) -> RequestContext {
    let mut context = holder
        .context(k8s_openapi::jiff::Timestamp::now())
        .with("aws:RequestedRegion", [&question.repository.region])
        .with("sts:ExternalId", question.external_id.clone());
    // Only temporary credentials have a time of issue. For other principals, the time is unknown.
    if kind(&holder.arn) != PrincipalKind::Role {
        context = context.unknown("aws:TokenIssueTime");
    }
    for (key, values) in &question.context {
        context = if values.is_empty() {
            context.without(key)
        } else {
            context.with(key, values)
        };
    }
    context
}

/// Returns the kind of principal that an ARN, or a service's name, is of.
fn kind(arn: &str) -> PrincipalKind {
    match Arn::parse_leniently(arn).map(|arn| arn.resource) {
        None => PrincipalKind::Service,
        Some("root") => PrincipalKind::Root,
        Some(resource) if resource.starts_with("user/") => PrincipalKind::User,
        Some(_) => PrincipalKind::Role,
    }
}
