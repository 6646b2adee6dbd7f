//! Summaries of a grant for status messages.

use crate::grant::model::Grant;

/// Maximum number of entries in a list of the status.
pub const LISTED: usize = 100;
/// Maximum number of characters in a message that may occur a hundred times.
pub const LONGEST_OF_MANY: usize = 700;

impl Grant {
    /// Describes the permissions that a role of the consumer needs in its identity policy:
    /// cross-account access must be allowed on both sides.
    pub fn needed_in_consumer(&self) -> String {
        let direct = self.direct.then(|| {
            "ecr:GetAuthorizationToken on * and the ECR actions on the repositories".to_owned()
        });
        let role = self
            .role
            .as_ref()
            .map(|role| format!("sts:AssumeRole on {}", role.identity.arn()));
        let both: Vec<String> = direct.into_iter().chain(role).collect();
        both.join(", or ")
    }

    /// Returns the registry's host names, one per region.
    pub fn registry_hosts(&self) -> Vec<String> {
        let suffix = self.partition.dns_suffix();
        self.regions
            .iter()
            .map(|region| format!("{}.dkr.ecr.{region}.{suffix}", self.registry))
            .collect()
    }

    /// Describes the access that works once everything is in place.
    pub fn summary(&self) -> String {
        let direct = self.direct.then(|| "directly".to_owned());
        let role = self
            .role
            .as_ref()
            .map(|role| format!("by role {}", role.identity.arn()));
        let paths: Vec<String> = direct.into_iter().chain(role).collect();
        let Self {
            consumer,
            access,
            registry,
            ..
        } = self;
        format!(
            "{consumer} has {access:?} access to account {registry}'s repositories, {}",
            paths.join(" and ")
        )
    }
}
