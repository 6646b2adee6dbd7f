//! Amazon Resource Names: parsing, and those that we write. Source:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>.

/// An ARN's components after `arn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arn<'a> {
    /// The partition, such as `aws`.
    pub partition: &'a str,
    /// The service, such as `iam`.
    pub service: &'a str,
    /// The region; empty for services that have none, such as IAM.
    pub region: &'a str,
    /// The account number; empty or `aws` for some resources.
    pub account: &'a str,
    /// All that follows the fifth colon.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Parses an ARN. Only the number of components and the first of them are checked.
    pub fn parse(text: &'a str) -> Option<Self> {
        text.starts_with("arn:")
            .then(|| Self::parse_leniently(text))?
    }

    /// Parses a text of six components, whatever the first one is. IAM stores no other ARN, so this
    /// is for texts whose form is not ours to check.
    pub fn parse_leniently(text: &'a str) -> Option<Self> {
        let mut components = text.splitn(6, ':').skip(1);
        Some(Self {
            partition: components.next()?,
            service: components.next()?,
            region: components.next()?,
            account: components.next()?,
            resource: components.next()?,
        })
    }

    /// Returns the component in the partition's place, even if the text is not a complete ARN.
    pub fn partition_of(text: &'a str) -> Option<&'a str> {
        text.split(':').nth(1)
    }

    /// Returns the component in the account's place, even if the text is not a complete ARN.
    pub fn account_of(text: &'a str) -> Option<&'a str> {
        text.split(':').nth(4)
    }

    /// Returns whether a text begins like the ARNs of a partition.
    pub fn is_in(text: &str, partition: &str) -> bool {
        text.strip_prefix("arn:")
            .and_then(|rest| rest.strip_prefix(partition))
            .is_some_and(|rest| rest.starts_with(':'))
    }

    /// Returns the root of the account to which a principal belongs. For a bare account number,
    /// this holds in the partition `aws`; elsewhere the number does not identify the partition.
    pub fn root_of(principal: &str) -> Option<String> {
        if is_account_number(principal) {
            return Some(Self::root("aws", principal));
        }
        match Arn::parse(principal)? {
            Arn {
                partition,
                service: "iam" | "sts",
                region: "",
                account,
                resource: _,
            } => Some(Self::root(partition, account)),
            _ => None,
        }
    }

    /// Creates the ARN of an account's root.
    pub fn root(partition: &str, account: &str) -> String {
        Self::iam(partition, account, "root")
    }

    /// Creates the ARN of a role. The path begins and ends with `/`; path and name may be patterns.
    pub fn role(partition: &str, account: &str, path: &str, name: &str) -> String {
        Self::iam(partition, account, &format!("role{path}{name}"))
    }

    /// Creates the ARN of an IAM resource, such as `policy/NAME`.
    pub fn iam(partition: &str, account: &str, resource: &str) -> String {
        format!("arn:{partition}:iam::{account}:{resource}")
    }

    /// Creates the ARN of an ECR repository, or a pattern for several.
    pub fn repository(partition: &str, region: &str, account: &str, name: &str) -> String {
        format!("arn:{partition}:ecr:{region}:{account}:repository/{name}")
    }

    /// Creates the ARN of a Lambda function, or a pattern for several.
    pub fn function(partition: &str, region: &str, account: &str, name: &str) -> String {
        format!("arn:{partition}:lambda:{region}:{account}:function:{name}")
    }
}

/// Returns whether a text is a bare account number: 12 digits.
pub fn is_account_number(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Texts that AWS never returns, besides some that it does.
    const TEXTS: [&str; 15] = [
        "",
        ":",
        ":::::",
        "*",
        "222222222222",
        "arn",
        "arn:",
        "arn:aws",
        "arn:aws:",
        "arn:aws:iam::222222222222",
        "arn:aws:iam::222222222222:",
        "arn:aws-cn:iam::222222222222:root",
        "arn:aws:lambda:eu-west-1:222222222222:function:a:b",
        "ARN:aws:iam::222222222222:root",
        "lambda.amazonaws.com",
    ];

    #[test]
    fn arn_malformed_is_split_as_by_splitn() {
        for text in TEXTS {
            let parts: Vec<&str> = text.splitn(6, ':').collect();
            let joined = Arn::parse_leniently(text).map(
                |Arn {
                     partition,
                     service,
                     region,
                     account,
                     resource,
                 }| vec![parts[0], partition, service, region, account, resource],
            );
            assert_eq!(
                joined,
                (parts.len() == 6).then_some(parts.clone()),
                "{text}"
            );
            let is_arn = parts.len() == 6 && parts[0] == "arn";
            assert_eq!(Arn::parse(text).is_some(), is_arn, "{text}");
        }
    }

    #[test]
    fn arn_incomplete_still_has_components() {
        for text in TEXTS {
            let parts: Vec<&str> = text.split(':').collect();
            assert_eq!(Arn::partition_of(text), parts.get(1).copied(), "{text}");
            assert_eq!(Arn::account_of(text), parts.get(4).copied(), "{text}");
            for partition in ["", "aws", "aws-cn"] {
                let expected = text.starts_with(&format!("arn:{partition}:"));
                assert_eq!(Arn::is_in(text, partition), expected, "{text} {partition}");
            }
        }
    }

    #[test]
    fn constructors_write_what_parse_reads() {
        let role = Arn::role("aws", "222222222222", "/ci/", "deployer");
        assert_eq!(role, "arn:aws:iam::222222222222:role/ci/deployer");
        let repository = Arn::repository("aws-cn", "cn-north-1", "222222222222", "team/app");
        let parsed = Arn {
            partition: "aws-cn",
            service: "ecr",
            region: "cn-north-1",
            account: "222222222222",
            resource: "repository/team/app",
        };
        assert_eq!(Arn::parse(&repository), Some(parsed));
        let function = Arn::function("aws", "eu-west-1", "222222222222", "*");
        assert_eq!(function, "arn:aws:lambda:eu-west-1:222222222222:function:*");
    }

    #[rstest]
    #[case::bare_number("222222222222", Some("arn:aws:iam::222222222222:root"))]
    #[case::root(
        "arn:aws-cn:iam::222222222222:root",
        Some("arn:aws-cn:iam::222222222222:root")
    )]
    #[case::role(
        "arn:aws:iam::222222222222:role/a/b",
        Some("arn:aws:iam::222222222222:root")
    )]
    #[case::session(
        "arn:aws:sts::222222222222:assumed-role/a/b",
        Some("arn:aws:iam::222222222222:root")
    )]
    #[case::colons_in_resource("arn:aws:iam::2:a:b", Some("arn:aws:iam::2:root"))]
    #[case::empty_components("arn::iam::::", Some("arn::iam:::root"))]
    #[case::no_resource("arn:aws:iam::222222222222", None)]
    #[case::with_region("arn:aws:iam:eu-west-1:222222222222:root", None)]
    #[case::other_service("arn:aws:lambda::222222222222:function:x", None)]
    #[case::upper_case("ARN:aws:iam::222222222222:root", None)]
    #[case::short_number("22222222222", None)]
    #[case::long_number("2222222222222", None)]
    #[case::other_digits("٢٢٢٢٢٢", None)]
    #[case::unique_id("AROAEXAMPLEEXAMPLE12", None)]
    #[case::everyone("*", None)]
    #[case::empty("", None)]
    fn root_of_principal_is_that_of_its_account(
        #[case] principal: &str,
        #[case] root: Option<&str>,
    ) {
        assert_eq!(Arn::root_of(principal).as_deref(), root);
    }
}
