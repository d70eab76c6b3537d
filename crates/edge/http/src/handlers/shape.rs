//! What older versions of the API expect, made from today's answers. One function for each kind of
//! answer; each change names the version that made it
//! (<https://docs.docker.com/reference/api/engine/version-history/>).

use serde_json::{Map, Value};

use crate::version::ApiVersion;

/// An event, or None when the client does not know its kind.
pub(super) fn event(version: ApiVersion, mut value: Value) -> Option<Value> {
    let kind = text(&value, "Type");
    let action = text(&value, "Action");
    if version.before(46) && kind == "image" && action == "create" {
        return None;
    }
    // 1.52 dropped the fields of before 1.22, which stood first.
    if version.before(52)
        && (kind == "container" || kind == "image")
        && let Value::Object(fields) = &mut value
    {
        let actor = fields.get("Actor").cloned().unwrap_or_default();
        let mut old = Map::new();
        old.insert("status".to_owned(), action.into());
        old.insert("id".to_owned(), text(&actor, "ID").into());
        let from = actor
            .get("Attributes")
            .map(|attributes| text(attributes, "image"));
        if kind == "container"
            && let Some(from) = from.filter(|from| !from.is_empty())
        {
            old.insert("from".to_owned(), from.into());
        }
        old.append(fields);
        *fields = old;
    }
    Some(value)
}

/// A list of images.
pub(super) fn image_list(version: ApiVersion, value: &mut Value) {
    for image in value.as_array_mut().into_iter().flatten() {
        let Value::Object(fields) = image else {
            continue;
        };
        if version.before(43) && is_empty(fields, "RepoTags") && is_empty(fields, "RepoDigests") {
            fields.insert("RepoTags".to_owned(), vec!["<none>:<none>"].into());
            fields.insert("RepoDigests".to_owned(), vec!["<none>@<none>"].into());
        }
        virtual_size(version, fields);
        if version.before(48) {
            fields.shift_remove("Descriptor");
        }
        if version.before(51) {
            fields.insert("Containers".to_owned(), (-1).into());
        }
    }
}

/// One image.
pub(super) fn image(version: ApiVersion, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    virtual_size(version, fields);
    if version.before(48) {
        fields.shift_remove("Descriptor");
    }
    if version.before(52) {
        for name in ["Parent", "Comment", "DockerVersion", "Author"] {
            fields.entry(name).or_insert_with(|| "".into());
        }
    }
}

/// A list of containers.
pub(super) fn container_list(version: ApiVersion, value: &mut Value) {
    for container in value.as_array_mut().into_iter().flatten() {
        let Value::Object(fields) = container else {
            continue;
        };
        if version.before(46)
            && let Some(Value::Object(host)) = fields.get_mut("HostConfig")
        {
            host.shift_remove("Annotations");
        }
        if version.before(48) {
            fields.shift_remove("ImageManifestDescriptor");
        }
        if version.before(52) {
            fields.shift_remove("Health");
        }
    }
}

/// 1.44 dropped `VirtualSize`, which had become the same as `Size`.
fn virtual_size(version: ApiVersion, fields: &mut Map<String, Value>) {
    if version.before(44)
        && let Some(size) = fields.get("Size").cloned()
    {
        fields.insert("VirtualSize".to_owned(), size);
    }
}

fn text(value: &Value, field: &str) -> String {
    value
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned()
}

fn is_empty(fields: &Map<String, Value>, name: &str) -> bool {
    fields
        .get(name)
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NEW: ApiVersion = ApiVersion::new(1, 56);

    #[test]
    fn events_have_their_old_fields_for_old_clients_only() {
        let now = json!({"Type": "container", "Action": "start",
            "Actor": {"ID": "abc", "Attributes": {"image": "debian"}}, "time": 1});
        assert_eq!(event(NEW, now.clone()), Some(now.clone()));
        let old = event(ApiVersion::new(1, 50), now).unwrap();
        assert_eq!(
            old.to_string(),
            r#"{"status":"start","id":"abc","from":"debian","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"image":"debian"}},"time":1}"#
        );
        let created = json!({"Type": "image", "Action": "create", "Actor": {"ID": "x"}});
        assert_eq!(event(ApiVersion::new(1, 45), created.clone()), None);
        assert_eq!(event(NEW, created.clone()), Some(created));
    }

    #[test]
    fn image_lists_are_reshaped() {
        let now = json!([{"Size": 5, "RepoTags": [], "RepoDigests": [], "Containers": 2, "Descriptor": {}}]);
        let mut value = now.clone();
        image_list(NEW, &mut value);
        assert_eq!(value, now);
        image_list(ApiVersion::new(1, 40), &mut value);
        assert_eq!(
            value,
            json!([{"Size": 5, "VirtualSize": 5, "Containers": -1,
                "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}])
        );
    }

    #[test]
    fn one_image_is_reshaped() {
        let mut value = json!({"Size": 5, "Comment": "x", "Descriptor": {}});
        image(ApiVersion::new(1, 43), &mut value);
        assert_eq!(
            value,
            json!({"Size": 5, "VirtualSize": 5, "Comment": "x", "Parent": "", "DockerVersion": "", "Author": ""})
        );
    }

    #[test]
    fn container_lists_are_reshaped() {
        let mut value = json!([{"Id": "a", "HostConfig": {"NetworkMode": "x", "Annotations": {}}, "Health": {}, "ImageManifestDescriptor": {}}]);
        container_list(ApiVersion::new(1, 45), &mut value);
        assert_eq!(
            value,
            json!([{"Id": "a", "HostConfig": {"NetworkMode": "x"}}])
        );
    }
}
