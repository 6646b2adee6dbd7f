//! Saves the state of the cluster when a step failed, before the cluster ends.

use anyhow::Result;
use local_stack::{Cluster, OPERATOR_NAMESPACE, Stack};
use std::path::{Path, PathBuf};

/// Removes the files of an earlier run.
pub fn clear(folder: &Path) -> Result<()> {
    let kept = failure(folder);
    if kept.exists() {
        std::fs::remove_dir_all(kept)?;
    }
    Ok(())
}

/// Queries the cluster, saves the output, and prints its path. Queries that fail are skipped.
pub async fn keep(folder: &Path, stack: &Stack) {
    let cluster = Cluster::of(stack);
    let kept = failure(folder);
    let operator = [
        "--namespace",
        OPERATOR_NAMESPACE,
        "--selector",
        "app.kubernetes.io/name=registry-grants",
    ];
    let all = "--all-namespaces";
    let questions: [(&str, Vec<&str>); 5] = [
        (
            "events.txt",
            vec![
                "get",
                "events",
                all,
                "--sort-by=.metadata.creationTimestamp",
            ],
        ),
        ("pods.txt", vec!["get", "pods", all, "--output", "wide"]),
        ("pods-described.txt", vec!["describe", "pods", all]),
        (
            "operator.log",
            [&["logs", "--tail=-1", "--prefix"], &operator[..]].concat(),
        ),
        (
            "grants.yaml",
            vec!["get", "carg,awsaccounts,leases", all, "--output", "yaml"],
        ),
    ];
    if std::fs::create_dir_all(&kept).is_err() {
        return;
    }
    for (name, question) in questions {
        if let Ok(answer) = cluster.kubectl(&question).await
            && !answer.is_empty()
            && std::fs::write(kept.join(name), answer).is_ok()
        {
            println!("     saved: {}", kept.join(name).display());
        }
    }
    println!(
        "     logs of all processes and Pods: {}",
        stack.info.logs.display()
    );
}

fn failure(folder: &Path) -> PathBuf {
    folder.join("failure")
}
