//! Finds the proxy for an API server in the environment, as kubectl does: in `HTTPS_PROXY` for
//! `https` and in `HTTP_PROXY` for `http`, unless `NO_PROXY` names the API server or it is on this
//! machine. The rules are those of Go's `golang.org/x/net/http/httpproxy`. (kube itself compares
//! `NO_PROXY` with the proxy's address instead of the API server's.)

use std::net::IpAddr;

/// Returns the proxy for a server, by the values of these environment variables. `None`: the server
/// is reached directly.
pub fn proxy_for(
    scheme: &str,
    host: &str,
    port: u16,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let either = |name: &str| {
        let nonempty = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        nonempty(name).or_else(|| nonempty(&name.to_ascii_lowercase()))
    };
    let proxy = either(if scheme == "http" {
        "HTTP_PROXY"
    } else {
        "HTTPS_PROXY"
    })?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.')
        .to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    let here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    let excluded = || {
        let entries = either("NO_PROXY").unwrap_or_default();
        entries
            .split(',')
            .any(|entry| is_excluded(&entry.trim().to_ascii_lowercase(), &host, address, port))
    };
    if here || excluded() {
        return None;
    }
    let proxy = proxy.trim();
    // A proxy without a scheme is an HTTP proxy. A SOCKS proxy always resolves the name itself.
    Some(match proxy.split_once("://") {
        None => format!("http://{proxy}"),
        Some(("socks5h", rest)) => format!("socks5://{rest}"),
        Some(_) => proxy.to_owned(),
    })
}

/// Returns whether an entry of `NO_PROXY` names this server.
fn is_excluded(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry.is_empty() {
        return false;
    }
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        let network = network.parse().ok().zip(bits.parse().ok());
        return network
            .zip(address)
            .is_some_and(|((network, bits), address)| is_in(address, network, bits));
    }
    // An IPv6 address contains colons, so a port follows its brackets.
    let (name, of_port) = match entry.rsplit_once(':') {
        Some((name, digits)) if entry.parse::<IpAddr>().is_err() => match digits.parse::<u16>() {
            Ok(of_port) => (name, Some(of_port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    };
    if of_port.is_some_and(|of_port| of_port != port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(named) = name.parse::<IpAddr>() {
        return address == Some(named);
    }
    let name = name.strip_prefix('*').unwrap_or(name).trim_end_matches('.');
    match name.strip_prefix('.') {
        Some("") => false,
        Some(_) => host.ends_with(name),
        None => host == name || host.ends_with(&format!(".{name}")),
    }
}

fn is_in(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let same = |one: u128, other: u128, width: u32| {
        bits <= width
            && (bits == 0 || one.checked_shr(width - bits) == other.checked_shr(width - bits))
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            same(one.to_bits().into(), other.to_bits().into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn found(scheme: &str, host: &str, environment: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            environment
                .iter()
                .find(|(named, _)| *named == name)
                .map(|(_, value)| (*value).to_owned())
        };
        proxy_for(scheme, host, 6443, variable)
    }

    #[rstest]
    #[case::none("https", "api.example.com", &[], None)]
    #[case::https("https", "api.example.com", &[("HTTPS_PROXY", "http://p:1")], Some("http://p:1"))]
    #[case::small_letters("https", "api.example.com", &[("https_proxy", "http://p:1")], Some("http://p:1"))]
    #[case::of_the_other_scheme("https", "api.example.com", &[("HTTP_PROXY", "http://p:1")], None)]
    #[case::http("http", "api.example.com", &[("HTTP_PROXY", "http://p:1")], Some("http://p:1"))]
    #[case::empty("https", "api.example.com", &[("HTTPS_PROXY", "")], None)]
    #[case::without_a_scheme("https", "api.example.com", &[("HTTPS_PROXY", "p:1")], Some("http://p:1"))]
    #[case::socks("https", "api.example.com", &[("HTTPS_PROXY", "socks5h://p:1")], Some("socks5://p:1"))]
    #[case::this_machine("https", "localhost", &[("HTTPS_PROXY", "http://p:1")], None)]
    #[case::this_machines_address("https", "127.0.0.1", &[("HTTPS_PROXY", "http://p:1")], None)]
    #[case::this_machines_other_address("https", "[::1]", &[("HTTPS_PROXY", "http://p:1")], None)]
    fn the_environment_names_a_proxy(
        #[case] scheme: &str,
        #[case] host: &str,
        #[case] environment: &[(&str, &str)],
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(found(scheme, host, environment).as_deref(), expected);
    }

    #[rstest]
    #[case("*", "api.example.com", true)]
    #[case("api.example.com", "api.example.com", true)]
    #[case("API.example.com", "api.EXAMPLE.com", true)]
    #[case("example.com", "api.example.com", true)]
    #[case("example.com", "example.com", true)]
    #[case("example.com", "badexample.com", false)]
    #[case(".example.com", "api.example.com", true)]
    #[case(".example.com", "example.com", false)]
    #[case("*.example.com", "api.example.com", true)]
    #[case("other.org, api.example.com", "api.example.com", true)]
    #[case(",, api.example.com,", "api.example.com", true)]
    #[case("api.example.com:6443", "api.example.com", true)]
    #[case("api.example.com:443", "api.example.com", false)]
    #[case("10.0.0.0/8", "10.1.2.3", true)]
    #[case("10.0.0.0/8", "11.1.2.3", false)]
    #[case("10.0.0.0/8", "api.example.com", false)]
    #[case("0.0.0.0/0", "10.1.2.3", true)]
    #[case("10.1.2.3", "10.1.2.3", true)]
    #[case("10.1.2.3:6443", "10.1.2.3", true)]
    #[case("10.1.2.3:443", "10.1.2.3", false)]
    #[case("fd00::/8", "[fd00::1]", true)]
    #[case("fd00::1", "[fd00::1]", true)]
    #[case("[fd00::1]:6443", "[fd00::1]", true)]
    #[case("fe80::/8", "[fd00::1]", false)]
    #[case("127.0.0.1:9", "10.1.2.3", false)]
    #[case(".", "api.example.com", false)]
    #[case("proxy.example.com", "api.example.com", false)]
    fn no_proxy_names_servers_not_proxies(
        #[case] entries: &str,
        #[case] host: &str,
        #[case] direct: bool,
    ) {
        let environment = [
            ("HTTPS_PROXY", "http://proxy.example.com:3128"),
            ("NO_PROXY", entries),
        ];
        assert_eq!(found("https", host, &environment).is_none(), direct);
    }

    proptest! {
        #[test]
        fn variables_of_any_content_cause_no_panic(entries in "\\PC*|[0-9.:/\\[\\]*,a-f]{0,30}", host in "\\PC{0,20}|[0-9.:\\[\\]a-f]{0,20}") {
            found("https", &host, &[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", &entries)]);
        }
    }
}
