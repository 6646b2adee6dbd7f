//! Requests to our own processes: plain HTTP on the loopback interface.

use crate::wait::BOUND;
use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends a request; returns the answer's status and body. `authority` is `host:port`.
pub(crate) async fn request(
    method: &str,
    authority: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String)> {
    // With HTTP/1.0, the server closes the connection at the end and sends no chunks.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {authority}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let exchange = async {
        let mut connection = TcpStream::connect(authority).await?;
        connection
            .write_all(format!("{head}{body}").as_bytes())
            .await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let what = || format!("{method} http://{authority}{path}");
    let answer = tokio::time::timeout(BOUND, exchange)
        .await
        .with_context(what)?
        .with_context(what)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    status
        .zip(body)
        .with_context(|| format!("{}: not an HTTP answer: {answer:?}", what()))
}
