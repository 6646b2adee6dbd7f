//! Generated files match the code, and the code understands the examples.

use registry_grants::api::{AWSAccount, CrossAccountRegistryGrant};
use registry_grants::telemetry::metrics::Metrics;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|file| file.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

/// Reads the YAML files of a folder, by their names.
fn contents(folder: &Path) -> BTreeMap<String, String> {
    let named = |file: PathBuf| {
        (
            file.file_name().unwrap().to_str().unwrap().to_owned(),
            fs::read_to_string(&file).unwrap(),
        )
    };
    yaml_files(folder).into_iter().map(named).collect()
}

/// Returns the files that the built binary writes.
fn written() -> BTreeMap<String, String> {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crds-{}", std::process::id()));
    let folder = folder.join(
        std::thread::current()
            .name()
            .unwrap_or("test")
            .replace("::", "-"),
    );
    fs::create_dir_all(&folder).unwrap();
    let binary = env!("CARGO_BIN_EXE_registry-grants");
    let status = Command::new(binary)
        .arg("crds")
        .arg("--output-dir")
        .arg(&folder)
        .status()
        .unwrap();
    assert!(status.success());
    let written = contents(&folder);
    fs::remove_dir_all(&folder).unwrap();
    written
}

/// Returns the kind and schema of each definition.
fn schemas() -> Vec<(String, Value)> {
    let parsed = written()
        .into_values()
        .map(|text| serde_saphyr::from_str::<Value>(&text).unwrap());
    let named = |crd: Value| {
        let versions = crd["spec"]["versions"].as_array().unwrap();
        assert_eq!(versions.len(), 1);
        (
            crd["spec"]["names"]["kind"].as_str().unwrap().to_owned(),
            versions[0]["schema"]["openAPIV3Schema"].clone(),
        )
    };
    parsed.map(named).collect()
}

