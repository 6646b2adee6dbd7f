//! What must hold at the end, when specs no longer change and faults have stopped.

use super::expected::{Asked, Place};
use super::{Access, Oracle, all_access};
use crate::api_server::Kind;
use std::collections::BTreeSet;

impl Oracle {
    /// Returns the repositories that the status of their account reports as orphans.
    fn orphans(&self) -> BTreeSet<Place> {
        let mut orphans = BTreeSet::new();
        for account in self.api_server.list(Kind::Account) {
            let items = account["status"]["sweep"]["items"].as_array();
            for item in items.into_iter().flatten() {
                let arn = item["arn"].as_str().unwrap_or_default();
                if let [_, _, "ecr", region, account, name] =
                    arn.splitn(6, ':').collect::<Vec<_>>()[..]
                    && let Some(name) = name.strip_prefix("repository/")
                {
                    orphans.insert(Place {
                        account: account.to_owned(),
                        region: region.to_owned(),
                        name: name.to_owned(),
                    });
                }
            }
        }
        orphans
    }

    /// Returns where AWS differs from what the grants ask for; empty if nothing differs.
    pub fn differences(&self) -> Vec<String> {
        let (grants, unadmitted) = self.api_server.read(|store| {
            let grants = Asked::all(store);
            let (admitted, other): (Vec<_>, Vec<_>) = grants
                .into_iter()
                .partition(|grant| grant.is_admitted(store));
            (admitted, other)
        });
        let mut differences: Vec<String> = grants
            .iter()
            .chain(&unadmitted)
            .filter(|grant| grant.is_deleting)
            .map(|grant| format!("{} is still being deleted", grant.name))
            .collect();
        let not_ready = grants
            .iter()
            .filter(|grant| grant.is_enforced() && !grant.is_ready);
        differences.extend(not_ready.map(|grant| format!("{} is not ready", grant.name)));
        let orphans = self.orphans();
        for Access {
            place,
            identity,
            how,
            is_allowed,
        } in self.aws.read(all_access)
        {
            let wanted = |grant: &Asked| {
                if grant.is_enforced() {
                    grant.gives(&place, &identity, how)
                } else {
                    grant.gave(&place, &identity, how)
                }
            };
            let is_wanted = grants.iter().any(wanted);
            // Without any grant, orphans are only reported.
            let is_reported =
                grants.is_empty() && unadmitted.is_empty() && orphans.contains(&place);
            if is_wanted != is_allowed && !(is_allowed && is_reported) {
                differences.push(format!(
                    "{} may {how:?} {place:?}: wanted {is_wanted}, allowed {is_allowed}",
                    identity.arn
                ));
            }
        }
        differences
    }
}
