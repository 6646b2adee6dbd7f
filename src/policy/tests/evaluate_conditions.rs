//! Conditions, operator by operator. Pages named in comments are under
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/>. Where no page is named, it is
//! `reference_policies_elements_condition_operators.html`.

use super::evaluate::{Is, REPOSITORY, kind, policy, request};
use crate::policy::evaluate::{Policies, RequestContext, Verdict, evaluate};
use rstest::rstest;

fn decide(condition: &str, context: RequestContext) -> Verdict {
    let statement =
        format!(r#""Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}"#);
    let mut request = request("role 1", "ecr:BatchGetImage", REPOSITORY);
    request.context = context;
    evaluate(
        &request,
        &Policies {
            identity: policy("p", &[&statement]),
            ..Policies::default()
        },
    )
}

/// The operator, the policy's values for one key, and the request's values (none: the key is
/// absent).
#[rstest]
// #Conditions_String
#[case("StringEquals", r#""a""#, &["a"], true)]
#[case("stringequals", r#"["b","a"]"#, &["a"], true)]
#[case("StringEquals", r#""a""#, &["A"], false)]
#[case("StringEquals", r#""a*""#, &["ab"], false)]
#[case("StringEquals", r#""a*""#, &["a*"], true)]
#[case("StringEquals", r#""a""#, &[], false)]
#[case("StringEquals", r#""${aws:PrincipalAccount}""#, &["111111111111"], true)]
#[case("StringEquals", r#""${*}""#, &["*"], true)]
#[case("StringEquals", r#"[]"#, &["a"], false)]
#[case("StringNotEquals", r#"["a","b"]"#, &["c"], true)]
#[case("StringNotEquals", r#"["a","b"]"#, &["b"], false)]
#[case("StringNotEquals", r#""a""#, &[], true)]
#[case("StringEqualsIgnoreCase", r#""aB""#, &["Ab"], true)]
#[case("StringNotEqualsIgnoreCase", r#""aB""#, &["Ab"], false)]
#[case("StringLike", r#""a*c?""#, &["abbcd"], true)]
#[case("StringLike", r#""a*c?""#, &["abbc"], false)]
#[case("StringLike", r#""*""#, &[], false)]
#[case("StringLike", r#""${$}{x}""#, &["${x}"], true)]
#[case("StringNotLike", r#""a*""#, &["b"], true)]
#[case("StringNotLike", r#""a*""#, &["ab"], false)]
// reference_policies_variables.html#policy-vars-no-value: nothing equals it or matches it
#[case("StringLike", r#""${aws:none}*""#, &["b"], false)]
#[case("StringNotLike", r#""${aws:none}*""#, &["b"], true)]
// #Conditions_Numeric
#[case("NumericEquals", r#"5"#, &["5.0"], true)]
#[case("NumericNotEquals", r#""5""#, &["5"], false)]
#[case("NumericLessThan", r#""10""#, &["9"], true)]
#[case("NumericLessThan", r#""10""#, &["10"], false)]
#[case("NumericLessThanEquals", r#""10""#, &["10"], true)]
#[case("NumericGreaterThan", r#""10""#, &["10.5"], true)]
#[case("NumericGreaterThanEquals", r#""9007199254740993""#, &["9007199254740992"], false)]
#[case("NumericGreaterThan", r#""1""#, &["many"], false)]
// #Conditions_Date
#[case("DateGreaterThan", r#""2020-04-01T00:00:00Z""#, &["2020-04-01T00:00:01Z"], true)]
#[case("DateLessThan", r#""2020-04-01T00:00:00Z""#, &["2020-04-01T00:00:00Z"], false)]
#[case("DateLessThanEquals", r#""2020-04-01""#, &["2020-04-01T00:00:00.000Z"], true)]
#[case("DateEquals", r#""2020-03-01T00:00:00Z""#, &["1583020800"], true)]
#[case("DateEquals", r#""2020-03-01T02:00:00+02:00""#, &["2020-03-01T00:00:00Z"], true)]
#[case("DateNotEquals", r#""1999-12-31T23:59:59Z""#, &["946684799"], false)]
#[case("DateGreaterThanEquals", r#""2024-02-29T12:00:00.5Z""#, &["2024-02-29T12:00:00.4Z"], false)]
#[case("DateLessThan", r#""1970-01-01T00:00:01Z""#, &["1969-12-31T23:59:59Z"], true)]
// #Conditions_Boolean
#[case("Bool", r#"true"#, &["true"], true)]
#[case("Bool", r#""True""#, &["true"], true)]
#[case("Bool", r#""true""#, &["false"], false)]
#[case("Bool", r#""false""#, &[], false)]
// #Conditions_BinaryEquals
#[case("BinaryEquals", r#""QmluYXJ5VmFsdWU=""#, &["QmluYXJ5VmFsdWU="], true)]
#[case("BinaryEquals", r#""QmluYXJ5VmFsdWU=""#, &["qmluYXJ5VmFsdWU="], false)]
// #Conditions_IPAddress
#[case("IpAddress", r#""203.0.113.0/24""#, &["203.0.113.200"], true)]
#[case("IpAddress", r#""203.0.113.0/24""#, &["203.0.114.1"], false)]
#[case("IpAddress", r#""203.0.113.7""#, &["203.0.113.7"], true)]
#[case("IpAddress", r#""0.0.0.0/0""#, &["198.51.100.1"], true)]
#[case("IpAddress", r#""0.0.0.0/0""#, &["2001:db8::1"], false)]
#[case("IpAddress", r#""2001:DB8:1234:5678::/64""#, &["2001:db8:1234:5678::9"], true)]
#[case("IpAddress", r#""2001:DB8:1234:5678::/64""#, &["2001:db8:1234:5679::9"], false)]
#[case("NotIpAddress", r#"["203.0.113.0/24","10.0.0.0/8"]"#, &["10.1.2.3"], false)]
#[case("NotIpAddress", r#""203.0.113.0/24""#, &[], true)]
// #Conditions_ARN
#[case("ArnEquals", r#""arn:aws:sns:*:1:T*""#, &["arn:aws:sns:eu:1:Topic"], true)]
#[case("ArnLike", r#""arn:aws:sns:eu:1:Topic""#, &["arn:aws:sns:eu:1:topic"], false)]
#[case("ArnLike", r#""arn:aws:sns:*:Topic:*""#, &["arn:aws:sns:eu:1:Topic:x"], false)]
#[case("ArnLike", r#""arn:aws:lambda:*:1:function:*""#, &["arn:aws:lambda:eu:1:function:a:b"], true)]
#[case("ArnLike", r#""arn:aws:iam::${aws:PrincipalAccount}:role/*""#, &["arn:aws:iam::111111111111:role/a/b"], true)]
#[case("ArnLike", r#""*:*:*:*:*:*""#, &["no ARN"], false)]
#[case("ArnNotEquals", r#""arn:aws:sns:*:1:*""#, &["arn:aws:sns:eu:2:x"], true)]
#[case("ArnNotLike", r#""arn:aws:sns:*:1:*""#, &["arn:aws:sns:eu:1:x"], false)]
// #Conditions_Null
#[case("Null", r#""true""#, &[], true)]
#[case("Null", r#""true""#, &["a"], false)]
#[case("Null", r#"false"#, &["a"], true)]
#[case("Null", r#"["true","false"]"#, &["a"], true)]
// #Conditions_IfExists
#[case("StringEqualsIfExists", r#""a""#, &[], true)]
#[case("StringEqualsIfExists", r#""a""#, &["b"], false)]
#[case("BoolIfExists", r#""true""#, &[], true)]
#[case("ForAnyValue:StringLikeIfExists", r#""a""#, &[], true)]
// reference_policies_condition-single-vs-multi-valued-context-keys.html
#[case("ForAllValues:StringEquals", r#"["a","b"]"#, &["a", "b"], true)]
#[case("ForAllValues:StringEquals", r#"["a","b"]"#, &["a", "c"], false)]
#[case("ForAllValues:StringEquals", r#""a""#, &[], true)]
#[case("ForAllValues:StringEquals", r#""a""#, &[""], true)]
#[case("ForAnyValue:StringEquals", r#""a""#, &["c", "a"], true)]
#[case("ForAnyValue:StringEquals", r#""a""#, &["c", "d"], false)]
#[case("ForAnyValue:StringEquals", r#""a""#, &[], false)]
#[case("ForAnyValue:StringNotEquals", r#""a""#, &["a", "b"], true)]
#[case("ForAllValues:StringNotEquals", r#""a""#, &["a", "b"], false)]
fn condition_holds_as_documented(
    #[case] operator: &str,
    #[case] wanted: &str,
    #[case] actual: &[&str],
    #[case] holds: bool,
) {
    let context = RequestContext::default()
        .closed()
        .with("ecr:Key", actual.to_vec());
    let verdict = decide(
        &format!(r#"{{"{operator}":{{"ECR:key":{wanted}}}}}"#),
        context,
    );
    assert_eq!(
        kind(&verdict),
        if holds { Is::Allowed } else { Is::Denied },
        "{verdict}"
    );
}

// reference_policies_condition-logic-multiple-context-keys-or-values.html
#[rstest]
#[case::no_condition(r#"{}"#, true)]
#[case::all_keys_must(r#"{"StringEquals":{"a:1":"x","a:2":"y"}}"#, true)]
#[case::one_key_does_not(r#"{"StringEquals":{"a:1":"x","a:2":"z"}}"#, false)]
#[case::all_operators_must(r#"{"StringEquals":{"a:1":"x"},"StringNotLike":{"a:2":"y*"}}"#, false)]
#[case::one_value_is_enough(r#"{"StringEquals":{"a:1":["w","x"]}}"#, true)]
fn condition_holds_only_if_all_clauses_hold(#[case] condition: &str, #[case] holds: bool) {
    let context = RequestContext::default()
        .closed()
        .with("a:1", ["x"])
        .with("a:2", ["y"]);
    let verdict = decide(condition, context);
    assert_eq!(
        kind(&verdict),
        if holds { Is::Allowed } else { Is::Denied },
        "{verdict}"
    );
}

#[rstest]
#[case::an_unknown_operator(r#"{"StringSounds":{"a:1":"x"}}"#)]
#[case::an_unknown_set(r#"{"ForSomeValues:StringEquals":{"a:1":"x"}}"#)]
#[case::null_if_exists(r#"{"NullIfExists":{"a:1":"true"}}"#)]
#[case::no_number(r#"{"NumericEquals":{"a:1":"x"}}"#)]
#[case::no_date(r#"{"DateEquals":{"a:1":"2023-02-29"}}"#)]
#[case::no_address(r#"{"IpAddress":{"a:1":"203.0.113.0/33"}}"#)]
#[case::no_boolean(r#"{"Bool":{"a:1":"yes"}}"#)]
#[case::no_full_arn(r#"{"ArnLike":{"a:3":"arn:aws:*"}}"#)]
#[case::several_values_without_a_set(r#"{"StringEquals":{"a:2":"x"}}"#)]
#[case::no_shape(r#"["StringEquals"]"#)]
#[case::no_values(r#"{"StringEquals":{"a:1":{"x":"y"}}}"#)]
fn unknown_element_is_reported_where_it_matters(#[case] condition: &str) {
    let context = RequestContext::default()
        .closed()
        .with("a:1", ["x"])
        .with("a:2", ["x", "y"])
        .with("a:3", ["arn:aws:a:b:c:d"]);
    let verdict = decide(condition, context.clone());
    assert!(
        matches!(&verdict, Verdict::Unknown(why) if why.len() == 1 && why[0].starts_with("p, statement 1: "))
    );
    let allow = r#""Effect":"Allow","Action":"*","Resource":"*""#;
    let with = |effect: &str, action: &str| {
        let statement = format!(
            r#""Effect":"{effect}","Action":"{action}","Resource":"*","Condition":{condition}"#
        );
        let mut request = request("role 1", "ecr:BatchGetImage", REPOSITORY);
        request.context = context.clone();
        let policies = Policies {
            identity: policy("p", &[allow, &statement]),
            ..Policies::default()
        };
        kind(&evaluate(&request, &policies))
    };
    assert_eq!(with("Allow", "*"), Is::Allowed);
    assert_eq!(with("Deny", "*"), Is::Unknown);
    assert_eq!(with("Deny", "s3:*"), Is::Allowed);
}

#[rstest]
#[case::unlisted(RequestContext::default(), Is::Depends)]
#[case::absent(RequestContext::default().without("aws:SourceVpc"), Is::Denied)]
#[case::closed(RequestContext::default().closed(), Is::Denied)]
#[case::closed_but_for(RequestContext::default().closed().unknown("aws:sourcevpc"), Is::Depends)]
#[case::known(RequestContext::default().with("AWS:SOURCEVPC", ["vpc-1"]), Is::Allowed)]
fn context_key_is_present_absent_or_unknown(#[case] context: RequestContext, #[case] expected: Is) {
    assert_eq!(
        kind(&decide(
            r#"{"StringEquals":{"aws:SourceVpc":"vpc-1"}}"#,
            context
        )),
        expected
    );
}

// reference_policies_condition-keys.html
#[rstest]
#[case(
    r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/team/*"}}"#,
    Is::Allowed
)]
#[case(r#"{"StringEquals":{"aws:PrincipalAccount":"111111111111","aws:ResourceAccount":"111111111111"}}"#, Is::Allowed)]
#[case(r#"{"Bool":{"aws:PrincipalIsAWSService":"false"}}"#, Is::Allowed)]
#[case(r#"{"StringLike":{"aws:username":"*"}}"#, Is::Denied)]
#[case(r#"{"ArnLike":{"aws:SourceArn":"arn:aws:lambda:*:*:*"}}"#, Is::Denied)]
#[case(r#"{"StringEquals":{"aws:PrincipalTag/team":"a"}}"#, Is::Depends)]
fn context_includes_keys_derived_from_the_principal(#[case] condition: &str, #[case] expected: Is) {
    assert_eq!(
        kind(&decide(condition, RequestContext::default())),
        expected
    );
}
