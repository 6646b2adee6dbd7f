//! Tests of complete and incomplete answers.

use super::table::{ANSWERS, Presence, Protocol};
use super::{Incomplete, check};
use proptest::prelude::*;
use rstest::rstest;

const POLICY: &str = r#"{"registryId":"111111111111","repositoryName":"app","policyText":"{}"}"#;
const ASKED_POLICY: &str = r#"{"registryId":"111111111111","repositoryName":"app"}"#;

fn of_policy(answer: &str) -> Result<(), Incomplete> {
    check(
        "GetRepositoryPolicy",
        ASKED_POLICY.as_bytes(),
        answer.as_bytes(),
    )
}

/// Builds the answer of an IAM operation.
fn xml(operation: &str, result: &str) -> String {
    format!(
        "<{operation}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><{operation}Result>{result}</{operation}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{operation}Response>"
    )
}

fn of_iam(operation: &str, request: &str, result: &str) -> Result<(), Incomplete> {
    check(
        operation,
        request.as_bytes(),
        xml(operation, result).as_bytes(),
    )
}

const ROLE: &str = "<Role><Path>/registry-grants/</Path><RoleName>puller</RoleName><RoleId>AROA1</RoleId><Arn>arn:aws:iam::111111111111:role/registry-grants/puller</Arn><AssumeRolePolicyDocument>%7B%7D</AssumeRolePolicyDocument></Role>";

fn missing(field: &str) -> Result<(), Incomplete> {
    Err(Incomplete::Missing(field.into()))
}

#[test]
fn complete_answers_are_accepted() {
    assert_eq!(of_policy(POLICY), Ok(()));
    assert_eq!(
        of_iam("GetRole", "Action=GetRole&RoleName=puller", ROLE),
        Ok(())
    );
    assert_eq!(
        of_iam("GetRole", "Action=GetRole&RoleName=Puller", ROLE),
        Ok(()),
        "IAM's names have no case"
    );
    let tagged = ROLE.replace(
        "</Role>",
        "<Tags><member><Key>team</Key><Value></Value></member></Tags></Role>",
    );
    assert_eq!(of_iam("GetRole", "RoleName=puller", &tagged), Ok(()));
    let empty = "<IsTruncated>false</IsTruncated><AttachedPolicies/>";
    assert_eq!(
        of_iam("ListAttachedRolePolicies", "RoleName=puller", empty),
        Ok(())
    );
    assert_eq!(
        check(
            "DeleteRole",
            b"",
            b"<DeleteRoleResponse><ResponseMetadata/></DeleteRoleResponse>"
        ),
        Ok(())
    );
    assert_eq!(
        check("DescribeRepositories", b"{}", br#"{"repositories":[]}"#),
        Ok(())
    );
}

#[rstest]
#[case::empty_body("", Incomplete::NoAnswer("GetRepositoryPolicy".into()))]
#[case::no_object("[]", Incomplete::NoAnswer("GetRepositoryPolicy".into()))]
#[case::a_page_of_a_proxy("<html>busy</html>", Incomplete::NoAnswer("GetRepositoryPolicy".into()))]
#[case::cut_off(r#"{"registryId":"111111111111","repositoryName":"app""#, Incomplete::NoAnswer("GetRepositoryPolicy".into()))]
#[case::no_policy(r#"{"registryId":"111111111111","repositoryName":"app"}"#, Incomplete::Missing("policyText".into()))]
#[case::empty_policy(
    r#"{"registryId":"111111111111","repositoryName":"app","policyText":""}"#,
    Incomplete::Missing("policyText".into())
)]
#[case::null(
    r#"{"registryId":"111111111111","repositoryName":"app","policyText":null}"#,
    Incomplete::Missing("policyText".into())
)]
#[case::an_error(r#"{"__type":"RepositoryPolicyNotFoundException"}"#, Incomplete::Missing("registryId".into()))]
#[case::another_repository(
    r#"{"registryId":"111111111111","repositoryName":"web","policyText":"{}"}"#,
    Incomplete::OfAnother("repositoryName".into())
)]
#[case::another_case(
    r#"{"registryId":"111111111111","repositoryName":"App","policyText":"{}"}"#,
    Incomplete::OfAnother("repositoryName".into())
)]
#[case::another_account(
    r#"{"registryId":"222222222222","repositoryName":"app","policyText":"{}"}"#,
    Incomplete::OfAnother("registryId".into())
)]
fn malformed_repository_policy_answers_are_rejected(
    #[case] answer: &str,
    #[case] wrong: Incomplete,
) {
    assert_eq!(of_policy(answer), Err(wrong));
}

