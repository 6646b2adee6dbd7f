//! `registry-grants explain`: whether somebody can pull or push, and which link is missing.
//!
//! - `arguments`: the question, and where its policies come from.
//! - `read`: reads the policies in AWS.
//! - `output`: the answer as text and as JSON.

mod arguments;
mod output;
mod read;

pub use arguments::Arguments;

use crate::grant::access::{Holder, calls};
use crate::grant::actions::GET_TOKEN;
use crate::policy::arn::Arn;
use crate::policy::evaluate::{
    Named, Principal, PrincipalKind, Request, RequestContext, Verdict, evaluate,
};
use arguments::{AccessQuestion, Action, Output};
use std::error::Error;
use std::process::ExitCode;

/// Everything that a verdict rests on.
pub struct AccessInputs {
    /// Who asks.
    principal: Holder,
    /// The role that he assumes first, where one was named.
    role: Option<Holder>,
    /// The repository's policy and the registry's.
    registry: Vec<Named>,
}

/// One call, and what came of it.
struct Call {
    who: String,
    action: String,
    resource: String,
    verdict: Verdict,
}

/// The verdict on all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whole {
    Allowed,
    Depends,
    Unknown,
    Denied,
}

const DENIED: u8 = 2;
const DEPENDS: u8 = 3;

pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let question = arguments.question()?;
    let read = match arguments.offline() {
        Some(files) => files.read(&question)?,
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(read::live(&question, arguments))?
        }
    };
    let calls = judged(&question, &read);
    let whole = calls
        .iter()
        .map(|call| whole(&call.verdict))
        .max()
        .unwrap_or(Whole::Unknown);
    crate::cli::terminal::print(&match arguments.output {
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

/// Every call that it takes, in order.
fn judged(question: &AccessQuestion, read: &AccessInputs) -> Vec<Call> {
    let AccessInputs {
        principal,
        role,
        registry,
    } = read;
    let mut judged = Vec::new();
    if let Some(role) = role {
        let call = ("sts:AssumeRole", role.arn.as_str(), role.account.as_str());
        judged.push(call_of(question, principal, call, [role.trust.clone()]));
    }
    let who = role.as_ref().unwrap_or(principal);
    let actions: Vec<&str> = match &question.action {
        // A service fetches images without a token of its own.
        Action::Images(action) if kind(&who.arn) == PrincipalKind::Service => {
            calls(*action).to_vec()
        }
        Action::Images(action) => [GET_TOKEN]
            .into_iter()
            .chain(calls(*action).iter().copied())
            .collect(),
        Action::Single(action) => vec![action.as_str()],
    };
    for action in actions {
        if action.eq_ignore_ascii_case(GET_TOKEN) {
            judged.push(call_of(question, who, (action, "*", &who.account), []));
        } else {
            let call = (
                action,
                question.repository.arn.as_str(),
                question.repository.account.as_str(),
            );
            judged.push(call_of(question, who, call, registry.iter().cloned()));
        }
    }
    judged
}

fn call_of(
    question: &AccessQuestion,
    holder: &Holder,
    (action, resource, owner): (&str, &str, &str),
    policies: impl IntoIterator<Item = Named>,
) -> Call {
    let kind = kind(&holder.arn);
    let service = kind == PrincipalKind::Service;
    let request = Request {
        principal: Principal {
            arn: holder.arn.clone(),
            kind,
            account: (!service).then(|| holder.account.clone()),
            unique_id: holder.id.clone(),
        },
        action: action.to_owned(),
        resource: resource.to_owned(),
        resource_account: owner.to_owned(),
        context: context(question, holder),
    };
    let verdict = evaluate(&request, &holder.policies(policies));
    Call {
        who: holder.arn.clone(),
        action: action.to_owned(),
        resource: resource.to_owned(),
        verdict,
    }
}

fn context(question: &AccessQuestion, holder: &Holder) -> RequestContext {
    let context = holder.context(k8s_openapi::jiff::Timestamp::now());
    let context = context.with("aws:RequestedRegion", [&question.repository.region]);
    let context = context.with("sts:ExternalId", question.external_id.clone());
    // Only temporary credentials have a time of issue; of others' nothing is known.
    let temporary = kind(&holder.arn) == PrincipalKind::Role;
    let context = if temporary {
        context
    } else {
        context.unknown("aws:TokenIssueTime")
    };
    question
        .context
        .iter()
        .fold(context, |context, (key, values)| match values.is_empty() {
            true => context.without(key),
            false => context.with(key, values),
        })
}

/// What an ARN, or a service's name, is of.
fn kind(arn: &str) -> PrincipalKind {
    match Arn::parse_leniently(arn).map(|arn| arn.resource) {
        None => PrincipalKind::Service,
        Some("root") => PrincipalKind::Root,
        Some(resource) if resource.starts_with("user/") => PrincipalKind::User,
        Some(_) => PrincipalKind::Role,
    }
}