/// No field manager owns a default's items, so server-side apply keeps them beside those that a
/// user applies later.
#[test]
fn list_merged_by_item_has_no_default() {
    fn find(schema: &Value, field: &str, found: &mut Vec<String>) {
        let by_item = ["set", "map"]
            .map(Value::from)
            .contains(&schema["x-kubernetes-list-type"]);
        let has_default = schema["default"]
            .as_array()
            .is_some_and(|items| !items.is_empty());
        found.extend((by_item && has_default).then(|| field.to_owned()));
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            find(schema, &format!("{field}.{name}"), found);
        }
        // The items of an atomic list are never merged.
        if schema["x-kubernetes-list-type"] != "atomic" {
            schema
                .get("items")
                .into_iter()
                .for_each(|items| find(items, &format!("{field}[]"), found));
        }
    }
    let mut found = Vec::new();
    for (kind, schema) in schemas() {
        find(&schema, &kind, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn api_reference_is_up_to_date() {
    let binary = env!("CARGO_BIN_EXE_registry-grants");
    let printed = Command::new(binary)
        .args(["crds", "--reference"])
        .output()
        .unwrap();
    let there = fs::read_to_string(root().join("docs/reference/api.md")).unwrap_or_default();
    assert!(
        there == String::from_utf8(printed.stdout).unwrap(),
        "docs/reference/api.md is stale: run `make crds`"
    );
}

#[test]
fn definitions_in_the_repository_are_up_to_date() {
    let written = written();
    assert_eq!(written.len(), 2);
    for folder in ["crds", "charts/registry-grants/files/crds"] {
        assert!(
            contents(&root().join(folder)) == written,
            "{folder} is stale: run `make crds`"
        );
    }
}

/// The demo, the integration tests and `make e2e` set up their accounts with these files.
#[test]
fn example_management_roles_are_up_to_date() {
    let printed = |arguments: &str| {
        let role = "--operator-role-arn arn:aws:iam::333333333333:role/registry-grants-operator";
        let arguments =
            format!("iam-policy {role} --external-id registry-grants-example {arguments}");
        let output = Command::new(env!("CARGO_BIN_EXE_registry-grants"))
            .args(arguments.split(' '))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let folder = root().join("examples/management-roles");
    let fresh = |file: &str, arguments: &str| {
        let stored = fs::read_to_string(folder.join(file)).unwrap();
        assert!(
            stored == printed(arguments),
            "{file} is stale: run `make management-roles`"
        );
    };
    for (side, account) in [("registry", "111111111111"), ("consumer", "222222222222")] {
        for document in ["trust", "permissions", "boundary"] {
            let arguments =
                format!("--account {side} --account-id {account} --document {document}");
            fresh(&format!("{side}/{document}.json"), &arguments);
        }
    }
    fresh("operator.json", "--document operator");
}

#[test]
fn printed_definitions_equal_the_written_ones() {
    let output = Command::new(env!("CARGO_BIN_EXE_registry-grants"))
        .arg("crds")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let files: String = written()
        .into_values()
        .map(|text| format!("---\n{text}"))
        .collect();
    assert_eq!(printed, files);
}

/// Calls `see` for every schema below this one, with the path of its field.
fn walk(schema: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
    see(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(field, &format!("{path}.{name}"), see);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&schema[key], &format!("{path}{mark}"), see);
        }
    }
}

#[test]
fn every_field_has_a_description() {
    let mut silent = Vec::new();
    for (kind, schema) in schemas() {
        walk(&schema, &kind, &mut |path, field| {
            let described = field["description"]
                .as_str()
                .is_some_and(|text| text.len() >= 10);
            // The description of a list or map covers its items.
            if !described && !path.ends_with("[]") && !path.ends_with("{}") {
                silent.push(path.to_owned());
            }
        });
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn every_spec_string_and_list_is_bounded() {
    let mut unbounded = Vec::new();
    for (kind, schema) in schemas() {
        walk(&schema["properties"]["spec"], &kind, &mut |path, field| {
            // Kubernetes' own type, which has no bounds.
            if path.contains(".namespaces.selector") {
                return;
            }
            let has = |key: &str| !field[key].is_null();
            let bounded = match field["type"].as_str() {
                Some("string") => has("maxLength") || has("enum"),
                Some("array") => has("maxItems"),
                Some("object") => !has("additionalProperties") || has("maxProperties"),
                Some("integer") => has("minimum") && has("maximum"),
                Some("boolean") => true,
                other => panic!("{path}: type {other:?}"),
            };
            if !bounded {
                unbounded.push(path.to_owned());
            }
        });
    }
    assert!(unbounded.is_empty(), "{unbounded:#?}");
}

#[test]
fn both_kinds_have_a_status_and_show_readiness() {
    for text in written().into_values() {
        let crd: Value = serde_saphyr::from_str(&text).unwrap();
        let version = &crd["spec"]["versions"][0];
        assert!(version["subresources"]["status"].is_object());
        let columns: Vec<_> = version["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["name"])
            .collect();
        assert!(
            columns.contains(&&Value::from("Ready")) && columns.contains(&&Value::from("Reason")),
            "{columns:?}"
        );
    }
}

/// Returns the fields that the type does not know, which the API server would drop.
fn unknown_fields<K: DeserializeOwned + Serialize>(object: &Value) -> Vec<String> {
    let understood: K = serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{error}: {object:#}"));
    let mut missing = Vec::new();
    missing_in(
        &serde_json::to_value(understood).unwrap(),
        object,
        "",
        &mut missing,
    );
    missing
}

fn missing_in(understood: &Value, written: &Value, path: &str, missing: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(fields), _) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match understood.get(name) {
                    Some(understood) => missing_in(understood, value, &path, missing),
                    None => missing.push(path),
                }
            }
        }
        (Value::Array(items), Value::Array(understood)) if items.len() == understood.len() => {
            for (at, (item, understood)) in items.iter().zip(understood).enumerate() {
                missing_in(understood, item, &format!("{path}[{at}]"), missing);
            }
        }
        _ if written == understood => {}
        _ => missing.push(path.to_owned()),
    }
}

#[test]
fn examples_have_only_known_fields() {
    let mut kinds = BTreeMap::new();
    for file in yaml_files(&root().join("examples")) {
        let text = fs::read_to_string(&file).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for object in objects {
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            let unknown = match kind.as_str() {
                "AWSAccount" => unknown_fields::<AWSAccount>(&object),
                "CrossAccountRegistryGrant" => unknown_fields::<CrossAccountRegistryGrant>(&object),
                "Namespace" => Vec::new(),
                other => panic!("{}: unknown kind {other:?}", file.display()),
            };
            assert!(unknown.is_empty(), "{}: {kind} {unknown:?}", file.display());
            *kinds.entry(kind).or_insert(0) += 1;
        }
    }
    assert!(
        kinds.contains_key("CrossAccountRegistryGrant") && kinds["AWSAccount"] >= 2,
        "{kinds:?}"
    );
}

#[test]
fn unknown_field_in_an_example_is_detected() {
    let text = fs::read_to_string(root().join("examples/article.yaml")).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let grant = objects.last_mut().unwrap();
    grant["spec"]["registry"]["acces"] = "Pull".into();
    assert_eq!(
        unknown_fields::<CrossAccountRegistryGrant>(grant),
        [".spec.registry.acces"]
    );
}

#[test]
fn metrics_reference_is_up_to_date() {
    const HEAD: &str = "\
<!-- Generated from src/telemetry/metrics by `make metrics-reference`: change it there. -->
# Metrics

`/metrics`, on the Pod's port `health`, in the OpenMetrics text format. Only the leader reports on grants, accounts and AWS. No label takes its values from
grants or repositories: `account` is one of the cluster's `AWSAccount`s, and its series are removed with it. How to use them: [operations](../operations.md#metrics-logs-traces).

";
    let page = root().join("docs/reference/metrics.md");
    let written = format!("{HEAD}{}", Metrics::default().reference());
    if std::env::var_os("WRITE_REFERENCE").is_some() {
        fs::write(&page, &written).unwrap();
    }
    assert!(
        fs::read_to_string(&page).unwrap() == written,
        "{} is stale: run `make metrics-reference`",
        page.display()
    );
}

/// Returns the names of metrics in a text with PromQL.
fn asked_for(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("registry_grants_"))
        .map(String::from)
        .collect()
}

