//! Tests of the policy library, by behaviour. [`documents`] makes documents, and the same documents in other words;
//! [`evaluator`] decides requests by them, to see that what counts as equal grants the same.

mod canonical;
mod diff;
mod document;
mod documents;
mod evaluator;
mod laws;
