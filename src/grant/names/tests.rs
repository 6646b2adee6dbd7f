//! Names that are accepted, and how names that are too long are shortened.

use super::*;
use crate::api::admission::refusals_of_grant;
use proptest::prelude::*;
use rstest::rstest;

#[rstest]
#[case("team-b/web", "team-b/web", true)]
#[case("team-b/web", "team-b/web2", false)]
#[case("team-b/*", "team-b/web", true)]
#[case("team-b/*", "team-b/*", true)]
#[case("team-b/*", "team-b/x*", true)]
#[case("team-b/*", "team-*", false)]
#[case("team-b/*", "team-bad/web", false)]
#[case("team-b/web", "team-b/*", false)]
#[case("*", "anything/*", true)]
fn pattern_covers_only_what_is_inside_it(
    #[case] rule: &str,
    #[case] asked: &str,
    #[case] covered: bool,
) {
    let pattern = |text: &str| text.parse::<RepositoryPattern>().unwrap();
    assert_eq!(pattern(rule).covers(&pattern(asked)), covered);
}

#[rstest]
#[case("UPPER")]
#[case("a*b")]
#[case("*a")]
#[case("")]
#[case("a")]
#[case("a b")]
#[case("team--b/web")]
#[case("team__b/web")]
#[case("team-b//web")]
#[case("/team-b/web")]
#[case("team-b/web/")]
#[case("-web")]
#[case("web-")]
#[case("team-b/web.-x")]
#[case("quay/foo__bar")]
#[case("web:latest")]
#[case("/*")]
#[case("web--*")]
#[case("team-b//*")]
#[case("-*")]
fn malformed_repository_pattern_is_refused(#[case] text: &str) {
    assert!(text.parse::<RepositoryPattern>().is_err());
}

#[rstest]
#[case("a/b/c/d/e/f")]
#[case("1web")]
#[case("team_b/we.b")]
#[case("team-b/*")]
#[case("team-b/web-*")]
#[case("team-b/web_*")]
#[case("w*")]
#[case("*")]
fn repository_pattern_accepts_what_ecr_accepts(#[case] text: &str) {
    assert_eq!(text.parse::<RepositoryPattern>().unwrap().to_string(), text);
}

/// Generates names from pieces, valid and invalid.
fn pieces() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        proptest::sample::select(vec!["a", "web", "0", ".", "_", "-", "/", "*", "A", ":"]),
        0..7,
    )
    .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(crate::policy::tests::cases(300))]
    #[test]
    fn schema_and_parser_accept_the_same_repositories(text in pieces()) {
        let grant = serde_json::json!({"metadata": {"name": "x"}, "spec": {
            "access": "Pull",
            "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": [text]},
            "consumer": {"accountID": "222222222222", "wholeAccount": true},
        }});
        let refusals = refusals_of_grant(grant);
        // A separate rule refuses a grant of everything.
        prop_assert_eq!(text.parse::<RepositoryPattern>().is_ok() && text != "*", refusals.is_empty(), "{:?}", refusals);
    }
}

#[rstest]
#[case("11111111111")]
#[case("1111111111111")]
#[case("11111111111a")]
#[case("١١١١١١١١١١١١")]
fn malformed_account_id_is_refused(#[case] text: &str) {
    assert!(text.parse::<AccountId>().is_err());
}

#[rstest]
#[case("o-a1b2c3d4e5", "o-a1b2c3d4e5", true)]
#[case("o-a1b2c3d4e5", "o-a1b2c3d4e6", false)]
#[case("o-a1b2c3d4e5", "o-a1b2c3d4e5/r-ab12/*", true)]
#[case("o-a1b2c3d4e5", "o-a1b2c3d4e6/r-ab12/*", false)]
#[case("o-a1b2c3d4e5/r-ab12/*", "o-a1b2c3d4e5", false)]
#[case("o-a1b2c3d4e5/r-ab12/*", "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/", true)]
#[case(
    "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*",
    "o-a1b2c3d4e5/r-ab12/*",
    false
)]
#[case(
    "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*",
    "o-a1b2c3d4e5/r-ab12/ou-ab12-111111112/*",
    false
)]
#[case(
    "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/",
    "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*",
    false
)]
fn organization_covers_only_what_is_inside_it(
    #[case] rule: &str,
    #[case] asked: &str,
    #[case] covered: bool,
) {
    let organization = |text: &str| text.parse::<Organization>().unwrap();
    assert_eq!(organization(rule).covers(&organization(asked)), covered);
}

