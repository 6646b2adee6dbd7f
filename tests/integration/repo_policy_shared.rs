//! A repository policy with foreign statements: of other tools, AWS services, and another
//! installation of the operator.

use crate::support::case::{Case, OPERATOR};
use crate::support::flags::FAST_RESYNC;
use anyhow::{Context, Result, ensure};
use local_stack::{
    Document, Emulation, Installation, Repository, ServiceCall, Session, Stack, eventually,
    instance_role_allowed_everything,
};
use serde_json::{Value, json};

const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
const ORGANIZATION: &str = "o-a1b2c3d4e5";

fn lambda_of(account: &str) -> Value {
    json!({
        "Sid": "LambdaECRImageRetrievalPolicy",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": PULL,
        "Condition": {"StringLike": {"aws:sourceArn": format!("arn:aws:lambda:us-east-1:{account}:function:*")}},
    })
}

fn organization() -> Value {
    json!({"Sid": "organization", "Effect": "Allow", "Principal": "*", "Action": PULL,
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION}}})
}

/// Returns statements that people and tools write to repository policies, each form once. The tests
/// do nothing that is denied here. `registry` owns the repository, and `other` is an account with a
/// user `builder` and a role `ci/deployer`.
fn foreign_statements(registry: &str, other: &str) -> Vec<Value> {
    let root = format!("arn:aws:iam::{other}:root");
    let allow = |sid: &str, principal: Value| json!({"Sid": sid, "Effect": "Allow", "Principal": principal, "Action": PULL});
    let to_other = |sid: &str| allow(sid, json!({"AWS": root}));
    let only_if = |sid: &str, condition: Value| {
        crate::support::case::merged(to_other(sid), json!({"Condition": condition}))
    };
    let deny = |sid: &str, rest: Value| {
        crate::support::case::merged(
            json!({"Sid": sid, "Effect": "Deny", "Action": "ecr:DeleteRepository"}),
            rest,
        )
    };
    vec![
        // Principals.
        lambda_of(other),
        organization(),
        allow("codebuild", json!({"Service": "codebuild.amazonaws.com"})),
        allow(
            "services",
            json!({"Service": ["sagemaker.amazonaws.com", "ecs-tasks.amazonaws.com"]}),
        ),
        allow(
            "both kinds",
            json!({"Service": "ecs.amazonaws.com", "AWS": root}),
        ),
        allow("number", json!({"AWS": other})),
        allow("listOfOne", json!({"AWS": [root]})),
        allow(
            "mixed",
            json!({"AWS": [other, "arn:aws:iam::444444444444:root", "555555555555"]}),
        ),
        allow(
            "user",
            json!({"AWS": format!("arn:aws:iam::{other}:user/builder")}),
        ),
        allow(
            "role",
            json!({"AWS": format!("arn:aws:iam::{other}:role/ci/deployer")}),
        ),
        allow(
            "sessions",
            json!({"AWS": [
                format!("arn:aws:sts::{other}:assumed-role/deployer/session"), format!("arn:aws:sts::{other}:federated-user/bob"),
            ]}),
        ),
        deny("DenyAll", json!({"Principal": "*"})),
        deny(
            "AllButTheOwner",
            json!({"NotPrincipal": {"AWS": format!("arn:aws:iam::{registry}:root")}}),
        ),
        // Actions.
        json!({"Sid": "NotAction", "Effect": "Allow", "Principal": {"AWS": root}, "NotAction": ["ecr:DeleteRepository", "ecr:SetRepositoryPolicy"]}),
        json!({"Sid": "scalar", "Effect": "Allow", "Principal": {"AWS": root}, "Action": "ecr:ListImages"}),
        json!({"Sid": "twice", "Effect": "Allow", "Principal": {"AWS": root}, "Action": ["ecr:BatchGetImage", "ECR:batchgetimage"]}),
        json!({"Sid": "wildcard", "Effect": "Allow", "Principal": {"AWS": root}, "Action": "ecr:*"}),
        json!({"Sid": "wildcards", "Effect": "Allow", "Principal": {"AWS": root}, "Action": ["ecr:Get*", "ecr:?atchGetImage"]}),
        // Conditions.
        only_if(
            "several",
            json!({"StringEquals": {"aws:PrincipalTag/team": ["a", "b"]}, "StringNotLike": {"aws:PrincipalArn": "*:role/x*"}, "Bool": {"aws:SecureTransport": "true"}}),
        ),
        only_if(
            "IfExists",
            json!({"StringEqualsIfExists": {"aws:SourceVpce": "vpce-1a2b3c4d"}}),
        ),
        only_if(
            "ForAnyValue",
            json!({"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": [format!("{ORGANIZATION}/r-ab12/*")]}}),
        ),
        only_if(
            "ForAllValues",
            json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}),
        ),
        only_if("Null", json!({"Null": {"aws:SourceIp": false}})),
        only_if(
            "bool",
            json!({"Bool": {"aws:MultiFactorAuthPresent": true}}),
        ),
        only_if(
            "number",
            json!({"NumericLessThan": {"aws:MultiFactorAuthAge": 3600}}),
        ),
        only_if(
            "date",
            json!({"DateLessThan": {"aws:CurrentTime": "2038-01-19T03:14:07Z"}}),
        ),
        only_if(
            "address",
            json!({"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}, "NotIpAddress": {"aws:SourceIp": "192.0.2.7"}}),
        ),
        only_if(
            "variable",
            json!({"StringEquals": {"aws:PrincipalTag/owner": "${aws:PrincipalAccount}"}}),
        ),
        only_if(
            "odd text",
            json!({"StringEquals": {"AWS:principaltag/X": "\"ü\\ \u{2028}"}}),
        ),
        // Sids.
        to_other("a Sid with spaces, and more: ü"),
        json!({"Effect": "Allow", "Principal": {"AWS": root}, "Action": PULL}),
        to_other("RegistryGrants"),
        to_other("RegistryGrants0123456789ABCDEF0123"),
        // A statement of an installation that does not exist any more.
        to_other("RegistryGrantsfedcba98765401234567"),
    ]
}

