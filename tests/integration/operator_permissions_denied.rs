//! The `Deny` statements of the permissions, and the permissions boundary: each stops something,
//! and the boundary allows nothing that no role uses.

use crate::support::case::{Case, document, trusts};
use crate::support::operator_documents::texts;
use anyhow::{Context, Result, ensure};
use aws_sdk_iam::error::ProvideErrorMetadata;
use aws_sdk_iam::operation::create_role::builders::CreateRoleFluentBuilder;
use aws_sdk_iam::types::Tag;
use local_stack::{Aws, IamCalls as _, MANAGEMENT_ROLE, Session};
use serde_json::{Value, json};

const BOUNDARY: &str = "registry-grants-boundary";
const BOUNDED: &str = "bounded";

/// Our Allow statements do not include what is denied. The Deny statements matter if somebody gives
/// the role more permissions.
#[tokio::test]
async fn denials_hold_when_the_role_is_allowed_everything() -> Result<()> {
    let case = Case::new().await?;
    for account in [&case.pair.registry, &case.pair.consumer] {
        let root = case.stack().aws(account);
        let session = operator_in(&case, account).await?;
        bounded_role(&root, account, BOUNDED, "0123456789ab").await?;
        let everything = document(json!({"Effect": "Allow", "Action": "*", "Resource": "*"}));
        put(&root, "everything", everything).await?;

        let permissions = example(&case, account, "permissions")?;
        for (sid, action) in denied_actions(&permissions)? {
            let attempt = async || attempt(session.aws(), account, &action).await;
            put(&root, MANAGEMENT_ROLE, permissions.to_string()).await?;
            ensure!(
                attempt().await? == Attempt::Denied,
                "{sid} lets {action} through in {account}"
            );
            put(
                &root,
                MANAGEMENT_ROLE,
                without(&permissions, &sid, &action).to_string(),
            )
            .await?;
            ensure!(
                attempt().await? == Attempt::LetThrough,
                "{action} of {sid} is spare in {account}"
            );
        }
    }
    Ok(())
}

/// By default, the tag of any installation suffices, and an operator could take over another
/// installation's roles under the path.
#[tokio::test]
async fn named_installation_cannot_touch_another_ones_roles() -> Result<()> {
    let (own, other) = ("0123456789ab", "ba9876543210");
    let case = Case::new().await?;
    let account = &case.pair.consumer;
    let root = case.stack().aws(account);
    let session = operator_in(&case, account).await?;
    for (named, expected) in [(None, Attempt::LetThrough), (Some(own), Attempt::Denied)] {
        let documents = crate::support::operator_documents::generated(
            account,
            &["--account", "consumer"],
            named,
        )?;
        put(&root, MANAGEMENT_ROLE, documents).await?;
        let role = format!("theirs-{}", named.unwrap_or("any"));
        bounded_role(&root, account, &role, other).await?;
        let iam = &session.aws().iam;
        let tag = || iam.tag_role().role_name(&role).tags(installation(own));
        let policy =
            document(json!({"Effect": "Allow", "Action": "ecr:ListImages", "Resource": "*"}));
        let attempts = [
            Attempt::of(
                iam.update_assume_role_policy()
                    .role_name(&role)
                    .policy_document(trusts(account))
                    .send()
                    .await,
            )?,
            Attempt::of(
                iam.put_role_policy()
                    .role_name(&role)
                    .policy_name("x")
                    .policy_document(policy)
                    .send()
                    .await,
            )?,
            Attempt::of(
                iam.put_role_permissions_boundary()
                    .role_name(&role)
                    .permissions_boundary(boundary(account))
                    .send()
                    .await,
            )?,
            Attempt::of(
                bounded(session.aws(), account, &format!("{role}-made"), other)
                    .send()
                    .await,
            )?,
            Attempt::of(
                iam.delete_role_policy()
                    .role_name(&role)
                    .policy_name("x")
                    .send()
                    .await,
            )?,
            // This comes last, because with our tag the role is ours.
            Attempt::of(tag().send().await)?,
            Attempt::of(iam.delete_role().role_name(&role).send().await)?,
        ];
        ensure!(
            attempts.iter().all(|attempt| *attempt == expected),
            "with {named:?}: {attempts:?}"
        );
    }
    let made = bounded(session.aws(), account, "ours", own).send().await;
    ensure!(
        Attempt::of(made)? == Attempt::LetThrough,
        "its own roles are out of reach, too"
    );
    Ok(())
}

