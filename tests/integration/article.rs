//! The grant of `examples/article.yaml`: it does all four steps of the article, a real client gets
//! access, and its deletion undoes everything.

use crate::support::case::{Case, OPERATOR, assert_unchanged};
use crate::support::flags::NO_RESYNC;
use anyhow::{Context, Result, ensure};
use local_stack::{AccountState, Document, Installation, Pair, REGION, Repository, Session};
use serde_json::{Value, json};

const ROLE: &str = "ECS-AssumeRole-MIQDevOps";
const POWER_USER: &str = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser";

/// The accounts and namespace of `examples/article.yaml`, with other numbers.
struct Article {
    installation: &'static Installation,
    pair: Pair,
    namespace: String,
    repository: Repository,
    before: (AccountState, AccountState),
}

impl Article {
    async fn prepared(namespace: &str) -> Result<Self> {
        let installation = Installation::shared(OPERATOR, &NO_RESYNC).await?;
        let pair = installation.fresh_pair().await?;
        let repository = Repository::new(&pair.registry, "miqp-devops");
        repository.create(&installation.stack).await?;
        let before = accounts(installation, &pair).await?;
        Ok(Self {
            installation,
            pair,
            namespace: namespace.into(),
            repository,
            before,
        })
    }

    async fn apply(&self) -> Result<Value> {
        let cluster = &self.installation.cluster;
        cluster.apply(&self.pair.article(&self.namespace)).await?;
        cluster
            .wait_for_condition(&self.namespace, "carg/miq-devops", "Ready")
            .await
    }

    async fn accounts(&self) -> Result<(AccountState, AccountState)> {
        accounts(self.installation, &self.pair).await
    }
}

async fn accounts(
    installation: &Installation,
    pair: &Pair,
) -> Result<(AccountState, AccountState)> {
    let read =
        async |account: &str| AccountState::read(&installation.stack.aws(account), &[REGION]).await;
    Ok((read(&pair.registry).await?, read(&pair.consumer).await?))
}

#[tokio::test]
async fn grant_creates_what_the_articles_four_steps_create() -> Result<()> {
    let article = Article::prepared("article-policies").await?;
    article.apply().await?;
    let Pair { registry, consumer } = &article.pair;
    let (a, b) = article.accounts().await?;

    let role = a
        .roles
        .get(ROLE)
        .context("step 1: no role in the registry account")?;
    ensure!(
        role.attached.contains(POWER_USER) && role.attached.len() == 1,
        "step 1: {:?}",
        role.attached
    );
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{consumer}:root")}, "Action": "sts:AssumeRole", "Condition": {},
    }]});
    ensure!(
        role.trust.same_meaning(&Document(trust)),
        "step 2: {}",
        role.trust
    );

    let policy = a.repositories[&format!("{REGION}/miqp-devops")]
        .as_ref()
        .context("step 3: no repository policy")?;
    let by_hand = json!({"Version": "2008-10-17", "Statement": [{
        "Sid": "new statement",
        "Effect": "Allow",
        "Principal": {"AWS": [format!("arn:aws:iam::{consumer}:root"), format!("arn:aws:iam::{registry}:role/{ROLE}")]},
        "Action": [
            "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage", "ecr:BatchCheckLayerAvailability", "ecr:PutImage",
            "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:ListImages",
        ],
    }]});
    ensure!(
        policy.without_role_paths().same_meaning(&Document(by_hand)),
        "step 3: {policy}"
    );

    let instance = b
        .roles
        .get("miq-instance")
        .context("step 4: no instance role")?;
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole",
    }]});
    ensure!(
        instance.trust.same_meaning(&Document(trust)),
        "step 4: {}",
        instance.trust
    );
    let profile = b
        .instance_profiles
        .get("miq-instance")
        .context("no instance profile")?;
    ensure!(profile.roles.contains("miq-instance"), "{profile:?}");

    for (account, role) in [(registry, role), (consumer, instance)] {
        ensure!(
            role.boundary
                == Some(format!(
                    "arn:aws:iam::{account}:policy/registry-grants-boundary"
                )),
            "{role:?}"
        );
        ensure!(
            role.tags.get("registrygrants.dev/grant")
                == Some(&"article-policies/miq-devops".to_owned()),
            "{role:?}"
        );
        ensure!(role.path == "/registry-grants/", "{role:?}");
    }
    Ok(())
}

