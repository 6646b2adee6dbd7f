//! Documents that mean the same, and documents that do not, case by case. For the sources, see
//! [`crate::policy::canonical`].

use crate::policy::Document;
use rstest::rstest;

fn statement(keys: &str) -> Document {
    Document::parse(&format!(
        r#"{{"Version":"2012-10-17","Statement":[{{{keys}}}]}}"#
    ))
    .unwrap()
}

#[rstest]
#[case::order_of_keys(
    r#""Effect":"Allow","Action":"a:B""#,
    r#""Action":"a:B","Effect":"Allow""#
)]
#[case::list_of_one(r#""Action":["a:B"]"#, r#""Action":"a:B""#)]
#[case::order_and_duplicates(r#""Action":["a:C","a:B","a:B"]"#, r#""Action":["a:B","a:C"]"#)]
#[case::case_of_actions(r#""Action":"ECR:putimage""#, r#""Action":"ecr:PutImage""#)]
#[case::duplicates_by_case(r#""NotAction":["a:b","A:B"]"#, r#""NotAction":"a:b""#)]
#[case::account_number(
    r#""Principal":{"AWS":"222222222222"}"#,
    r#""Principal":{"AWS":"arn:aws:iam::222222222222:root"}"#
)]
#[case::account_number_not(
    r#""NotPrincipal":{"AWS":["222222222222","x"]}"#,
    r#""NotPrincipal":{"AWS":["x","x","arn:aws:iam::222222222222:root"]}"#
)]
#[case::everyone(r#""Principal":"*""#, r#""Principal":{"AWS":["*"]}"#)]
#[case::kinds_of_principals(
    r#""Principal":{"AWS":"x","Service":["y"]}"#,
    r#""Principal":{"Service":"y","AWS":["x"]}"#
)]
// The console writes `"Condition": {}` if there is no condition, as in the article's trust policy.
// "The Condition element (or Condition block)" is optional, and all of its operators must hold, of
// which there are none:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition.html
#[case::empty_condition(r#""Action":"a:B","Condition":{}"#, r#""Action":"a:B""#)]
#[case::case_of_condition_keys(
    r#""Condition":{"bool":{"AWS:SecureTransport":"x"}}"#,
    r#""Condition":{"Bool":{"aws:securetransport":"x"}}"#
)]
#[case::boolean_as_string(
    r#""Condition":{"Bool":{"k":true}}"#,
    r#""Condition":{"Bool":{"k":["true"]}}"#
)]
#[case::number_as_string(
    r#""Condition":{"NumericLessThan":{"k":[5,-1]}}"#,
    r#""Condition":{"NumericLessThan":{"k":["-1","5"]}}"#
)]
#[case::fraction_in_a_list(
    r#""Condition":{"NumericLessThan":{"k":[1.2,2]}}"#,
    r#""Condition":{"NumericLessThan":{"k":["2","1.2"]}}"#
)]
#[case::number_beside_what_is_not_understood(
    r#""Condition":{"NumericEquals":{"k":[1,2],"other":null}}"#,
    r#""Condition":{"NumericEquals":{"k":["1","2"],"other":null}}"#
)]
#[case::arn_equals(
    r#""Condition":{"ArnEquals":{"k":"v*"}}"#,
    r#""Condition":{"ArnLike":{"k":"v*"}}"#
)]
#[case::arn_not_equals(
    r#""Condition":{"ForAllValues:ArnNotEqualsIfExists":{"k":"v"}}"#,
    r#""Condition":{"ForAllValues:ArnNotLikeIfExists":{"k":"v"}}"#
)]
#[case::both_names_of_an_operator(
    r#""Condition":{"ArnEquals":{"a":"v"},"ArnLike":{"b":"w"}}"#,
    r#""Condition":{"ArnLike":{"a":"v","b":"w"}}"#
)]
#[case::case_of_a_truth(
    r#""Condition":{"Bool":{"k":"True"}}"#,
    r#""Condition":{"Bool":{"k":true}}"#
)]
#[case::case_of_truths(
    r#""Condition":{"BoolIfExists":{"k":["TRUE","false"]}}"#,
    r#""Condition":{"BoolIfExists":{"k":[true,false]}}"#
)]
#[case::sid(r#""Sid":"x","Action":"a:B""#, r#""Action":"a:B""#)]
#[case::sid_of_another_form(r#""Sid":["${x}"],"Action":"a:B""#, r#""Action":"a:B""#)]
#[case::order_of_keys_in_the_unknown(
    r#""Odd":{"a":1,"b":[{"c":1,"d":2}]}"#,
    r#""Odd":{"b":[{"d":2,"c":1}],"a":1}"#
)]
fn reworded_documents_have_the_same_meaning(#[case] one: &str, #[case] other: &str) {
    assert!(statement(one).same_meaning(&statement(other)));
}

