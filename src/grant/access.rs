//! Judges whether access works, and names the missing link where it does not.
//!
//! - `inputs`: what was read on both sides.
//! - `report`: collects the findings of one path into one verdict and one text.
//!
//! The policies of both sides are evaluated for each call that a client makes, by each path.
//! `controller::apply` reads them.
//!
//! Tenants read the result in the status of their grants. So it names what is on their own roles,
//! and of the policies that they share with others (a repository's, the registry's) no more than
//! what denies them.

mod inputs;
mod report;

pub use inputs::{Caller, Holder, Readings, RepositoryReading};

use super::Problem;
use super::actions::{self, GET_TOKEN};
use super::validate::Grant;
use crate::api::conditions::Reason;
use crate::api::grant::{Access, AccessAction, AccessPath, AccessStatus, AccessVerdict};
use crate::policy::evaluate::{Named, Policies, Principal, Request, RequestContext, evaluate};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use report::Findings;

/// What a client does to pull an image.
const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
/// What a client does to push one: it looks for what is there, and clients fail without reading.
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html>.
const PUSH: [&str; 6] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];
const ASSUME: &str = "sts:AssumeRole";
const TOO_LONG: &str = "it takes too long to follow these policies for each repository: use fewer repositories for each grant, or fewer wildcards in the policies of the roles";

/// The calls on a repository that this takes.
pub fn calls(action: AccessAction) -> &'static [&'static str] {
    match action {
        AccessAction::Pull => &PULL,
        AccessAction::Push => &PUSH,
    }
}