#[tokio::test]
async fn instance_pushes_and_pulls_only_while_the_grant_exists() -> Result<()> {
    let article = Article::prepared("article-client").await?;
    let stack = &article.installation.stack;
    let repository = &article.repository;
    let role = format!(
        "arn:aws:iam::{}:role/registry-grants/{ROLE}",
        article.pair.registry
    );

    let admin = {
        let statement =
            json!({"Effect": "Allow", "Action": ["ecr:*", "sts:AssumeRole"], "Resource": "*"});
        let trust = json!({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"});
        let [statement, trust] = [statement, trust].map(crate::support::case::document);
        let made = local_stack::role_with_policy(
            &stack.aws(&article.pair.consumer),
            "admin",
            trust,
            statement,
        )
        .await?;
        Session::of_instance(stack, &made).await?.allowed()?
    };
    Session::of_root(stack, &article.pair.registry)
        .push(repository, "seed")
        .await?
        .allowed()?;
    admin.push(repository, "before").await?.denied()?;
    admin.pull(repository, "seed").await?.denied()?;
    admin.assume(&role).await?.denied()?;

    let grant = article.apply().await?;
    ensure!(
        grant["status"]["registry"]["roleARN"] == role.as_str(),
        "{}",
        grant["status"]
    );
    ensure!(
        grant["status"]["registry"]["hosts"][0] == repository.host().as_str(),
        "{}",
        grant["status"]
    );
    let instance_role = grant["status"]["consumer"]["roleARN"]
        .as_str()
        .context("no instance role in the status")?;

    let instance = Session::of_instance(stack, instance_role)
        .await?
        .allowed()?;
    let pushed = instance.push(repository, "direct").await?.allowed()?;
    ensure!(
        instance.pull(repository, "direct").await?.allowed()? == pushed,
        "another image came back"
    );
    let by_role = instance.assume(&role).await?.allowed()?;
    let pushed = by_role.push(repository, "by-role").await?.allowed()?;
    ensure!(
        by_role.pull(repository, "by-role").await?.allowed()? == pushed,
        "another image came back"
    );

    article
        .installation
        .cluster
        .delete(&article.namespace, "carg/miq-devops")
        .await?;
    admin.push(repository, "after").await?.denied()?;
    admin.pull(repository, "seed").await?.denied()?;
    admin.assume(&role).await?.denied()?;
    Ok(())
}

#[tokio::test]
async fn deletion_restores_both_accounts() -> Result<()> {
    let article = Article::prepared("article-deletion").await?;
    article.apply().await?;
    ensure!(
        assert_unchanged(&article.before, &article.accounts().await?).is_err(),
        "the grant did nothing"
    );
    article
        .installation
        .cluster
        .delete(&article.namespace, "carg/miq-devops")
        .await?;
    assert_unchanged(&article.before, &article.accounts().await?)
}

#[tokio::test]
async fn grant_without_managed_policy_reaches_only_its_repositories() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.repository("other").create(case.stack()).await?;
    let grant = case.granted(json!({})).await?;
    let role = grant["status"]["registry"]["roleARN"]
        .as_str()
        .context("no role")?
        .to_owned();
    let by_role = case.instance().await?.assume(&role).await?.allowed()?;
    by_role
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    by_role
        .push(&case.repository("other"), "v1")
        .await?
        .denied()?;
    case.instance()
        .await?
        .push(&case.repository("other"), "v1")
        .await?
        .denied()?;
    Ok(())
}
