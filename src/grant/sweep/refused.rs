//! Detects access that no rule of an account admits for anybody: no grant can ever get it again.

use crate::api::account::RegistryRule;
use crate::api::grant::Access;
use crate::grant::actions;
use crate::grant::{AccountId, RepositoryPattern};
use crate::policy::arn::Arn;
use crate::policy::principals::{PrincipalSet, PrincipalSetKind};
use crate::policy::repository::Contribution;

/// Returns whether no rule of the registry account, for any namespace, admits any of the access
/// that our statements in this repository's policy allow. In doubt a rule admits it.
pub fn no_rule_admits(
    rules: &[RegistryRule],
    account: &AccountId,
    repository: &str,
    held: &[Contribution],
) -> bool {
    let here: Vec<&RegistryRule> = rules
        .iter()
        .filter(|rule| is_about(rule, repository))
        .collect();
    !held.is_empty()
        && !held
            .iter()
            .any(|held| here.iter().any(|rule| may_admit(rule, account, held)))
}

fn is_about(rule: &RegistryRule, repository: &str) -> bool {
    rule.repositories
        .iter()
        .filter_map(|text| text.parse::<RepositoryPattern>().ok())
        .any(|pattern| pattern.matches(repository))
}

/// Returns whether a rule may admit some of the access.
fn may_admit(rule: &RegistryRule, account: &AccountId, held: &Contribution) -> bool {
    let Contribution { actions, callers } = held;
    let pull = actions::of(Access::Pull);
    let pushes = actions.iter().any(|action| !pull.contains(action));
    (!pushes || rule.max_access >= Access::PullPush) && is_for(rule, account, callers)
}

/// Returns whether a rule may be for one of these callers.
fn is_for(rule: &RegistryRule, account: &AccountId, callers: &PrincipalSet) -> bool {
    let arns = match callers.kind() {
        PrincipalSetKind::InOrganization | PrincipalSetKind::InUnit => {
            return !rule.organizations.is_empty();
        }
        PrincipalSetKind::ServiceFor => callers.condition_values(),
        PrincipalSetKind::Named | PrincipalSetKind::NamedLike => callers.principals(),
    };
    arns.iter().any(|arn| match Arn::account_of(arn) {
        // The registry's own role may represent any principal that its trust policy names.
        Some(of) => of == account.as_str() || rule.consumers.iter().any(|consumer| consumer == of),
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn rule(change: impl FnOnce(&mut RegistryRule)) -> Vec<RegistryRule> {
        let mut rule = RegistryRule {
            namespaces: Default::default(),
            repositories: vec!["app".into(), "team/*".into()],
            max_access: Access::PullPush,
            consumers: vec!["222222222222".into()],
            organizations: Vec::new(),
            allow_replace: false,
            allow_retain: false,
            managed_policies: Vec::new(),
        };
        change(&mut rule);
        vec![rule]
    }

    fn held(access: Access, callers: PrincipalSet) -> Contribution {
        Contribution {
            actions: actions::of(access),
            callers,
        }
    }

    fn root(account: &str) -> PrincipalSet {
        PrincipalSet::named([format!("arn:aws:iam::{account}:root")])
    }

    fn refused(rules: &[RegistryRule], held: &[Contribution]) -> bool {
        no_rule_admits(rules, &"111111111111".parse().unwrap(), "app", held)
    }

    #[rstest]
    #[case::no_rules(Vec::new())]
    #[case::other_repositories(rule(|rule| rule.repositories = vec!["other".into()]))]
    #[case::other_consumers(rule(|rule| rule.consumers = vec!["333333333333".into()]))]
    #[case::less_access(rule(|rule| rule.max_access = Access::Pull))]
    fn access_that_no_rule_admits_is_refused(#[case] rules: Vec<RegistryRule>) {
        let held = [held(Access::PullPush, root("222222222222"))];
        assert!(!refused(&rule(|_| {}), &held));
        assert!(refused(&rules, &held));
    }

    #[test]
    fn access_that_a_rule_may_admit_is_not_refused() {
        let (ours, theirs) = (root("111111111111"), root("333333333333"));
        let organization =
            PrincipalSet::in_organizations(["o-a1b2c3d4e5".to_owned()], "111111111111");
        assert!(!refused(&[], &[]), "nothing that is understood is there");
        assert!(
            !refused(&rule(|_| {}), &[held(Access::Pull, ours)]),
            "the registry's own role"
        );
        assert!(refused(
            &rule(|_| {}),
            &[held(Access::Pull, organization.clone())]
        ));
        let with_one = rule(|rule| rule.organizations = vec!["o-other00000".into()]);
        assert!(!refused(&with_one, &[held(Access::Pull, organization)]));
        let one_of_two = [
            held(Access::Pull, theirs),
            held(Access::PullPush, root("222222222222")),
        ];
        assert!(!refused(&rule(|_| {}), &one_of_two), "one is admitted");
    }
}
