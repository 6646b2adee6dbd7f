//! The setup of a test: two accounts with their management roles, a namespace, and resources to
//! vary.

use crate::support::flags::{FAST_RESYNC, NO_RESYNC};
use anyhow::{Context, Result, ensure};
use local_stack::{
    AccountState, AuditLog, CallLog, Cluster, Diagnosis, Exclusive, HELM_RELEASE, Installation,
    OPERATOR_NAMESPACE, Operator, Pair, REGION, Repository, Session, Stack, Write, eventually,
    role_with_policy,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// The operator under test.
pub const OPERATOR: &str = env!("CARGO_BIN_EXE_registry-grants");

/// The grant's name in every namespace.
pub const GRANT: &str = "carg/grant";

/// Two accounts and a namespace that no other test has.
pub struct Case<'a> {
    pub installation: &'a Installation,
    pub pair: Pair,
    pub namespace: String,
}

/// An installation for one test, with an operator that reconciles everything every two seconds.
pub struct FastResync {
    installation: Exclusive,
    _operator: Operator,
}

impl FastResync {
    pub async fn start() -> Result<Self> {
        let installation = Installation::exclusive().await?;
        let _operator = installation.start_operator(OPERATOR, &FAST_RESYNC).await?;
        Ok(Self {
            installation,
            _operator,
        })
    }

    /// Creates a case with both AWSAccounts and repository `app`.
    pub async fn with_accounts(&self) -> Result<Case<'_>> {
        let case = Case::on(&self.installation).await?;
        case.apply_accounts().await?;
        Ok(case)
    }
}

impl Case<'static> {
    /// Creates a case on the stack and with the operator that all tests share.
    pub async fn new() -> Result<Self> {
        Self::on(Installation::shared(OPERATOR, &NO_RESYNC).await?).await
    }
}

/// Printed for diagnosis: the test runner shows it only if the test fails.
impl Drop for Case<'_> {
    fn drop(&mut self) {
        let names = [
            self.pair.registry.as_str(),
            &self.pair.consumer,
            &self.namespace,
        ];
        println!(
            "{}",
            Diagnosis {
                installation: self.installation,
                names: &names
            }
        );
    }
}

impl<'a> Case<'a> {
    /// Creates a case on the test's own stack.
    pub async fn on(installation: &'a Installation) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let namespace = format!("team-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        installation.cluster.create_namespace(&namespace).await?;
        Ok(Self {
            pair: installation.fresh_pair().await?,
            installation,
            namespace,
        })
    }

