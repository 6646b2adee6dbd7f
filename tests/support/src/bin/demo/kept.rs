//! The demo that `--keep` leaves running: how to use it, and how to stop it.

use anyhow::{Context, Result, bail};
use local_stack::{Identity, Info, Repository};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The file with the processes to stop later, and with the addresses for users.
#[derive(Serialize, Deserialize)]
pub struct Kept {
    pub stack: Identity,
    pub operator: Option<Identity>,
    pub info: Info,
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// A demo that was kept must be stopped first, because both use the same folder.
pub fn refuse_if_running(folder: &Path) -> Result<()> {
    match read(folder)? {
        Some(kept) if kept.stack.is_running() => {
            bail!("a demo is still running (KEEP=1); stop it with `make demo-down` first")
        }
        _ => Ok(()),
    }
}

fn read(folder: &Path) -> Result<Option<Kept>> {
    let file = state_file(folder);
    if !file.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&file)?;
    Ok(Some(serde_json::from_str(&text).with_context(|| {
        format!("{} is not ours", file.display())
    })?))
}

pub fn write(folder: &Path, kept: &Kept) -> Result<()> {
    Ok(std::fs::write(
        state_file(folder),
        serde_json::to_string_pretty(kept)? + "\n",
    )?)
}

/// Stops the recorded processes, if they are still the same ones.
pub fn end(folder: &Path) -> Result<ExitCode> {
    let Some(kept) = read(folder)? else {
        println!("no demo is running");
        return Ok(ExitCode::SUCCESS);
    };
    for (name, process) in kept
        .operator
        .iter()
        .map(|operator| ("operator", operator))
        .chain([("stack", &kept.stack)])
    {
        let state = if process.is_running() {
            "stopped"
        } else {
            "had already stopped"
        };
        process.end();
        println!("{name}: {state}");
    }
    std::fs::remove_file(state_file(folder))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a file of environment variables for a shell, and prints how to use it. `docker` is a
/// `DOCKER_CONFIG` with the instance's token.
pub fn explain(folder: &Path, docker: &Path, info: &Info, repository: &Repository) -> Result<()> {
    let programs = [&info.bin.kubectl, &info.bin.helm, &info.bin.crane];
    let path: Vec<String> = programs
        .iter()
        .filter_map(|program| Some(program.parent()?.display().to_string()))
        .collect();
    let environment = folder.join("env.sh");
    let text = format!(
        "# Source this file: kubectl and Helm for the demo's cluster, AWS as account A's root, crane as account B's instance.\n\
         export PATH='{path}':\"$PATH\"\n\
         export KUBECONFIG='{kubeconfig}'\n\
         export AWS_ENDPOINT_URL='{aws}' AWS_REGION={region} AWS_ACCESS_KEY_ID={account} AWS_SECRET_ACCESS_KEY=root\n\
         unset AWS_SESSION_TOKEN AWS_PROFILE\n\
         crane() {{ HTTP_PROXY='{proxy}' HTTPS_PROXY='{proxy}' DOCKER_CONFIG='{docker}' command crane --insecure \"$@\"; }}\n",
        path = path.join(":"),
        kubeconfig = info.kubeconfig.display(),
        aws = info.aws_endpoint,
        region = repository.region,
        account = repository.account,
        proxy = info.registry_proxy,
        docker = docker.display(),
    );
    std::fs::write(&environment, text)?;
    println!(
        "
The demo is still running. In a shell:

    source {environment}
    kubectl describe carg miq-devops -n team-b
    kubectl edit carg miq-devops -n team-b
    crane ls {host}/{name}           # as the EC2 instance of account B
    aws iam list-roles               # if you have the AWS CLI; an account ID as AWS_ACCESS_KEY_ID
                                     # makes you that account's root (A is {account})

  kubeconfig      {kubeconfig}
  API server      {server}
  AWS             {aws}
  registry proxy  {proxy}
  logs            {logs}
  stop it         make demo-down",
        environment = environment.display(),
        host = repository.host(),
        name = repository.name,
        account = repository.account,
        kubeconfig = info.kubeconfig.display(),
        server = info.server,
        aws = info.aws_endpoint,
        proxy = info.registry_proxy,
        logs = info.logs.display(),
    );
    Ok(())
}
