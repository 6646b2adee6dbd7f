//! Actions, resources and variables. Pages named in comments are under
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/>.

use super::evaluate::{Is, REPOSITORY, kind, named, request};
use crate::policy::Document;
use crate::policy::evaluate::{Named, Policies, RequestContext, Verdict, evaluate};
use rstest::rstest;

fn decide_with(version: &str, statement: &str, resource: &str, context: RequestContext) -> Verdict {
    let text = format!(r#"{{"Version":"{version}","Statement":{{"Effect":"Allow",{statement}}}}}"#);
    let mut request = request("role 1", "ecr:BatchGetImage", resource);
    request.context = context;
    evaluate(
        &request,
        &Policies {
            identity: vec![named("p", &text)],
            ..Policies::default()
        },
    )
}

fn decide(statement: &str) -> Verdict {
    decide_with(
        "2012-10-17",
        statement,
        REPOSITORY,
        RequestContext::default().closed(),
    )
}

#[rstest]
#[case::itself(r#""Action":"ecr:BatchGetImage""#, Is::Allowed)] // reference_policies_elements_action.html
#[case::in_other_letters(r#""Action":"ECR:batchgetimage""#, Is::Allowed)] // reference_policies_elements_action.html
#[case::another(r#""Action":"ecr:BatchGetImages""#, Is::Denied)] // reference_policies_elements_action.html
#[case::all(r#""Action":"*""#, Is::Allowed)] // reference_policies_elements_action.html
#[case::a_services(r#""Action":"ecr:*""#, Is::Allowed)] // reference_policies_elements_action.html
#[case::another_services(r#""Action":"ecs:*""#, Is::Denied)] // reference_policies_elements_action.html
#[case::in_the_middle(r#""Action":"ecr:*Image""#, Is::Allowed)] // reference_policies_elements_action.html
#[case::one_letter(r#""Action":"ecr:BatchGetImag?""#, Is::Allowed)] // reference_policies_elements_action.html
#[case::one_letter_too_many(r#""Action":"ecr:BatchGetImage?""#, Is::Denied)] // reference_policies_elements_action.html
#[case::in_a_list(r#""Action":["s3:*","ecr:BatchGet*"]"#, Is::Allowed)] // reference_policies_elements_action.html
#[case::all_but(r#""NotAction":"iam:*""#, Is::Allowed)] // reference_policies_elements_notaction.html
#[case::all_but_this(r#""NotAction":["iam:*","ecr:Batch*"]"#, Is::Denied)] // reference_policies_elements_notaction.html
#[case::both(r#""Action":"ecr:*","NotAction":"iam:*""#, Is::Unknown)] // reference_policies_grammar.html
#[case::none(r#""Sid":"x""#, Is::Unknown)] // reference_policies_grammar.html
#[case::a_number(r#""Action":7"#, Is::Unknown)] // reference_policies_grammar.html
#[case::an_unknown_element(r#""Action":"*","When":"always""#, Is::Unknown)] // reference_policies_grammar.html
#[case::a_principal_on_an_identity(r#""Action":"*","Principal":"*""#, Is::Unknown)] // reference_policies_elements_principal.html
fn action_pattern_matches_as_documented(#[case] action: &str, #[case] expected: Is) {
    let verdict = decide(&format!(r#"{action},"Resource":"*""#));
    assert_eq!(kind(&verdict), expected, "{verdict}");
}

#[rstest]
#[case::all(r#""Resource":"*""#, Is::Allowed)] // reference_policies_elements_resource.html
#[case::itself(
    r#""Resource":"arn:aws:ecr:eu-west-1:111111111111:repository/web""#,
    Is::Allowed
)] // reference_policies_elements_resource.html
#[case::in_other_letters(
    r#""Resource":"arn:aws:ecr:eu-west-1:111111111111:repository/WEB""#,
    Is::Denied
)] // reference_policies_elements_resource.html
#[case::a_part(
    r#""Resource":"arn:aws:ecr:*:111111111111:repository/w?b""#,
    Is::Allowed
)] // reference_policies_elements_resource.html#reference_policies_elements_resource_wildcards
#[case::a_star_is_any_path(r#""Resource":"arn:aws:ecr:eu-west-1:111111111111:*web""#, Is::Allowed)] // reference_policies_elements_resource.html#reference_policies_elements_resource_wildcards
#[case::past_a_segments_end(r#""Resource":"arn:aws:ecr:*""#, Is::Allowed)] // reference_policies_elements_resource.html#reference_policies_elements_resource_wildcards
#[case::not_from_a_segments_middle(r#""Resource":"arn:aws:ecr:e*1:repository/web""#, Is::Denied)] // reference_policies_elements_resource.html#reference_policies_elements_resource_wildcards
#[case::a_segment_is_no_wildcards_letter(
    r#""Resource":"arn:aws:ecr:eu-west-1?111111111111:repository/web""#,
    Is::Denied
)] // reference_policies_elements_resource.html#reference_policies_elements_resource_wildcards
#[case::in_a_list(
    r#""Resource":["arn:aws:s3:::*","arn:aws:ecr:*:*:repository/*"]"#,
    Is::Allowed
)] // reference_policies_elements_resource.html
#[case::another_account(r#""Resource":"arn:aws:ecr:*:222222222222:repository/*""#, Is::Denied)] // reference_policies_elements_resource.html
#[case::all_but(r#""NotResource":"arn:aws:ecr:*:*:repository/api""#, Is::Allowed)] // reference_policies_elements_notresource.html
#[case::all_but_this(r#""NotResource":"arn:aws:ecr:*:*:repository/w*""#, Is::Denied)] // reference_policies_elements_notresource.html
#[case::none(r#""Sid":"x""#, Is::Unknown)] // reference_policies_elements_resource.html
#[case::by_a_variable(
    r#""Resource":"arn:aws:ecr:*:*:repository/${aws:PrincipalTag/app}""#,
    Is::Allowed
)] // reference_policies_variables.html
#[case::by_a_part(
    r#""Resource":"arn:aws:ecr:*:*:repository/${aws:PrincipalTag/APP}*""#,
    Is::Allowed
)] // reference_policies_variables.html
#[case::a_value_is_no_pattern(
    r#""Resource":"arn:aws:ecr:*:*:repository/${aws:PrincipalTag/star}""#,
    Is::Denied
)] // reference_policies_variables.html
#[case::a_variable_without_value(
    r#""Resource":"arn:aws:ecr:*:*:repository/${aws:PrincipalTag/none}*""#,
    Is::Denied
)] // reference_policies_variables.html#policy-vars-no-value
#[case::all_but_a_variable_without_value(
    r#""NotResource":"arn:aws:ecr:*:*:${aws:PrincipalTag/none}""#,
    Is::Unknown
)] // reference_policies_variables.html#policy-vars-no-value
#[case::all_but_elsewhere(
    r#""NotResource":"arn:aws:s3:::${aws:PrincipalTag/none}""#,
    Is::Allowed
)] // reference_policies_elements_notresource.html
#[case::its_default(
    r#""Resource":"arn:aws:ecr:*:*:repository/${aws:PrincipalTag/none, 'web'}""#,
    Is::Allowed
)] // reference_policies_variables.html#policy-vars-default
#[case::not_its_default(
    r#""Resource":"arn:aws:ecr:*:*:repository/${aws:PrincipalTag/app, 'api'}""#,
    Is::Allowed
)] // reference_policies_variables.html#policy-vars-default
#[case::a_star_itself(r#""Resource":"arn:aws:ecr:*:*:repository/${*}""#, Is::Denied)] // reference_policies_variables.html#policy-vars-specialchars
#[case::several_values(
    r#""Resource":"arn:aws:ecr:*:*:repository/${aws:TagKeys}""#,
    Is::Unknown
)] // reference_policies_variables.html
#[case::before_the_fifth_colon(
    r#""Resource":"arn:aws:ecr:*:${aws:PrincipalAccount}:repository/web""#,
    Is::Unknown
)] // reference_policies_variables.html
fn resource_pattern_matches_as_documented(#[case] resource: &str, #[case] expected: Is) {
    let context = RequestContext::default()
        .closed()
        .with("aws:PrincipalTag/app", ["web"])
        .with("aws:PrincipalTag/star", ["*"]);
    let context = context.with("aws:TagKeys", ["web", "api"]);
    let verdict = decide_with(
        "2012-10-17",
        &format!(r#""Action":"*",{resource}"#),
        REPOSITORY,
        context,
    );
    assert_eq!(kind(&verdict), expected, "{verdict}");
}

// reference_policies_elements_version.html
#[rstest]
#[case("2012-10-17", "repository/web", Is::Allowed)]
#[case("2008-10-17", "repository/web", Is::Denied)]
#[case("2008-10-17", "repository/${aws:PrincipalTag/app}", Is::Allowed)]
#[case("2030-01-01", "repository/${aws:PrincipalTag/app}", Is::Unknown)]
fn variables_need_the_newer_version(
    #[case] version: &str,
    #[case] resource: &str,
    #[case] expected: Is,
) {
    let context = RequestContext::default().with("aws:PrincipalTag/app", ["web"]);
    let statement = r#""Action":"*","Resource":"repository/${aws:PrincipalTag/app}""#;
    let verdict = decide_with(version, statement, resource, context);
    assert_eq!(kind(&verdict), expected, "{verdict}");
}

#[rstest]
#[case(r#""Action":"*","Resource":"arn:aws:ecr:*:*:repository/${aws:PrincipalTag/App}""#, &["aws:PrincipalTag/App"])]
#[case(r#""Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:SourceVpc":"x"}}"#, &["aws:SourceVpc"])]
#[case(r#""Action":"*","Resource":"arn:aws:s3:::${aws:PrincipalTag/App}""#, &[])]
fn verdict_depends_on_unknown_variables_where_they_matter(
    #[case] statement: &str,
    #[case] keys: &[&str],
) {
    match decide_with(
        "2012-10-17",
        statement,
        REPOSITORY,
        RequestContext::default(),
    ) {
        Verdict::Depends(on) => assert_eq!(on.into_iter().collect::<Vec<_>>(), keys),
        other => assert!(keys.is_empty() && kind(&other) == Is::Denied, "{other}"),
    }
}

/// These take seconds; trying every way to match would take hours or overflow the stack.
#[rstest]
#[case::stars("*a".repeat(400_000), "arn")]
#[case::stars_in_segments("*a:".repeat(300_000), "arn")]
#[case::variables("${".repeat(500_000), "x")]
#[case::many_variables("${aws:x}".repeat(120_000), "x")]
#[case::letters(format!("*{}b", "a".repeat(900_000)), "x")]
fn hostile_pattern_is_matched_in_bounded_time(#[case] pattern: String, #[case] end: &str) {
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"*","Resource":"{pattern}{end}"}}}}"#
    );
    let policy = Named::new("p", Document::parse(&text).unwrap());
    let mut request = request("role 1", "ecr:BatchGetImage", &"a".repeat(500));
    request.context = RequestContext::default();
    let verdict = evaluate(
        &request,
        &Policies {
            identity: vec![policy],
            ..Policies::default()
        },
    );
    assert!(
        matches!(kind(&verdict), Is::Denied | Is::Depends),
        "{verdict}"
    );
}
