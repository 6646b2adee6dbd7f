//! STS: whose credentials these are, and sessions of roles.

use super::answer::{ApiError, Xml};
use super::entities::{Denied, Role, Session, Tags};
use super::iam::date;
use super::identity::Caller;
use super::state::{Account, Change, key};
use super::trust::{self, Question};
use super::world::Run;
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most characters of all keys and values of a session's tags, inherited ones included. AWS
/// documents no number; it was reported that the six tags of EKS Pod Identity take 74 % of the
/// space, which this bound reproduces.
const TAG_CHARACTERS: usize = 390;

/// How long a session may last that another role's session asks for.
const CHAINED_SECONDS: i64 = 3600;

/// Carries out an operation.
pub(super) fn perform(run: &mut Run<'_>, caller: &Caller) -> Result<Xml, ApiError> {
    match run.call.operation.as_str() {
        "GetCallerIdentity" => Ok(identity(caller)),
        "AssumeRole" => assume_role(run, caller),
        other => Err(ApiError::new(
            400,
            "InvalidAction",
            format!("Could not find operation {other} for version 2011-06-15"),
        )),
    }
}

fn identity(caller: &Caller) -> Xml {
    let id = match caller {
        Caller::Root { account, .. } => account.clone(),
        Caller::Session(session, _) => assumed_id(session),
    };
    let mut xml = Xml::default();
    xml.text("Arn", caller.arn())
        .text("UserId", &id)
        .text("Account", caller.account());
    xml
}

fn assumed_id(session: &Session) -> String {
    format!("{}:{}", session.role_id, session.name)
}

/// What a session is to be.
pub(super) struct Wanted {
    pub name: String,
    pub seconds: i64,
    pub tags: Tags,
    /// Keys in lower case.
    pub transitive: BTreeSet<String>,
}

fn assume_role(run: &mut Run<'_>, caller: &Caller) -> Result<Xml, ApiError> {
    let arn = run.text("RoleArn").to_owned();
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let is_role =
        matches!(parts[..], ["arn", _, "iam", "", _, resource] if resource.starts_with("role/"));
    if !is_role {
        return Err(ApiError::validation(format!("{arn} is invalid")));
    }
    let Caller::Session(calling, names) = caller else {
        let message = "Roles may not be assumed by root accounts.";
        return Err(ApiError::new(403, "AccessDenied", message));
    };
    let own = run.call.parameters.tags();
    let (inherited, wanted) = wanted(run, calling, own)?;
    for action in actions(&wanted.tags) {
        if let Some(denied) = own_denial(run, caller, action) {
            return Err(refusal(caller, action, &arn, Some(denied)));
        }
    }
    let role = role(run, parts[4], &arn).ok_or_else(|| refusal(caller, ASSUME, &arn, None))?;
    let keys = condition_keys(run, calling, &names.role, &wanted);
    let names = [
        format!("arn:{}:iam::{}:root", parts[1], calling.account),
        calling.role_id.clone(),
        names.session.clone(),
    ];
    let document = role.trust.document.as_ref();
    for action in actions(&wanted.tags) {
        let question = Question {
            action: &action.to_ascii_lowercase(),
            names: &names,
            keys: &keys,
        };
        if !document.is_some_and(|document| trust::allows(document, &question)) {
            return Err(refusal(caller, action, &arn, None));
        }
    }
    check_duration(&role, wanted.seconds)?;
    let wanted = Wanted {
        transitive: wanted.transitive.union(&inherited).cloned().collect(),
        ..wanted
    };
    let session = begin(run, parts[4], &role, wanted);
    Ok(written(&session, &arn))
}

const ASSUME: &str = "sts:AssumeRole";

/// Returns the actions that a caller needs for a session with these tags.
fn actions(tags: &Tags) -> impl Iterator<Item = &'static str> + use<> {
    let tag = (!tags.is_empty()).then_some("sts:TagSession");
    std::iter::once(ASSUME).chain(tag)
}

/// Reads what the call asks for. The tags contain those that the caller passes on, whose keys are
/// the first value.
fn wanted(
    run: &Run<'_>,
    calling: &Session,
    own: Vec<(String, String)>,
) -> Result<(BTreeSet<String>, Wanted), ApiError> {
    let own_keys: BTreeSet<String> = own.iter().map(|(tag, _)| key(tag)).collect();
    let invalid = |message: &str| ApiError::new(400, "InvalidParameterValue", message);
    if own_keys.len() < own.len() {
        return Err(invalid(
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ));
    }
    if own_keys.iter().any(|own| calling.transitive.contains(own)) {
        return Err(invalid(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.",
        ));
    }
    let passed_on = calling
        .tags
        .iter()
        .filter(|(tag, _)| calling.transitive.contains(&key(tag)))
        .map(|(tag, value)| (tag.clone(), value.clone()));
    let tags: Tags = passed_on.chain(own).collect();
    let characters: usize = tags
        .iter()
        .map(|(tag, value)| tag.chars().count() + value.chars().count())
        .sum();
    if characters > TAG_CHARACTERS {
        let message = "Packed size of session tags consumes more than 100% of allotted space.";
        return Err(ApiError::new(400, "PackedPolicyTooLarge", message));
    }
    let seconds = run
        .call
        .parameters
        .number("DurationSeconds")
        .unwrap_or(3600);
    let transitive = run.call.parameters.list("TransitiveTagKeys");
    let wanted = Wanted {
        name: run.text("RoleSessionName").to_owned(),
        seconds,
        tags,
        transitive: transitive.into_iter().map(key).collect(),
    };
    Ok((calling.transitive.clone(), wanted))
}

