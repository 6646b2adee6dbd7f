//! Tests of the policy library, by behaviour. [`documents`] makes documents, [`rewording`] puts them in other words or makes a slip in
//! them; [`evaluator`] decides requests by them, to see that what counts as equal grants the same.

mod canonical;
mod diff;
mod document;
mod documents;
mod ecr;
mod evaluate;
mod evaluate_conditions;
mod evaluate_laws;
mod evaluate_patterns;
mod evaluate_principals;
mod evaluator;
mod keep;
mod laws;
mod records;
mod rewording;
mod search;