    /// A case with both accounts opened and repository `app`.
    pub async fn with_accounts() -> Result<Case<'static>> {
        let case = Case::new().await?;
        case.apply_accounts().await?;
        Ok(case)
    }

    /// Applies both AWSAccounts and creates repository `app`.
    pub async fn apply_accounts(&self) -> Result<()> {
        self.repository("app").create(self.stack()).await?;
        self.apply(&self.registry_account(json!({}))).await?;
        self.apply(&self.consumer_account(json!({}))).await
    }

    /// Returns a case with the same accounts and namespace in another cluster.
    pub async fn in_cluster_of<'b>(&self, installation: &'b Installation) -> Result<Case<'b>> {
        installation
            .cluster
            .create_namespace(&self.namespace)
            .await?;
        Ok(Case {
            installation,
            pair: self.pair.clone(),
            namespace: self.namespace.clone(),
        })
    }

    pub fn stack(&self) -> &'a Stack {
        &self.installation.stack
    }

    pub fn cluster(&self) -> &'a Cluster {
        &self.installation.cluster
    }

    /// Returns the identity of the replica that holds the Lease; empty if there is none.
    pub async fn lease_holder(&self) -> Result<String> {
        let lease = self
            .cluster()
            .get(OPERATOR_NAMESPACE, &format!("lease/{HELM_RELEASE}"))
            .await?;
        Ok(lease["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Waits for a leader and returns its identity. An operator is ready before it has the Lease.
    pub async fn leader(&self) -> Result<String> {
        eventually("a replica holds the Lease", async || {
            let holder = self.lease_holder().await?;
            ensure!(!holder.is_empty(), "it is held by none");
            Ok(holder)
        })
        .await
    }

    /// Stores the grant in a form that the operator cannot read, as a newer version's may be.
    pub async fn make_unreadable(&self) -> Result<()> {
        self.without_schema("it is stored", async || {
            let unreadable = json!({"spec": {"access": 7}});
            self.cluster()
                .merge(&self.namespace, GRANT, unreadable)
                .await
                .map(drop)
        })
        .await
    }

    /// Stores what the grants' schema would refuse: removes the schema until `store` succeeds.
    pub async fn without_schema(
        &self,
        what: &str,
        store: impl AsyncFnMut() -> Result<()>,
    ) -> Result<()> {
        let crd = "crd/crossaccountregistrygrants.registrygrants.dev";
        let versions = self.cluster().get("", crd).await?["spec"]["versions"].take();
        let set = async |versions: &Value| {
            let patch = json!({"spec": {"versions": versions}});
            self.cluster().merge("", crd, patch).await
        };
        let mut loose = versions.clone();
        loose[0]["schema"] = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        set(&loose).await?;
        eventually(what, store).await?;
        set(&versions).await.map(drop)
    }

    /// Adds labels to the namespace; `null` removes one.
    pub async fn label_namespace(&self, labels: Value) -> Result<()> {
        let namespace = format!("namespace/{}", self.namespace);
        self.cluster().label("", &namespace, labels).await
    }

    /// Returns a repository of the registry account.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(&self.pair.registry, name)
    }

    /// Returns the registry's `AWSAccount`, with `changes` merged into its spec.
    pub fn registry_account(&self, changes: Value) -> Value {
        let registry = &self.pair.registry;
        let spec = json!({
            "credentials": {"assumeRole": management_role(registry)},
            "registry": {"rules": [self.rule(json!({}))]},
            "roles": {"permissionsBoundary": format!("arn:aws:iam::{registry}:policy/registry-grants-boundary")},
        });
        resource(
            "AWSAccount",
            json!({"name": registry}),
            merged(spec, changes),
        )
    }

    /// Returns the registry's rule for this case, with `changes` merged into it.
    pub fn rule(&self, changes: Value) -> Value {
        let rule = json!({
            "namespaces": {"names": [self.namespace]},
            "repositories": ["app", "team/*"],
            "maxAccess": "PullPush",
            "consumers": [self.pair.consumer],
        });
        merged(rule, changes)
    }

    /// Returns the consumer's `AWSAccount`, with `changes` merged into its spec.
    pub fn consumer_account(&self, changes: Value) -> Value {
        let consumer = &self.pair.consumer;
        let spec = json!({
            "credentials": {"assumeRole": management_role(consumer)},
            "consumer": {"rules": [{"namespaces": {"names": [self.namespace]}, "roles": ["registry-grants/*"]}]},
            "roles": {"permissionsBoundary": format!("arn:aws:iam::{consumer}:policy/registry-grants-boundary")},
        });
        resource(
            "AWSAccount",
            json!({"name": consumer}),
            merged(spec, changes),
        )
    }

    /// Returns a grant on repository `app` by both paths, with an instance role `node`, and with
    /// `changes` merged into its spec.
    pub fn grant(&self, changes: Value) -> Value {
        self.grant_named("grant", changes)
    }

    /// Returns the same grant under another name.
    pub fn grant_named(&self, name: &str, changes: Value) -> Value {
        let spec = json!({
            "access": "PullPush",
            "registry": {"accountID": self.pair.registry, "regions": [REGION], "repositories": ["app"], "role": {"name": format!("pusher-{name}")}},
            "consumer": {"accountID": self.pair.consumer, "wholeAccount": true, "instanceRole": {"name": "node"}},
        });
        resource(
            "CrossAccountRegistryGrant",
            json!({"name": name, "namespace": self.namespace}),
            merged(spec, changes),
        )
    }

    /// Applies a resource. JSON is YAML.
    pub async fn apply(&self, resource: &Value) -> Result<()> {
        self.cluster().apply(&resource.to_string()).await
    }

    /// Applies a grant and waits until it is Ready.
    pub async fn granted(&self, changes: Value) -> Result<Value> {
        self.apply(&self.grant(changes)).await?;
        self.ready().await
    }

    /// Waits until the grant is Ready.
    pub async fn ready(&self) -> Result<Value> {
        self.cluster()
            .wait_for_condition(&self.namespace, GRANT, "Ready")
            .await
    }

    /// Waits until the grant is not Ready for this reason. Returns the message.
    pub async fn not_ready(&self, reason: &str) -> Result<String> {
        self.not_ready_named(GRANT, reason).await
    }

    /// The same for a grant of another name.
    pub async fn not_ready_named(&self, grant: &str, reason: &str) -> Result<String> {
        let found = self
            .cluster()
            .wait_until(&self.namespace, grant, |grant| {
                let ready = condition(grant, "Ready").context("no condition Ready yet")?;
                ensure!(
                    ready["status"] == "False" && ready["reason"] == reason,
                    "not {reason} yet"
                );
                Ok(())
            })
            .await?;
        Ok(condition(&found, "Ready")
            .and_then(|ready| ready["message"].as_str())
            .unwrap_or_default()
            .to_owned())
    }

    /// Requests a reconcile of the grant, waits until it is done, and returns the grant.
    pub async fn reconcile(&self) -> Result<Value> {
        self.reconcile_named(GRANT).await
    }

    /// The same for a grant of another name.
    pub async fn reconcile_named(&self, grant: &str) -> Result<Value> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let value = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.annotate(grant, "reconcile", &value).await?;
        let handled = |grant: &Value| {
            ensure!(
                grant["status"]["lastHandledReconcile"] == value.as_str(),
                "not reconciled yet"
            );
            Ok(())
        };
        self.cluster()
            .wait_until(&self.namespace, grant, handled)
            .await
    }

    /// Sets one of our annotations on a grant.
    pub async fn annotate(&self, grant: &str, name: &str, value: &str) -> Result<()> {
        let annotations = json!({format!("registrygrants.dev/{name}"): value});
        let patch = json!({"metadata": {"annotations": annotations}});
        self.cluster()
            .merge(&self.namespace, grant, patch)
            .await
            .map(drop)
    }

    /// Returns what an operator that resyncs fast writes to the grant during three more
    /// reconciles.
    pub async fn writes_during_three_reconciles(&self) -> Result<Vec<Write>> {
        let (log, audit) = (CallLog::of(self.stack()), AuditLog::of(self.stack()));
        let (calls, writes) = (log.mark()?, audit.mark()?);
        eventually("it was looked at three times more", async || {
            let of_account = log
                .of_operator(calls)?
                .into_iter()
                .filter(|call| call.account == self.pair.registry);
            let looks = of_account
                .filter(|call| call.action == "GetRepositoryPolicy")
                .count();
            ensure!(looks >= 3, "{looks} times");
            Ok(())
        })
        .await?;
        let name = format!("{}/grant", self.namespace);
        Ok(audit
            .of_operator(writes)
            .await?
            .into_iter()
            .filter(|write| write.object == name)
            .collect())
    }

    /// Deletes the grant and waits until it is gone.
    pub async fn delete(&self) -> Result<()> {
        self.delete_named(GRANT).await
    }

    /// The same for a grant of another name.
    pub async fn delete_named(&self, grant: &str) -> Result<()> {
        self.cluster().delete(&self.namespace, grant).await
    }

    /// Requests the grant's deletion.
    pub async fn begin_to_delete(&self) -> Result<()> {
        self.cluster().begin_to_delete(&self.namespace, GRANT).await
    }

    /// Deletes all grants of the namespace and waits until they are gone.
    pub async fn delete_all(&self) -> Result<()> {
        self.cluster().delete_all(&self.namespace, "carg").await
    }

    /// Returns the state of both accounts.
    pub async fn accounts(&self) -> Result<(AccountState, AccountState)> {
        Ok((self.registry().await?, self.consumer().await?))
    }

    /// Returns the state of the registry account.
    pub async fn registry(&self) -> Result<AccountState> {
        self.account(&self.pair.registry).await
    }

    /// Returns the state of the consumer account.
    pub async fn consumer(&self) -> Result<AccountState> {
        self.account(&self.pair.consumer).await
    }

    async fn account(&self, account: &str) -> Result<AccountState> {
        AccountState::read(&self.stack().aws(account), &[REGION, "eu-west-1"]).await
    }

    /// Returns a session of an EC2 instance with the instance role that the operator created.
    pub async fn instance(&self) -> Result<Session<'a>> {
        let role = format!(
            "arn:aws:iam::{}:role/registry-grants/node",
            self.pair.consumer
        );
        Session::of_instance(self.stack(), &role).await?.allowed()
    }

    /// Returns a session of an EC2 instance whose role is allowed everything in the consumer's own
    /// account.
    pub async fn admin_session(&self, name: &str) -> Result<Session<'a>> {
        let statement =
            json!({"Effect": "Allow", "Action": ["ecr:*", "sts:AssumeRole"], "Resource": "*"});
        let trust = json!({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"});
        let root = self.stack().aws(&self.pair.consumer);
        let role = role_with_policy(&root, name, document(trust), document(statement)).await?;
        Session::of_instance(self.stack(), &role).await?.allowed()
    }
}

