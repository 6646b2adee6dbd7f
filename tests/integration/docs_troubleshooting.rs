//! `docs/troubleshooting.md`: the test sets up the fault of each section, and `kubectl describe`
//! prints the text of the page.

use crate::support::case::{Case, GRANT as OWN_GRANT, document, merged};
use crate::support::foreign_roles::create_worker_role;
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use local_stack::{Document, IamCalls as _, MANAGEMENT_ROLE, eventually, role_with_policy};
use serde_json::{Value, json};
use std::path::Path;

const PAGE: &str = "docs/troubleshooting.md";
const AT_A_TIME: usize = 4;

/// The names of the example, which the page uses.
const GRANT: &str = "miq-devops";
const REPOSITORY: &str = "miqp-devops";
const REGISTRY_ROLE: &str = "ECS-AssumeRole-MIQDevOps";
const INSTANCE_ROLE: &str = "miq-instance";

/// The faults, in the page's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    NoAccount,
    NoRule,
    ExternalID,
    OtherAccount,
    NoRepository,
    RoleOfOthers,
    PolicyDenies,
    Boundary,
    NoOwnPolicy,
    NoConsent,
    OperatorLacks,
    GuardRail,
    NotManaged,
}

const ALL: [Broken; 13] = [
    Broken::NoAccount,
    Broken::NoRule,
    Broken::ExternalID,
    Broken::OtherAccount,
    Broken::NoRepository,
    Broken::RoleOfOthers,
    Broken::PolicyDenies,
    Broken::Boundary,
    Broken::NoOwnPolicy,
    Broken::NoConsent,
    Broken::OperatorLacks,
    Broken::GuardRail,
    Broken::NotManaged,
];

