//! Judges whether access works, and names the missing link if it does not.
//!
//! - `inputs`: what was read on both sides.
//! - `report`: collects the findings of one path into one verdict and one text.
//!
//! For each path, this module evaluates the policies of both accounts for each call that a client
//! makes. `controller::apply` reads the policies.
//!
//! Tenants read the result in the status of their grants. It therefore names the policies and
//! statements on their own roles. Of the policies that they share with others (a repository's, the
//! registry's) it names only the statements that deny them access.

mod inputs;
mod report;

pub use inputs::{Caller, Holder, HolderReading, Readings, RepositoryReading};

use super::Problem;
use super::actions::{self, GET_TOKEN};
use super::model::Grant;
use crate::api::conditions::Reason;
use crate::api::grant::{Access, AccessAction, AccessPath, AccessStatus, AccessVerdict};
use crate::policy::arn::Arn;
use crate::policy::evaluate::{Named, Policies, Principal, Request, RequestContext, evaluate};
use crate::text::list_some;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use report::{Findings, JudgedCall};

/// Calls with which a client pulls an image.
const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
/// Calls with which a client pushes an image. A push checks for existing layers, and clients fail
/// without permission to read. Source:
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html>.
const PUSH: [&str; 6] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];
const ASSUME: &str = "sts:AssumeRole";
const TOO_LONG: &str = "evaluating these policies for each repository takes too long: use fewer repositories for each grant, or fewer wildcards in the policies of the roles";

/// Returns the calls on a repository that the action takes.
pub fn calls(action: AccessAction) -> &'static [&'static str] {
    match action {
        AccessAction::Pull => &PULL,
        AccessAction::Push => &PUSH,
    }
}

/// Judges what the grant allows each of its callers to do, as far as the readings show it. `enough`
/// returns true once the evaluation takes too long; the rest stays unknown. The authors of the
/// policies determine how long the evaluation takes, hence the limit.
pub fn judge(grant: &Grant, readings: &Readings, enough: &dyn Fn() -> bool) -> Vec<AccessStatus> {
    /// Maximum number of entries in a status.
    const LISTED: usize = 100;
    let actions: &[AccessAction] = match grant.access {
        Access::Pull => &[AccessAction::Pull],
        Access::PullPush => &[AccessAction::Pull, AccessAction::Push],
    };
    let direct = grant.direct.then_some(AccessPath::Direct);
    let paths: Vec<AccessPath> = direct
        .into_iter()
        .chain(grant.role.as_ref().map(|_| AccessPath::AssumeRole))
        .collect();
    let mut verdicts = Vec::new();
    for caller in &readings.callers {
        for path in &paths {
            for action in actions {
                verdicts.extend(
                    Judge {
                        grant,
                        readings,
                        enough,
                    }
                    .of(caller, *path, *action),
                );
            }
        }
    }
    if verdicts.len() > LISTED {
        // The verdicts that report no problem are cut off first.
        verdicts.sort_by_key(|status| match status.verdict {
            AccessVerdict::Denied => 0,
            AccessVerdict::Unknown => 1,
            AccessVerdict::Depends => 2,
            AccessVerdict::Allowed => 3,
        });
    }
    verdicts.truncate(LISTED);
    verdicts
}

/// Reports that a caller has no access by one of its paths, although everything that the operator
/// writes is in place.
pub fn denied(access: &[AccessStatus]) -> Option<Problem> {
    const NAMED: usize = 3;
    let mut texts: Vec<String> = Vec::new();
    for AccessStatus { path, message, .. } in access
        .iter()
        .filter(|status| status.verdict == AccessVerdict::Denied)
    {
        let text = format!("path {path:?}: {}", message.as_deref().unwrap_or("denied"));
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    if texts.is_empty() {
        return None;
    }
    let list = list_some(texts, NAMED, "; ", |more| {
        format!("; and {more} more, see status.access")
    });
    Some(Problem::new(
        Reason::PathDenied,
        format!("access is denied. {list}"),
    ))
}

struct Judge<'a> {
    grant: &'a Grant,
    readings: &'a Readings,
    enough: &'a dyn Fn() -> bool,
}

