//! The permissions that `registry-grants iam-policy` prints: they suffice, and without any one
//! action something fails and names it.

use crate::support::case::{Case, OPERATOR, assert_unchanged, list, trusts};
use crate::support::flags::NO_RESYNC;
use crate::support::operator_documents::{generated, permissions, texts, without};
use anyhow::{Context, Result, bail, ensure};
use aws_sdk_iam::types::Tag;
use futures::future::try_join_all;
use local_stack::{
    AccountState, IamCalls as _, Installation, MANAGEMENT_ROLE, Pair, REGION, eventually_of,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The operator's installation ID, which the narrowest documents name.
const INSTALLATION: &str = "0123456789ab";

/// Two accounts, and the operator's permissions in them.
struct Life<'a> {
    case: Case<'a>,
    may: May,
    before: (AccountState, AccountState),
    over: Option<End>,
}

#[derive(Clone, Debug)]
enum May {
    /// All permissions of the documents, which suffice.
    Everything,
    /// The narrowest permissions that `iam-policy` can print, which also suffice.
    Narrowest,
    /// All permissions except one action.
    AllBut(Lack),
}

#[derive(Clone, Debug)]
struct Lack {
    in_registry: bool,
    sid: String,
    action: String,
}

/// The end of a life.
#[derive(Debug, PartialEq)]
enum End {
    /// A condition names the missing action.
    Denied,
    /// The grant was created, changed, corrected and deleted.
    Complete,
}

#[tokio::test]
async fn missing_action_of_the_permissions_is_named() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let lacks = [true, false]
        .map(actions)
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .concat();
    ensure!(
        lacks.len() > 30,
        "the documents were not understood: {lacks:?}"
    );
    let lives = lacks
        .into_iter()
        .map(May::AllBut)
        .chain([May::Everything, May::Narrowest])
        .enumerate();
    let mut lives =
        try_join_all(lives.map(|(number, may)| Life::prepared(&installation, number, may))).await?;
    // There are dozens of lives at once, and resyncs every two seconds would overload the machine.
    // Each step here changes the grant, which triggers a reconcile at once.
    let arguments = [
        &NO_RESYNC[..],
        &["--sweep-interval=20s", "--installation", INSTALLATION],
    ]
    .concat();
    let _operator = installation.start_operator(OPERATOR, &arguments).await?;

    let create = json!({"registry": {"repositories": ["app", "team/*"]}});
    apply(&installation, &lives, |life| life.scene(&create)).await?;
    settled(&installation, &mut lives, "created").await?;

    try_join_all(
        lives
            .iter()
            .filter(|life| life.over.is_none())
            .map(Life::drift),
    )
    .await?;
    let role = json!({"managedPolicies": ["AmazonEC2ContainerRegistryPowerUser"], "maxSessionSeconds": 7200});
    let change = json!({"registry": {"repositories": ["app", "team/*"], "role": role}});
    apply(&installation, &lives, |life| {
        vec![life.case.grant(change.clone())]
    })
    .await?;
    settled(&installation, &mut lives, "changed and put back").await?;

    // If a role has no tags, IAM may omit them from its answer. So the operator reads again before
    // it relies on their absence.
    let tags = try_join_all(
        lives
            .iter()
            .filter(|life| life.over.is_none())
            .map(Life::untag),
    )
    .await?;
    apply(&installation, &lives, |life| {
        vec![life.case.grant(create.clone())]
    })
    .await?;
    in_conflict(&installation, &mut lives).await?;
    try_join_all(
        tags.into_iter()
            .map(|(pair, tags)| tag_again(&installation, pair, tags)),
    )
    .await?;

    let again = json!({"registry": {"repositories": ["app", "team/*"], "role": {"maxSessionSeconds": 10_800}}});
    apply(&installation, &lives, |life| {
        vec![life.case.grant(again.clone())]
    })
    .await?;
    settled(&installation, &mut lives, "changed again").await?;

    swept(&installation, &mut lives).await?;

    delete(&lives).await?;
    gone(&installation, &mut lives, || None).await?;

    let retain =
        json!({"registry": {"repositories": ["app", "team/*"]}, "deletionPolicy": "Retain"});
    apply(&installation, &lives, |life| {
        vec![life.case.grant(retain.clone())]
    })
    .await?;
    settled(&installation, &mut lives, "created to be retained").await?;
    delete(&lives).await?;
    gone(&installation, &mut lives, || Some(End::Complete)).await?;

    for life in &lives {
        match (&life.may, &life.over) {
            (May::AllBut(lack), over) => {
                ensure!(*over == Some(End::Denied), "nothing fails without {lack:?}")
            }
            (May::Everything | May::Narrowest, over) => {
                ensure!(
                    *over == Some(End::Complete),
                    "with {:?} it ended {over:?}",
                    life.may
                );
                life.remove_what_was_retained().await?;
                assert_unchanged(&life.before, &life.case.accounts().await?)?;
            }
        }
    }
    Ok(())
}