#[rstest]
#[case::case_of_resources(r#""Resource":"arn:x""#, r#""Resource":"arn:X""#)]
#[case::case_of_values(
    r#""Condition":{"StringEquals":{"k":"v"}}"#,
    r#""Condition":{"StringEquals":{"k":"V"}}"#
)]
#[case::case_of_services(r#""Principal":{"Service":"x"}"#, r#""Principal":{"Service":"X"}"#)]
// The lower-case form of a Kelvin sign is k.
#[case::case_of_other_scripts("\"Action\":\"\u{212a}:b\"", r#""Action":"k:b""#)]
#[case::not_action(r#""NotAction":"a:B""#, r#""Action":"a:B""#)]
#[case::not_resource(r#""NotResource":"x""#, r#""Resource":"x""#)]
#[case::not_principal(r#""NotPrincipal":{"AWS":"x"}"#, r#""Principal":{"AWS":"x"}"#)]
#[case::everyone_is_not_no_one(r#""NotPrincipal":"*""#, r#""Principal":"*""#)]
// Documented only for Principal.
#[case::not_everyone(r#""NotPrincipal":"*""#, r#""NotPrincipal":{"AWS":"*"}"#)]
#[case::everyone_in_a_list(r#""Principal":["*"]"#, r#""Principal":"*""#)]
#[case::everyone_or_a_bare_string(r#""Principal":"*""#, r#""Principal":"222222222222""#)]
#[case::everyone_of_a_service(r#""Principal":"*""#, r#""Principal":{"Service":"*"}"#)]
#[case::everyone_and_someone(r#""Principal":{"AWS":["*","x"]}"#, r#""Principal":"*""#)]
#[case::two_bare_strings(r#""Principal":"x""#, r#""Principal":"y""#)]
#[case::a_bare_string(r#""Principal":"x""#, r#""Principal":{"AWS":"x"}"#)]
#[case::no_principals(r#""Principal":{}"#, r#""Action":"a:B""#)]
#[case::no_principals_of_a_kind(r#""Principal":{"AWS":[]}"#, r#""Principal":{}"#)]
#[case::service_or_account(r#""Principal":{"AWS":"x"}"#, r#""Principal":{"Service":"x"}"#)]
// The ID that remains of a deleted role. A role that is recreated under the same name does not
// match it (reference_policies_elements_principal.html, "IAM role principals").
#[case::a_dead_principal(
    r#""Principal":{"AWS":"AROAEXAMPLEEXAMPLE00"}"#,
    r#""Principal":{"AWS":"arn:aws:iam::222222222222:role/x"}"#
)]
// The number does not identify the partition, and the document's partition is not known here.
#[case::other_partition(
    r#""Principal":{"AWS":"222222222222"}"#,
    r#""Principal":{"AWS":"arn:aws-cn:iam::222222222222:root"}"#
)]
#[case::an_account_of_a_service(
    r#""Principal":{"Service":"222222222222"}"#,
    r#""Principal":{"Service":"arn:aws:iam::222222222222:root"}"#
)]
#[case::an_account_in_a_value(
    r#""Condition":{"StringEquals":{"aws:SourceAccount":"222222222222"}}"#,
    r#""Condition":{"StringEquals":{"aws:SourceAccount":"arn:aws:iam::222222222222:root"}}"#
)]
#[case::an_account_as_a_number(
    r#""Principal":{"AWS":222222222222}"#,
    r#""Principal":{"AWS":"222222222222"}"#
)]
#[case::effect(r#""Effect":"Deny""#, r#""Effect":"Allow""#)]
#[case::effect_in_a_list(r#""Effect":["Allow"]"#, r#""Effect":"Allow""#)]
#[case::effect_by_case(r#""Effect":"allow""#, r#""Effect":"Allow""#)]
#[case::action_that_is_no_string(r#""Action":["a:B",true]"#, r#""Action":["a:B","true"]"#)]
#[case::resource_that_is_no_string(r#""Resource":1"#, r#""Resource":"1""#)]
#[case::all_actions_of_all_services(r#""Action":"*""#, r#""Action":"*:*""#)]
#[case::two_stars(r#""Action":"ecr:*""#, r#""Action":"ecr:**""#)]
#[case::a_star_and_what_it_covers(r#""Action":["ecr:*","ecr:PutImage"]"#, r#""Action":"ecr:*""#)]
#[case::all_resources_and_all_arns(r#""Resource":"*""#, r#""Resource":"arn:*""#)]
#[case::no_resource(r#""Resource":"*""#, "")]
#[case::empty_list(r#""Resource":[]"#, "")]
#[case::fewer_conditions(r#""Condition":{"StringEquals":{"k":"v"}}"#, r#""Condition":{}"#)]
#[case::operator(
    r#""Condition":{"StringEquals":{"k":"v"}}"#,
    r#""Condition":{"StringLike":{"k":"v"}}"#
)]
#[case::operator_with_a_set(
    r#""Condition":{"ForAnyValue:StringEquals":{"k":"v"}}"#,
    r#""Condition":{"ForAllValues:StringEquals":{"k":"v"}}"#
)]
#[case::operator_if_exists(
    r#""Condition":{"BoolIfExists":{"k":"v"}}"#,
    r#""Condition":{"Bool":{"k":"v"}}"#
)]
#[case::operator_without_a_key(r#""Condition":{"StringEquals":{}}"#, r#""Condition":{}"#)]
#[case::key_without_a_value(r#""Condition":{"StringEquals":{"k":[]}}"#, r#""Condition":{}"#)]
#[case::null_as_a_value(
    r#""Condition":{"StringEquals":{"k":null}}"#,
    r#""Condition":{"StringEquals":{"k":"null"}}"#
)]
#[case::fraction(
    r#""Condition":{"NumericEquals":{"k":1.0}}"#,
    r#""Condition":{"NumericEquals":{"k":"1.0"}}"#
)]
#[case::case_of_a_truth_as_a_text(
    r#""Condition":{"StringEquals":{"k":"True"}}"#,
    r#""Condition":{"StringEquals":{"k":"true"}}"#
)]
#[case::case_of_nullness(
    r#""Condition":{"Null":{"k":"True"}}"#,
    r#""Condition":{"Null":{"k":"true"}}"#
)]
#[case::another_fraction(
    r#""Condition":{"NumericEquals":{"k":[1.2]}}"#,
    r#""Condition":{"NumericEquals":{"k":"1.20"}}"#
)]
#[case::the_arn_of_another_operator(
    r#""Condition":{"ArnEquals":{"k":"v"}}"#,
    r#""Condition":{"StringLike":{"k":"v"}}"#
)]
#[case::not_the_arn(
    r#""Condition":{"ArnNotEquals":{"k":"v"}}"#,
    r#""Condition":{"ArnLike":{"k":"v"}}"#
)]
#[case::two_operators_for_one_key(
    r#""Condition":{"ArnEquals":{"k":"a"},"ArnLike":{"k":"b"}}"#,
    r#""Condition":{"ArnLike":{"k":["a","b"]}}"#
)]
#[case::unknown_key(r#""Action":"a:B","Odd":1"#, r#""Action":"a:B""#)]
#[case::unknown_keys_list(r#""Odd":["a","b"]"#, r#""Odd":["b","a"]"#)]
#[case::case_of_an_element(r#""action":"a:B""#, r#""Action":"a:B""#)]
#[case::keys_that_differ_by_case(
    r#""Condition":{"Bool":{"K":"a","k":"b"}}"#,
    r#""Condition":{"Bool":{"k":"b"}}"#
)]
#[case::operators_that_differ_by_case(
    r#""Condition":{"Bool":{"k":"a"},"bool":{"k":"b"}}"#,
    r#""Condition":{"Bool":{"k":["a","b"]}}"#
)]
fn different_documents_have_different_meanings(#[case] one: &str, #[case] other: &str) {
    assert!(!statement(one).same_meaning(&statement(other)));
}

