//! The operator is killed after each of its writes, before it gets the answer. The next operator
//! finishes the work and leaves nothing behind, even if the grant is deleted or changed in the
//! meantime.

use crate::support::case::{OPERATOR, assert_unchanged, condition, list, merged};
use crate::support::flags::{self, NO_RESYNC};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use local_stack::{
    AccountState, CallLog, Document, Emulation, Installation, Pair, REGION, Repository, Session,
    eventually_of,
};
use registry_grants::grant::GrantName;
use serde_json::{Value, json};

/// Only the actions of a test trigger its work, and all lives can wait at once for answers that
/// never arrive.
fn patient() -> Vec<&'static str> {
    flags::with(&NO_RESYNC, &["--concurrency=128", "--aws-call-timeout=10m"])
}

const NAME: &str = "miq-devops";

/// Two accounts with foreign roles and statements, and a namespace with the article's grant.
struct Life<'a> {
    installation: &'a Installation,
    pair: Pair,
    namespace: String,
    before: (AccountState, AccountState),
}

/// The action after the operator was killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Restart,
    Delete,
    Change,
}

#[tokio::test]
async fn operator_killed_after_any_write_recovers_without_leftovers() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let operator = installation.start_operator(OPERATOR, &patient()).await?;
    let calls = CallLog::of(&installation.stack);
    let mark = calls.mark()?;
    let whole = Life::prepared(&installation, "undisturbed").await?;
    apply(&installation, [whole.grant(Then::Restart)?]).await?;
    ready(&installation, &[(&whole, 1)]).await?;
    let writes = whole.writes(&calls.of_operator(mark)?);
    ensure!(writes.len() >= 7, "the article takes more than {writes:?}");
    let changed = Life::prepared(&installation, "changed").await?;
    apply(&installation, [changed.grant(Then::Change)?]).await?;
    ready(&installation, &[(&changed, 1)]).await?;
    let (whole_state, changed_state) = (whole.comparable().await?, changed.comparable().await?);

    let plan = (1..=writes.len())
        .flat_map(|after| [Then::Restart, Then::Delete, Then::Change].map(|then| (after, then)));
    let lives = try_join_all(plan.map(|(after, then)| {
        let installation = &installation;
        async move {
            Ok::<_, anyhow::Error>((
                Life::prepared(installation, &format!("{then:?}-{after}")).await?,
                after,
                then,
            ))
        }
    }))
    .await?;
    let emulation = Emulation::of(&installation.stack);
    for (life, after, _) in &lives {
        emulation.stop_after(&life.pair, *after).await?;
    }
    let grants = lives
        .iter()
        .map(|(life, ..)| life.grant(Then::Restart))
        .collect::<Result<Vec<_>>>()?;
    apply(&installation, grants).await?;
    emulation
        .until_stopped(
            &lives
                .iter()
                .map(|(life, ..)| &life.pair)
                .collect::<Vec<_>>(),
        )
        .await?;
    operator.kill();
    for (life, ..) in &lives {
        emulation.resume(&life.pair).await?;
    }

    let of = |wanted: Then| {
        lives
            .iter()
            .filter(move |(_, _, then)| *then == wanted)
            .map(|(life, ..)| life)
    };
    apply(
        &installation,
        of(Then::Change)
            .map(|life| life.grant(Then::Change))
            .collect::<Result<Vec<_>>>()?,
    )
    .await?;
    for life in of(Then::Delete) {
        life.delete().await?;
    }
    let _fresh = installation.start_operator(OPERATOR, &patient()).await?;
    gone(&installation, &of(Then::Delete).collect::<Vec<_>>()).await?;
    let wanted: Vec<_> = of(Then::Restart)
        .map(|life| (life, 1))
        .chain(of(Then::Change).map(|life| (life, 2)))
        .collect();
    ready(&installation, &wanted).await?;
    for (life, after, then) in &lives {
        let killed = format!("killed after {} and {then:?}", writes[after - 1]);
        match then {
            Then::Restart => {
                assert_unchanged(&whole_state, &life.comparable().await?).context(killed)?
            }
            Then::Change => {
                assert_unchanged(&changed_state, &life.comparable().await?).context(killed)?
            }
            Then::Delete => {
                assert_unchanged(&life.before, &life.accounts().await?).context(killed)?
            }
        }
    }
    // And a client has access.
    for life in of(Then::Restart) {
        life.instance()
            .await?
            .push(&life.repository("miqp-devops"), "v1")
            .await?
            .allowed()?;
    }
    Ok(())
}

