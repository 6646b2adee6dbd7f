//! `status.access` and `explain`: each link of the chain is broken in turn, both name it, and a
//! real client agrees.

use crate::support::case::{Case, GRANT, condition, document, list, verdicts};
use crate::support::command_line::run;
use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use local_stack::{Aws, Document, IamCalls as _, Outcome, Session};
use serde_json::{Value, json};

/// The number of links that are removed at a time.
const AT_A_TIME: usize = 4;

/// Removes a link manually.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    Trust,
    TrustDenies,
    ExternalID,
    StaleRoleID,
    ConsumersPolicy,
    Token,
    AssumeRole,
    RegistrysPolicy,
    RepositoryPolicy,
    RepositoryPolicyDenies,
    RegistryPolicyDenies,
    BoundaryOfConsumer,
    BoundaryOfRegistry,
    ConsumersPolicyDenies,
    ManagedPolicyDenies,
    RegistrysPolicyDenies,
}

/// Whether each path still works, and the message about one that does not.
struct Expected {
    direct: bool,
    by_role: bool,
    text: &'static str,
}

const ALL: [Broken; 17] = [
    Broken::Nothing,
    Broken::Trust,
    Broken::TrustDenies,
    Broken::ExternalID,
    Broken::StaleRoleID,
    Broken::ConsumersPolicy,
    Broken::Token,
    Broken::AssumeRole,
    Broken::RegistrysPolicy,
    Broken::RepositoryPolicy,
    Broken::RepositoryPolicyDenies,
    Broken::RegistryPolicyDenies,
    Broken::BoundaryOfConsumer,
    Broken::BoundaryOfRegistry,
    Broken::ConsumersPolicyDenies,
    Broken::ManagedPolicyDenies,
    Broken::RegistrysPolicyDenies,
];

impl Broken {
    fn expected(self) -> Expected {
        let (direct, by_role, text) = match self {
            Self::Nothing => (true, true, ""),
            Self::Trust => (true, false, "the trust policy of role"),
            Self::TrustDenies => (true, false, "statement Stop of the trust policy of role"),
            Self::ExternalID => (true, false, "sts:ExternalId"),
            Self::StaleRoleID => (true, false, "AROA"),
            Self::ConsumersPolicy => (
                false,
                false,
                "no policy of the role allows it in account CONSUMER",
            ),
            Self::Token => (false, true, "ecr:GetAuthorizationToken"),
            Self::AssumeRole => (
                true,
                false,
                "lacks sts:AssumeRole: no policy of the role allows it in account CONSUMER",
            ),
            Self::RegistrysPolicy => (
                true,
                false,
                "no policy of the role allows it in account REGISTRY",
            ),
            Self::RepositoryPolicy => (
                false,
                true,
                "the repository's policy in account REGISTRY does not allow it",
            ),
            Self::RepositoryPolicyDenies => (
                false,
                false,
                "statement Stop of the policy of repository app",
            ),
            Self::RegistryPolicyDenies => {
                (false, false, "statement Stop of the registry's own policy")
            }
            Self::BoundaryOfConsumer => (false, false, "permissions boundary in account CONSUMER"),
            Self::BoundaryOfRegistry => (true, false, "permissions boundary in account REGISTRY"),
            Self::ConsumersPolicyDenies => (false, true, "statement Stop of policy theirs of role"),
            Self::ManagedPolicyDenies => (
                false,
                true,
                "statement Stop of policy arn:aws:iam::CONSUMER:policy/theirs",
            ),
            Self::RegistrysPolicyDenies => (true, false, "statement Stop of policy theirs of role"),
        };
        Expected {
            direct,
            by_role,
            text,
        }
    }