/// Each action of the boundary is one that a grant gives to a role, and that the role loses if the
/// boundary lacks it.
#[tokio::test]
async fn role_is_limited_to_what_its_boundary_allows() -> Result<()> {
    let case = Case::with_accounts().await?;
    let power_user = json!(["AmazonEC2ContainerRegistryPowerUser"]);
    let rule = case.rule(json!({"managedPolicies": power_user}));
    case.apply(&case.registry_account(json!({"registry": {"rules": [rule]}})))
        .await?;
    case.granted(json!({"registry": {"role": {"managedPolicies": power_user}}}))
        .await?;
    let pusher = format!(
        "arn:aws:iam::{}:role/registry-grants/pusher-grant",
        case.pair.registry
    );
    let instance = case.instance().await?;
    let role = instance.assume(&pusher).await?.allowed()?;

    for (account, session) in [
        (&case.pair.registry, &role),
        (&case.pair.consumer, &instance),
    ] {
        let root = case.stack().aws(account);
        let whole = example(&case, account, "boundary")?;
        let statements = whole["Statement"].as_array().context("no statements")?;
        for statement in statements {
            let sid = statement["Sid"].as_str().context("no Sid")?;
            for action in texts(&statement["Action"]) {
                let call = async || call(session, &case.pair.registry, &pusher, &action).await;
                ensure!(
                    call().await? == Attempt::LetThrough,
                    "{action} is denied to the role in {account}"
                );
                bound(&root, account, &without(&whole, sid, &action)).await?;
                ensure!(
                    call().await? == Attempt::Denied,
                    "{action} of {sid} is spare in {account}"
                );
                bound(&root, account, &whole).await?;
            }
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Attempt {
    Denied,
    /// Whatever the result was.
    LetThrough,
}

impl Attempt {
    /// Requires an answer of AWS.
    fn of<T, E: ProvideErrorMetadata + std::fmt::Debug>(
        result: std::result::Result<T, E>,
    ) -> Result<Self> {
        Ok(match result.as_ref().map_err(ProvideErrorMetadata::code) {
            Err(Some("AccessDenied" | "AccessDeniedException")) => Self::Denied,
            Err(None) => anyhow::bail!("{:?}", result.err()),
            Ok(_) | Err(Some(_)) => Self::LetThrough,
        })
    }
}

/// Returns a session of this test with the operator's role in this account.
async fn operator_in<'a>(case: &Case<'a>, account: &str) -> Result<Session<'a>> {
    let iam = case.stack().aws(account).iam;
    iam.set_trust_policy(MANAGEMENT_ROLE, trusts(account))
        .await?;
    let role = format!("arn:aws:iam::{account}:role/{MANAGEMENT_ROLE}");
    Session::of_root(case.stack(), account)
        .assume(&role)
        .await?
        .allowed()
}

async fn bounded_role(root: &Aws, account: &str, name: &str, of: &str) -> Result<()> {
    bounded(root, account, name, of).send().await?;
    Ok(())
}

/// Creates a role as an installation does.
fn bounded(aws: &Aws, account: &str, name: &str, of: &str) -> CreateRoleFluentBuilder {
    let create = aws
        .iam
        .create_role()
        .role_name(name)
        .path("/registry-grants/");
    let create = create
        .assume_role_policy_document(trusts(account))
        .permissions_boundary(boundary(account));
    create.tags(installation(of))
}

fn installation(id: &str) -> Tag {
    Tag::builder()
        .key("registrygrants.dev/installation")
        .value(id)
        .build()
        .expect("a key and a value")
}

/// Tries what the operator must never do: changes of its own role and of the boundary, and removing
/// the boundary of a role that it created.
async fn attempt(operator: &Aws, account: &str, action: &str) -> Result<Attempt> {
    let iam = &operator.iam;
    let (role, power_user) = (
        MANAGEMENT_ROLE,
        "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser",
    );
    let everything = document(json!({"Effect": "Allow", "Action": "*", "Resource": "*"}));
    let tag = Tag::builder().key("a").value("b").build()?;
    match action {
        "iam:Attach*" => Attempt::of(
            iam.attach_role_policy()
                .role_name(role)
                .policy_arn(power_user)
                .send()
                .await,
        ),
        "iam:Create*" => {
            let create = iam
                .create_policy_version()
                .policy_arn(boundary(account))
                .policy_document(everything);
            Attempt::of(create.send().await)
        }
        "iam:Delete*" => Attempt::of(
            iam.delete_role_policy()
                .role_name(role)
                .policy_name("none")
                .send()
                .await,
        ),
        "iam:Detach*" => Attempt::of(
            iam.detach_role_policy()
                .role_name(role)
                .policy_arn(power_user)
                .send()
                .await,
        ),
        "iam:Put*" => {
            let put = iam
                .put_role_policy()
                .role_name(role)
                .policy_name("more")
                .policy_document(everything);
            Attempt::of(put.send().await)
        }
        "iam:Set*" => {
            let set = iam
                .set_default_policy_version()
                .policy_arn(boundary(account))
                .version_id("v1");
            Attempt::of(set.send().await)
        }
        "iam:Tag*" => Attempt::of(iam.tag_role().role_name(role).tags(tag).send().await),
        "iam:Untag*" => Attempt::of(iam.untag_role().role_name(role).tag_keys("a").send().await),
        "iam:Update*" => Attempt::of(
            iam.update_role()
                .role_name(role)
                .max_session_duration(7200)
                .send()
                .await,
        ),
        "iam:DeleteRolePermissionsBoundary" => Attempt::of(
            iam.delete_role_permissions_boundary()
                .role_name(BOUNDED)
                .send()
                .await,
        ),
        other => anyhow::bail!("nobody knows here how to try {other}"),
    }
}

/// Calls an action on repository `app`. Its targets need not exist, because AWS checks the
/// permission first.
async fn call(
    session: &Session<'_>,
    registry: &str,
    pusher: &str,
    action: &str,
) -> Result<Attempt> {
    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let ecr = &session.aws().ecr;
    macro_rules! on_app {
        ($call:ident) => {
            ecr.$call().registry_id(registry).repository_name("app")
        };
    }
    let image = aws_sdk_ecr::types::ImageIdentifier::builder()
        .image_tag("none")
        .build();
    match action {
        "ecr:GetAuthorizationToken" => Attempt::of(ecr.get_authorization_token().send().await),
        "ecr:BatchCheckLayerAvailability" => Attempt::of(
            on_app!(batch_check_layer_availability)
                .layer_digests(DIGEST)
                .send()
                .await,
        ),
        "ecr:BatchGetImage" => Attempt::of(on_app!(batch_get_image).image_ids(image).send().await),
        "ecr:GetDownloadUrlForLayer" => Attempt::of(
            on_app!(get_download_url_for_layer)
                .layer_digest(DIGEST)
                .send()
                .await,
        ),
        "ecr:InitiateLayerUpload" => Attempt::of(on_app!(initiate_layer_upload).send().await),
        "ecr:UploadLayerPart" => {
            let upload = on_app!(upload_layer_part)
                .upload_id("0")
                .part_first_byte(0)
                .part_last_byte(0);
            Attempt::of(
                upload
                    .layer_part_blob(aws_sdk_ecr::primitives::Blob::new("x"))
                    .send()
                    .await,
            )
        }
        "ecr:CompleteLayerUpload" => Attempt::of(
            on_app!(complete_layer_upload)
                .upload_id("0")
                .layer_digests(DIGEST)
                .send()
                .await,
        ),
        "ecr:PutImage" => Attempt::of(on_app!(put_image).image_manifest("{}").send().await),
        "ecr:ListImages" => Attempt::of(on_app!(list_images).send().await),
        "ecr:DescribeImages" => Attempt::of(on_app!(describe_images).send().await),
        "ecr:DescribeRepositories" => {
            let describe = ecr
                .describe_repositories()
                .registry_id(registry)
                .repository_names("app");
            Attempt::of(describe.send().await)
        }
        "sts:AssumeRole" => {
            let assume = session
                .aws()
                .sts
                .assume_role()
                .role_arn(pusher)
                .role_session_name("again");
            Attempt::of(assume.send().await)
        }
        other => anyhow::bail!("nobody knows here how to call {other}"),
    }
}

/// Returns the actions of the `Deny` statements, with the statements' Sids.
fn denied_actions(document: &Value) -> Result<Vec<(String, String)>> {
    let statements = document["Statement"].as_array().context("no statements")?;
    let denials = statements
        .iter()
        .filter(|statement| statement["Effect"] == "Deny");
    let actions = denials.flat_map(|statement| {
        let sid = statement["Sid"].as_str().unwrap_or_default();
        texts(&statement["Action"])
            .into_iter()
            .map(|action| (sid.to_owned(), action))
    });
    let actions: Vec<_> = actions.collect();
    ensure!(
        actions.len() > 5,
        "the document was not understood: {actions:?}"
    );
    Ok(actions)
}

fn without(document: &Value, sid: &str, action: &str) -> Value {
    crate::support::operator_documents::without(document.clone(), sid, action)
}

fn example(case: &Case<'_>, account: &str, name: &str) -> Result<Value> {
    let side = if *account == case.pair.registry {
        "registry"
    } else {
        "consumer"
    };
    crate::support::operator_documents::example(&case.pair, side, name)
}

async fn put(root: &Aws, policy: &str, document: String) -> Result<()> {
    root.iam
        .put_inline_policy(MANAGEMENT_ROLE, policy, document)
        .await?;
    Ok(())
}

/// Sets the boundary. Deletes its previous version, because a policy can have five.
async fn bound(root: &Aws, account: &str, document: &Value) -> Result<()> {
    let arn = boundary(account);
    let before = root
        .iam
        .get_policy()
        .policy_arn(&arn)
        .send()
        .await?
        .policy
        .and_then(|policy| policy.default_version_id);
    let create = root
        .iam
        .create_policy_version()
        .policy_arn(&arn)
        .policy_document(document.to_string());
    create.set_as_default(true).send().await?;
    let before = before.context("a policy without a default version")?;
    root.iam
        .delete_policy_version()
        .policy_arn(&arn)
        .version_id(before)
        .send()
        .await?;
    Ok(())
}

fn boundary(account: &str) -> String {
    format!("arn:aws:iam::{account}:policy/{BOUNDARY}")
}