#[test]
fn missing_list_is_not_an_empty_list() {
    assert_eq!(
        check("DescribeRepositories", b"{}", b"{}"),
        missing("repositories")
    );
    assert_eq!(
        check("DescribeRepositories", b"{}", br#"{"repositories":{}}"#),
        missing("repositories")
    );
    let nameless = br#"{"repositories":[{"repositoryName":"app"},{}]}"#;
    assert_eq!(
        check("DescribeRepositories", b"{}", nameless),
        missing("repositories[].repositoryName")
    );
    let truncated = "<IsTruncated>false</IsTruncated>";
    for (operation, list) in [
        ("ListRoles", "Roles"),
        ("ListRoleTags", "Tags"),
        ("ListRolePolicies", "PolicyNames"),
        ("ListAttachedRolePolicies", "AttachedPolicies"),
        ("ListInstanceProfiles", "InstanceProfiles"),
        ("ListInstanceProfilesForRole", "InstanceProfiles"),
        ("ListInstanceProfileTags", "Tags"),
    ] {
        assert_eq!(
            of_iam(operation, "", truncated),
            missing(list),
            "{operation}"
        );
        assert_eq!(
            of_iam(operation, "", &format!("<{list}/>{truncated}")),
            Ok(()),
            "{operation}"
        );
        assert_eq!(
            of_iam(operation, "", &format!("<{list}/>")),
            missing("IsTruncated"),
            "{operation}"
        );
        let cut_off = format!("<{list}/><IsTruncated>true</IsTruncated>");
        assert_eq!(
            of_iam(operation, "", &cut_off),
            missing("Marker"),
            "{operation}"
        );
        let no_list = format!("<{list}>text</{list}>{truncated}");
        assert_eq!(
            of_iam(operation, "", &no_list),
            missing(list),
            "{operation}"
        );
    }
}

#[test]
fn answer_of_another_operation_or_role_is_rejected() {
    let no_answer = Err(Incomplete::NoAnswer("GetRole".into()));
    for body in [
        "",
        "<ErrorResponse/>",
        "<GetRoleResponse/>",
        "{}",
        "<GetRoleResponse>",
        "\u{0}",
    ] {
        assert_eq!(
            check("GetRole", b"RoleName=puller", body.as_bytes()),
            no_answer,
            "{body}"
        );
    }
    assert_eq!(
        check(
            "GetRole",
            b"RoleName=puller",
            xml("ListRoles", ROLE).as_bytes()
        ),
        no_answer
    );
    assert_eq!(
        of_iam("GetRole", "RoleName=other", ROLE),
        Err(Incomplete::OfAnother("Role.RoleName".into()))
    );
    assert_eq!(
        of_iam("GetRole", "", ROLE),
        Err(Incomplete::OfAnother("Role.RoleName".into()))
    );
    let deleted = b"<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>";
    assert_eq!(
        check("DeleteRole", b"", deleted),
        Err(Incomplete::NoAnswer("DeleteRole".into()))
    );
    assert_eq!(
        check("DeleteRole", b"", b""),
        Err(Incomplete::NoAnswer("DeleteRole".into()))
    );
    assert_eq!(
        check("PutImage", b"", b"{}"),
        Err(Incomplete::Unlisted("PutImage".into()))
    );
}

#[test]
fn escaped_characters_in_names_are_decoded() {
    let result = "<RoleName>a</RoleName><PolicyName>a&#43;b&#x2b;c&amp;d</PolicyName><PolicyDocument>x</PolicyDocument>";
    assert_eq!(
        of_iam(
            "GetRolePolicy",
            "RoleName=a&PolicyName=a%2Bb%2Bc%26d",
            result
        ),
        Ok(())
    );
}

/// Builds a complete answer according to the table, without this field.
fn without(operation: &str, left_out: Option<&str>) -> String {
    let answer = ANSWERS
        .iter()
        .find(|answer| answer.operation == operation)
        .unwrap();
    assert_eq!(answer.protocol, Protocol::Query);
    // Items of lists have their own rows, which are left out here: the lists are empty.
    let rows = answer
        .fields
        .iter()
        .filter(|(path, _)| !path.contains("[]") && Some(*path) != left_out);
    let text = |presence: Presence| match presence {
        Presence::List | Presence::MayBeAbsent(_) => "",
        Presence::Truncated => "false",
        Presence::Always | Presence::Text | Presence::Repeats(_) => "x",
    };
    let mut around = std::collections::BTreeMap::<&str, String>::new();
    for (path, presence) in rows {
        let (outside, name) = path.split_once('.').unwrap_or(("", path));
        around
            .entry(outside)
            .or_default()
            .push_str(&format!("<{name}>{}</{name}>", text(*presence)));
    }
    let result: String = around
        .into_iter()
        .map(|(name, inside)| {
            if name.is_empty() {
                inside
            } else {
                format!("<{name}>{inside}</{name}>")
            }
        })
        .collect();
    xml(operation, &result)
}

#[test]
fn every_listed_field_is_missed_when_absent() {
    const REQUEST: &[u8] = b"RoleName=x&PolicyName=x&InstanceProfileName=x&PolicyArn=x&VersionId=x";
    for answer in ANSWERS
        .iter()
        .filter(|answer| answer.protocol == Protocol::Query && !answer.fields.is_empty())
    {
        let operation = answer.operation;
        assert_eq!(
            check(operation, REQUEST, without(operation, None).as_bytes()),
            Ok(()),
            "{operation}"
        );
        for (path, presence) in answer
            .fields
            .iter()
            .filter(|(path, _)| !path.contains("[]"))
        {
            let checked = check(
                operation,
                REQUEST,
                without(operation, Some(path)).as_bytes(),
            );
            match presence {
                Presence::MayBeAbsent(_) => assert_eq!(checked, Ok(()), "{operation} {path}"),
                _ => assert!(checked.is_err(), "{operation} {path}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn checking_any_answer_never_panics(which in 0..ANSWERS.len(), request: Vec<u8>, answer: Vec<u8>, text in "[<>/a-zA-Z{}\\[\\]\":,& ;#]{0,200}") {
        let operation = ANSWERS[which].operation;
        let _ = check(operation, &request, &answer);
        let _ = check(operation, &request, text.as_bytes());
        let _ = check(operation, text.as_bytes(), xml(operation, &text).as_bytes());
    }

    #[test]
    fn truncated_body_is_rejected(end in 0..POLICY.len()) {
        prop_assert!(of_policy(&POLICY[..end]).is_err());
        let whole = xml("GetRole", ROLE);
        let end = end * whole.len() / POLICY.len();
        prop_assert!(check("GetRole", b"RoleName=puller", &whole.as_bytes()[..end]).is_err());
    }
}