    async fn apply(self, at: &Setup<'_>) -> Result<()> {
        let (registry, consumer) = (at.registry(), at.consumer());
        let stop = |action: &str| json!({"Sid": "Stop", "Effect": "Deny", "Action": action, "Resource": "*"});
        match self {
            Self::Nothing => Ok(()),
            Self::Trust => {
                at.trust(|_| {
                    json!([
                        at.trust_statement(&format!("arn:aws:iam::{}:root", at.case.pair.registry))
                    ])
                })
                .await
            }
            Self::TrustDenies => {
                let deny = json!({"Sid": "Stop", "Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"});
                at.trust(|mut statements| {
                    statements.extend([deny.clone()]);
                    json!(statements)
                })
                .await
            }
            Self::ExternalID => {
                at.trust(|mut statements| {
                    statements[0]["Condition"]["StringEquals"]["sts:ExternalId"] = json!("another");
                    json!(statements)
                })
                .await
            }
            Self::StaleRoleID => {
                at.trust(|_| json!([at.trust_statement(&at.node())]))
                    .await?;
                at.make_node_anew().await
            }
            Self::ConsumersPolicy => {
                delete_policy(&consumer, "node", &at.policy_of(&consumer, "node").await?.0).await
            }
            Self::Token => {
                at.without(&consumer, "node", "ecr:GetAuthorizationToken")
                    .await
            }
            Self::AssumeRole => at.without(&consumer, "node", "sts:AssumeRole").await,
            Self::RegistrysPolicy => {
                delete_policy(&registry, ROLE, &at.policy_of(&registry, ROLE).await?.0).await
            }
            Self::RepositoryPolicy => {
                at.case
                    .repository("app")
                    .set_policy(at.case.stack(), &Document(json!({"Statement": []})))
                    .await
            }
            Self::RepositoryPolicyDenies => {
                let app = at.case.repository("app");
                let policy = app.policy(at.case.stack()).await?.context("no policy")?;
                let deny =
                    json!({"Sid": "Stop", "Effect": "Deny", "Principal": "*", "Action": IMAGES});
                app.set_policy(at.case.stack(), &policy.with_statement(deny))
                    .await
            }
            Self::RegistryPolicyDenies => {
                let repositories = format!(
                    "arn:aws:ecr:us-east-1:{}:repository/*",
                    at.case.pair.registry
                );
                let deny = json!({"Sid": "Stop", "Effect": "Deny", "Principal": "*", "Action": IMAGES, "Resource": repositories});
                registry
                    .ecr
                    .put_registry_policy()
                    .policy_text(document(deny))
                    .send()
                    .await?;
                Ok(())
            }
            Self::BoundaryOfConsumer => bound(&consumer, "node").await,
            Self::BoundaryOfRegistry => bound(&registry, ROLE).await,
            Self::ConsumersPolicyDenies => {
                put_policy(&consumer, "node", "theirs", document(stop("ecr:*"))).await
            }
            Self::ManagedPolicyDenies => {
                let arn = managed(&consumer, "theirs", document(stop("ecr:*"))).await?;
                consumer.iam.attach_policy("node", arn).await?;
                Ok(())
            }
            Self::RegistrysPolicyDenies => {
                put_policy(&registry, ROLE, "theirs", document(stop("ecr:*"))).await
            }
        }
    }
}

/// Without these actions, no pull or push works. The operator can still read.
const IMAGES: [&str; 2] = ["ecr:BatchGetImage", "ecr:PutImage"];
/// The registry role.
const ROLE: &str = "pusher-grant";

/// The place of a link.
struct Setup<'a> {
    case: Case<'a>,
}

