//! What differs between AWS partitions: a table, never derived from a DNS suffix.
//! Source: <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>.

use crate::api::account::Partition;
use crate::api::grant::ManagedPolicy;

impl ManagedPolicy {
    const ALL: [Self; 3] = [
        Self::AmazonEC2ContainerRegistryPowerUser,
        Self::AmazonEC2ContainerRegistryPullOnly,
        Self::AmazonEC2ContainerRegistryReadOnly,
    ];

    /// The policy's ARN.
    pub fn arn(self, partition: Partition) -> String {
        format!("arn:{}:iam::aws:policy/{self:?}", partition.name())
    }

    /// Whether the ARN is that of one of these policies. AWS has others whose names begin like theirs.
    pub fn is_one(arn: &str) -> bool {
        let partition = Partition::of_arn(arn);
        Self::ALL.into_iter().any(|policy| policy.arn(partition) == arn)
    }
}

impl Partition {
    /// The partition's name, as in ARNs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
            Self::AwsEusc => "aws-eusc",
        }
    }

    /// The partition that an ARN names; the first one where it names none that is known.
    pub fn of_arn(arn: &str) -> Self {
        let known = [Self::Aws, Self::AwsCn, Self::AwsUsGov, Self::AwsEusc];
        let named = arn.split(':').nth(1).unwrap_or_default();
        known.into_iter().find(|partition| partition.name() == named).unwrap_or(Self::Aws)
    }

    /// The end of the registry's host names.
    pub fn dns_suffix(self) -> &'static str {
        match self {
            Self::Aws | Self::AwsUsGov => "amazonaws.com",
            Self::AwsCn => "amazonaws.com.cn",
            Self::AwsEusc => "amazonaws.eu",
        }
    }

    /// The service principal of EC2 in trust policies.
    pub fn ec2_service(self) -> &'static str {
        match self {
            Self::AwsCn => "ec2.amazonaws.com.cn",
            Self::Aws | Self::AwsUsGov | Self::AwsEusc => "ec2.amazonaws.com",
        }
    }

    /// The region to call IAM and STS in: IAM is one per partition.
    pub fn home_region(self) -> &'static str {
        match self {
            Self::Aws => "us-east-1",
            Self::AwsCn => "cn-north-1",
            Self::AwsUsGov => "us-gov-west-1",
            Self::AwsEusc => "eusc-de-east-1",
        }
    }

    /// Whether a region belongs to this partition.
    pub fn has_region(self, region: &str) -> bool {
        let of = if region.starts_with("cn-") {
            Self::AwsCn
        } else if region.starts_with("us-gov-") {
            Self::AwsUsGov
        } else if region.starts_with("eusc-") {
            Self::AwsEusc
        } else {
            Self::Aws
        };
        of == self
    }
}
