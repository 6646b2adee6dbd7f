//! The kind of policy that denied a call, according to AWS's error text, and a hint to fix it. The
//! text is only a hint for people; the operator decides nothing by it.

use crate::grant::AccountId;
use std::fmt;

/// The kinds of policies that AWS names in its error texts, and the people who can change each.
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
        "the admins of the network that the operator runs in",
    ),
    ("permissions boundary", "the account's admins"),
    ("session policy", "the account's admins"),
    ("resource-based policy", "the account's admins"),
    ("identity-based policy", "the account's admins"),
];

/// The reason that a call was denied, and the way to allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial<'a> {
    /// Whether a `Deny` statement denied the call. If so, no `Allow` elsewhere helps.
    explicit: bool,
    /// The kind of policy and the people who can change it, if AWS names the kind.
    kind: Option<(&'static str, &'static str)>,
    action: &'a str,
    account: &'a AccountId,
}

impl<'a> Denial<'a> {
    /// Parses AWS's error text about a call of this action in this account. Source:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>.
    pub fn of(text: &str, action: &'a str, account: &'a AccountId) -> Self {
        let lowercase = text.to_lowercase();
        let kind = KINDS
            .into_iter()
            .find(|(kind, _)| lowercase.contains(&kind.to_lowercase()));
        Self {
            explicit: lowercase.contains("explicit deny"),
            kind,
            action,
            account,
        }
    }

    /// Returns whether a `Deny` statement denied the call.
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
        match kind {
            Some((kind, admins)) if *explicit => write!(
                f,
                "A Deny statement in {article} {kind} denies {action}, so no Allow elsewhere helps: {admins} can exempt the operator's role in account {account} from it"
            ),
            None if *explicit => write!(
                f,
                "A Deny statement denies {action}, so no Allow elsewhere helps: find it among the policies of account {account} and of its organization, and exempt the operator's role from it"
            ),
            Some((kind, admins)) if !is_of_the_role(kind) => write!(
                f,
                "A {kind} does not allow {action}, and a policy of the operator's role alone cannot: {admins} can allow it there for the operator's role in account {account}"
            ),
            Some(_) | None => write!(
                f,
                "Allow {action} to the operator's role in account {account}"
            ),
        }
    }
}

/// Returns whether a policy of the operator's role can grant the permission although no policy of
/// this kind does: an identity-based policy is a policy of the role, and it makes up for a missing
/// resource-based one.
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
    fn denial_hint_depends_on_the_kind_of_policy(
        #[case] text: &str,
        #[case] explicit: bool,
        #[case] hint: &str,
    ) {
        let account = "111111111111".parse().unwrap();
        let denial = Denial::of(text, "ecr:X", &account);
        assert_eq!(denial.is_explicit(), explicit);
        let shown = denial.to_string();
        assert!(shown.contains(hint), "{shown}");
        assert!(
            !explicit || !shown.to_lowercase().contains("allow ecr:x"),
            "{shown}"
        );
    }
}
