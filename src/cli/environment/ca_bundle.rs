//! The CA certificates in the file that `AWS_CA_BUNDLE` names, with the same meaning as for the AWS
//! CLI: they replace the system's certificates, for a proxy that inspects TLS or for a private
//! endpoint. Neither the SDK nor its HTTP client reads this variable.

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;

/// The environment variable with the path of the file.
pub const VARIABLE: &str = "AWS_CA_BUNDLE";

/// Builds the HTTP client that all calls to AWS share, which trusts only the certificates in
/// `bundle` if there is one. A client for each account and region would read and keep the system's
/// certificates each time, and tenants choose the regions.
///
/// # Errors
/// When the file cannot be read, or a certificate in it cannot be used.
pub fn http_client(bundle: Option<&Path>, proxy: ProxyConfig) -> Result<SharedHttpClient, String> {
    let context = match bundle {
        Some(path) => Some(tls_context(path)?),
        None => None,
    };
    // Everything else is the same as in the SDK's default client.
    Ok(
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector =
                ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector.set_proxy_config(Some(proxy.clone()));
            match context.clone() {
                Some(context) => connector.tls_context(context).build(),
                None => connector.build(),
            }
        }),
    )
}

fn tls_context(bundle: &Path) -> Result<TlsContext, String> {
    let trusted = TrustStore::empty().with_pem_certificate(certificates(bundle)?);
    TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|error| format!("{VARIABLE}: {error}"))
}

/// Reads the file and checks that every certificate in it can be used: the HTTP client would panic
/// otherwise.
///
/// # Errors
/// When one of the two fails.
pub fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    let content = std::fs::read(path).map_err(|error| unusable(path, &error.to_string()))?;
    check_certificates(&content).map_err(|why| unusable(path, &why))?;
    Ok(content)
}

fn unusable(path: &Path, why: &str) -> String {
    format!("{VARIABLE}: {}: {why}", path.display())
}

fn check_certificates(content: &[u8]) -> Result<(), String> {
    let certificates: Vec<CertificateDer> = CertificateDer::pem_slice_iter(content)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("it is not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("there is no certificate in it; the file must contain PEM certificates".into());
    }
    for (index, certificate) in certificates.into_iter().enumerate() {
        RootCertStore::empty()
            .add(certificate)
            .map_err(|error| format!("certificate {} cannot be used: {error}", index + 1))?;
    }
    Ok(())
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
    fn invalid_bundle_is_rejected_naming_variable_and_file(
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