impl Setup<'_> {
    fn registry(&self) -> Aws {
        self.case.stack().aws(&self.case.pair.registry)
    }

    fn consumer(&self) -> Aws {
        self.case.stack().aws(&self.case.pair.consumer)
    }

    fn node(&self) -> String {
        format!(
            "arn:aws:iam::{}:role/registry-grants/node",
            self.case.pair.consumer
        )
    }

    fn role(&self) -> String {
        format!(
            "arn:aws:iam::{}:role/registry-grants/{ROLE}",
            self.case.pair.registry
        )
    }

    fn trust_statement(&self, principal: &str) -> Value {
        json!({"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"})
    }

    /// Changes the trust policy of the registry role.
    async fn trust(&self, change: impl FnOnce(Vec<Value>) -> Value) -> Result<()> {
        let state = self.case.registry().await?;
        let trust = &state
            .roles
            .get(ROLE)
            .context("no role in the registry's account")?
            .trust;
        let changed = json!({"Version": "2012-10-17", "Statement": change(trust.statements())});
        self.registry()
            .iam
            .set_trust_policy(ROLE, changed.to_string())
            .await?;
        Ok(())
    }

    /// Returns the name and text of the only inline policy of a role.
    async fn policy_of(&self, aws: &Aws, role: &str) -> Result<(String, String)> {
        let names = aws
            .iam
            .list_role_policies()
            .role_name(role)
            .send()
            .await?
            .policy_names;
        let name = names.first().context("no inline policy")?;
        let found = aws
            .iam
            .get_role_policy()
            .role_name(role)
            .policy_name(name)
            .send()
            .await?;
        let text = percent_encoding::percent_decode_str(&found.policy_document)
            .decode_utf8()?
            .into_owned();
        Ok((name.clone(), text))
    }

    async fn without(&self, aws: &Aws, role: &str, action: &str) -> Result<()> {
        let (name, text) = self.policy_of(aws, role).await?;
        let without = text.replace(&format!("\"{action}\""), "\"ecr:DescribeRegistry\"");
        ensure!(without != text, "{text} does not hold {action}");
        put_policy(aws, role, &name, without).await
    }

    /// Deletes the instance role and recreates it: it has another ID.
    async fn make_node_anew(&self) -> Result<()> {
        let aws = self.consumer();
        let (name, policy) = self.policy_of(&aws, "node").await?;
        let old = aws
            .iam
            .get_role()
            .role_name("node")
            .send()
            .await?
            .role
            .context("no role")?;
        aws.iam.remove_role_from_profile("node", "node").await?;
        delete_policy(&aws, "node", &name).await?;
        aws.iam.delete_role().role_name("node").send().await?;
        let trust = old.assume_role_policy_document.unwrap_or_default();
        let trust = percent_encoding::percent_decode_str(&trust)
            .decode_utf8()?
            .into_owned();
        let boundary = old
            .permissions_boundary
            .and_then(|boundary| boundary.permissions_boundary_arn);
        let create = aws
            .iam
            .create_role()
            .role_name("node")
            .path("/registry-grants/");
        let create = create
            .assume_role_policy_document(trust)
            .set_tags(old.tags)
            .set_permissions_boundary(boundary);
        create.send().await?;
        put_policy(&aws, "node", &name, policy).await?;
        aws.iam.add_role_to_profile("node", "node").await?;
        Ok(())
    }

    /// Runs `explain`. Returns whether access is allowed, and the output.
    async fn explain(&self, action: &str, by_role: bool) -> Result<(bool, String)> {
        let accounts = list(vec![
            self.case.registry_account(json!({})),
            self.case.consumer_account(json!({})),
        ]);
        let (node, role) = (self.node(), self.role());
        let repository = format!(
            "arn:aws:ecr:us-east-1:{}:repository/app",
            self.case.pair.registry
        );
        let mut arguments = vec![
            "explain",
            "-f",
            "-",
            "--principal",
            &node,
            "--action",
            action,
            "--repository",
            &repository,
        ];
        if by_role {
            arguments.extend(["--assume", role.as_str()]);
        }
        let output = run(&self.case, &arguments, &accounts).await?;
        match output.status {
            0 => Ok((true, output.stdout)),
            2 => Ok((false, output.stdout)),
            _ => bail!("{output:?}"),
        }
    }

    /// Returns what works with a real client.
    async fn client_is_allowed(&self, action: &str, by_role: bool) -> Result<bool> {
        let instance = Session::of_instance(self.case.stack(), &self.node())
            .await?
            .allowed()?;
        let session = match by_role {
            false => instance,
            true => match instance.assume(&self.role()).await? {
                Outcome::Allowed(session) => session,
                Outcome::Denied(_) => return Ok(false),
            },
        };
        let app = self.case.repository("app");
        let tag = format!("after-{}", if by_role { "role" } else { "direct" });
        let outcome = if action == "pull" {
            session.pull(&app, "before").await?
        } else {
            session.push(&app, &tag).await?
        };
        Ok(matches!(outcome, Outcome::Allowed(_)))
    }
}

async fn delete_policy(aws: &Aws, role: &str, policy: &str) -> Result<()> {
    aws.iam.delete_inline_policy(role, policy).await?;
    Ok(())
}

