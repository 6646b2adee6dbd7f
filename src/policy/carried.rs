//! What our statements in a document allow already, for who does not know of all grants.

use super::document::Document;
use super::held::allowed_by;
use super::pack::is_as_packed;
use super::repository::Contribution;
use super::sid::Installation;

/// What our statements in a document allow already. One whose actions or condition somebody has changed is not told: it is none of ours as it is.
pub fn carried(document: &Document, installation: &Installation) -> Vec<Contribution> {
    let ours = document.statements.iter().filter(|statement| installation.owns(statement));
    let as_packed = |statement| allowed_by(statement).filter(|held| is_as_packed(statement, held, installation));
    ours.filter_map(as_packed).collect()
}

#[cfg(test)]
mod tests {
    use super::super::callers::Callers;
    use super::*;
    use crate::policy::repository::{Change, Wanted, plan};
    use std::collections::BTreeSet;

    fn installation() -> Installation {
        "0123456789ab".parse().unwrap()
    }

    fn root(number: u64) -> String {
        format!("arn:aws:iam::{}:root", 100_000_000_000 + number)
    }

    fn wanted(id: u64, callers: Callers) -> Wanted<u64> {
        let actions = ["ecr:BatchGetImage", "ecr:PutImage"].map(String::from).into();
        let contributions = vec![Contribution { actions, callers }];
        Wanted { id, contributions, replaces: BTreeSet::new(), stays_as: None, if_there: Vec::new() }
    }

    #[test]
    fn what_ours_carry_is_read_back_as_it_was_asked_unless_somebody_has_changed_it() {
        let narrowed = Callers::named_like(root(2), ["arn:aws:iam::100000000002:role/ci/*".into()]);
        let units = Callers::in_units(["o-1/r-1/ou-1/*".to_owned()], "100000000009");
        let lambda = Callers::service_for("lambda.amazonaws.com", ["arn:aws:lambda:r:100000000002:function:*".into()]);
        let asked = [Callers::named([root(1)]), narrowed, units, lambda];
        let grants: Vec<_> = (1..).zip(asked.clone()).map(|(id, callers)| wanted(id, callers)).collect();
        let document = match plan(None, &grants, &installation()).unwrap().change {
            Change::Set(document) => document,
            other => panic!("{other:?}"),
        };
        let mut found: Vec<Callers> =
            carried(&document, &installation()).into_iter().map(|held| held.callers).collect();
        found.sort_by_key(|callers| asked.iter().position(|asked| asked == callers));
        assert_eq!(found, asked);
        let changed = Document::parse(&document.to_string().replace("ecr:PutImage", "ecr:DeleteRepository")).unwrap();
        assert!(carried(&changed, &installation()).is_empty());
    }

    #[test]
    fn without_others_those_who_are_left_stay_and_nobody_else() {
        let roles = |names: &[&str]| {
            let arns = names.iter().map(|name| format!("arn:aws:iam::100000000002:role/{name}"));
            Callers::named_like(root(2), arns)
        };
        assert_eq!(roles(&["a", "b"]).without(&roles(&["b"])), Some(roles(&["a"])));
        assert_eq!(roles(&["a"]).without(&roles(&["a"])), None);
        let both = Callers::named([root(1), root(2)]);
        assert_eq!(both.without(&Callers::named([root(2)])), Some(Callers::named([root(1)])));
        assert_eq!(both.without(&roles(&["a"])), Some(both.clone()));
    }
}
