//! Checkpoints over HTTP: what the request says reaches the engine, whole.

use crate::rig::Rig;

#[tokio::test]
async fn requests_reach_the_engine() {
    let rig = Rig::start().await;
    let body = r#"{"CheckpointID":"c1","CheckpointDir":"/d","Exit":true}"#;
    for (request, body, wanted) in [
        (
            "POST /containers/x/checkpoints",
            body,
            "create x c1 /d true",
        ),
        (
            "DELETE /containers/x/checkpoints/c%201?dir=/d",
            "",
            "remove x c 1 /d",
        ),
        (
            "POST /v1.41/containers/x/start?checkpoint=c1&checkpoint-dir=%2Fd",
            "",
            "start x c1 /d",
        ),
    ] {
        let answer = rig.ask(request, body).await;
        assert_eq!(answer.status, 409, "{request}: {}", answer.body);
        assert!(answer.body.contains(wanted), "{request}: {}", answer.body);
    }
    let answer = rig.ask("GET /containers/x/checkpoints?dir=/d", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.trim_end(), r#"[{"Name":"x /d"}]"#);
    for (request, body) in [
        ("POST /containers/x/checkpoints", ""),
        ("POST /containers/x/checkpoints", r#"{"CheckpointID":1}"#),
        ("POST /containers/x/start?checkpoint-dir=/d", ""),
        ("DELETE /containers/x/checkpoints/a%00b", ""),
    ] {
        let answer = rig.ask(request, body).await;
        assert_eq!(answer.status, 400, "{request}: {}", answer.body);
    }
    rig.stop().await;
}
