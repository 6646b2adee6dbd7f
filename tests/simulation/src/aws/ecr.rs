//! ECR: repositories, their policies, and the policy of a registry.

use super::answer::ApiError;
use super::documents::{Kind, Policy, Print, UnknownPrincipal, Written};
use super::entities::Repository;
use super::identity::Caller;
use super::state::{Change, Registry};
use super::world::Run;
use super::{regions, state};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

type Answer = Result<Value, ApiError>;

/// Repositories on a page unless the caller asks for another number.
const PAGE: usize = 100;

/// Carries out an operation.
pub(super) fn perform(run: &mut Run<'_>, caller: &Caller) -> Answer {
    if let Some(registry) = run.call.parameters.text("registryId") {
        run.account = registry.to_owned();
    }
    check_permission(run, caller)?;
    match run.call.operation.as_str() {
        "CreateRepository" => create(run),
        "DescribeRepositories" => describe(run),
        "DeleteRepository" => delete(run),
        "GetRepositoryPolicy" => get_policy(run),
        "SetRepositoryPolicy" => set_policy(run),
        "DeleteRepositoryPolicy" => delete_policy(run),
        "GetRegistryPolicy" => get_registry_policy(run),
        "PutRegistryPolicy" => put_registry_policy(run),
        "DeleteRegistryPolicy" => delete_registry_policy(run),
        other => Err(ApiError::new(
            400,
            "UnknownOperationException",
            format!("there is no operation {other}"),
        )),
    }
}

/// Checks the account's denials. Calls into another account's registry are refused: whether its
/// policies would allow them is not evaluated here.
fn check_permission(run: &Run<'_>, caller: &Caller) -> Result<(), ApiError> {
    let action = run.call.action();
    let resource = run
        .call
        .parameters
        .text("repositoryName")
        .map_or_else(|| "*".to_owned(), |name| arn(run, name));
    let refused = |reason: &str| {
        let message = format!(
            "User: {} is not authorized to perform: {action} on resource: {resource} {reason}",
            caller.arn()
        );
        Err(ApiError::new(400, "AccessDeniedException", message))
    };
    if caller.account() != run.account {
        return refused(&format!(
            "because no resource-based policy allows the {action} action"
        ));
    }
    let Caller::Session(..) = caller else {
        return Ok(());
    };
    let account = run.core.state.account(caller.account());
    match account.and_then(|account| account.settings.denial(&action)) {
        None => Ok(()),
        Some(denied) => refused(&denied.reason(&action)),
    }
}

fn arn(run: &Run<'_>, name: &str) -> String {
    let region = &run.call.region;
    let partition = regions::named(region).map_or("aws", |region| region.partition);
    format!(
        "arn:{partition}:ecr:{region}:{}:repository/{name}",
        run.account
    )
}

fn registry<'a>(run: &'a Run<'_>) -> Option<&'a Registry> {
    let account = run.core.state.account(&run.account)?;
    account.registries.get(&run.call.region)
}

fn seen(run: &Run<'_>, name: &str) -> Result<Arc<Repository>, ApiError> {
    registry(run)
        .and_then(|registry| registry.repositories.at(name, run.seen))
        .cloned()
        .ok_or_else(|| not_found(run, name))
}

/// Returns the present state of the repository that the call names, if the call sees it.
fn present(run: &Run<'_>) -> Result<Arc<Repository>, ApiError> {
    let name = run.text("repositoryName");
    seen(run, name)?;
    registry(run)
        .and_then(|registry| registry.repositories.get(name))
        .cloned()
        .ok_or_else(|| not_found(run, name))
}

fn not_found(run: &Run<'_>, name: &str) -> ApiError {
    let message = format!(
        "The repository with name '{name}' does not exist in the registry with id '{}'",
        run.account
    );
    ApiError::new(400, "RepositoryNotFoundException", message)
}

fn no_policy(run: &Run<'_>, name: &str) -> ApiError {
    let message = format!(
        "Repository policy does not exist for the repository with name '{name}' in the registry with id '{}'",
        run.account
    );
    ApiError::new(400, "RepositoryPolicyNotFoundException", message)
}

