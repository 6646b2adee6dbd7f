//! What the operator tells about itself: logs, and whether it is alive and ready.

pub mod health;
pub mod logs;
