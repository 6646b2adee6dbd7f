use super::*;

const ACCOUNT: &str = "111111111111";

fn has_line(metrics: &Metrics, line: &str) -> bool {
    metrics.text().lines().any(|written| written == line)
}

#[tokio::test]
async fn counts_are_shown_by_account() {
    let metrics = Metrics::default();
    metrics
        .clone()
        .sweep_found
        .get_or_create(&ACCOUNT.into())
        .set(3);
    metrics
        .sweep_removed
        .get_or_create(&ACCOUNT.into())
        .inc_by(2);
    for line in [
        "# TYPE registry_grants_sweep_found gauge",
        "registry_grants_sweep_found{account=\"111111111111\"} 3",
        "registry_grants_sweep_removed_total{account=\"111111111111\"} 2",
    ] {
        assert!(has_line(&metrics, line), "{}", metrics.text());
    }
}

/// A cluster with this number of grants, all with the same reason, and with these accounts.
struct Fixed(Mutex<(i64, Vec<&'static str>)>);

impl ClusterSource for Fixed {
    fn snapshot(&self) -> Option<Snapshot> {
        let (grants, accounts) = self.0.lock().unwrap().clone();
        let granted = OfReady {
            ready: "True".into(),
            reason: "Granted".into(),
        };
        Some(Snapshot {
            grants: (grants > 0)
                .then_some((granted, grants))
                .into_iter()
                .collect(),
            accounts: accounts
                .into_iter()
                .map(|account| (account.to_owned(), true))
                .collect(),
        })
    }

    fn has_grant(&self, key: &Key) -> bool {
        key.1 == "there"
    }
}

#[tokio::test]
async fn deleted_grants_and_accounts_lose_their_series() {
    let metrics = Metrics::default();
    let cluster = Arc::new(Fixed(Mutex::new((2, vec![ACCOUNT]))));
    metrics.watch(cluster.clone());
    metrics.drift_corrected.get_or_create(&ACCOUNT.into()).inc();
    metrics.policies.seen(ACCOUNT, "us-east-1", "app", 0.5);
    for line in [
        "registry_grants_grants{ready=\"True\",reason=\"Granted\"} 2",
        "registry_grants_account_ready{account=\"111111111111\"} 1",
        "registry_grants_drift_corrected_total{account=\"111111111111\"} 1",
        "registry_grants_repository_policy_full_ratio_max{account=\"111111111111\",region=\"us-east-1\"} 0.5",
    ] {
        assert!(has_line(&metrics, line), "{line}\n{}", metrics.text());
    }
    *cluster.0.lock().unwrap() = (0, Vec::new());
    let text = metrics.text();
    assert!(
        !text.contains(ACCOUNT) && !text.contains("Granted\""),
        "{text}"
    );
}

#[tokio::test]
async fn deleted_grant_is_not_due() {
    let metrics = Metrics::default();
    metrics.watch(Arc::new(Fixed(Mutex::new((1, Vec::new())))));
    for name in ["there", "gone"] {
        metrics
            .queue
            .due(("team-b".into(), name.into()), std::time::Duration::ZERO);
    }
    assert!(
        has_line(&metrics, "registry_grants_queue_depth 1"),
        "{}",
        metrics.text()
    );
}

#[tokio::test]
async fn each_term_shows_only_its_own_caches() {
    let granted =
        |count| format!("registry_grants_grants{{ready=\"True\",reason=\"Granted\"}} {count}");
    let metrics = Metrics::default();
    metrics.watch(Arc::new(Fixed(Mutex::new((2, vec![ACCOUNT])))));
    metrics
        .queue
        .due(("team-b".into(), "there".into()), std::time::Duration::ZERO);
    metrics.sweep_removed.get_or_create(&ACCOUNT.into()).inc();
    assert!(has_line(&metrics, &granted(2)) && has_line(&metrics, "registry_grants_queue_depth 1"));
    metrics.stand_by();
    let text = metrics.text();
    assert!(
        !text.contains("Granted\"") && !text.contains("account_ready{"),
        "{text}"
    );
    assert!(
        has_line(&metrics, "registry_grants_queue_depth 0"),
        "{text}"
    );
    metrics.watch(Arc::new(Fixed(Mutex::new((
        3,
        vec!["222222222222", ACCOUNT],
    )))));
    for name in ["there", "gone"] {
        metrics
            .queue
            .due(("team-b".into(), name.into()), std::time::Duration::ZERO);
    }
    for line in [
        &granted(3),
        "registry_grants_account_ready{account=\"222222222222\"} 1",
        "registry_grants_queue_depth 1",
        "registry_grants_sweep_removed_total{account=\"111111111111\"} 1",
    ] {
        assert!(has_line(&metrics, line), "{line}\n{}", metrics.text());
    }
}
