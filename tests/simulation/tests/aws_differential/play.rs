//! Sends a call to both sides.

use super::calls::{Answer, Call};
use anyhow::{Context, Result, anyhow};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use local_stack::AwsAlone;
use registry_grants::clock::WallClock;
use simulation::aws::{Settings, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Both sides, with two accounts that nothing else uses.
pub struct Pair {
    pub world: World,
    pub endpoint: String,
    pub accounts: [String; 2],
    /// The unique IDs that each side gave, in the order of creation.
    ours: Vec<String>,
    theirs: Vec<String>,
}

impl Pair {
    pub fn new(emulation: &AwsAlone, seed: u64) -> Self {
        let world = World::new(Settings {
            seed,
            ..Settings::new(WallClock::system())
        });
        let number = |digit: u64| format!("{:012}", 100_000_000_000 + seed * 10 + digit);
        let accounts = [number(1), number(2)];
        for account in &accounts {
            world.add_account(account);
        }
        Self {
            world,
            endpoint: emulation.endpoint().to_owned(),
            accounts,
            ours: Vec::new(),
            theirs: Vec::new(),
        }
    }

    pub async fn play(&mut self, call: &Call) -> Result<(Answer, Answer)> {
        let fill = |ids: &[String]| {
            let (ids, accounts) = (ids.to_vec(), self.accounts.clone());
            move |text: &str| fill_in(text, &ids, &accounts)
        };
        let our_body = call.body(&fill(&self.ours));
        let their_body = call.body(&fill(&self.theirs));
        let (status, body) = self.ask_world(call, our_body).await?;
        remember(call, status, &body, &mut self.ours);
        let ours = Answer {
            status,
            body,
            ids: self.ours.clone(),
        };
        let (status, body) = self.ask_emulation(call, &their_body).await?;
        remember(call, status, &body, &mut self.theirs);
        let theirs = Answer {
            status,
            body,
            ids: self.theirs.clone(),
        };
        Ok((ours, theirs))
    }

    fn headers(&self, call: &Call) -> Vec<(&'static str, String)> {
        let account = &self.accounts[call.account];
        let scope = format!(
            "{account}/20260101/{}/{}/aws4_request",
            call.region, call.service
        );
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let mut headers = vec![("authorization", authorization)];
        if call.service == "ecr" {
            let target = format!("AmazonEC2ContainerRegistry_V20150921.{}", call.operation);
            headers.push(("x-amz-target", target));
            headers.push(("content-type", "application/x-amz-json-1.1".into()));
        } else {
            headers.push(("content-type", "application/x-www-form-urlencoded".into()));
        }
        headers
    }

    async fn ask_world(&self, call: &Call, body: String) -> Result<(u16, Vec<u8>)> {
        let mut request = HttpRequest::new(SdkBody::from(body));
        for (name, value) in self.headers(call) {
            request.headers_mut().insert(name, value);
        }
        let answer = self.world.call(request).await;
        let answer = answer.map_err(|error| anyhow!("{error:?}"))?;
        let body = answer.body().bytes().context("a body in memory")?;
        Ok((answer.status().as_u16(), body.to_vec()))
    }

    async fn ask_emulation(&self, call: &Call, body: &str) -> Result<(u16, Vec<u8>)> {
        let authority = self.endpoint.trim_start_matches("http://");
        // With HTTP/1.0, the server closes the connection at the end and sends no chunks.
        let mut request = format!("POST / HTTP/1.0\r\nhost: {authority}\r\n");
        for (name, value) in self.headers(call) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        let mut connection = TcpStream::connect(authority).await?;
        connection.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        let end = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .context("no end of the headers")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, answer.split_off(end + 4)))
    }
}

/// Fills in the accounts' numbers and the unique IDs. An ID that was never given becomes one that
/// nobody has.
pub fn fill_in(text: &str, ids: &[String], accounts: &[String; 2]) -> String {
    let mut filled = text
        .replace("{0}", &accounts[0])
        .replace("{1}", &accounts[1]);
    while let Some(start) = filled.find("{id:") {
        let end = start
            + filled[start..]
                .find('}')
                .unwrap_or(filled.len() - start - 1);
        let number: usize = filled[start + 4..end].parse().unwrap_or(usize::MAX);
        let nobody = "AROAAAAAAAAAAAAAAAAAA".to_owned();
        let id = ids.get(number).unwrap_or(&nobody).clone();
        filled.replace_range(start..=end, &id);
    }
    filled
}

/// Remembers the unique ID of what a call created.
fn remember(call: &Call, status: u16, body: &[u8], ids: &mut Vec<String>) {
    let field = match call.operation {
        "CreateRole" => "<RoleId>",
        "CreatePolicy" => "<PolicyId>",
        "CreateInstanceProfile" => "<InstanceProfileId>",
        _ => return,
    };
    let text = String::from_utf8_lossy(body);
    if let Some((_, rest)) = text.split_once(field).filter(|_| status == 200) {
        ids.extend(rest.split('<').next().map(String::from));
    }
}