impl Judge<'_> {
    fn of(&self, caller: &Caller, path: AccessPath, action: AccessAction) -> Option<AccessStatus> {
        let (principal, (verdict, message)) = match caller {
            Caller::Role {
                arn,
                holder: HolderReading::Found(holder),
            } => (arn, self.role(holder, path, action).verdict()),
            Caller::Role {
                arn,
                holder: HolderReading::Absent,
            } => (
                arn,
                (
                    AccessVerdict::Denied,
                    Some(format!("role {arn} does not exist")),
                ),
            ),
            Caller::Role {
                arn,
                holder: HolderReading::Unknown(why),
            } => (arn, (AccessVerdict::Unknown, Some(why.clone()))),
            Caller::Many { name, why } => (name, (AccessVerdict::Depends, Some(why.clone()))),
            Caller::Lambda { .. }
                if path == AccessPath::AssumeRole || action == AccessAction::Push =>
            {
                return None;
            }
            Caller::Lambda { service, functions } => {
                (service, self.lambda(service, functions).verdict())
            }
        };
        Some(AccessStatus {
            principal: principal.clone(),
            path,
            action,
            verdict,
            message,
        })
    }

    fn role(&self, holder: &Holder, path: AccessPath, action: AccessAction) -> Findings {
        let mut findings = Findings::default();
        match path {
            AccessPath::Direct => self.images(holder, action, &mut findings),
            AccessPath::AssumeRole => match &self.readings.registry_role {
                HolderReading::Unknown(why) => findings.unknown(why.clone()),
                HolderReading::Absent => {
                    findings.denied(format!("{} does not exist", self.registry_role()))
                }
                HolderReading::Found(role) => {
                    self.assumes(holder, role, &mut findings);
                    self.images(role, action, &mut findings);
                }
            },
        }
        findings
    }

    fn registry_role(&self) -> String {
        let arn = self
            .grant
            .role
            .as_ref()
            .map(|role| role.identity.arn())
            .unwrap_or_default();
        format!("role {arn}")
    }

    fn assumes(&self, holder: &Holder, role: &Holder, findings: &mut Findings) {
        let external_id = self
            .grant
            .role
            .as_ref()
            .and_then(|role| role.external_id.clone());
        let context = holder
            .context(self.readings.now)
            .with("sts:ExternalId", external_id);
        let request = holder.request(ASSUME, &role.arn, &role.account, context);
        let policies = holder.policies([role.trust.clone()]);
        let call = JudgedCall {
            who: &holder.name(),
            request: &request,
            repository: None,
        };
        findings.note(&call, &evaluate(&request, &policies), &[]);
    }

    /// Judges the client's calls to the registry.
    fn images(&self, holder: &Holder, action: AccessAction, findings: &mut Findings) {
        let Readings {
            repositories,
            registry_policies,
            now,
            ..
        } = self.readings;
        for (region, registry_policy) in registry_policies {
            let context = holder.context(*now).with("aws:RequestedRegion", [region]);
            let token = holder.request(GET_TOKEN, "*", &holder.account, context.clone());
            let call = JudgedCall {
                who: &holder.name(),
                request: &token,
                repository: None,
            };
            findings.note(&call, &evaluate(&token, &holder.policies([])), &[]);
            for RepositoryReading { name, policy, .. } in
                repositories.iter().filter(|read| read.region == *region)
            {
                if (self.enough)() {
                    return findings.unknown(TOO_LONG.into());
                }
                let policies = holder.policies(policy.iter().chain(registry_policy).cloned());
                let unread = unread(&policies);
                let arn = self.repository_arn(region, name);
                for call in calls(action) {
                    let request =
                        holder.request(call, &arn, self.grant.registry.as_str(), context.clone());
                    let call = JudgedCall {
                        who: &holder.name(),
                        request: &request,
                        repository: Some(name),
                    };
                    findings.note(&call, &evaluate(&request, &policies), &unread);
                }
            }
        }
        if repositories.is_empty() {
            self.no_repository(findings);
        }
    }

    fn lambda(&self, service: &str, functions: &str) -> Findings {
        let mut findings = Findings::default();
        let Readings {
            repositories,
            registry_policies,
            ..
        } = self.readings;
        for RepositoryReading {
            region,
            name,
            policy,
        } in repositories
        {
            if (self.enough)() {
                findings.unknown(TOO_LONG.into());
                break;
            }
            // Lambda makes the request on behalf of a function; any name serves.
            let function = functions.replace("{region}", region);
            let account = Arn::account_of(&function).unwrap_or_default().to_owned();
            let context = RequestContext::default()
                .with("aws:SourceArn", [function])
                .with("aws:SourceAccount", [account]);
            let registry_policy = registry_policies.get(region).and_then(Option::as_ref);
            let resource = policy.iter().chain(registry_policy).cloned().collect();
            let policies = Policies {
                resource,
                ..Policies::default()
            };
            let unread = unread(&policies);
            for call in actions::of_lambda() {
                let request = Request {
                    principal: Principal::service(service),
                    action: call,
                    resource: self.repository_arn(region, name),
                    resource_account: self.grant.registry.to_string(),
                    context: context.clone(),
                };
                let call = JudgedCall {
                    who: service,
                    request: &request,
                    repository: Some(name),
                };
                findings.note(&call, &evaluate(&request, &policies), &unread);
            }
        }
        if repositories.is_empty() {
            self.no_repository(&mut findings);
        }
        findings
    }

    /// Records that no repository was found. That proves nothing if the registry account cannot be
    /// read.
    fn no_repository(&self, findings: &mut Findings) {
        findings.depends("whether a repository exists: none was found".into());
        for policy in self.readings.registry_policies.values().flatten() {
            if let Some(why) = unread_reason(policy) {
                findings.unknown(why);
            }
        }
    }

    fn repository_arn(&self, region: &str, name: &str) -> String {
        let Grant {
            partition,
            registry,
            ..
        } = self.grant;
        Arn::repository(partition.name(), region, registry.as_str(), name)
    }
}