impl Broken {
    /// Returns the section's heading on the page.
    fn heading(self) -> &'static str {
        match self {
            Self::NoAccount => "1. The registry's account has no `AWSAccount`",
            Self::NoRule => "2. No rule admits the repository",
            Self::ExternalID => "3. The operator's role cannot be assumed",
            Self::OtherAccount => "4. The credentials are for another account",
            Self::NoRepository => "5. The repository does not exist",
            Self::RoleOfOthers => "6. A role of that name exists",
            Self::PolicyDenies => "7. The repository's policy denies it",
            Self::Boundary => "8. The permissions boundary does not allow ECR",
            Self::NoOwnPolicy => "9. A role that the grant names has no policy of its own",
            Self::NoConsent => "10. A role that is to be extended lacks the tag",
            Self::OperatorLacks => "11. The operator may not write the repository's policy",
            Self::GuardRail => "12. A policy on the instance role denies it",
            Self::NotManaged => "13. The grant is Ready, and the consumer's account is not managed",
        }
    }

    /// Returns the reason of the Event that reports the fault.
    fn event(self) -> &'static str {
        match self {
            Self::NoAccount => "AccountNotFound",
            Self::NoRule => "NotAdmitted",
            Self::ExternalID => "CredentialsUnavailable",
            Self::OtherAccount => "WrongAccount",
            Self::NoRepository => "RepositoryNotFound",
            Self::RoleOfOthers => "Conflict",
            Self::PolicyDenies | Self::Boundary | Self::NoOwnPolicy | Self::GuardRail => {
                "PathDenied"
            }
            Self::NoConsent => "ConsentMissing",
            Self::OperatorLacks => "AccessDenied",
            Self::NotManaged => "Granted",
        }
    }

    /// Returns the changes of the example's grant.
    fn changes(self) -> Value {
        match self {
            Self::NoRule => json!({"registry": {"repositories": ["billing"]}}),
            Self::NoOwnPolicy => {
                json!({"consumer": {"wholeAccount": null, "instanceRole": null, "roles": ["builder"]}})
            }
            Self::NoConsent => json!({"consumer": {"wholeAccount": null, "instanceRole": {
                "name": "worker", "management": "Extend", "path": "/nodes/",
            }}}),
            _ => json!({}),
        }
    }

    /// Sets up everything except the grant.
    async fn set_up(self, case: &Case<'_>) -> Result<()> {
        let (registry, consumer) = (
            case.stack().aws(&case.pair.registry),
            case.stack().aws(&case.pair.consumer),
        );
        if self != Self::NoRepository {
            case.repository(REPOSITORY).create(case.stack()).await?;
        }
        // The operator reads an account's policies as soon as it knows the account, and again only
        // after a while.
        match self {
            Self::RoleOfOthers => {
                let trust = json!({"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"});
                let allows = json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"});
                role_with_policy(&registry, REGISTRY_ROLE, document(trust), document(allows))
                    .await?;
            }
            Self::PolicyDenies => {
                let deny = json!({"Sid": "Frozen", "Effect": "Deny", "Principal": "*", "Action": "ecr:PutImage"});
                let foreign = Document(json!({"Version": "2012-10-17", "Statement": [deny]}));
                case.repository(REPOSITORY)
                    .set_policy(case.stack(), &foreign)
                    .await?;
            }
            Self::Boundary => {
                let arn = format!(
                    "arn:aws:iam::{}:policy/registry-grants-boundary",
                    case.pair.consumer
                );
                let tight = document(json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}));
                consumer.iam.delete_policy().policy_arn(arn).send().await?;
                consumer
                    .iam
                    .create_policy()
                    .policy_name("registry-grants-boundary")
                    .policy_document(tight)
                    .send()
                    .await?;
            }
            Self::NoOwnPolicy => {
                let trust = json!({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"});
                let allows =
                    json!({"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": "*"});
                role_with_policy(&consumer, "builder", document(trust), document(allows)).await?;
            }
            Self::OperatorLacks => {
                let found = registry
                    .iam
                    .get_role_policy()
                    .role_name(MANAGEMENT_ROLE)
                    .policy_name(MANAGEMENT_ROLE);
                let text = found.send().await?.policy_document;
                let text = percent_encoding::percent_decode_str(&text)
                    .decode_utf8()?
                    .into_owned();
                let less = text.replace("\"ecr:SetRepositoryPolicy\"", "\"ecr:DescribeRegistry\"");
                ensure!(less != text, "the operator did not have it: {text}");
                registry
                    .iam
                    .put_inline_policy(MANAGEMENT_ROLE, MANAGEMENT_ROLE, less)
                    .await?;
            }
            _ => {}
        }
        let rule = case.rule(json!({"repositories": [REPOSITORY, "team-b/*"]}));
        let account = json!({"registry": {"rules": [rule]}});
        let account = case.registry_account(account);
        match self {
            Self::NoAccount => {}
            Self::ExternalID => {
                let other = json!({"assumeRole": {"externalID": "another"}});
                case.apply(&merged(account, json!({"spec": {"credentials": other}})))
                    .await?;
            }
            // The operator then uses its own credentials.
            Self::OtherAccount => {
                case.apply(&merged(account, json!({"spec": {"credentials": null}})))
                    .await?
            }
            _ => case.apply(&account).await?,
        }
        match self {
            Self::NotManaged => {}
            Self::NoConsent => create_worker_role(case, "ec2.amazonaws.com").await?,
            _ => case.apply(&case.consumer_account(json!({}))).await?,
        }
        Ok(())
    }

    /// Sets up what needs the grant.
    async fn afterwards(self, case: &Case<'_>) -> Result<()> {
        if self == Self::GuardRail {
            case.cluster()
                .wait_for_condition(&case.namespace, &format!("carg/{GRANT}"), "Ready")
                .await?;
            let deny = json!({"Sid": "NoRegistries", "Effect": "Deny", "Action": "ecr:*", "Resource": "*"});
            case.stack()
                .aws(&case.pair.consumer)
                .iam
                .put_inline_policy(INSTANCE_ROLE, "guardrail", document(deny))
                .await?;
            case.reconcile_named(&format!("carg/{GRANT}")).await?;
        }
        Ok(())
    }

    /// Checks that `kubectl describe` shows the text, also among its Events.
    async fn check_description(self, words: &[String]) -> Result<()> {
        let case = Case::new().await?;
        self.set_up(&case).await?;
        let grant = case.grant_named(GRANT, example());
        case.apply(&merged(grant, json!({"spec": self.changes()})))
            .await?;
        self.afterwards(&case).await?;
        // A request costs less than a kubectl process. The status is complete when the Event
        // exists.
        let object = format!("carg/{GRANT}");
        case.cluster()
            .event(&case.namespace, &object, &[self.event()])
            .await?;
        eventually("the words of the page", async || {
            let described = described(&case).await?;
            for words in words {
                ensure!(
                    described.contains(words),
                    "not told: {words}\nbut:\n{described}"
                );
            }
            let (_, events) = described.split_once("Events: ").context("no Events")?;
            ensure!(
                events.contains(&format!(" {} ", self.event())),
                "no Event {} among {events}",
                self.event()
            );
            Ok(())
        })
        .await?;
        // Only users who may read the policies may see their content.
        let status = case
            .cluster()
            .get(&case.namespace, &format!("carg/{GRANT}"))
            .await?["status"]
            .to_string();
        ensure!(
            !status.contains("Statement") && !status.contains("2012-10-17"),
            "a policy's text: {status}"
        );
        Ok(())
    }
}