async fn put_policy(aws: &Aws, role: &str, policy: &str, text: String) -> Result<()> {
    aws.iam.put_inline_policy(role, policy, text).await?;
    Ok(())
}

async fn managed(aws: &Aws, name: &str, text: String) -> Result<String> {
    let created = aws
        .iam
        .create_policy()
        .policy_name(name)
        .policy_document(text)
        .send()
        .await?;
    created
        .policy
        .and_then(|policy| policy.arn)
        .context("no ARN")
}

async fn bound(aws: &Aws, role: &str) -> Result<()> {
    let tight = json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"});
    let arn = managed(aws, "tight", document(tight)).await?;
    aws.iam
        .put_role_permissions_boundary()
        .role_name(role)
        .permissions_boundary(arn)
        .send()
        .await?;
    Ok(())
}

#[tokio::test]
async fn status_and_explain_name_the_broken_link_that_stops_a_client() -> Result<()> {
    let one = async |broken: Broken| agree(broken).await.with_context(|| format!("{broken:?}"));
    futures::stream::iter(ALL)
        .map(Ok)
        .try_for_each_concurrent(AT_A_TIME, one)
        .await
}

async fn agree(broken: Broken) -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let setup = Setup { case };
    let case = &setup.case;
    case.instance()
        .await?
        .push(&case.repository("app"), "before")
        .await?
        .allowed()?;
    // The operator would revert it at once.
    case.apply(&case.grant(json!({"mode": "Observe"}))).await?;
    broken.apply(&setup).await?;
    let grant = case.reconcile().await?;
    let verdicts = verdicts(&grant, &setup.node());
    let Expected {
        direct,
        by_role,
        text,
    } = broken.expected();
    let text = text
        .replace("REGISTRY", &case.pair.registry)
        .replace("CONSUMER", &case.pair.consumer);
    let mut named = text.is_empty();
    for (path, allowed) in [("Direct", direct), ("AssumeRole", by_role)] {
        for (action, verb) in [("Pull", "pull"), ("Push", "push")] {
            let key = (path.to_owned(), action.to_owned());
            let (verdict, message) = verdicts
                .get(&key)
                .with_context(|| format!("no verdict on {key:?}: {grant:#}"))?;
            let expected = if allowed { "Allowed" } else { "Denied" };
            ensure!(
                verdict == expected,
                "{path} {action} is {verdict}, not {expected}: {message}"
            );
            named |= message.contains(&text);
            let (explained, answer) = setup.explain(verb, path == "AssumeRole").await?;
            ensure!(explained == allowed, "explain on {path} {action}: {answer}");
            let client = setup.client_is_allowed(verb, path == "AssumeRole").await?;
            ensure!(
                client == allowed,
                "a real client: {path} {action} was allowed: {client}"
            );
        }
    }
    ensure!(named, "nobody said `{text}`: {verdicts:#?}");
    Ok(())
}

#[tokio::test]
async fn grant_with_a_path_denied_by_others_is_not_ready() -> Result<()> {
    let case = Case::with_accounts().await?;
    let (app, stack) = (case.repository("app"), case.stack());
    let deny =
        json!({"Sid": "frozen", "Effect": "Deny", "Principal": "*", "Action": "ecr:PutImage"});
    let foreign = Document(json!({"Version": "2012-10-17", "Statement": [deny]}));
    app.set_policy(stack, &foreign).await?;
    case.apply(&case.grant(json!({}))).await?;
    let message = case.not_ready("PathDenied").await?;
    ensure!(
        message.contains("statement frozen of the policy of repository app"),
        "{message}"
    );
    let grant = case.cluster().get(&case.namespace, GRANT).await?;
    ensure!(condition(&grant, "Stalled").is_some(), "{grant:#}");
    // The grant's own part is in place nevertheless: pulling works.
    let instance = case.instance().await?;
    instance.push(&app, "v1").await?.denied()?;

    let policy = app.policy(stack).await?.context("no policy")?;
    app.set_policy(stack, &policy.without_statement("frozen"))
        .await?;
    case.reconcile().await?;
    case.ready().await?;
    instance.push(&app, "v1").await?.allowed().map(drop)
}
