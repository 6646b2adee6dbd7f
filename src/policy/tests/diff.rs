//! Differences, case by case.