/// Returns the changes that give the grant the example's names.
fn example() -> Value {
    json!({
        "registry": {"repositories": [REPOSITORY], "role": {"name": REGISTRY_ROLE}},
        "consumer": {"instanceRole": {"name": INSTANCE_ROLE}},
    })
}

/// Returns the output of `kubectl describe` with the example's numbers and names, and with each
/// white space as one blank.
async fn described(case: &Case<'_>) -> Result<String> {
    let text = case
        .cluster()
        .kubectl(&["describe", "carg", GRANT, "--namespace", &case.namespace])
        .await?;
    let text = text
        .replace(&case.pair.registry, "111111111111")
        .replace(&case.pair.consumer, "222222222222")
        .replace(&case.namespace, "team-b");
    Ok(one_blank(&text))
}

fn one_blank(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the numbered sections: the heading, and the texts of its first block. A line `…`
/// marks omitted text.
fn sections(page: &str) -> Vec<(String, Vec<String>)> {
    let parts = page
        .split("\n## ")
        .skip(1)
        .filter(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    parts
        .map(|part| {
            let heading = part.lines().next().unwrap_or_default().to_owned();
            let block = part
                .split_once("```text\n")
                .and_then(|(_, rest)| rest.split_once("```"));
            let words = block
                .map(|(block, _)| block.split("…\n").map(one_blank).collect())
                .unwrap_or_default();
            (heading, words)
        })
        .collect()
}

fn page() -> Result<Vec<(String, Vec<String>)>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    Ok(sections(
        &std::fs::read_to_string(&file).with_context(|| file.display().to_string())?,
    ))
}

#[test]
fn every_section_of_the_page_has_a_setup_and_its_words() -> Result<()> {
    let sections = page()?;
    let headings: Vec<&str> = sections
        .iter()
        .map(|(heading, _)| heading.as_str())
        .collect();
    ensure!(
        headings == ALL.map(Broken::heading),
        "the sections are {headings:?}"
    );
    for (heading, words) in &sections {
        ensure!(
            !words.is_empty() && words.iter().all(|words| words.len() > 20),
            "{heading}: no words"
        );
    }
    Ok(())
}

#[tokio::test]
async fn describe_shows_the_pages_words_for_each_broken_setup() -> Result<()> {
    let sections = page()?;
    let of = |broken: Broken| {
        sections
            .iter()
            .find(|(heading, _)| heading == broken.heading())
    };
    let one = async |broken: Broken| {
        let (_, words) = of(broken).with_context(|| format!("{broken:?} has no section"))?;
        Ok::<_, anyhow::Error>(
            broken
                .check_description(words)
                .await
                .err()
                .map(|error| format!("{}: {error:#}", broken.heading())),
        )
    };
    let wrong: Vec<Option<String>> = futures::stream::iter(ALL)
        .map(one)
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await?;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    ensure!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        ALL.len(),
        wrong.join("\n\n")
    );
    Ok(())
}

#[tokio::test]
async fn describe_lists_every_reverted_manual_change() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let told = async |what: &str| {
        case.reconcile().await?;
        eventually(what, async || {
            let text = case
                .cluster()
                .kubectl(&["describe", OWN_GRANT, "--namespace", &case.namespace])
                .await?;
            let (_, events) = text.split_once("Events:").context("no Events")?;
            let tells = |line: &str| line.contains("DriftCorrected") && line.contains(what);
            ensure!(events.lines().any(tells), "{events}");
            Ok(())
        })
        .await
    };
    let iam = case.stack().aws(&case.pair.registry).iam;
    let trust = json!({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::444444444444:root"}, "Action": "sts:AssumeRole"});
    iam.set_trust_policy("pusher-grant", document(trust))
        .await?;
    told("set the trust policy of role pusher-grant").await?;
    // The same reason within minutes, but for another change: it is not counted as the same Event.
    case.repository("app")
        .set_policy(case.stack(), &Document(json!({"Statement": []})))
        .await?;
    told("statements in the policy of repository app").await?;
    // The end of earlier sessions does not count as missing access.
    let text = case
        .cluster()
        .kubectl(&["describe", OWN_GRANT, "--namespace", &case.namespace])
        .await?;
    ensure!(!text.contains("PathDenied"), "{text}");
    Ok(())
}
