//! Tests of the policy library, by behaviour. [`documents`] makes documents, [`rewording`] puts them in other words or makes a slip in
//! them; [`evaluator`] decides requests by them, to see that what counts as equal grants the same.

mod canonical;
mod diff;
mod document;
mod documents;
mod evaluator;
mod laws;
mod records;
mod rewording;
