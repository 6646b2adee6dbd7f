//! The server as a client sees it: a service that answers HTTP requests.

use super::core::Core;
use super::list::{self, text_of};
use super::observe::{Disturbance, Fault, Outcome, Phase};
use super::request::{Call, Parsed, Verb};
use super::status::Failure;
use super::watch::Watch;
use super::write::{Answer, Content, Write};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use http::{Request, Response, header};
use http_body::Frame;
use kube::client::Body;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tower::Service;

/// How often kube's client repeats a request.
const RETRIES: u32 = 15;
/// The first pause of kube's client.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause of kube's client.
const LONGEST_PAUSE: Duration = Duration::from_secs(1000);

/// One client's connection to the server. Clones are the same client.
#[derive(Clone)]
pub struct Connection {
    core: Arc<Mutex<Core>>,
    identity: Arc<str>,
    is_frozen: Arc<watch::Sender<bool>>,
    /// How often the client repeats a request that the server cannot serve now.
    retries: u32,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Result of a request, before it is written as a response.
enum Reply {
    Text(u16, Bytes),
    Watch(Box<Watch>),
}

impl Connection {
    pub(super) fn new(core: Arc<Mutex<Core>>, identity: &str) -> Self {
        Self {
            core,
            identity: identity.into(),
            is_frozen: Arc::default(),
            retries: 0,
        }
    }

    /// Returns a kube client that repeats requests after the codes 429, 503 and 504, as a client
    /// does that kube makes from a configuration. Its pauses have no jitter. Must be called within
    /// a tokio runtime.
    pub fn client(&self, default_namespace: &str) -> kube::Client {
        let connection = Self {
            retries: RETRIES,
            ..self.clone()
        };
        kube::Client::new(connection, default_namespace)
    }

    /// Returns a kube client that repeats nothing. Must be called within a tokio runtime.
    pub fn client_without_retries(&self, default_namespace: &str) -> kube::Client {
        kube::Client::new(self.clone(), default_namespace)
    }

    /// Returns the client's identity.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Freezes the client like a process that gets no CPU: it sends no requests and receives no
    /// answers and events. What else the process does can wait for [`Self::not_frozen`]. What the server has received takes effect. The client's own timers go
    /// on.
    pub fn freeze(&self) {
        self.is_frozen.send_replace(true);
    }

    /// Ends the freeze.
    pub fn thaw(&self) {
        self.is_frozen.send_replace(false);
    }

    /// Waits until the client is not frozen.
    pub async fn not_frozen(&self) {
        let mut is_frozen = self.is_frozen.subscribe();
        let thawed = is_frozen.wait_for(|is_frozen| !is_frozen).await;
        drop(thawed);
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().expect("nothing panics while it is locked")
    }