const PLAIN: &str = r#"{"Resource":"x"}"#;
const VARIABLE: &str = r#"{"Resource":"${aws:username}"}"#;

#[rstest]
#[case::without_variables(
    r#""Version":"2008-10-17","#,
    r#""Version":"2012-10-17","#,
    PLAIN,
    true
)]
#[case::with_variables(
    r#""Version":"2008-10-17","#,
    r#""Version":"2012-10-17","#,
    VARIABLE,
    false
)]
#[case::in_a_condition(
    r#""Version":"2008-10-17","#,
    r#""Version":"2012-10-17","#,
    r#"{"Condition":{"StringLike":{"k":["${*}"]}}}"#,
    false
)]
#[case::in_something_unknown(
    r#""Version":"2008-10-17","#,
    r#""Version":"2012-10-17","#,
    r#"{"Odd":{"${":1}}"#,
    false
)]
#[case::in_a_sid(
    r#""Version":"2008-10-17","#,
    r#""Version":"2012-10-17","#,
    r#"{"Sid":"${x}"}"#,
    true
)]
#[case::absent_is_the_old_one("", r#""Version":"2008-10-17","#, VARIABLE, true)]
#[case::absent_is_not_the_new_one("", r#""Version":"2012-10-17","#, VARIABLE, false)]
#[case::unknown_is_another(
    r#""Version":"2031-01-01","#,
    r#""Version":"2012-10-17","#,
    PLAIN,
    false
)]
#[case::unknown_is_itself(
    r#""Version":"2031-01-01","#,
    r#""Version":"2031-01-01","#,
    VARIABLE,
    true
)]
#[case::null_is_not_absent(r#""Version":null,"#, "", PLAIN, false)]
#[case::ids_do_not_matter(r#""Id":"a","#, r#""Id":"${b}","Version":"2012-10-17","#, PLAIN, true)]
#[case::unknown_fields_matter(r#""Odd":1,"#, "", PLAIN, false)]
fn version_and_other_fields_are_compared_as_documented(
    #[case] one: &str,
    #[case] other: &str,
    #[case] statement: &str,
    #[case] same: bool,
) {
    let document =
        |fields| Document::parse(&format!(r#"{{{fields}"Statement":{statement}}}"#)).unwrap();
    assert_eq!(document(one).same_meaning(&document(other)), same);
}

#[test]
fn repeated_statement_means_the_same_as_one() {
    let one = Document::parse(r#"{"Statement":[{"Sid":"a","Action":"a:B"},{"Action":["A:b"]}]}"#)
        .unwrap();
    let other = Document::parse(r#"{"Statement":{"Action":"a:B"}}"#).unwrap();
    assert!(one.same_meaning(&other));
}

#[test]
fn canonical_forms_of_equal_meanings_are_equal() {
    let one = r#"{"Statement":[{"Sid":"b","Effect":"Allow","Principal":{"AWS":["222222222222"]},"Action":["ECR:b","ecr:A"]},
        {"Sid":"a","Effect":"Deny","Principal":"*","Action":"*","Condition":{"Bool":{"aws:SecureTransport":false}}}]}"#;
    insta::assert_snapshot!(Document::parse(one).unwrap().canonical(), @r#"{"Statement":[{"Action":"*","Condition":{"bool":{"aws:securetransport":"false"}},"Effect":"Deny","Principal":{"AWS":"*"},"Sid":"a"},{"Action":["ecr:a","ecr:b"],"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222222222222:root"},"Sid":"b"}],"Version":"2012-10-17"}"#);
}