#[tokio::test]
async fn operator_killed_after_any_revoking_write_revokes_the_rest() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let operator = installation.start_operator(OPERATOR, &patient()).await?;
    let calls = CallLog::of(&installation.stack);
    let whole = Life::prepared(&installation, "undisturbed").await?;
    apply(&installation, [whole.grant(Then::Restart)?]).await?;
    ready(&installation, &[(&whole, 1)]).await?;
    let mark = calls.mark()?;
    whole.delete().await?;
    gone(&installation, &[&whole]).await?;
    let writes = whole.writes(&calls.of_operator(mark)?);
    ensure!(
        writes.len() >= 7,
        "there is more to take back than {writes:?}"
    );

    let lives = try_join_all((1..=writes.len()).map(|after| {
        let installation = &installation;
        async move { Life::prepared(installation, &format!("after-{after}")).await }
    }))
    .await?;
    apply(
        &installation,
        lives
            .iter()
            .map(|life| life.grant(Then::Restart))
            .collect::<Result<Vec<_>>>()?,
    )
    .await?;
    ready(
        &installation,
        &lives.iter().map(|life| (life, 1)).collect::<Vec<_>>(),
    )
    .await?;
    let emulation = Emulation::of(&installation.stack);
    for (at, life) in lives.iter().enumerate() {
        emulation.stop_after(&life.pair, at + 1).await?;
        life.delete().await?;
    }
    emulation
        .until_stopped(&lives.iter().map(|life| &life.pair).collect::<Vec<_>>())
        .await?;
    operator.kill();
    for life in &lives {
        emulation.resume(&life.pair).await?;
    }
    let _fresh = installation.start_operator(OPERATOR, &patient()).await?;
    gone(&installation, &lives.iter().collect::<Vec<_>>()).await?;
    for (life, write) in lives.iter().zip(&writes) {
        assert_unchanged(&life.before, &life.accounts().await?)
            .with_context(|| format!("killed after {write}"))?;
    }
    Ok(())
}

