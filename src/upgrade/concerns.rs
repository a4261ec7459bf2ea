//! What of a cluster's own traffic an upgrade may get in the way of: deprecated APIs that somebody
//! still asks for, and webhooks without which nothing goes through. Pure: it reads what the API says.

use std::collections::BTreeSet;

use serde_json::Value;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concerns {
    /// APIs that will be gone and are still asked for.
    pub deprecated: BTreeSet<DeprecatedApi>,
    /// Webhooks that must answer before a pod or Node may change, `configuration/webhook`.
    pub webhooks: BTreeSet<String>,
}

/// A deprecated API that was asked for since an API server started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeprecatedApi {
    /// The first minor release of Kubernetes 1 without it.
    pub removed_in: u32,
    /// `resource.version.group`.
    pub name: String,
}

/// The gauge in which API servers say so (KEP 1693).
const GAUGE: &str = "apiserver_requested_deprecated_apis{";

/// Resources that an upgrade changes: pods are evicted and made anew, Nodes are marked and report.
const TOUCHED: &[&str] = &["*", "*/*", "pods", "pods/*", "pods/eviction", "pods/binding", "nodes", "nodes/*", "nodes/status", "leases"];

/// Reads an API server's metrics.
#[must_use]
pub fn deprecated(metrics: &str) -> BTreeSet<DeprecatedApi> {
    metrics.lines().filter_map(gauge).collect()
}

fn gauge(line: &str) -> Option<DeprecatedApi> {
    let (labels, value) = line.strip_prefix(GAUGE)?.rsplit_once('}')?;
    if value.trim() == "0" {
        return None;
    }
    // Names of groups, versions and resources hold neither quotes nor commas.
    let label = |name: &str| {
        labels.split(',').find_map(|label| label.trim().strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"')).unwrap_or_default()
    };
    let (major, minor) = label("removed_release").split_once('.')?;
    let removed_in = minor.parse().ok().filter(|_| major == "1")?;
    let parts = [label("resource"), label("version"), label("group")];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Some(DeprecatedApi { removed_in, name: parts.join(".") })
}

/// Reads a list of ValidatingWebhookConfigurations or MutatingWebhookConfigurations.
#[must_use]
pub fn webhooks(list: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for configuration in list["items"].as_array().into_iter().flatten() {
        let name = configuration.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let required = configuration["webhooks"].as_array().into_iter().flatten().filter(|webhook| {
            // `Fail` is the default of admissionregistration.k8s.io/v1.
            webhook["failurePolicy"].as_str().unwrap_or("Fail") == "Fail" && touches(webhook)
        });
        found.extend(required.map(|webhook| format!("{name}/{}", webhook["name"].as_str().unwrap_or_default())));
    }
    found
}

fn touches(webhook: &Value) -> bool {
    let rules = webhook["rules"].as_array().into_iter().flatten();
    let mut resources = rules.flat_map(|rule| rule["resources"].as_array().into_iter().flatten()).filter_map(Value::as_str);
    resources.any(|resource| TOUCHED.contains(&resource))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn deprecated_apis_are_read_from_metrics() {
        let metrics = "\
# HELP apiserver_requested_deprecated_apis [ALPHA] Gauge of deprecated APIs
apiserver_requested_deprecated_apis{group=\"policy\",removed_release=\"1.25\",resource=\"poddisruptionbudgets\",subresource=\"\",version=\"v1beta1\"} 1
apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"componentstatuses\",subresource=\"\",version=\"v1\"} 1
apiserver_requested_deprecated_apis{group=\"batch\",removed_release=\"1.25\",resource=\"cronjobs\",subresource=\"status\",version=\"v1beta1\"} 0
apiserver_request_total{code=\"200\"} 7
";
        let expected = DeprecatedApi { removed_in: 25, name: "poddisruptionbudgets.v1beta1.policy".into() };
        assert_eq!(deprecated(metrics), [expected].into());
    }

    #[test]
    fn webhooks_count_that_must_answer_for_pods_or_nodes() {
        let webhook = |name: &str, policy: Option<&str>, resource: &str| {
            let mut value = json!({ "name": name, "rules": [{ "operations": ["*"], "resources": [resource] }] });
            if let Some(policy) = policy {
                value["failurePolicy"] = policy.into();
            }
            value
        };
        let list = json!({ "items": [{ "metadata": { "name": "guard" }, "webhooks": [
            webhook("a.example", Some("Fail"), "pods"),
            webhook("b.example", Some("Ignore"), "pods"),
            webhook("c.example", None, "*"),
            webhook("d.example", Some("Fail"), "ingresses"),
        ] }] });
        assert_eq!(webhooks(&list), ["guard/a.example".to_owned(), "guard/c.example".to_owned()].into());
    }
}