fn put(run: &mut Run<'_>, name: String, repository: Option<Repository>) {
    let change = Change::Repository {
        account: run.account.clone(),
        region: run.call.region.clone(),
        name,
        to: repository.map(Arc::new),
    };
    run.commit(&change);
}

fn create(run: &mut Run<'_>) -> Answer {
    let name = run.text("repositoryName").to_owned();
    let registry = registry(run);
    if registry.is_some_and(|registry| registry.repositories.get(&name).is_some()) {
        let message = format!(
            "The repository with name '{name}' already exists in the registry with id '{}'",
            run.account
        );
        return Err(ApiError::new(
            400,
            "RepositoryAlreadyExistsException",
            message,
        ));
    }
    let limit = run
        .core
        .state
        .account(&run.account)
        .map_or(usize::MAX, |account| account.settings.quotas.repositories);
    if registry.is_some_and(|registry| registry.repositories.len() >= limit) {
        let message = format!("The repository quota of {limit} is used up");
        return Err(ApiError::new(400, "LimitExceededException", message));
    }
    let repository = Repository {
        created: run.now,
        tags: run.call.parameters.tags().into_iter().collect(),
        policy: None,
        name: name.clone(),
    };
    let answer = json!({"repository": description(run, &repository)});
    put(run, name, Some(repository));
    Ok(answer)
}

fn description(run: &Run<'_>, repository: &Repository) -> Value {
    let Repository { name, created, .. } = repository;
    let suffix = match run.core.state.account(&run.account) {
        Some(account) if account.partition == "aws-cn" => "amazonaws.com.cn",
        Some(account) if account.partition == "aws-eusc" => "amazonaws.eu",
        _ => "amazonaws.com",
    };
    json!({
        "repositoryArn": arn(run, name),
        "registryId": run.account,
        "repositoryName": name,
        "repositoryUri": format!("{}.dkr.ecr.{}.{suffix}/{name}", run.account, run.call.region),
        "createdAt": created.as_second(),
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": {"scanOnPush": false},
        "encryptionConfiguration": {"encryptionType": "AES256"},
    })
}

fn describe(run: &mut Run<'_>) -> Answer {
    let parameters = &run.call.parameters;
    let named = parameters.list("repositoryNames");
    if !named.is_empty() {
        if parameters.has("maxResults") || parameters.has("nextToken") {
            return Err(ApiError::invalid_parameter(
                "Paging is not possible together with repositoryNames.",
            ));
        }
        let found = named
            .into_iter()
            .map(|name| seen(run, name).map(|repository| description(run, &repository)))
            .collect::<Result<Vec<Value>, ApiError>>()?;
        return Ok(json!({"repositories": found}));
    }
    let asked = parameters.number("maxResults");
    let size = asked.map_or(PAGE, |asked| usize::try_from(asked).unwrap_or(PAGE));
    let size = size.min(run.core.settings.page).max(1);
    let after = match parameters.text("nextToken") {
        None => "",
        Some(token) => token
            .strip_prefix("after:")
            .ok_or_else(|| ApiError::invalid_parameter("Invalid parameter at 'nextToken'"))?,
    };
    let mut rest = registry(run)
        .into_iter()
        .flat_map(|registry| registry.repositories.iter_at(run.seen, after))
        .map(|(_, repository)| repository.clone())
        .take(size + 1)
        .collect::<Vec<_>>();
    let has_more = rest.len() > size;
    rest.truncate(size);
    let page: Vec<Value> = rest
        .iter()
        .map(|repository| description(run, repository))
        .collect();
    let mut answer = json!({"repositories": page});
    if let Some(last) = rest.last().filter(|_| has_more) {
        answer["nextToken"] = format!("after:{}", last.name).into();
    }
    Ok(answer)
}

fn delete(run: &mut Run<'_>) -> Answer {
    let repository = present(run)?;
    let answer = json!({"repository": description(run, &repository)});
    put(run, repository.name.clone(), None);
    Ok(answer)
}

fn get_policy(run: &mut Run<'_>) -> Answer {
    let name = run.text("repositoryName").to_owned();
    let repository = seen(run, &name)?;
    let policy = repository
        .policy
        .as_ref()
        .ok_or_else(|| no_policy(run, &name))?;
    Ok(answer(run, Some(&name), policy))
}

