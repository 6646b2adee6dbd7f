//! Compares the API server in memory with the real one: random sequences of requests must have the
//! same answers.
//!
//! - `sequences`: generates sequences.
//! - `contents`: generates objects and parts of objects, valid and invalid ones.
//! - `replay`: sends a sequence to a server.
//! - `normal`: makes answers of two servers comparable.
//! - `known`: differences that are accepted, with their reasons.
//!
//! `SEQUENCES=1000 FIRST_SEED=200` compares other sequences.

mod contents;
mod known;
mod normal;
mod replay;
mod sequences;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, CustomResourceExt};
use local_stack::ApiServerAlone;
use registry_grants::api::{AWSAccount, CrossAccountRegistryGrant};
use registry_grants::clock::WallClock;
use serde_json::Value;
use simulation::api_server::ApiServer;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SEQUENCES: u64 = 200;
const STEPS: usize = 30;
/// How many sequences are sent to the real server at a time.
const AT_A_TIME: usize = 8;

fn variable(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok().and_then(|text| text.parse().ok());
    value.unwrap_or(default)
}

async fn connect(server: &ApiServerAlone) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    // A proxy from the developer's environment does not reach a loopback address.
    config.proxy_url = None;
    // Each answer is compared.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Defines our resources, and waits until the server serves them and has its first namespaces.
async fn define(client: &Client) -> Result<()> {
    for definition in [AWSAccount::crd(), CrossAccountRegistryGrant::crd()] {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let body = serde_json::to_vec(&definition)?;
        let create = http::Request::post(path)
            .header("Content-Type", "application/json")
            .body(body)?;
        client.request::<Value>(create).await?;
    }
    for path in [
        "/apis/registrygrants.dev/v1alpha1/awsaccounts",
        "/apis/registrygrants.dev/v1alpha1/crossaccountregistrygrants",
        "/api/v1/namespaces/default",
    ] {
        local_stack::eventually(path, async || {
            let get = http::Request::get(path).body(Vec::new())?;
            client.request::<Value>(get).await?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Replays one sequence on both servers, and returns the first difference.
async fn difference(real: &Client, seed: u64) -> Result<Option<String>> {
    let sequence = sequences::sequence(seed, STEPS);
    let server = ApiServer::new(seed, WallClock::system());
    let simulated = server
        .connect("comparison")
        .client_without_retries("default");
    let (expected, found) = tokio::try_join!(
        replay::replay(real, &sequence),
        replay::replay(&simulated, &sequence),
    )?;
    Ok(normal::first_difference(&sequence, &expected, &found))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_have_the_real_servers_answers() -> Result<()> {
    let server = ApiServerAlone::start("comparison")?;
    let real = connect(&server).await?;
    define(&real).await?;
    let first = variable("FIRST_SEED", 0);
    let seeds = first..first + variable("SEQUENCES", SEQUENCES);
    let compared = futures::stream::iter(seeds).map(|seed| {
        let real = &real;
        async move {
            let compared = tokio::time::timeout(Duration::from_secs(600), difference(real, seed));
            let compared = compared.await.context("no answer for ten minutes")?;
            compared
                .with_context(|| format!("sequence {seed}"))
                .map(|found| (seed, found))
        }
    });
    let results: Vec<Result<(u64, Option<String>)>> =
        compared.buffer_unordered(AT_A_TIME).collect().await;
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unknown = BTreeMap::new();
    for result in results {
        let (seed, Some(difference)) = result? else {
            continue;
        };
        match known::reason(&difference) {
            Some(why) => *used.entry(why).or_default() += 1,
            None => drop(unknown.insert(seed, difference)),
        }
    }
    let mut shown = BTreeSet::new();
    for (seed, difference) in &unknown {
        // One of each kind.
        if shown.insert(normal::place_of(difference)) {
            println!("sequence {seed}:\n{difference}\n");
        }
    }
    ensure!(
        unknown.is_empty(),
        "{} sequences differ; add what must differ to known.rs, with the reason",
        unknown.len()
    );
    println!("accepted differences: {used:#?}");
    Ok(())
}