/// Returns a policy document with one statement, as text.
pub fn document(statement: Value) -> String {
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

/// Returns a condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Returns the verdicts on the instance role by path and action, each with its message.
pub fn verdicts(grant: &Value, node: &str) -> BTreeMap<(String, String), (String, String)> {
    let told = grant["status"]["access"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|told| told["principal"] == node);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    told.map(|told| {
        (
            (text(&told["path"]), text(&told["action"])),
            (text(&told["verdict"]), text(&told["message"])),
        )
    })
    .collect()
}

/// Returns a trust policy that lets all identities of an account assume the role.
pub fn trusts(account: &str) -> String {
    document(
        json!({"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{account}:root")}, "Action": "sts:AssumeRole"}),
    )
}

/// Returns a policy that allows an action on everything.
pub fn allows(action: &str) -> String {
    document(json!({"Effect": "Allow", "Action": action, "Resource": "*"}))
}

/// Checks that two states of the accounts are equal. The error has the differences.
pub fn assert_unchanged(
    before: &(AccountState, AccountState),
    after: &(AccountState, AccountState),
) -> Result<()> {
    let differences = [
        before.0.differences(&after.0),
        before.1.differences(&after.1),
    ]
    .concat();
    ensure!(
        differences.is_empty(),
        "the accounts differ:\n{}",
        differences.join("\n")
    );
    Ok(())
}

fn management_role(account: &str) -> Value {
    json!({"roleARN": format!("arn:aws:iam::{account}:role/registry-grants"), "externalID": "registry-grants-example"})
}

pub fn resource(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({"apiVersion": "registrygrants.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// Returns several objects as one manifest.
pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
    let items: Vec<Value> = items.into_iter().collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Applies a JSON merge patch: objects are merged, null removes, everything else replaces.
pub fn merged(mut base: Value, changes: Value) -> Value {
    match (&mut base, changes) {
        (Value::Object(base), Value::Object(changes)) => {
            for (key, change) in changes {
                if change.is_null() {
                    base.remove(&key);
                } else {
                    let old = base.remove(&key).unwrap_or(json!({}));
                    base.insert(key, merged(old, change));
                }
            }
        }
        (base, change) => *base = change,
    }
    base
}

/// Returns the changes for a grant with path Direct alone, with `changes` merged into them.
pub fn direct(changes: Value) -> Value {
    let direct = json!({"paths": ["Direct"], "registry": {"role": null}, "consumer": {"instanceRole": null}});
    merged(direct, changes)
}
