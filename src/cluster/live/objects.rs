//! Objects in the API: what is to be done about one, and doing it.

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use serde_json::{Value, json};

use super::super::compare::{APPLIED_ANNOTATION, essence, missing_fields, missing_fields_of_others};
use super::super::ClusterError;
use super::{FIELD_MANAGER, LiveCluster, failed, missing};
use crate::artifact::{Artifact, Object, ObjectPolicy};
use crate::change::{Change, Reason};
use crate::names::Digest;
use crate::transport::Transport;

impl<T: Transport + 'static> LiveCluster<T> {
    pub(super) async fn object_change(&self, client: &kube::Client, object: Object) -> Result<Option<Change>, ClusterError> {
        let (id, is_absent) = (object.id(), object.policy == ObjectPolicy::Absent);
        let name = object.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let api = match self.api_of(client, &object.value).await {
            Ok(api) => api,
            // A kind the API does not know yet: its definition is made in the same step.
            Err(error) if error.unknown_kind => return Ok((!is_absent).then(|| missing(Artifact::Object(object)))),
            Err(error) => return Err(error),
        };
        let Some(found) = api.get_opt(&name).await.map_err(|error| failed("read", &id, &error))? else {
            return Ok((!is_absent).then(|| missing(Artifact::Object(object))));
        };
        let found = serde_json::to_value(&found).unwrap_or_default();
        let applied = found.pointer("/metadata/annotations").and_then(|annotations| annotations.get(APPLIED_ANNOTATION)).and_then(Value::as_str);
        if is_absent {
            return Ok(applied.map(|_| Change { artifact: Artifact::Object(object), reason: Reason::Unwanted, before: None }));
        }
        let is_last_applied = applied == Some(&Digest::of(object.value.to_string()).to_string());
        let mut changed = missing_fields_of_others(&object.value, &found);
        if changed.is_empty() && (applied.is_none() || is_last_applied) {
            return Ok(None);
        }
        // What looks different may be the same to the API (a quantity written otherwise): it is asked.
        let parameters = PatchParams { dry_run: true, ..PatchParams::apply(FIELD_MANAGER).force() };
        if let Ok(would_be) = api.patch(&name, &parameters, &Patch::Apply(&object.value)).await {
            let would_be = serde_json::to_value(&would_be).unwrap_or_default();
            if essence(&would_be) == essence(&found) {
                return Ok(None);
            }
            if changed.is_empty() {
                // Fields that slipway once applied and wants no more.
                changed = missing_fields(&essence(&found), &essence(&would_be));
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let drift = is_last_applied;
        let before = (!object.secret).then(|| crate::yaml::write(&essence(&found)));
        Ok(Some(Change { artifact: Artifact::Object(object), reason: Reason::Fields { changed, drift }, before }))
    }

    /// The API of an object's kind, in its namespace.
    pub(super) async fn api_of(&self, client: &kube::Client, value: &Value) -> Result<Api<DynamicObject>, ClusterError> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let key = format!("{api_version}/{kind}");
        let known = self.kinds.lock().expect("no panic while it is held").get(&key).cloned();
        let (resource, scope) = match known {
            Some(known) => known,
            None => {
                let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                let wanted = GroupVersionKind::gvk(group, version, kind);
                let (resource, capabilities) = discovery::pinned_kind(client, &wanted).await.map_err(|error| ClusterError {
                    unknown_kind: !matches!(error, kube::Error::HyperError(_) | kube::Error::Service(_)),
                    ..failed("find", &format!("the kind {key}"), &error)
                })?;
                let found = (resource, capabilities.scope);
                self.kinds.lock().expect("no panic while it is held").insert(key, found.clone());
                found
            }
        };
        let namespace = match text("/metadata/namespace") {
            "" => "default",
            namespace => namespace,
        };
        Ok(match scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
        })
    }

    pub(super) async fn apply_object(&self, object: &Object) -> Result<(), ClusterError> {
        let client = self.client().await?;
        let api = self.api_of(&client, &object.value).await?;
        let name = object.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let mut value = object.value.clone();
        if !value["metadata"]["annotations"].is_object() {
            value["metadata"]["annotations"] = json!({});
        }
        value["metadata"]["annotations"][APPLIED_ANNOTATION] = Digest::of(object.value.to_string()).to_string().into();
        api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&value))
            .await
            .map_err(|error| failed("apply", &object.id(), &error))?;
        Ok(())
    }

    /// Deletes an object that slipway applied; what it owns goes after it. One that is gone, or that
    /// somebody made anew, is left alone.
    pub(super) async fn delete_object(&self, object: &Object) -> Result<(), ClusterError> {
        let client = self.client().await?;
        let api = match self.api_of(&client, &object.value).await {
            Ok(api) => api,
            Err(error) if error.unknown_kind => return Ok(()),
            Err(error) => return Err(error),
        };
        let id = object.id();
        let name = object.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let Some(found) = api.get_opt(name).await.map_err(|error| failed("read", &id, &error))? else { return Ok(()) };
        if !found.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(APPLIED_ANNOTATION)) {
            return Ok(());
        }
        let this_one = Preconditions { uid: found.metadata.uid, resource_version: None };
        let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::background() };
        match api.delete(name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(failed("delete", &id, &error)),
        }
    }
}