/// What the grant lets each of its callers do, as far as what was read tells. `enough`: whether it
/// has taken so long that the rest stays unknown. Whoever writes the policies decides how long it
/// takes.
pub fn judge(grant: &Grant, readings: &Readings, enough: &dyn Fn() -> bool) -> Vec<AccessStatus> {
    /// A status lists so many.
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
    let mut told = Vec::new();
    for caller in &readings.callers {
        for path in &paths {
            for action in actions {
                told.extend(
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
    if told.len() > LISTED {
        // Whatever is left out, it is nothing that is wrong.
        told.sort_by_key(|told| match told.verdict {
            AccessVerdict::Denied => 0,
            AccessVerdict::Unknown => 1,
            AccessVerdict::Depends => 2,
            AccessVerdict::Allowed => 3,
        });
    }
    told.truncate(LISTED);
    told
}

/// That somebody who should have access by a path has not, though all that the operator writes is
/// in place.
pub fn denied(access: &[AccessStatus]) -> Option<Problem> {
    const NAMED: usize = 3;
    let denied: Vec<&AccessStatus> = access
        .iter()
        .filter(|told| told.verdict == AccessVerdict::Denied)
        .collect();
    let mut texts: Vec<String> = Vec::new();
    for AccessStatus { path, message, .. } in &denied {
        let text = format!("path {path:?}: {}", message.as_deref().unwrap_or("denied"));
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let more = texts.len().saturating_sub(NAMED);
    texts.truncate(NAMED);
    let more = if more > 0 {
        format!("; and {more} more, see status.access")
    } else {
        String::new()
    };
    let message = format!("access is denied. {}{more}", texts.join("; "));
    (!denied.is_empty()).then(|| Problem::new(Reason::PathDenied, message))
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
                holder: Ok(Some(holder)),
            } => (arn, self.role(holder, path, action).told()),
            Caller::Role {
                arn,
                holder: Ok(None),
            } => (
                arn,
                (
                    AccessVerdict::Denied,
                    Some(format!("role {arn} does not exist")),
                ),
            ),
            Caller::Role {
                arn,
                holder: Err(why),
            } => (arn, (AccessVerdict::Unknown, Some(why.clone()))),
            Caller::Many { name, why } => (name, (AccessVerdict::Depends, Some(why.clone()))),
            Caller::Lambda { .. }
                if path == AccessPath::AssumeRole || action == AccessAction::Push =>
            {
                return None;
            }
            Caller::Lambda { service, functions } => {
                (service, self.lambda(service, functions).told())
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
                Err(why) => findings.unknown(why.clone()),
                Ok(None) => findings.denied(format!("{} does not exist", self.registry_role())),
                Ok(Some(role)) => {
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
        let request = self.request(holder, ASSUME, &role.arn, &role.account, context);
        let policies = holder.policies([role.trust.clone()]);
        findings.note(
            &holder.name(),
            &request,
            None,
            &evaluate(&request, &policies),
            &[],
        );
    }

    /// What the client asks of the registry.
    fn images(&self, holder: &Holder, action: AccessAction, findings: &mut Findings) {
        let Readings {
            repositories,
            registry_policies,
            now,
            ..
        } = self.readings;
        for (region, registry_policy) in registry_policies {
            let context = holder.context(*now).with("aws:RequestedRegion", [region]);
            let token = self.request(holder, GET_TOKEN, "*", &holder.account, context.clone());
            findings.note(
                &holder.name(),
                &token,
                None,
                &evaluate(&token, &holder.policies([])),
                &[],
            );
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
                    let request = self.request(
                        holder,
                        call,
                        &arn,
                        self.grant.registry.as_str(),
                        context.clone(),
                    );
                    findings.note(
                        &holder.name(),
                        &request,
                        Some(name),
                        &evaluate(&request, &policies),
                        &unread,
                    );
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
            // Lambda asks on behalf of a function, which has some name.
            let function = functions.replace("{region}", region);
            let account = function.split(':').nth(4).unwrap_or_default().to_owned();
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
                findings.note(
                    service,
                    &request,
                    Some(name),
                    &evaluate(&request, &policies),
                    &unread,
                );
            }
        }
        if repositories.is_empty() {
            self.no_repository(&mut findings);
        }
        findings
    }

    /// None was found, which says nothing where the registry's account cannot be read.
    fn no_repository(&self, findings: &mut Findings) {
        findings.depends("whether there is a repository: none was found".into());
        for Named { name, document } in self.readings.registry_policies.values().flatten() {
            if let Err(why) = document {
                findings.unknown(format!("{name}: {why}"));
            }
        }
    }

    fn repository_arn(&self, region: &str, name: &str) -> String {
        let Grant {
            partition,
            registry,
            ..
        } = self.grant;
        format!(
            "arn:{}:ecr:{region}:{registry}:repository/{name}",
            partition.name()
        )
    }

    fn request(
        &self,
        holder: &Holder,
        action: &str,
        resource: &str,
        owner: &str,
        context: RequestContext,
    ) -> Request {
        Request {
            principal: Principal::role(&holder.arn, &holder.account, holder.id.clone()),
            action: action.to_owned(),
            resource: resource.to_owned(),
            resource_account: owner.to_owned(),
            context,
        }
    }
}

/// Why policies of the resource could not be read, as a verdict says it.
fn unread(policies: &Policies) -> Vec<String> {
    let why = |Named { name, document }: &Named| {
        document.as_ref().err().map(|why| format!("{name}: {why}"))
    };
    policies.resource.iter().filter_map(why).collect()
}

impl Holder {
    /// What is known of a request that a session of the role makes, which begins with the next
    /// second: where sessions were ended just now, those of this second are among them.
    pub fn context(&self, now: Timestamp) -> RequestContext {
        let text = |moment: Timestamp| moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (moment, begun) = (
            text(now),
            text(now.checked_add(SignedDuration::from_secs(1)).unwrap_or(now)),
        );
        let context = RequestContext::default()
            .with("aws:CurrentTime", [&moment])
            .with("aws:TokenIssueTime", [&begun])
            .with("aws:EpochTime", [now.as_second().to_string()])
            .with("aws:SecureTransport", ["true"])
            .with("aws:ViaAWSService", ["false"]);
        self.tags.iter().fold(context, |context, (key, value)| {
            context.with(&format!("aws:PrincipalTag/{key}"), [value])
        })
    }

    /// Its own policies, and these of the resource.
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
