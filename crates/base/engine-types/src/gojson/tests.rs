//! Reading by the rules of Go, and failing in its words.

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Sample {
    image: String,
    count: i64,
    list: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    cmd: Option<Vec<String>>,
    inner: Option<Box<Self>>,
    ports: std::collections::BTreeMap<String, crate::Empty>,
}

fn read(text: &str) -> Sample {
    from_slice(text.as_bytes()).unwrap()
}

#[test]
fn keys_match_in_any_case_and_the_exact_one_wins() {
    assert_eq!(read(r#"{"image":"a"}"#).image, "a");
    assert_eq!(read(r#"{"IMAGE":"a","Image":"b","iMage":"c"}"#).image, "b");
    assert_eq!(read(r#"{"IMAGE":"a","iMage":"c"}"#).image, "c");
    assert_eq!(read(r#"{"inner":{"COUNT":3}}"#).inner.unwrap().count, 3);
}

#[test]
fn null_is_the_zero_value() {
    assert_eq!(
        read(r#"{"Image":null,"Count":null,"List":null,"Cmd":null,"Inner":null,"Ports":null}"#),
        read("{}")
    );
    assert_eq!(read("null"), read("{}"));
    assert_eq!(read(r#"{"List":[null,"a"]}"#).list.unwrap(), ["", "a"]);
    assert_eq!(read(r#"{"Ports":{"80/tcp":null}}"#).ports.len(), 1);
    assert_eq!(read(r#"{"List":[]}"#).list, Some(vec![]));
}

#[test]
fn one_word_is_a_list() {
    assert_eq!(read(r#"{"Cmd":"ls"}"#).cmd.unwrap(), ["ls"]);
    assert_eq!(read(r#"{"cmd":["ls","-l"]}"#).cmd.unwrap(), ["ls", "-l"]);
}

#[test]
fn wrong_types_are_errors() {
    for text in [
        r#"{"Image":1}"#,
        r#"{"Count":"1"}"#,
        r#"{"Count":1.5}"#,
        r#"{"List":{}}"#,
        "[]",
        r#"{"Count":9223372036854775808}"#,
        "{} {}",
        "",
    ] {
        from_slice::<Sample>(text.as_bytes()).unwrap_err();
    }
}

/// Bodies of a create, what stands in the wrong place, and the place. Observed of dockerd 28.5.2, built with Go 1.27.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        r#"{"Image":1}"#,
        "number",
        "Go struct field .Image of type string",
    ),
    (
        r#"{"Tty":"x"}"#,
        "string",
        "Go struct field .Tty of type bool",
    ),
    (
        r#"{"Env":"a"}"#,
        "string",
        "Go struct field .Env of type []string",
    ),
    (r#"{"Env":[1]}"#, "number", ".Env.0 of type string"),
    (
        r#"{"Labels":{"a":1}}"#,
        "number",
        "Go struct field .Labels.a of type string",
    ),
    (
        r#"{"Labels":[]}"#,
        "array",
        "Go struct field .Labels of type map[string]string",
    ),
    (
        r#"{"Volumes":1}"#,
        "number",
        "Go struct field .Volumes of type map[string]struct {}",
    ),
    (r#"{"Cmd":1}"#, "number", "Go value of type string"),
    (r#"{"Cmd":[1]}"#, "array", "Go value of type string"),
    (
        r#"{"StopTimeout":"x"}"#,
        "string",
        "Go struct field .StopTimeout of type int",
    ),
    (
        r#"{"ExposedPorts":[]}"#,
        "array",
        "Go struct field .ExposedPorts of type nat.PortSet",
    ),
    (
        r#"{"ExposedPorts":{"80/tcp":1}}"#,
        "number",
        "Go struct field .ExposedPorts.80~1tcp of type struct {}",
    ),
    (
        r#"{"HostConfig":1}"#,
        "number",
        "Go struct field .HostConfig of type container.HostConfig",
    ),
    (
        r#"{"HostConfig":{"Memory":1.5}}"#,
        "number 1.5",
        "Go struct field .HostConfig.Memory of type int64",
    ),
    (
        r#"{"HostConfig":{"Memory":"x"}}"#,
        "string",
        "Go struct field .HostConfig.Memory of type int64",
    ),
    (
        r#"{"HostConfig":{"BlkioWeight":70000}}"#,
        "number 70000",
        "Go struct field .HostConfig.BlkioWeight of type uint16",
    ),
    (
        r#"{"HostConfig":{"BlkioWeightDevice":[{"Weight":-1}]}}"#,
        "number -1",
        "Go struct field .HostConfig.BlkioWeightDevice.0.Weight of type uint16",
    ),
    (
        r#"{"HostConfig":{"Mounts":[{"Type":1}]}}"#,
        "number",
        "Go struct field .HostConfig.Mounts.0.Type of type mount.Type",
    ),
    (
        r#"{"HostConfig":{"Mounts":[1]}}"#,
        "number",
        ".HostConfig.Mounts.0 of type mount.Mount",
    ),
    (
        r#"{"HostConfig":{"Ulimits":1}}"#,
        "number",
        "Go struct field .HostConfig.Ulimits of type []*units.Ulimit",
    ),
    (
        r#"{"HostConfig":{"ConsoleSize":[-1]}}"#,
        "number -1",
        ".HostConfig.ConsoleSize.0 of type uint",
    ),
    (
        r#"{"HostConfig":{"DeviceRequests":[{"Capabilities":1}]}}"#,
        "number",
        "Go struct field .HostConfig.DeviceRequests.0.Capabilities of type [][]string",
    ),
    (
        r#"{"HostConfig":{"DeviceRequests":[{"Capabilities":[[1]]}]}}"#,
        "number",
        ".HostConfig.DeviceRequests.0.Capabilities.0.0 of type string",
    ),
    (
        r#"{"HostConfig":{"PortBindings":{"80/tcp":1}}}"#,
        "number",
        "Go struct field .HostConfig.PortBindings.80~1tcp of type []nat.PortBinding",
    ),
    (
        r#"{"Healthcheck":{"Interval":"x"}}"#,
        "string",
        "Go struct field .Healthcheck.Interval of type time.Duration",
    ),
    ("[]", "array", "Go value of type container.CreateRequest"),
];

#[test]
fn errors_are_gos() {
    use crate::{ContainerCreateRequest, ExecCreateRequest};
    let create = |text: &str| match from_slice::<ContainerCreateRequest>(text.as_bytes()) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    };
    for (text, what, place) in REFUSED.iter().copied() {
        let expected = format!("json: cannot unmarshal {what} into {place}");
        assert_eq!(create(text), expected, "{text}");
    }
    assert_eq!(create(r#"{"HostConfig":{"ConsoleSize":[1]}}"#), "accepted");
    assert_eq!(
        create(r#"{"HostConfig":{"ConsoleSize":[1,2,3]}}"#),
        "accepted"
    );
    assert_eq!(create("{}x"), TRAILING);
    assert_eq!(create("{"), "unexpected EOF");
    assert_eq!(
        from_slice::<ExecCreateRequest>(br#"{"Cmd":1}"#)
            .unwrap_err()
            .to_string(),
        "json: cannot unmarshal number into Go struct field ExecOptions.Cmd of type []string"
    );
}
