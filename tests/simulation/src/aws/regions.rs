//! The regions: those that exist, and those that an account must enable first.

/// A region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The name.
    pub name: &'static str,
    /// The partition.
    pub partition: &'static str,
    /// Whether an account must enable it before it can use it.
    pub opt_in: bool,
}

const fn region(name: &'static str, partition: &'static str, opt_in: bool) -> Region {
    Region {
        name,
        partition,
        opt_in,
    }
}

/// Some regions of each partition. Any other name has no host.
pub const REGIONS: [Region; 14] = [
    region("us-east-1", "aws", false),
    region("us-east-2", "aws", false),
    region("us-west-2", "aws", false),
    region("eu-central-1", "aws", false),
    region("eu-west-1", "aws", false),
    region("ap-northeast-1", "aws", false),
    region("af-south-1", "aws", true),
    region("ap-east-1", "aws", true),
    region("eu-south-1", "aws", true),
    region("me-south-1", "aws", true),
    region("cn-north-1", "aws-cn", false),
    region("cn-northwest-1", "aws-cn", false),
    region("us-gov-west-1", "aws-us-gov", false),
    region("eusc-de-east-1", "aws-eusc", false),
];

/// Returns a region by its name.
pub fn named(name: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|region| region.name == name)
}