/// A repository with foreign statements in its policy.
struct Shared {
    repository: Repository,
    foreign: Document,
}

impl Shared {
    async fn with(stack: &Stack, repository: Repository, foreign: Value) -> Result<Self> {
        repository.set_policy(stack, &Document(foreign)).await?;
        let foreign = repository.policy(stack).await?.context("no policy")?;
        Ok(Self {
            repository,
            foreign,
        })
    }

    /// Checks that the policy has the foreign statements, and one statement for each of these
    /// consumers, which allows its access and only to it.
    async fn carries(&self, stack: &Stack, grants: &[(&str, bool)]) -> Result<()> {
        let policy = self.repository.policy(stack).await?.context("no policy")?;
        let (ours, others): (Vec<Value>, Vec<Value>) = policy
            .statements()
            .into_iter()
            .partition(|statement| self.is_ours(statement));
        let foreign = policy.with_statements(others);
        ensure!(
            foreign == self.foreign,
            "others wrote {}\nand now it is {foreign}",
            self.foreign
        );
        for field in ["Id", "Version"] {
            ensure!(
                policy.0[field] == self.foreign.0[field],
                "{field} is {} now",
                policy.0[field]
            );
        }
        ensure!(ours.len() == grants.len(), "ours are {ours:?}");
        for (consumer, push) in grants {
            let principal = json!({"AWS": format!("arn:aws:iam::{consumer}:root")});
            let found = ours
                .iter()
                .find(|statement| statement["Principal"] == principal);
            let found = found.with_context(|| format!("none is for {consumer}: {ours:?}"))?;
            ensure!(
                found.to_string().contains("PutImage") == *push,
                "the access is another: {found}"
            );
        }
        Ok(())
    }

