//! What the process finds around it: connections, credentials and stop signals. No code of ours
//! below the CLI reads the environment or handles signals: the CLI passes all of it in.
//!
//! - [`aws`]: the SDK's configuration.
//! - `ca_bundle`: the certificates in `AWS_CA_BUNDLE`.
//! - [`cluster`]: the connection to the API server.
//! - `proxies`: the proxy for the API server.
//! - [`stop`]: the signals that end the operator.

pub mod aws;
mod ca_bundle;
pub mod cluster;
mod proxies;
pub mod stop;