    /// Answers a request, and repeats it where the client does.
    async fn serve(self, request: Request<Body>) -> io::Result<Response<AnswerBody>> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(io::Error::other)?;
        let request = Request::from_parts(parts, ());
        let mut pause = FIRST_PAUSE;
        for _ in 0..self.retries {
            let response = self.answer(&request, &body).await?;
            if !matches!(response.status().as_u16(), 429 | 503 | 504) {
                return Ok(response);
            }
            let asked = response.headers().get(header::RETRY_AFTER);
            let asked = asked.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
            sleep(asked.map_or(pause, Duration::from_secs).max(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.answer(&request, &body).await
    }

    async fn answer(&self, request: &Request<()>, body: &[u8]) -> io::Result<Response<AnswerBody>> {
        self.not_frozen().await;
        let parsed = match Parsed::of(request, body.to_vec()) {
            Ok(parsed) => parsed,
            Err(failure) => return Ok(failed(&failure)),
        };
        let (call, before) = {
            let mut core = self.core();
            core.calls += 1;
            let call = parsed.call(core.calls, &self.identity);
            let before = core.faults.on_request(&call, Phase::Before);
            (call, before)
        };
        let reply = self.disturbed(&call, &parsed, before).await;
        self.not_frozen().await;
        match reply? {
            Ok(Reply::Text(code, text)) => Ok(response(code, AnswerBody::Text(Some(text)))),
            Ok(Reply::Watch(watch)) => {
                let lines = lines(self.clone(), *watch);
                Ok(response(200, AnswerBody::Lines(lines)))
            }
            Err(failure) => Ok(failed(&failure)),
        }
    }

    /// Runs a request between the faults before and after it.
    async fn disturbed(
        &self,
        call: &Call,
        parsed: &Parsed,
        Disturbance { delay, fault }: Disturbance,
    ) -> io::Result<Result<Reply, Failure>> {
        sleep(delay).await;
        let (stale, is_deaf) = match fault {
            Some(Fault::Stale(revision)) if may_be_stale(call) => (Some(revision), false),
            Some(Fault::Deaf) => (None, true),
            Some(Fault::Stale(_)) | None => (None, false),
            Some(fault) => {
                self.core().note(call, Outcome::Refused(fault));
                return self.broken(call, fault).await;
            }
        };
        let (reply, after) = {
            let mut core = self.core();
            let reply = self.run(&mut core, call, parsed, (stale, is_deaf));
            let after = core.faults.on_request(call, Phase::After);
            let outcome = outcome(&reply);
            let outcome = match (after.fault, &outcome) {
                (Some(fault), Outcome::Answered(code, _)) => Outcome::Lost(fault, *code),
                _ => outcome,
            };
            core.note(call, outcome);
            (reply, after)
        };
        sleep(after.delay).await;
        match after.fault {
            Some(Fault::Stale(_) | Fault::Deaf) | None => Ok(reply),
            Some(fault) => self.broken(call, fault).await,
        }
    }

    /// Returns what the client sees of a request that a fault ends.
    async fn broken(&self, call: &Call, fault: Fault) -> io::Result<Result<Reply, Failure>> {
        match fault {
            Fault::Status { code, retry_after } => Ok(Err(Failure::injected(code, retry_after))),
            Fault::Hang => std::future::pending().await,
            Fault::Disconnect | Fault::Stale(_) | Fault::Deaf => {
                let why = format!("the connection broke during {call}");
                Err(io::Error::new(io::ErrorKind::ConnectionReset, why))
            }
        }
    }

    fn run(
        &self,
        core: &mut Core,
        call: &Call,
        parsed: &Parsed,
        (stale, is_deaf): (Option<u64>, bool),
    ) -> Result<Reply, Failure> {
        match parsed.verb {
            Verb::Get => {
                let stored = list::get(core, parsed)?;
                Ok(Reply::Text(200, text_of(&stored, parsed.is_metadata_only)))
            }
            Verb::List => Ok(Reply::Text(200, list::list(core, parsed, stale)?)),
            Verb::Watch => {
                let watch = Watch::start((&self.core, core), call, parsed, (stale, is_deaf))?;
                Ok(Reply::Watch(Box::new(watch)))
            }
            Verb::Create | Verb::Update | Verb::Patch | Verb::Apply | Verb::Delete => {
                let write = Write {
                    core,
                    call: Some(call),
                    request: parsed,
                };
                let Answer { code, content } = write.run()?;
                let text = match content {
                    Content::Stored(stored) => text_of(&stored, parsed.is_metadata_only),
                    Content::Value(value) => Bytes::from(value.to_string()),
                };
                Ok(Reply::Text(code, text))
            }
        }
    }
}

/// Returns whether a request may be answered from a cache that lags behind.
fn may_be_stale(call: &Call) -> bool {
    let is_any = match call.verb {
        Verb::List => call.resource_version == "0",
        Verb::Watch => call.resource_version == "0" || call.resource_version.is_empty(),
        _ => false,
    };
    is_any && !call.verb.writes()
}

fn outcome(reply: &Result<Reply, Failure>) -> Outcome {
    match reply {
        Ok(Reply::Text(code, _)) => Outcome::Answered(*code, ""),
        Ok(Reply::Watch(_)) => Outcome::Watching,
        Err(failure) => Outcome::Answered(failure.code, failure.reason),
    }
}

fn response(code: u16, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = code.try_into().expect("the code is a status code");
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn failed(failure: &Failure) -> Response<AnswerBody> {
    let text = Bytes::from(failure.to_value().to_string());
    let mut response = response(failure.code, AnswerBody::Text(Some(text)));
    if let Some(seconds) = failure.retry_after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn lines(connection: Connection, watch: Watch) -> BoxStream<'static, io::Result<Bytes>> {
    let lines = stream::unfold((connection, watch), |(connection, mut watch)| async {
        let line = watch.next().await;
        connection.not_frozen().await;
        Some((line?, (connection, watch)))
    });
    Box::pin(lines)
}

/// Body of an answer.
pub enum AnswerBody {
    /// A complete text.
    Text(Option<Bytes>),
    /// The lines of a watch.
    Lines(BoxStream<'static, io::Result<Bytes>>),
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "AnswerBody::Text",
            Self::Lines(_) => "AnswerBody::Lines",
        })
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Lines(lines) => {
                let line = lines.as_mut().poll_next(context);
                line.map(|line| line.map(|line| line.map(Frame::data)))
            }
        }
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<AnswerBody>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}
