//! The connection to the cluster: the kubeconfig or the Pod's ServiceAccount, and the proxies that
//! kubectl would use in the same shell.

use super::proxies::proxy_for;
use crate::controller::watch::SILENT_AT_MOST;
use crate::text::with_causes;
use kube::Client;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError, NoProxyError};
use std::error::Error;
use std::time::Duration;

/// Connects the operator's client, whose calls end. A watch may be silent for a while, but a longer
/// silence means that the connection died. Also returns the address of the API server, for
/// messages.
///
/// # Errors
/// The reason why there is no access to a cluster.
pub async fn connect() -> Result<(Client, String), Box<dyn Error>> {
    let mut config = config(None).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(SILENT_AT_MOST);
    let place = place(&config);
    Ok((Client::try_from(config)?, place))
}

/// Returns the configuration for the API server: from the kubeconfig if there is one, else from the
/// Pod's ServiceAccount. `context` is the name of a context in the kubeconfig.
///
/// # Errors
/// The reason why there is neither.
pub async fn config(context: Option<&str>) -> Result<Config, String> {
    let options = KubeConfigOptions {
        context: context.map(String::from),
        ..KubeConfigOptions::default()
    };
    let found = match Kubeconfig::read() {
        Ok(kubeconfig) => of_kubeconfig(kubeconfig, &options).await,
        Err(error) => Err(with_causes(&error)),
    };
    match (found, context) {
        (Ok(config), _) => Ok(config),
        (Err(why), Some(_)) => Err(format!("the kubeconfig cannot be used: {why}")),
        (Err(why), None) => Config::incluster().map_err(|error| {
            format!(
                "the kubeconfig cannot be used: {why}; and there is no in-cluster configuration: {}",
                with_causes(&error)
            )
        }),
    }
}

async fn of_kubeconfig(
    kubeconfig: Kubeconfig,
    options: &KubeConfigOptions,
) -> Result<Config, String> {
    let named = proxy_url(&kubeconfig, options);
    let mut config = Config::from_custom_kubeconfig(kubeconfig, options)
        .await
        .map_err(|error| why_not(&error))?;
    let server = &config.cluster_url;
    let scheme = server.scheme_str().unwrap_or("https");
    let port = server
        .port_u16()
        .unwrap_or(if scheme == "http" { 80 } else { 443 });
    let by_environment = || {
        proxy_for(scheme, server.host().unwrap_or_default(), port, |name| {
            std::env::var(name).ok()
        })
    };
    // NO_PROXY concerns the environment's proxies: a proxy in the kubeconfig is always used.
    config.proxy_url = match named.or_else(by_environment) {
        Some(proxy) => Some(
            proxy
                .parse()
                .map_err(|error| format!("the proxy `{proxy}` is not a URL: {error}"))?,
        ),
        None => None,
    };
    Ok(config)
}

/// Explains why a kubeconfig cannot be used. Wherever a proxy is set, kube parses `NO_PROXY` before
/// we do, and accepts less than kubectl. So the message names the entry that kube rejects.
fn why_not(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ParseNoProxy(NoProxyError::EmptyValue) => {
            "NO_PROXY has an empty entry: remove the extra comma".into()
        }
        KubeconfigError::ParseNoProxy(NoProxyError::ParseMatcher { input }) => format!(
            "the entry `{input}` of NO_PROXY is neither a host, nor an IP address, nor a network such as 10.0.0.0/8: remove it"
        ),
        error => with_causes(error),
    }
}

/// Returns the proxy that the kubeconfig names for the cluster.
fn proxy_url(kubeconfig: &Kubeconfig, options: &KubeConfigOptions) -> Option<String> {
    let context = options
        .context
        .as_ref()
        .or(kubeconfig.current_context.as_ref())?;
    let context = kubeconfig
        .contexts
        .iter()
        .find(|named| named.name == *context)?
        .context
        .as_ref()?;
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|named| named.name == context.cluster)?;
    cluster
        .cluster
        .as_ref()?
        .proxy_url
        .clone()
        .filter(|url| !url.is_empty())
}

/// Returns the address that a client with this configuration connects to, for messages. It contains
/// no password.
pub fn place(config: &Config) -> String {
    let address = |scheme: Option<&str>, host: Option<&str>, port: Option<u16>| {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!(
            "{}://{}{port}",
            scheme.unwrap_or("https"),
            host.unwrap_or_default()
        )
    };
    let server = &config.cluster_url;
    let server = address(server.scheme_str(), server.host(), server.port_u16());
    let proxy = config
        .proxy_url
        .as_ref()
        .map(|proxy| address(proxy.scheme_str(), proxy.host(), proxy.port_u16()));
    match proxy {
        Some(proxy) => format!("the API server {server}, through the proxy {proxy}"),
        None => format!("the API server {server}"),
    }
}
