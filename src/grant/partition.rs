//! Differences between AWS partitions, as a table. They are never derived from a DNS suffix.
//! Source:
//! <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>.

use crate::api::account::Partition;
use crate::api::grant::ManagedPolicy;
use crate::policy::arn::Arn;

impl ManagedPolicy {
    const ALL: [Self; 3] = [
        Self::AmazonEC2ContainerRegistryPowerUser,
        Self::AmazonEC2ContainerRegistryPullOnly,
        Self::AmazonEC2ContainerRegistryReadOnly,
    ];

    /// Returns the policy's ARN.
    pub fn arn(self, partition: Partition) -> String {
        Arn::iam(partition.name(), "aws", &format!("policy/{self:?}"))
    }

    /// Returns whether the ARN is that of one of these policies. AWS has other policies whose names
    /// begin in the same way.
    pub fn is_one(arn: &str) -> bool {
        let partition = Partition::of_arn(arn);
        Self::ALL
            .into_iter()
            .any(|policy| policy.arn(partition) == arn)
    }
}

impl Partition {
    /// Returns the partition's name, as in ARNs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
            Self::AwsEusc => "aws-eusc",
        }
    }

    /// Returns the partition that an ARN names, or the first partition if the name is unknown.
    pub fn of_arn(arn: &str) -> Self {
        let known = [Self::Aws, Self::AwsCn, Self::AwsUsGov, Self::AwsEusc];
        let named = Arn::partition_of(arn).unwrap_or_default();
        known
            .into_iter()
            .find(|partition| partition.name() == named)
            .unwrap_or(Self::Aws)
    }

    /// Returns the suffix of the registry's host names.
    pub fn dns_suffix(self) -> &'static str {
        match self {
            Self::Aws | Self::AwsUsGov => "amazonaws.com",
            Self::AwsCn => "amazonaws.com.cn",
            Self::AwsEusc => "amazonaws.eu",
        }
    }

    /// Returns the service principal of EC2 in trust policies.
    pub fn ec2_service(self) -> &'static str {
        match self {
            Self::AwsCn => "ec2.amazonaws.com.cn",
            Self::Aws | Self::AwsUsGov | Self::AwsEusc => "ec2.amazonaws.com",
        }
    }

    /// Returns the region in which to call IAM and STS. Each partition has one IAM.
    pub fn home_region(self) -> &'static str {
        match self {
            Self::Aws => "us-east-1",
            Self::AwsCn => "cn-north-1",
            Self::AwsUsGov => "us-gov-west-1",
            Self::AwsEusc => "eusc-de-east-1",
        }
    }

    /// Returns whether the name has the form of a region of this partition. Regions that AWS opens
    /// later have this form, too.
    pub fn has_region(self, region: &str) -> bool {
        let parts = match self {
            Self::Aws => region.split_once('-').filter(|(area, _)| *area != "cn"),
            Self::AwsCn => region.strip_prefix("cn-").map(|rest| ("cn", rest)),
            Self::AwsUsGov => region.strip_prefix("us-gov-").map(|rest| ("us", rest)),
            Self::AwsEusc => region
                .strip_prefix("eusc-")
                .and_then(|rest| rest.split_once('-')),
        };
        let Some((area, rest)) = parts else {
            return false;
        };
        let has_place = rest
            .split_once('-')
            .is_some_and(|(place, number)| is_word(place) && is_short_number(number));
        area.len() == 2 && is_word(area) && has_place && region.len() <= 32
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn is_short_number(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Every partition.
const PARTITIONS: [Partition; 4] = [
    Partition::Aws,
    Partition::AwsCn,
    Partition::AwsUsGov,
    Partition::AwsEusc,
];

/// Returns whether the name has the form of a region of any partition. ARNs and host names contain
/// region names.
pub fn is_region(region: &str) -> bool {
    PARTITIONS
        .iter()
        .any(|partition| partition.has_region(region))
}

/// Date of the list [`REGIONS`].
const REGIONS_AS_OF: &str = "November 2026";
/// Regions that were known at that date. A region that is not in the list is never refused, because
/// AWS opens new ones. Source:
/// <https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html>.
const REGIONS: [&str; 39] = [
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eusc-de-east-1",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
];

/// Returns a warning about a region that was unknown when this version was released, with the
/// nearest known name; `None` if the region was known.
pub fn unknown_region(region: &str) -> Option<String> {
    if REGIONS.contains(&region) {
        return None;
    }
    let nearest = REGIONS.iter().min_by_key(|known| distance(known, region))?;
    Some(format!(
        "`{region}` was not a region when this version was released ({REGIONS_AS_OF}); the closest name is `{nearest}`"
    ))
}

/// Returns the edit distance: the number of letters to change, add or remove to turn one text into
/// the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut left = at + 1;
        let mut row = vec![left];
        for (b, pair) in other.iter().zip(above.windows(2)) {
            let [diagonal, up] = pair else { continue };
            left = (diagonal + usize::from(a != *b)).min(up + 1).min(left + 1);
            row.push(left);
        }
        above = row;
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[test]
    fn known_region_matches_exactly_one_partition() {
        for region in REGIONS {
            let of = PARTITIONS
                .iter()
                .filter(|partition| partition.has_region(region))
                .count();
            assert_eq!((of, unknown_region(region)), (1, None), "{region}");
        }
    }

    #[rstest]
    #[case("us-esat-1", Partition::Aws, "us-east-1")]
    #[case("eu-west-4", Partition::Aws, "eu-west-1")]
    #[case("eu-centrall-1", Partition::Aws, "eu-central-1")]
    #[case("us-gov-est-1", Partition::AwsUsGov, "us-gov-east-1")]
    #[case("cn-nort-1", Partition::AwsCn, "cn-north-1")]
    #[case("eusc-fr-east-1", Partition::AwsEusc, "eusc-de-east-1")]
    fn unknown_region_is_accepted_with_the_nearest_name(
        #[case] region: &str,
        #[case] partition: Partition,
        #[case] nearest: &str,
    ) {
        assert!(partition.has_region(region) && is_region(region));
        let warning = unknown_region(region).unwrap();
        assert!(warning.contains(&format!("`{nearest}`")), "{warning}");
    }

    #[rstest]
    #[case::two_words("us-east-north-1")]
    #[case::no_area("east-1")]
    #[case::a_long_area("usa-east-1")]
    #[case::no_number("us-east")]
    #[case::three_digits("us-east-100")]
    #[case::of_a_partition_that_is_not_supported("us-iso-east-1")]
    #[case::gov_without_a_place("us-gov-1-1")]
    #[case::upper_case("US-EAST-1")]
    #[case::a_zone("us-east-1a")]
    #[case::not_ascii("us-äast-1")]
    #[case::empty("")]
    fn malformed_region_matches_no_partition(#[case] region: &str) {
        assert!(!is_region(region));
    }

    proptest! {
        #[test]
        fn arbitrary_region_text_never_panics(text in ".{0,80}") {
            is_region(&text);
            prop_assert!(unknown_region(&text).is_some() || REGIONS.contains(&text.as_str()));
        }
    }
}
