//! Compares the decisions of `policy::evaluate` with those of an independent simulator, which runs
//! in its own process. `make verify-policies` runs it. `tools/verify-policies/README.md` describes
//! the simulator and its known differences.

#[path = "support/verify_policies/cases.rs"]
mod cases;

use cases::{Case, cases};
use registry_grants::policy::Document;
use registry_grants::policy::evaluate::{
    Link, Named, Policies, Request, RequestContext, Verdict, evaluate,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// The environment variable SEED sets another one.
const SEED: u64 = 2026;
const CASES: usize = 10_000;

/// Condition for a case to which a difference applies.
type Where = fn(&Case) -> bool;

/// The known differences of the simulator, with the cases that they apply to. In all other cases,
/// both must decide alike.
const SEEN_DIFFERENTLY: [(&str, Where); 8] = [
    ("an account's root user needs a policy of its own", |case| {
        case.principal.arn.ends_with(":root")
    }),
    (
        "NotPrincipal that lists an account means nobody in it, and it takes no session",
        |case| case.has("NotPrincipal"),
    ),
    (
        "a star at a segment's end does not reach over the colon",
        |case| case.says("arn:aws:ecr:*\""),
    ),
    (
        "ForAnyValue:…IfExists does not hold where the key is not in the request",
        |case| case.says("ForAnyValue:StringLikeIfExists"),
    ),
    (
        "an ARN in a condition is taken apart at the colons of its variables, too",
        |case| case.says("arn:aws:iam::${aws:PrincipalAccount}"),
    ),
    (
        "variables are replaced in documents of the first version, too",
        |case| case.has_variables_before_their_time(),
    ),
    (
        "NotIpAddress does not hold for an IPv6 address where ranges of IPv4 are named",
        |case| case.says("NotIpAddress"),
    ),
    (
        "${*} is a star in StringLike alone, not in StringEquals",
        |case| case.says("${*}"),
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Allowed,
    ImplicitlyDenied,
    ExplicitlyDenied,
}

/// Returns our decision; `None` if it depends on something unknown.
fn ours(case: &Case) -> Option<Says> {
    let named = |name: &str, document: &Value| {
        Named::new(name, Document::parse(&document.to_string()).unwrap())
    };
    let policies = Policies {
        identity: case
            .identity
            .iter()
            .map(|document| named("identity", document))
            .collect(),
        boundary: case
            .boundary
            .as_ref()
            .map(|document| named("boundary", document)),
        resource: case
            .resource
            .iter()
            .map(|document| named("resource", document))
            .collect(),
    };
    let context =
        case.context.iter().fold(
            RequestContext::default(),
            |context, (key, value)| match value {
                Value::Array(values) => context.with(key, values.iter().filter_map(Value::as_str)),
                one => context.with(key, one.as_str()),
            },
        );
    let request = Request {
        principal: case.principal.clone(),
        action: case.action.into(),
        resource: case.on.into(),
        resource_account: case.resource_account.clone(),
        context: context.closed(),
    };
    match evaluate(&request, &policies) {
        Verdict::Allowed => Some(Says::Allowed),
        Verdict::Denied(links)
            if links
                .iter()
                .any(|link| matches!(link, Link::ExplicitDeny { .. })) =>
        {
            Some(Says::ExplicitlyDenied)
        }
        Verdict::Denied(_) => Some(Says::ImplicitlyDenied),
        Verdict::Depends(_) | Verdict::Unknown(_) => None,
    }
}

/// Returns the case in the simulator's format.
fn simulation(case: &Case) -> Value {
    let named = |name: &str, document: &Value| json!({ "name": name, "policy": document });
    let mut simulation = json!({
        "request": {
            "principal": case.principal.arn,
            "action": case.action,
            "resource": { "resource": case.on, "accountId": case.resource_account },
            "contextVariables": case.context,
        },
        "identityPolicies": case.identity.iter().enumerate().map(|(at, document)| named(&at.to_string(), document)).collect::<Vec<_>>(),
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
    });
    if let Some(document) = &case.resource {
        simulation["resourcePolicy"] = document.clone();
    }
    if let Some(document) = &case.boundary {
        simulation["permissionBoundaryPolicies"] = json!([named("boundary", document)]);
    }
    simulation
}

/// Returns the simulator's decision on each case.
fn theirs(simulator: &str, cases: &[Case]) -> Vec<Result<Says, String>> {
    let mut node = Command::new("node")
        .arg(simulator)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node, 20 or newer, must be on the PATH");
    let mut input = node.stdin.take().unwrap();
    let lines: String = cases
        .iter()
        .enumerate()
        .map(|(id, case)| format!("{}\n", json!({ "id": id, "simulation": simulation(case) })))
        .collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = node.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(
        output.status.success(),
        "the simulator ended with {}",
        output.status
    );
    let answer = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        match answer["verdict"].as_str() {
            Some("Allowed") => Ok(Says::Allowed),
            Some("ImplicitlyDenied") => Ok(Says::ImplicitlyDenied),
            Some("ExplicitlyDenied") => Ok(Says::ExplicitlyDenied),
            _ => Err(answer["error"].to_string()),
        }
    };
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(answer)
        .collect()
}

#[test]
#[ignore = "needs Node: make verify-policies"]
fn independent_simulator_gives_the_same_verdicts() {
    let simulator = std::env::var("REGISTRY_GRANTS_SIMULATOR")
        .expect("REGISTRY_GRANTS_SIMULATOR: run make verify-policies");
    let seed =
        std::env::var("SEED").map_or(SEED, |seed| seed.parse().expect("SEED must be a number"));
    let cases = cases(seed, CASES);
    let theirs = theirs(&simulator, &cases);
    assert_eq!(theirs.len(), cases.len());
    let (mut agreed, mut explained, mut undecided, mut wrong) =
        (BTreeMap::new(), BTreeMap::new(), 0, Vec::new());
    for (case, theirs) in cases.iter().zip(theirs) {
        let Some(ours) = ours(case) else {
            undecided += 1;
            continue;
        };
        let reason = SEEN_DIFFERENTLY.iter().find(|(_, applies)| applies(case));
        match (theirs, reason) {
            (Ok(theirs), _) if ours == theirs => {
                *agreed.entry(format!("{ours:?}")).or_insert(0) += 1
            }
            (Ok(_), Some((reason, _))) => *explained.entry(*reason).or_insert(0) += 1,
            (theirs, _) => wrong.push(format!(
                "ours {ours:?}, theirs {theirs:?}: {}",
                simulation(case)
            )),
        }
    }
    let together: usize = agreed.values().sum();
    println!(
        "{CASES} cases: {together} agreed {agreed:?}, {undecided} that ours leaves open, {} that differ",
        wrong.len()
    );
    println!("seen differently by the simulator: {explained:#?}");
    let few = wrong
        .iter()
        .take(5)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n\n");
    assert!(wrong.is_empty(), "{} differ, such as:\n{few}", wrong.len());
    assert!(
        together >= 9_000 && agreed.values().all(|count| *count >= 800),
        "too few to say much: {agreed:?}"
    );
    assert!(
        seed != SEED || explained.len() == SEEN_DIFFERENTLY.len(),
        "a difference that is listed is not met any more"
    );
}

/// Its origin depends on how it was installed.
#[test]
fn lock_file_names_no_registry() {
    let lock: Value =
        serde_json::from_str(include_str!("../tools/verify-policies/package-lock.json")).unwrap();
    let packages = lock["packages"].as_object().unwrap();
    assert!(
        packages
            .values()
            .all(|package| package.get("resolved").is_none())
    );
    assert!(
        packages
            .iter()
            .all(|(path, package)| path.is_empty() || package["integrity"].is_string())
    );
}