    fn is_ours(&self, statement: &Value) -> bool {
        let sid = statement["Sid"].as_str().unwrap_or_default();
        let digits = sid.strip_prefix("RegistryGrants").unwrap_or_default();
        let has_our_form = digits.len() == 20
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        has_our_form
            && !self
                .foreign
                .statements()
                .iter()
                .any(|foreign| foreign["Sid"] == sid)
    }
}

#[tokio::test]
async fn foreign_statements_of_every_shape_survive_two_installations() -> Result<()> {
    let (first, second) = Installation::exclusive_pair().await?;
    let _operators = [
        first.start_operator(OPERATOR, &FAST_RESYNC).await?,
        second.start_operator(OPERATOR, &FAST_RESYNC).await?,
    ];
    let (one, mut two) = (Case::on(&first).await?, Case::on(&second).await?);
    // The registry that both share. The registry of the second case is an unrelated account.
    let other = std::mem::replace(&mut two.pair.registry, one.pair.registry.clone());
    let stack = one.stack();
    let root = stack.aws(&other);
    root.iam.create_user().user_name("builder").send().await?;
    let trust = json!({"Effect": "Allow", "Principal": {"AWS": other}, "Action": "sts:AssumeRole"})
        .to_string();
    let trust = format!("{{\"Version\":\"2012-10-17\",\"Statement\":{trust}}}");
    root.iam
        .create_role()
        .role_name("deployer")
        .path("/ci/")
        .assume_role_policy_document(trust)
        .send()
        .await?;
    let (app, old, added) = (
        one.repository("app"),
        one.repository("team/old"),
        one.repository("team/added"),
    );
    for repository in [&app, &old, &added] {
        repository.create(stack).await?;
    }
    let statements = foreign_statements(&one.pair.registry, &other);
    // In the older version a policy variable is plain text, so the version is part of the meaning.
    let document =
        |version| json!({"Version": version, "Id": "of others", "Statement": statements});
    let mut app = Shared::with(stack, app, document("2012-10-17")).await?;
    let old = Shared::with(stack, old, document("2008-10-17")).await?;
    for case in [&one, &two] {
        case.apply(&case.registry_account(json!({}))).await?;
        case.apply(&case.consumer_account(json!({}))).await?;
    }
    let (a, b) = (one.pair.consumer.as_str(), two.pair.consumer.as_str());

    let narrow = json!({"access": "Pull", "registry": {"repositories": ["app", "team/old"]}});
    let (here, there) = (
        one.grant(narrow.clone()),
        two.grant(crate::support::case::merged(narrow, of_second())),
    );
    tokio::try_join!(one.apply(&here), two.apply(&there))?;
    tokio::try_join!(one.ready(), two.ready())?;
    let both = async |access: bool, app: &Shared| {
        eventually("both are in, beside what others wrote", async || {
            app.carries(stack, &[(a, access), (b, access)]).await?;
            old.carries(stack, &[(a, access), (b, access)]).await
        })
        .await
    };
    both(false, &app).await?;

    let wide = json!({"access": "PullPush", "registry": {"repositories": ["app", "team/old", "team/added"]}});
    let (here, there) = (
        one.grant(wide.clone()),
        two.grant(crate::support::case::merged(wide, of_second())),
    );
    tokio::try_join!(one.apply(&here), two.apply(&there))?;
    tokio::try_join!(one.ready(), two.ready())?;
    both(true, &app).await?;

    // Manual changes: one policy loses our statements while others write theirs, and in the other
    // policy ours are changed.
    let statement = json!({"Sid": "later", "Effect": "Allow", "Principal": {"AWS": other}, "Action": "ecr:DescribeImages"});
    app.foreign = app.foreign.with_statement(statement);
    app.repository.set_policy(stack, &app.foreign).await?;
    let changed = old.repository.policy(stack).await?.context("no policy")?;
    let change = |mut statement: Value| {
        if has_principal(&statement, &[a]) {
            statement["Principal"] = json!("*");
        } else if has_principal(&statement, &[b]) {
            statement["Action"] = json!("ecr:*");
        }
        statement
    };
    let changed = changed.with_statements(changed.statements().into_iter().map(change).collect());
    old.repository.set_policy(stack, &changed).await?;
    both(true, &app).await?;

    one.delete().await?;
    for shared in [&app, &old] {
        shared.carries(stack, &[(b, true)]).await?;
    }
    let left = added.policy(stack).await?.context("no policy")?;
    ensure!(
        left.statements().len() == 1 && has_principal(&left.statements()[0], &[b]),
        "{left}"
    );
    two.delete().await?;
    for shared in [&app, &old] {
        shared.carries(stack, &[]).await?;
    }
    ensure!(
        added.policy(stack).await?.is_none(),
        "a policy that was ours alone is still there"
    );
    Ok(())
}