/// Checks the duration, after the trust policy: who may not assume a role learns nothing about it.
fn check_duration(role: &Role, seconds: i64) -> Result<(), ApiError> {
    if seconds > CHAINED_SECONDS {
        return Err(ApiError::validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        ));
    }
    if seconds > role.max_session_seconds {
        return Err(ApiError::validation(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    Ok(())
}

fn role(run: &Run<'_>, account: &str, arn: &str) -> Option<Arc<Role>> {
    let account = run.core.state.account(account)?;
    let name = key(arn.rsplit('/').next()?);
    let role = account.roles.at(&name, run.seen)?;
    let is_usable =
        !account.settings.closed && role.arn == arn && account.roles.get(&name).is_some();
    is_usable.then(|| role.clone())
}

fn own_denial(run: &Run<'_>, caller: &Caller, action: &str) -> Option<Denied> {
    let account: &Account = run.core.state.account(caller.account())?;
    account.settings.denial(action)
}

fn refusal(caller: &Caller, action: &str, arn: &str, denied: Option<Denied>) -> ApiError {
    let reason = denied
        .map(|denied| format!(" {}", denied.reason(action)))
        .unwrap_or_default();
    let message = format!(
        "User: {} is not authorized to perform: {action} on resource: {arn}{reason}",
        caller.arn()
    );
    ApiError::new(403, "AccessDenied", message)
}

fn condition_keys(
    run: &Run<'_>,
    calling: &Session,
    role_arn: &str,
    wanted: &Wanted,
) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut put = |name: &str, value: &str| {
        keys.entry(name.to_ascii_lowercase())
            .or_default()
            .push(value.to_owned());
    };
    put("aws:PrincipalArn", role_arn);
    put("aws:PrincipalAccount", &calling.account);
    put("aws:PrincipalType", "AssumedRole");
    put("aws:PrincipalIsAWSService", "false");
    put("aws:userid", &assumed_id(calling));
    put("aws:CurrentTime", &date(run.now));
    put("aws:TokenIssueTime", &date(calling.issued));
    put("sts:RoleSessionName", &wanted.name);
    if let Some(external_id) = run.call.parameters.text("ExternalId") {
        put("sts:ExternalId", external_id);
    }
    for (tag, value) in &wanted.tags {
        put(&format!("aws:RequestTag/{tag}"), value);
        put("aws:TagKeys", tag);
    }
    for tag in &wanted.transitive {
        put("sts:TransitiveTagKeys", tag);
    }
    for (tag, value) in &calling.tags {
        put(&format!("aws:PrincipalTag/{tag}"), value);
    }
    let account = run.core.state.account(&calling.account);
    if let Some(path) = account.and_then(|account| account.settings.organization.as_deref()) {
        put(
            "aws:PrincipalOrgID",
            path.split('/').next().unwrap_or_default(),
        );
        put("aws:PrincipalOrgPaths", path);
    }
    keys
}

/// Begins a session of a role.
pub(super) fn begin(run: &mut Run<'_>, account: &str, role: &Role, wanted: Wanted) -> Arc<Session> {
    let ids = &mut run.core.ids;
    let session = Arc::new(Session {
        access_key: ids.access_key(),
        secret: ids.secret(),
        token: ids.token(),
        account: account.to_owned(),
        role: role.name.clone(),
        role_id: role.id.clone(),
        name: wanted.name,
        issued: run.now,
        expires: run
            .now
            .saturating_add(SignedDuration::from_secs(wanted.seconds))
            .expect("a duration in seconds has no calendar units"),
        tags: wanted.tags,
        transitive: wanted.transitive,
    });
    run.commit(&Change::Session(session.clone()));
    session
}

fn written(session: &Session, role_arn: &str) -> Xml {
    let arn = format!(
        "{}/{}",
        assumed_role(role_arn, &session.account, &session.role),
        session.name
    );
    let mut xml = Xml::default();
    xml.within("AssumedRoleUser", |xml| {
        xml.text("AssumedRoleId", &assumed_id(session))
            .text("Arn", &arn);
    })
    .within("Credentials", |xml| {
        xml.text("AccessKeyId", &session.access_key)
            .text("SecretAccessKey", &session.secret)
            .text("SessionToken", &session.token)
            .text("Expiration", &date(session.expires));
    })
    .value("PackedPolicySize", 0);
    xml
}

fn assumed_role(role_arn: &str, account: &str, role: &str) -> String {
    let partition = role_arn.split(':').nth(1).unwrap_or("aws");
    format!("arn:{partition}:sts::{account}:assumed-role/{role}")
}
