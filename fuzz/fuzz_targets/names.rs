//! Uses any text as a name from AWS or the API server: a tag of a role, an ARN, a namespace, a
//! repository. Nothing panics, and the results are valid where they are used.

#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_grants_fuzz::names::{
    AccountId, GrantName, Organization, RepositoryPattern, bounded, session_name,
};
use registry_grants_fuzz::policy::evaluate::{
    Named, Policies, Principal, Request, RequestContext, evaluate,
};
use registry_grants_fuzz::policy::{Document, Installation, Statement};

fuzz_target!(|text: &str| {
    let installation = Installation::of_cluster(text);
    if let Ok(grant) = text.parse::<GrantName>() {
        assert_eq!(grant.to_string(), text);
    }
    let (namespace, name) = text.split_once('/').unwrap_or((text, text));
    let grant = GrantName {
        namespace: namespace.into(),
        name: name.into(),
    };
    for longest in [64, 112] {
        assert!(grant.in_aws(&installation, longest).len() <= longest);
    }
    assert!(session_name(&installation, Some(text)).len() <= 64);
    assert!(bounded(text.to_owned(), 256, 32).len() <= 256);
    let _ = (
        text.parse::<AccountId>(),
        text.parse::<Organization>(),
        text.parse::<Installation>(),
    );
    if let Ok(pattern) = text.parse::<RepositoryPattern>() {
        assert!(pattern.covers(&pattern) && pattern.to_string() == text);
    }

    // As the ARN of the principal, of the resource, and in a policy.
    let request = Request {
        principal: Principal::role(text, namespace, Some(name.to_owned())),
        action: "ecr:BatchGetImage".into(),
        resource: text.into(),
        resource_account: name.into(),
        context: RequestContext::default().with("aws:PrincipalTag/team", [text]),
    };
    let statement =
        Statement::allow([text])
            .on([text])
            .only_if("ArnLike", "aws:PrincipalArn", [text]);
    let identity = vec![Named::new("identity", Document::of([statement]))];
    let resource =
        Statement::deny(["ecr:*"])
            .to_principals([text])
            .only_if("StringLike", text, [text]);
    let resource = vec![Named::new("resource", Document::of([resource]))];
    let _ = evaluate(
        &request,
        &Policies {
            identity,
            boundary: None,
            resource,
        },
    );
});