/// A registry role's name is unique in its account, whichever installation created it.
fn of_second() -> Value {
    json!({"registry": {"role": {"name": "pusher-second"}}})
}

fn has_principal(statement: &Value, accounts: &[&str]) -> bool {
    accounts
        .iter()
        .any(|account| statement["Principal"]["AWS"] == format!("arn:aws:iam::{account}:root"))
}

#[tokio::test]
async fn foreign_statements_keep_admitting_the_same_principals() -> Result<()> {
    let case = Case::with_accounts().await?;
    let (app, stack, emulation) = (
        case.repository("app"),
        case.stack(),
        Emulation::of(case.stack()),
    );
    let other = case.installation.fresh_pair().await?;
    let (member, stranger) = (other.registry.as_str(), other.consumer.as_str());
    emulation
        .join_organization(
            member,
            Some(&format!("{ORGANIZATION}/r-ab12/ou-ab12-11111111/")),
        )
        .await?;
    let foreign =
        json!({"Version": "2012-10-17", "Statement": [lambda_of(member), organization()]});
    app.set_policy(stack, &Document(foreign)).await?;

    case.granted(json!({})).await?;
    case.instance().await?.push(&app, "v1").await?.allowed()?;
    for (account, gets_in) in [(member, true), (stranger, false)] {
        let source_arn = format!("arn:aws:lambda:us-east-1:{account}:function:thumbnails");
        let call = ServiceCall {
            service: "lambda.amazonaws.com",
            action: PULL[0],
            repository: &app,
            source_arn: &source_arn,
            source_account: account,
        };
        let lambda = emulation.service_may(&call).await?;
        let role = instance_role_allowed_everything(&stack.aws(account), "tester").await?;
        let pulled = Session::of_instance(stack, &role)
            .await?
            .allowed()?
            .pull(&app, "v1")
            .await?;
        if gets_in {
            lambda.allowed()?;
            pulled.allowed()?;
        } else {
            lambda.denied()?;
            pulled.denied()?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn unreadable_policy_is_left_alone_and_reported() -> Result<()> {
    let case = Case::with_accounts().await?;
    let (app, stack) = (case.repository("app"), case.stack());
    let unreadable = r#"{"Version":"2012-10-17","Statement":"#;
    Emulation::of(stack).plant_policy(&app, unreadable).await?;
    case.apply(&case.grant(json!({}))).await?;
    let message = case.not_ready("UnreadablePolicy").await?;
    ensure!(
        message.contains("app") && message.contains(&case.pair.registry),
        "{message}"
    );
    // If the text ends early, the message has the position, so that its owner finds the place.
    let position = format!("line 1, column {}", unreadable.len());
    ensure!(message.contains(&position), "no {position:?} in {message}");
    let read = stack
        .aws(&case.pair.registry)
        .ecr
        .get_repository_policy()
        .repository_name("app")
        .send()
        .await?;
    ensure!(
        read.policy_text() == Some(unreadable),
        "{:?}",
        read.policy_text()
    );

    let foreign = Document(json!({"Version": "2012-10-17", "Statement": [organization()]}));
    app.set_policy(stack, &foreign).await?;
    case.ready().await?;
    case.delete().await?;
    ensure!(
        app.policy(stack).await? == Some(foreign),
        "{:?}",
        app.policy(stack).await?
    );
    Ok(())
}
