//! What kind of policy denied a call, by AWS's own words, and what helps against it. The words are
//! a hint for people; nothing is decided by them.

use crate::grant::AccountId;
use std::fmt;

/// The kinds of policies that AWS names in its texts, and who can change one.
const KINDS: [(&str, &str); 7] = [
    (
        "service control policy",
        "the admins of the account's organization",
    ),
    (
        "resource control policy",
        "the admins of the account's organization",
    ),
    (
        "VPC endpoint policy",
        "whoever runs the network that the operator is in",
    ),
    ("permissions boundary", "the account's admins"),
    ("session policy", "the account's admins"),
    ("resource-based policy", "the account's admins"),
    ("identity-based policy", "the account's admins"),
];

/// Why a call was denied, and in which way it may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial<'a> {
    /// Whether a statement with `Deny` said so: then nothing that allows the call helps.
    explicit: bool,
    /// The kind of policy, and who can change it, where AWS says so.
    kind: Option<(&'static str, &'static str)>,
    action: &'a str,
    account: &'a AccountId,
}

impl<'a> Denial<'a> {
    /// By AWS's text about a call of this action in this account.
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>.
    pub fn of(text: &str, action: &'a str, account: &'a AccountId) -> Self {
        let text = text.to_lowercase();
        let kind = KINDS
            .into_iter()
            .find(|(kind, _)| text.contains(&kind.to_lowercase()));
        Self {
            explicit: text.contains("explicit deny"),
            kind,
            action,
            account,
        }
    }

    /// Whether a statement with `Deny` said so.
    pub fn is_explicit(&self) -> bool {
        self.explicit
    }
}

impl fmt::Display for Denial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            explicit,
            kind,
            action,
            account,
        } = self;
        let article = if kind.is_some_and(|(kind, _)| kind.starts_with('i')) {
            "an"
        } else {
            "a"
        };
        match (explicit, kind) {
            (true, Some((kind, admins))) => write!(
                f,
                "A statement with Deny in {article} {kind} denies {action}, so no Allow elsewhere helps: {admins} can exempt the operator's role in account {account} from it"
            ),
            (true, None) => write!(
                f,
                "A Deny statement denies {action}, so no Allow elsewhere helps: find it among the policies of account {account} and of its organization, and exempt the operator's role from it"
            ),
            (false, Some((kind, admins))) if !is_of_the_role(kind) => write!(
                f,
                "A {kind} does not allow {action}, and a policy of the operator's role alone cannot: {admins} can allow it there for the operator's role in account {account}"
            ),
            (false, _) => write!(
                f,
                "Allow {action} to the operator's role in account {account}"
            ),
        }
    }
}

/// Whether the operator's own permissions are of this kind, or make up for what is missing there.
fn is_of_the_role(kind: &str) -> bool {
    matches!(kind, "identity-based policy" | "resource-based policy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::region_deny(
        "is not authorized to perform: ecr:X on resource: r with an explicit deny in a service control policy",
        true,
        "in a service control policy denies"
    )]
    #[case::by_the_role(
        "… with an explicit deny in an identity-based policy: arn:aws:iam::111111111111:policy/no",
        true,
        "in an identity-based policy denies"
    )]
    #[case::by_whom_it_does_not_say("… with an explicit deny", true, "A Deny statement denies")]
    #[case::not_allowed(
        "… because no identity-based policy allows the ecr:X action",
        false,
        "Allow ecr:X to the operator's role"
    )]
    #[case::not_by_the_boundary(
        "… because no permissions boundary allows the ecr:X action",
        false,
        "A permissions boundary does not allow"
    )]
    #[case::not_by_the_organization(
        "… because no service control policy allows the ecr:X action",
        false,
        "A service control policy does not allow"
    )]
    #[case::not_by_the_endpoint(
        "… because no VPC endpoint policy allows the ecr:X action",
        false,
        "A VPC endpoint policy does not allow"
    )]
    #[case::nothing_said(
        "Access Denied",
        false,
        "Allow ecr:X to the operator's role in account 111111111111"
    )]
    fn a_hint_respects_the_kind_of_denial(
        #[case] text: &str,
        #[case] explicit: bool,
        #[case] hint: &str,
    ) {
        let account = "111111111111".parse().unwrap();
        let denial = Denial::of(text, "ecr:X", &account);
        assert_eq!(denial.is_explicit(), explicit);
        let told = denial.to_string();
        assert!(told.contains(hint), "{told}");
        assert!(
            !explicit || !told.to_lowercase().contains("allow ecr:x"),
            "{told}"
        );
    }
}
