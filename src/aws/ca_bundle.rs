//! The certificates by which AWS's servers are known, where `AWS_CA_BUNDLE` names a file of them,
//! as for the AWS CLI: a proxy that inspects TLS, or an endpoint of one's own. They then stand in
//! place of the system's. The SDK knows this variable no more than its client does.

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;

const VARIABLE: &str = "AWS_CA_BUNDLE";

/// Whether the bundle that the environment names can be used, if it names one.
///
/// # Errors
/// Why it cannot.
pub fn check() -> Result<(), String> {
    named().map(drop)
}

/// The client that all calls to AWS share. One of its own for each account and region would read
/// the system's certificates each time, and keep them: regions are named by tenants.
///
/// # Errors
/// As [`check`].
pub(super) fn http_client() -> Result<SharedHttpClient, String> {
    let context = match named()? {
        Some(certificates) => {
            let trusted = TrustStore::empty().with_pem_certificate(certificates);
            let context = TlsContext::builder().with_trust_store(trusted).build();
            Some(context.map_err(|error| format!("{VARIABLE}: {error}"))?)
        }
        None => None,
    };
    // Otherwise as the SDK's own.
    Ok(
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector =
                ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector.set_proxy_config(Some(ProxyConfig::from_env()));
            match context.clone() {
                Some(context) => connector.tls_context(context).build(),
                None => connector.build(),
            }
        }),
    )
}

fn named() -> Result<Option<Vec<u8>>, String> {
    match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => certificates(Path::new(&path)).map(Some),
        None => Ok(None),
    }
}

/// The file's content, of which every certificate can be used: the client would end the process
/// over one that cannot.
fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |why: String| format!("{VARIABLE}: {}: {why}", path.display());
    let content = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let parsed: Result<Vec<CertificateDer>, _> = CertificateDer::pem_slice_iter(&content).collect();
    let parsed = parsed.map_err(|error| wrong(format!("it is not PEM: {error}")))?;
    if parsed.is_empty() {
        return Err(wrong(
            "there is no certificate in it; it must be a file of PEM certificates".into(),
        ));
    }
    for (at, certificate) in parsed.into_iter().enumerate() {
        let added = RootCertStore::empty().add(certificate);
        added.map_err(|error| wrong(format!("certificate {} cannot be used: {error}", at + 1)))?;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing("", "there is no certificate in it")]
    #[case::text("certificates", "there is no certificate in it")]
    #[case::a_key(
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "there is no certificate in it"
    )]
    #[case::cut("-----BEGIN CERTIFICATE-----\nAAAA\n", "it is not PEM")]
    #[case::no_certificate(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "certificate 1 cannot be used"
    )]
    fn what_is_no_bundle_is_refused_with_the_variable_and_the_file(
        #[case] content: &str,
        #[case] why: &str,
    ) {
        let file = std::env::temp_dir().join(format!(
            "ca-bundle-{}-{}",
            std::process::id(),
            content.len()
        ));
        std::fs::write(&file, content).unwrap();
        let refused = certificates(&file).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        assert!(
            refused.starts_with("AWS_CA_BUNDLE: ") && refused.contains(why),
            "{refused}"
        );
        assert!(certificates(&file).unwrap_err().contains("No such file"));
    }
}