impl<'a> Life<'a> {
    async fn prepared(installation: &'a Installation, namespace: &str) -> Result<Self> {
        let namespace = namespace.to_lowercase();
        installation.cluster.create_namespace(&namespace).await?;
        let pair = installation.fresh_pair().await?;
        let state = AccountState::read(&installation.stack.aws(&pair.registry), &[REGION]).await?;
        let mut life = Self {
            installation,
            pair,
            namespace,
            before: (state.clone(), state),
        };
        let foreign = json!({
            "Sid": "Theirs", "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{}:root", life.pair.consumer)},
            "Action": "ecr:DescribeImages",
        });
        for repository in ["miqp-devops".to_owned(), life.other_repository()] {
            let repository = life.repository(&repository);
            repository.create(&installation.stack).await?;
            let theirs = Document(json!({"Version": "2012-10-17", "Statement": [foreign]}));
            repository.set_policy(&installation.stack, &theirs).await?;
        }
        for account in [&life.pair.registry, &life.pair.consumer] {
            let trust = json!({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"});
            let iam = installation.stack.aws(account).iam;
            let create = iam
                .create_role()
                .role_name("theirs")
                .path("/registry-grants/");
            create
                .assume_role_policy_document(crate::support::case::document(trust))
                .send()
                .await?;
        }
        life.before = life.accounts().await?;
        apply(installation, life.resources("AWSAccount")?).await?;
        Ok(life)
    }

    /// The other fields of the rule.
    fn other_repository(&self) -> String {
        format!("{}/web", self.namespace)
    }

    /// Returns the article's resources of this kind, for these accounts and this namespace.
    fn resources(&self, kind: &str) -> Result<Vec<Value>> {
        let article = self.pair.article(&self.namespace);
        let mut all: Vec<Value> = serde_saphyr::from_multiple(&article)?;
        all.retain(|object| object["kind"] == kind);
        Ok(all)
    }

    /// Returns the article's grant, unchanged or changed.
    fn grant(&self, then: Then) -> Result<Value> {
        let mut grants = self.resources("CrossAccountRegistryGrant")?;
        let grant = grants.pop().context("the article has no grant")?;
        Ok(match then {
            Then::Restart | Then::Delete => grant,
            Then::Change => merged(
                grant,
                json!({"spec": {
                    "access": "Pull",
                    "paths": ["Direct"],
                    "registry": {"repositories": [self.other_repository()], "role": {"managedPolicies": [], "nameInRepositoryPolicy": false}},
                }}),
            ),
        })
    }

    fn repository(&self, name: &str) -> Repository {
        Repository::new(&self.pair.registry, name)
    }

    async fn accounts(&self) -> Result<(AccountState, AccountState)> {
        let read = async |account: &str| {
            AccountState::read(&self.installation.stack.aws(account), &[REGION]).await
        };
        Ok((
            read(&self.pair.registry).await?,
            read(&self.pair.consumer).await?,
        ))
    }

    /// Returns the state of the accounts, with the names of this life replaced.
    async fn comparable(&self) -> Result<(AccountState, AccountState)> {
        let (registry, consumer) = self.accounts().await?;
        let tags = consumer
            .roles
            .get("miq-instance")
            .context("no instance role")?
            .tags
            .clone();
        let tag = |name: &str| {
            tags.get(&format!("registrygrants.dev/{name}"))
                .cloned()
                .context("not tagged")
        };
        let grant = GrantName {
            namespace: self.namespace.clone(),
            name: NAME.into(),
        };
        let in_aws = grant.in_aws(
            &tag("installation")?.parse().map_err(anyhow::Error::msg)?,
            112,
        );
        let uid = tag("grant-uid")?;
        let whose = grant.to_string();
        let names = [
            (in_aws.as_str(), "NAME-IN-AWS"),
            (uid.as_str(), "UID"),
            (whose.as_str(), "GRANT"),
            (self.namespace.as_str(), "NAMESPACE"),
            (self.pair.registry.as_str(), "111111111111"),
            (self.pair.consumer.as_str(), "222222222222"),
        ];
        Ok((registry.renamed(&names)?, consumer.renamed(&names)?))
    }

    /// Returns the writes in these accounts among these calls.
    fn writes(&self, calls: &[local_stack::Call]) -> Vec<String> {
        let ours = [&self.pair.registry, &self.pair.consumer];
        let writes = calls
            .iter()
            .filter(|call| call.is_write() && ours.contains(&&call.account));
        writes
            .map(|call| format!("{}:{}", call.service, call.action))
            .collect()
    }

    async fn delete(&self) -> Result<()> {
        self.installation
            .cluster
            .begin_to_delete(&self.namespace, &format!("carg/{NAME}"))
            .await
    }

    async fn instance(&self) -> Result<Session<'a>> {
        let role = format!(
            "arn:aws:iam::{}:role/registry-grants/miq-instance",
            self.pair.consumer
        );
        Session::of_instance(&self.installation.stack, &role)
            .await?
            .allowed()
    }
}

async fn apply(installation: &Installation, items: impl IntoIterator<Item = Value>) -> Result<()> {
    let items: Vec<Value> = items.into_iter().collect();
    installation.cluster.apply(&list(items).to_string()).await
}

async fn grants(installation: &Installation) -> Result<Vec<Value>> {
    installation.cluster.list("", "carg").await
}

/// Waits until the grant of each life is Ready in this generation.
async fn ready(installation: &Installation, lives: &[(&Life<'_>, i64)]) -> Result<()> {
    eventually_of(lives.len(), "the grants are Ready", async || {
        let grants = grants(installation).await?;
        let mut missing = Vec::new();
        for (life, generation) in lives {
            let grant = grants
                .iter()
                .find(|grant| grant["metadata"]["namespace"] == life.namespace.as_str());
            let ready = grant.and_then(|grant| condition(grant, "Ready"));
            let is = ready.is_some_and(|ready| {
                ready["status"] == "True" && ready["observedGeneration"] == *generation
            });
            missing.extend((!is).then(|| format!("{}: {ready:?}", life.namespace)));
        }
        ensure!(missing.is_empty(), "{missing:#?}");
        Ok(())
    })
    .await
}

/// Waits until the grant of each life is gone.
async fn gone(installation: &Installation, lives: &[&Life<'_>]) -> Result<()> {
    eventually_of(lives.len(), "the grants are gone", async || {
        let grants = grants(installation).await?;
        let left = grants.iter().filter(|grant| {
            lives
                .iter()
                .any(|l| grant["metadata"]["namespace"] == l.namespace.as_str())
        });
        let left: Vec<_> = left
            .map(|grant| condition(grant, "Ready").cloned())
            .collect();
        ensure!(left.is_empty(), "{left:#?}");
        Ok(())
    })
    .await
}
