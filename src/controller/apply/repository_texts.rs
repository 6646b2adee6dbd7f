//! What a grant's status says of one repository.

use crate::api::conditions::Reason;
use crate::controller::state::repository::RepositoryKey;
use crate::grant::Problem;
use crate::grant::status::RepositoryOutcome;
use crate::policy::repository::MAX_CHARACTERS;
use std::collections::BTreeMap;

/// The outcome for each repository, by region and name.
pub type Each = BTreeMap<(String, String), RepositoryOutcome>;

pub fn summary(each: &Each) -> String {
    let kept: usize = each.values().map(|outcome| outcome.kept.len()).sum();
    let stays = match kept {
        0 => String::new(),
        1 => "; one statement in replaceSids is not replaced, see status.replacements".into(),
        many => {
            format!("; {many} statements in replaceSids are not replaced, see status.replacements")
        }
    };
    match each.len() {
        0 => "no repository matches yet".into(),
        1 => format!("the repository's policy grants the access{stays}"),
        many => format!("the policies of {many} repositories grant the access{stays}"),
    }
}

/// Returns how full a policy is, rounded up to the next ten percent, so that the value does not
/// change with every other grant.
pub fn full_percent(characters: usize) -> i32 {
    let tens = (characters * 10).div_ceil(MAX_CHARACTERS);
    i32::try_from(tens.min(10) * 10).unwrap_or(100)
}

pub fn no_repository(repository: &RepositoryKey) -> Problem {
    Problem::new(
        Reason::RepositoryNotFound,
        format!(
            "{repository} does not exist. Create it, or correct spec.registry. The operator will retry"
        ),
    )
}

/// Reports that the rules or the role changed while the policy was being written.
pub fn not_in_yet(repository: &RepositoryKey) -> Problem {
    Problem::new(
        Reason::Settling,
        format!(
            "the policy of {repository} does not contain this grant's access yet. The operator will retry"
        ),
    )
}

pub fn cannot_stay(repository: &RepositoryKey, contested: Option<&Problem>) -> Problem {
    match contested {
        Some(problem) => problem.clone(),
        None => Problem::new(
            Reason::PolicyTooLarge,
            format!(
                "the operator cannot retain the access in the policy of {repository}: a separate statement for it does not fit within ECR's 10,240 characters unless other grants lose access. Make room in the policy, or set spec.deletionPolicy to Delete"
            ),
        ),
    }
}

pub fn does_not_fit(repository: &RepositoryKey, full_percent: i32) -> Problem {
    Problem::new(
        Reason::PolicyTooLarge,
        format!(
            "the policy of {repository} has no room for this grant within ECR's 10,240 characters: it is {full_percent} % full (rounded up), and existing access stays, including what this grant already has there. To use less space, set wholeAccount instead of roles, or create one grant for the whole organization (spec.consumer.organization). To use none, request only path AssumeRole, or give access in the registry's own policy in ECR, which applies to all repositories"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_percent_rounds_up_and_ends_at_the_limit() {
        let reported = [0, 1, 1024, 1025, 9_216, 9_217, 10_240].map(full_percent);
        assert_eq!(reported, [0, 10, 10, 20, 90, 100, 100]);
    }
}