#[test]
fn alerts_and_dashboard_use_existing_metrics() {
    let names = Metrics::default().names();
    for file in [
        "charts/registry-grants/files/prometheus-rules.yaml",
        "charts/registry-grants/files/dashboard.json",
        "tests/chart/rules_test.yaml",
        "docs/operations.md",
    ] {
        let asked = asked_for(&fs::read_to_string(root().join(file)).unwrap());
        assert!(!asked.is_empty(), "{file} asks for nothing");
        let unknown: Vec<_> = asked.difference(&names).collect();
        assert!(unknown.is_empty(), "{file}: there is no {unknown:?}");
    }
    let shown = asked_for(
        &fs::read_to_string(root().join("charts/registry-grants/files/dashboard.json")).unwrap(),
    );
    let forgotten = names
        .iter()
        .filter(|name| !name.ends_with("_count") && !name.ends_with("_sum"));
    let forgotten: Vec<_> = forgotten.filter(|name| !shown.contains(*name)).collect();
    assert!(
        forgotten.is_empty(),
        "the dashboard does not show {forgotten:?}"
    );
}

#[test]
fn every_alert_has_a_description_and_a_runbook() {
    let text =
        fs::read_to_string(root().join("charts/registry-grants/files/prometheus-rules.yaml"))
            .unwrap();
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let anchor = |line: &str| {
        line.trim_start_matches('#')
            .trim()
            .to_lowercase()
            .replace(',', "")
            .replace(' ', "-")
    };
    let anchors: BTreeSet<String> = operations
        .lines()
        .filter(|line| line.starts_with("##"))
        .map(anchor)
        .collect();
    let rules: Value = serde_saphyr::from_str(&text).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() > 5);
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        for told in ["summary", "description", "runbook"] {
            assert!(
                rule["annotations"][told]
                    .as_str()
                    .is_some_and(|text| text.len() > 10),
                "{name} has no {told}"
            );
        }
        let runbook = rule["annotations"]["runbook"].as_str().unwrap();
        let place = runbook
            .strip_prefix("docs/operations.md#")
            .and_then(|rest| rest.split(':').next())
            .unwrap();
        assert!(
            anchors.contains(place),
            "{name}: docs/operations.md has no #{place}"
        );
        assert!(
            operations.contains(&format!("`{name}`")),
            "docs/operations.md does not tell of {name}"
        );
    }
}