#[rstest]
#[case("")]
#[case("*")]
#[case("o-*")]
#[case("o-short")]
#[case("a1b2c3d4e5")]
#[case("O-a1b2c3d4e5")]
#[case("o-a1b2c3d4e5/")]
#[case("o-a1b2c3d4e5/*")]
#[case("o-a1b2c3d4e5/r-ab12")]
#[case("o-a1b2c3d4e5/r-ab12*")]
#[case("o-a1b2c3d4e5/r-ab12/ou-ab12-11111111*")]
#[case("o-a1b2c3d4e5/r-ab12/*/ou-ab12-11111111/")]
#[case("o-a1b2c3d4e5/ou-ab12-11111111/")]
#[case("o-a1b2c3d4e5/r-ab12/ou-ab12-${x}/")]
fn malformed_organization_is_refused(#[case] text: &str) {
    assert!(text.parse::<Organization>().is_err());
}

#[rstest]
#[case("team-b/web", true)]
#[case("team-b/web.v2", true)]
#[case("team-b", false)]
#[case("team-b/", false)]
#[case("/web", false)]
#[case("team-b/web/x", false)]
#[case("Team-b/web", false)]
#[case("team-b/-web", false)]
#[case("team-b/web..v2", false)]
#[case("a/éééééééé", false)]
#[case("a/ web", false)]
fn grant_name_from_a_tag_must_be_valid_in_kubernetes(#[case] tag: &str, #[case] is_one: bool) {
    let parsed = tag.parse::<GrantName>();
    assert_eq!(parsed.is_ok(), is_one);
    assert!(parsed.is_err() || parsed.unwrap().to_string() == tag);
    let longest = format!("{}/{}", "n".repeat(63), "g".repeat(253));
    assert!(longest.parse::<GrantName>().is_ok());
    assert!(
        format!("n{longest}").parse::<GrantName>().is_err()
            && format!("{longest}g").parse::<GrantName>().is_err()
    );
}

#[test]
fn session_name_contains_the_namespace_fits_and_is_unique() {
    let installation: Installation = "0123456789ab".parse().unwrap();
    assert_eq!(
        session_name(&installation, Some("team-b")),
        "team-b@0123456789ab"
    );
    assert_eq!(
        session_name(&installation, None),
        "registry-grants@0123456789ab"
    );
    let fits = "n".repeat(51);
    assert_eq!(
        session_name(&installation, Some(&fits)),
        format!("{fits}@0123456789ab")
    );
    let long = |end: &str| session_name(&installation, Some(&format!("{}{end}", "n".repeat(62))));
    assert!(
        long("a").len() == 64 && long("a").ends_with("@0123456789ab"),
        "{}",
        long("a")
    );
    assert_ne!(long("a"), long("b"));
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(namespace: String, name: String, longest: usize) {
        let installation = Installation::of_cluster("x");
        let _ = format!("{namespace}/{name}").parse::<GrantName>();
        let grant = GrantName { namespace: namespace.clone(), name };
        proptest::prop_assert!(grant.in_aws(&installation, longest).len() <= longest.max(11));
        proptest::prop_assert!(session_name(&installation, Some(&namespace)).len() <= 64);
    }
}

#[test]
fn truncated_names_in_aws_stay_distinct() {
    let installation = Installation::of_cluster("x");
    let name = |name: &str| {
        GrantName {
            namespace: "n".repeat(63),
            name: name.into(),
        }
        .in_aws(&installation, 64)
    };
    assert!(name("a").len() <= 64);
    assert_ne!(name("a"), name("b"));
}