fn set_policy(run: &mut Run<'_>) -> Answer {
    let mut repository = Repository::clone(&*present(run)?);
    let policy = write(run, Kind::Repository)?;
    repository.policy = Some(policy.clone());
    let name = repository.name.clone();
    let answer = answer(run, Some(&name), &policy);
    put(run, name, Some(repository));
    Ok(answer)
}

fn delete_policy(run: &mut Run<'_>) -> Answer {
    let mut repository = Repository::clone(&*present(run)?);
    let name = repository.name.clone();
    let policy = repository
        .policy
        .take()
        .ok_or_else(|| no_policy(run, &name))?;
    let answer = answer(run, Some(&name), &policy);
    put(run, name, Some(repository));
    Ok(answer)
}

/// Stores the document that the call sends.
fn write(run: &Run<'_>, kind: Kind) -> Result<Policy, ApiError> {
    let state = &run.core.state;
    let region = regions::named(&run.call.region);
    let partition = region.map_or("aws", |region| region.partition);
    let stored_as = |principal: &str| {
        let stored = state.stored_principal(principal, partition, run.seen)?;
        match region {
            Some(region) if run.core.settings.principals_need_region => {
                reachable(state, &stored, region).map(|()| stored)
            }
            _ => Ok(stored),
        }
    };
    Policy::write(kind, run.text("policyText"), &stored_as).map_err(|refused| {
        let constraint = match refused {
            Written::Unknown(_) => "Principal not found",
            Written::Malformed(_) if kind == Kind::Registry => "Invalid registry policy provided",
            Written::Malformed(_) => "Invalid repository policy provided",
        };
        ApiError::invalid_parameter(format!(
            "Invalid parameter at 'PolicyText' failed to satisfy constraint: '{constraint}'"
        ))
    })
}

/// Checks that the account of a stored principal has enabled a region.
fn reachable(
    state: &state::State,
    stored: &str,
    region: &regions::Region,
) -> Result<(), UnknownPrincipal> {
    let arn = state.arn_of(stored).unwrap_or_else(|| stored.to_owned());
    let account = arn.split(':').nth(4).and_then(|id| state.account(id));
    if account.is_some_and(|account| !account.has_enabled(region)) {
        return Err(UnknownPrincipal(arn));
    }
    Ok(())
}

fn answer(run: &mut Run<'_>, repository: Option<&str>, policy: &Policy) -> Value {
    let text = printed(run, policy);
    let mut answer = json!({"registryId": run.account, "policyText": text});
    if let Some(name) = repository {
        answer["repositoryName"] = name.into();
    }
    answer
}

fn printed(run: &mut Run<'_>, policy: &Policy) -> String {
    let core = &mut *run.core;
    let (state, seen): (_, Timestamp) = (&core.state, run.seen);
    let arn_of = |id: &str| state.arn_of_at(id, seen);
    let reworded = core.settings.rewords.then_some(&mut core.wording);
    policy.pretty(Print {
        arn_of: &arn_of,
        reworded,
    })
}

fn registry_policy(run: &Run<'_>) -> Result<Arc<Policy>, ApiError> {
    registry(run)
        .and_then(|registry| registry.policy.at("", run.seen))
        .cloned()
        .ok_or_else(|| {
            let message = format!(
                "Registry policy does not exist in the registry with id '{}'",
                run.account
            );
            ApiError::new(400, "RegistryPolicyNotFoundException", message)
        })
}

fn get_registry_policy(run: &mut Run<'_>) -> Answer {
    let policy = registry_policy(run)?;
    Ok(answer(run, None, &policy))
}

fn put_registry_policy(run: &mut Run<'_>) -> Answer {
    let policy = Arc::new(write(run, Kind::Registry)?);
    let answer = answer(run, None, &policy);
    commit_registry_policy(run, Some(policy));
    Ok(answer)
}

fn delete_registry_policy(run: &mut Run<'_>) -> Answer {
    let policy = registry_policy(run)?;
    let answer = answer(run, None, &policy);
    commit_registry_policy(run, None);
    Ok(answer)
}

fn commit_registry_policy(run: &mut Run<'_>, policy: Option<Arc<Policy>>) {
    let change = Change::RegistryPolicy {
        account: run.account.clone(),
        region: run.call.region.clone(),
        to: policy,
    };
    run.commit(&change);
}