impl<'a> Life<'a> {
    async fn prepared(installation: &'a Installation, number: usize, may: May) -> Result<Self> {
        let case = Case {
            installation,
            pair: installation.fresh_pair().await?,
            namespace: format!("life-{number}"),
        };
        for in_registry in [true, false] {
            let account = if in_registry {
                &case.pair.registry
            } else {
                &case.pair.consumer
            };
            let document = match &may {
                May::AllBut(lack) if lack.in_registry == in_registry => case.pair.fill_in(
                    &without(permissions(in_registry)?, &lack.sid, &lack.action).to_string(),
                ),
                May::Narrowest => narrowest(in_registry, account)?,
                May::AllBut(_) | May::Everything => continue,
            };
            case.stack()
                .aws(account)
                .iam
                .put_inline_policy(MANAGEMENT_ROLE, MANAGEMENT_ROLE, document)
                .await?;
        }
        case.repository("app").create(case.stack()).await?;
        // A role that the documents do not cover. It is put into our instance profile later.
        let root = case.stack().aws(&case.pair.consumer).iam;
        root.create_role()
            .role_name("other")
            .assume_role_policy_document(trusts(&case.pair.consumer))
            .send()
            .await?;
        let before = case.accounts().await?;
        Ok(Self {
            case,
            may,
            before,
            over: None,
        })
    }

    fn scene(&self, grant: &Value) -> Vec<Value> {
        let case = &self.case;
        let rule = case.rule(json!({"managedPolicies": ["AmazonEC2ContainerRegistryPowerUser"], "allowRetain": true}));
        let mut consumer = case.consumer_account(json!({}));
        consumer["spec"]["consumer"]["rules"][0]["allowRetain"] = json!(true);
        vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": case.namespace}}),
            case.registry_account(json!({"registry": {"rules": [rule]}})),
            consumer,
            case.grant(grant.clone()),
        ]
    }

    /// Manual changes: other principals in the trust policies, no boundaries, and another role in
    /// the instance profile.
    async fn drift(&self) -> Result<()> {
        let Pair { registry, consumer } = &self.case.pair;
        // In our own statement, because with a foreign statement the role would stay when the grant
        // is deleted.
        let ours = self
            .case
            .consumer()
            .await?
            .roles
            .get("node")
            .context("no role node")?
            .trust
            .to_string();
        let changed = ours.replace("ec2.amazonaws.com", "lambda.amazonaws.com");
        for (account, role, trust) in [
            (registry, "pusher-grant", trusts(registry)),
            (consumer, "node", changed),
        ] {
            let iam = self.case.stack().aws(account).iam;
            iam.set_trust_policy(role, trust).await?;
            iam.delete_role_permissions_boundary()
                .role_name(role)
                .send()
                .await?;
        }
        let iam = self.case.stack().aws(consumer).iam;
        iam.remove_role_from_profile("node", "node").await?;
        iam.add_role_to_profile("node", "other").await?;
        Ok(())
    }

    /// Manually removes the tags of our resources. Returns them.
    async fn untag(&self) -> Result<(Pair, [Vec<Tag>; 3])> {
        let Pair { registry, consumer } = &self.case.pair;
        let (of_registry, of_consumer) = (
            self.case.stack().aws(registry).iam,
            self.case.stack().aws(consumer).iam,
        );
        let keys = |tags: &[Tag]| Some(tags.iter().map(|tag| tag.key.clone()).collect());
        let mut taken = [const { Vec::new() }; 3];
        for (number, (iam, role)) in [(&of_registry, "pusher-grant"), (&of_consumer, "node")]
            .into_iter()
            .enumerate()
        {
            taken[number] = iam.list_role_tags().role_name(role).send().await?.tags;
            iam.untag_role()
                .role_name(role)
                .set_tag_keys(keys(&taken[number]))
                .send()
                .await?;
        }
        taken[2] = of_consumer
            .list_instance_profile_tags()
            .instance_profile_name("node")
            .send()
            .await?
            .tags;
        let untag = of_consumer
            .untag_instance_profile()
            .instance_profile_name("node");
        untag.set_tag_keys(keys(&taken[2])).send().await?;
        Ok((self.case.pair.clone(), taken))
    }

    /// Manually removes what stays of a retained grant.
    async fn remove_what_was_retained(&self) -> Result<()> {
        let Pair { registry, consumer } = &self.case.pair;
        let (of_registry, of_consumer) = (
            self.case.stack().aws(registry),
            self.case.stack().aws(consumer),
        );
        of_consumer
            .iam
            .remove_role_from_profile("node", "node")
            .await?;
        of_consumer
            .iam
            .delete_instance_profile()
            .instance_profile_name("node")
            .send()
            .await?;
        let (registry_state, consumer_state) = self.case.accounts().await?;
        for (aws, state, role) in [
            (&of_registry, registry_state, "pusher-grant"),
            (&of_consumer, consumer_state, "node"),
        ] {
            for policy in state
                .roles
                .get(role)
                .context("what was to be retained is gone")?
                .inline
                .keys()
            {
                aws.iam.delete_inline_policy(role, policy).await?;
            }
            aws.iam.delete_role().role_name(role).send().await?;
        }
        of_registry
            .ecr
            .delete_repository_policy()
            .repository_name("app")
            .send()
            .await?;
        Ok(())
    }

    /// Returns whether the grant reports that the missing action of this life was denied.
    fn denied(&self, grant: &Value) -> Result<bool> {
        let conditions = grant["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten();
        let denied = conditions.filter(|condition| {
            condition["status"] == "False" && condition["reason"] == "AccessDenied"
        });
        let of_conditions = denied.filter_map(|condition| condition["message"].as_str());
        // Reads that only serve to evaluate access cause no failure. The access status reports
        // them.
        let access = grant["status"]["access"].as_array().into_iter().flatten();
        let unknown = access
            .filter(|told| told["verdict"] == "Unknown")
            .filter_map(|told| told["message"].as_str());
        let of_access = unknown.filter(|message| message.contains("AccessDenied"));
        self.lacks(&of_conditions.chain(of_access).collect::<Vec<_>>())
    }

    /// Returns whether the last sweep of an account reports it. The sweep must have ended.
    fn denied_to_sweep(&self, account: &Value) -> Result<bool> {
        let sweep = &account["status"]["sweep"];
        ensure!(sweep.is_object(), "not swept yet");
        let problems = sweep["problems"].as_array().into_iter().flatten();
        self.lacks(&problems.filter_map(Value::as_str).collect::<Vec<_>>())
    }

    /// Returns whether the denials name the missing action of this life. They must name no other.
    fn lacks(&self, messages: &[&str]) -> Result<bool> {
        if messages.is_empty() {
            return Ok(false);
        }
        let May::AllBut(lack) = &self.may else {
            bail!("denied with {:?}: {messages:?}", self.may)
        };
        let names = messages
            .iter()
            .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':'));
        ensure!(
            names.into_iter().any(|name| name == lack.action),
            "without {lack:?} it says {messages:?}"
        );
        Ok(true)
    }
}

