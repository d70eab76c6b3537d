//! Networks over HTTP: routes, versions, Docker's answers.

use serde_json::Value;

use crate::rig::Rig;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn lists_and_inspect_have_the_shape_of_their_version() {
    let rig = Rig::start().await;
    for path in ["/networks", "/networks/"] {
        let list = json(&rig.ask(&format!("GET {path}"), "").await.body);
        assert_eq!(list[0]["Name"], "web");
        assert!(list[0].get("Containers").is_none());
    }
    let old = json(&rig.ask("GET /v1.27/networks", "").await.body);
    assert!(old[0]["Containers"].is_object());
    let one = json(
        &rig.ask("GET /networks/web?scope=local&verbose=1", "")
            .await
            .body,
    );
    assert_eq!(one["Name"], "web true local");
    assert!(one["Containers"]["c"].is_object() && one["Status"].is_object());
    let old = json(&rig.ask("GET /v1.51/networks/web", "").await.body);
    assert!(old["Containers"].is_object() && old.get("Status").is_none());
    rig.stop().await;
}

/// Request, body, status, answer.
const EXCHANGES: &[(&str, &str, u16, &str)] = &[
    (
        "POST /networks/create",
        r#"{"name":"x","EnableIPv4":false}"#,
        201,
        r#"{"Id":"x Some(false)","Warning":""}"#,
    ),
    (
        "POST /v1.47/networks/create",
        r#"{"Name":"x","EnableIPv4":false}"#,
        201,
        r#"{"Id":"x None","Warning":""}"#,
    ),
    (
        "POST /networks/create",
        r#"{"Name":"web"}"#,
        409,
        r#"{"message":"network with name web already exists"}"#,
    ),
    (
        "POST /networks/create",
        r#"{"Name":"x","IPAM":{"Config":[{"Subnet":1}]}}"#,
        400,
        r#"{"message":"invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.IPAM.Config.0.Subnet of type string"}"#,
    ),
    (
        "GET /networks/nope",
        "",
        404,
        r#"{"message":"network nope not found"}"#,
    ),
    (
        "GET /networks/web?verbose=foo",
        "",
        400,
        r#"{"message":"invalid value for verbose: foo: strconv.ParseBool: parsing \"foo\": invalid syntax"}"#,
    ),
    ("DELETE /networks/a/b", "", 204, ""),
    (
        "DELETE /networks/x",
        "",
        404,
        r#"{"message":"network x not found"}"#,
    ),
    (
        "POST /networks/prune",
        "",
        200,
        r#"{"NetworksDeleted":null}"#,
    ),
    (
        "POST /networks/prune?filters=%7B%22label%22%3A%5B%22a%22%5D%7D",
        "",
        200,
        r#"{"NetworksDeleted":["a"]}"#,
    ),
    (
        "POST /networks/web/connect",
        r#"{"Container":"c","EndpointConfig":{"MacAddress":"02:00:00:00:00:01"}}"#,
        409,
        r#"{"message":"web c 02:00:00:00:00:01"}"#,
    ),
    (
        "POST /v1.53/networks/web/connect",
        r#"{"Container":"c","EndpointConfig":{"MacAddress":"02:00:00:00:00:01"}}"#,
        200,
        "",
    ),
    (
        "POST /networks/web/connect",
        "{}",
        400,
        r#"{"message":"invalid name or ID supplied: \"\""}"#,
    ),
    (
        "POST /networks/web/disconnect",
        r#"{"Container":"c"}"#,
        409,
        r#"{"message":"web c"}"#,
    ),
    (
        "POST /networks/web/disconnect",
        r#"{"Container":"c","Force":true}"#,
        200,
        "",
    ),
    ("POST /networks", "", 404, r#"{"message":"page not found"}"#),
];

#[tokio::test]
async fn requests_reach_the_engine_and_answers_have_dockers_status() {
    let rig = Rig::start().await;
    for (request, body, status, answer) in EXCHANGES {
        let reply = rig.ask(request, body).await;
        assert_eq!(
            (reply.status, reply.body.trim()),
            (*status, *answer),
            "{request}"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn explained_ports_are_havres_own() {
    let rig = Rig::start().await;
    let answer = json(&rig.ask("GET /containers/c/ports/explain", "").await.body);
    assert_eq!(answer["Ports"][0]["Network"], "c");
    assert_eq!(answer["Ports"][0]["Reachable"], false);
    rig.stop().await;
}