/// Returns the reasons why resource policies could not be read, as a verdict states them.
fn unread(policies: &Policies) -> Vec<String> {
    policies.resource.iter().filter_map(unread_reason).collect()
}

fn unread_reason(Named { name, document }: &Named) -> Option<String> {
    let why = document.as_ref().err()?;
    Some(format!("{name}: {why}"))
}

impl Holder {
    /// Returns the known condition keys of a request in a session of the role. The session begins
    /// in the next second: when sessions have just been ended, those of the current second are
    /// among them.
    pub fn context(&self, now: Timestamp) -> RequestContext {
        let begun = now.checked_add(SignedDuration::from_secs(1)).unwrap_or(now);
        let context = RequestContext::default()
            .with("aws:CurrentTime", [in_seconds(now)])
            .with("aws:TokenIssueTime", [in_seconds(begun)])
            .with("aws:EpochTime", [now.as_second().to_string()])
            .with("aws:SecureTransport", ["true"])
            .with("aws:ViaAWSService", ["false"]);
        self.tags.iter().fold(context, |context, (key, value)| {
            context.with(&format!("aws:PrincipalTag/{key}"), [value])
        })
    }

    /// Returns a request of the role. `owner`: the resource's account.
    fn request(
        &self,
        action: &str,
        resource: &str,
        owner: &str,
        context: RequestContext,
    ) -> Request {
        Request {
            principal: Principal::role(&self.arn, &self.account, self.id.clone()),
            action: action.to_owned(),
            resource: resource.to_owned(),
            resource_account: owner.to_owned(),
            context,
        }
    }

    /// Combines the role's own policies with these policies of the resource.
    pub fn policies(&self, resource: impl IntoIterator<Item = Named>) -> Policies {
        let Self {
            identity, boundary, ..
        } = self;
        Policies {
            identity: identity.clone(),
            boundary: boundary.clone(),
            resource: resource.into_iter().collect(),
        }
    }
}

fn in_seconds(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