/// Applies these resources of all lives that are not over.
async fn apply(
    installation: &Installation,
    lives: &[Life<'_>],
    of: impl Fn(&Life<'_>) -> Vec<Value>,
) -> Result<()> {
    let items: Vec<Value> = lives
        .iter()
        .filter(|life| life.over.is_none())
        .flat_map(of)
        .collect();
    installation.cluster.apply(&list(items).to_string()).await
}

/// Waits until each grant is Ready in its current generation, or its life is over.
async fn settled(installation: &Installation, lives: &mut [Life<'_>], what: &str) -> Result<()> {
    wait(installation, lives, what, |grant| {
        let grant = grant.context("the grant is gone")?;
        let ready =
            crate::support::case::condition(grant, "Ready").context("no condition Ready yet")?;
        let current = ready["observedGeneration"] == grant["metadata"]["generation"];
        ensure!(current && ready["status"] == "True", "not Ready: {ready}");
        Ok(None)
    })
    .await
}

async fn tag_again(
    installation: &Installation,
    pair: Pair,
    [registry, role, profile]: [Vec<Tag>; 3],
) -> Result<()> {
    let iam = installation.stack.aws(&pair.registry).iam;
    iam.tag_role()
        .role_name("pusher-grant")
        .set_tags(Some(registry))
        .send()
        .await?;
    let iam = installation.stack.aws(&pair.consumer).iam;
    iam.tag_role()
        .role_name("node")
        .set_tags(Some(role))
        .send()
        .await?;
    iam.tag_instance_profile()
        .instance_profile_name("node")
        .set_tags(Some(profile))
        .send()
        .await?;
    Ok(())
}

/// Waits until each grant reports that its roles are foreign, or its life is over.
async fn in_conflict(installation: &Installation, lives: &mut [Life<'_>]) -> Result<()> {
    wait(installation, lives, "without its tags", |grant| {
        let grant = grant.context("the grant is gone")?;
        for part in ["RoleReady", "ConsumerReady"] {
            let part =
                crate::support::case::condition(grant, part).context("no such condition yet")?;
            let current = part["observedGeneration"] == grant["metadata"]["generation"];
            ensure!(
                current && part["reason"] == "Conflict",
                "not in conflict: {part}"
            );
        }
        Ok(None)
    })
    .await
}

/// Waits until both accounts of each life were swept. Those whose sweep lacks an action are over.
async fn swept(installation: &Installation, lives: &mut [Life<'_>]) -> Result<()> {
    eventually_of(lives.len(), "swept", async || {
        let found = installation.cluster.list("default", "awsaccounts").await?;
        let of = |id: &str| {
            found
                .iter()
                .find(|account| account["metadata"]["name"] == id)
        };
        for life in lives.iter_mut().filter(|life| life.over.is_none()) {
            let Pair { registry, consumer } = life.case.pair.clone();
            for account in [registry, consumer] {
                let account = of(&account).context("no such account")?;
                let denied = life
                    .denied_to_sweep(account)
                    .with_context(|| format!("with {:?}", life.may))?;
                life.over = life.over.take().or(denied.then_some(End::Denied));
            }
        }
        Ok(())
    })
    .await
}

/// Deletes the grants. Those whose life is over would only wait.
async fn delete(lives: &[Life<'_>]) -> Result<()> {
    for life in lives.iter().filter(|life| life.over.is_none()) {
        life.case.begin_to_delete().await?;
    }
    Ok(())
}

/// Waits until each grant is gone, or its life is over. `end` computes the end of its life.
async fn gone(
    installation: &Installation,
    lives: &mut [Life<'_>],
    end: fn() -> Option<End>,
) -> Result<()> {
    wait(installation, lives, "deleted", |grant| {
        ensure!(
            grant.is_none(),
            "still there: {}",
            grant
                .map(|grant| &grant["status"]["conditions"])
                .unwrap_or(&Value::Null)
        );
        Ok(end())
    })
    .await
}

async fn wait(
    installation: &Installation,
    lives: &mut [Life<'_>],
    what: &str,
    reached: impl Fn(Option<&Value>) -> Result<Option<End>>,
) -> Result<()> {
    eventually_of(lives.len(), what, async || {
        let items = installation.cluster.list("", "carg").await?;
        let grants: BTreeMap<_, _> = items
            .iter()
            .map(|grant| {
                (
                    grant["metadata"]["namespace"].as_str().unwrap_or_default(),
                    grant,
                )
            })
            .collect();
        let mut missing = Vec::new();
        for life in lives.iter_mut().filter(|life| life.over.is_none()) {
            let grant = grants.get(life.case.namespace.as_str()).copied();
            match (
                grant.map(|grant| life.denied(grant)).transpose(),
                reached(grant),
            ) {
                (Ok(Some(true)), _) => life.over = Some(End::Denied),
                (Ok(_), Ok(end)) => life.over = end,
                (Ok(_), Err(error)) | (Err(error), _) => {
                    missing.push(format!("with {:?}: {error:#}", life.may))
                }
            }
        }
        ensure!(missing.is_empty(), "{missing:#?}");
        Ok(())
    })
    .await
}

/// Returns every action that the documents allow, by statement.
fn actions(in_registry: bool) -> Result<Vec<Lack>> {
    let document = permissions(in_registry)?;
    let statements = document["Statement"].as_array().context("no statements")?;
    let allowed = statements
        .iter()
        .filter(|statement| statement["Effect"] == "Allow");
    let lacks = allowed.flat_map(|statement| {
        let sid = statement["Sid"].as_str().unwrap_or_default().to_owned();
        texts(&statement["Action"])
            .into_iter()
            .map(move |action| Lack {
                in_registry,
                sid: sid.clone(),
                action,
            })
    });
    Ok(lacks.collect())
}

/// For one installation, and in the registry only for the repositories and the region of the grant.
fn narrowest(in_registry: bool, account: &str) -> Result<String> {
    let flags: &[&str] = match in_registry {
        true => &[
            "--account=registry",
            "--repository=app",
            "--repository=team/*",
            "--region",
            REGION,
            MANAGED,
        ],
        false => &["--account=consumer"],
    };
    generated(account, flags, Some(INSTALLATION))
}

const MANAGED: &str = "--managed-policy=AmazonEC2ContainerRegistryPowerUser";
