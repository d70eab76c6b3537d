//! The client against a server written in the test.

use super::*;
use crate::task::{StartRequest, StartResponse, WaitRequest, WaitResponse};

async fn read_frame(socket: &mut UnixStream, decoder: &mut FrameDecoder) -> Frame {
    let mut buffer = [0; 512];
    loop {
        if let Some(frame) = decoder.next_frame().expect("client sends valid frames") {
            return frame;
        }
        let count = socket.read(&mut buffer).await.expect("socket works");
        assert!(count > 0, "client hung up");
        decoder.push(&buffer[..count]);
    }
}

async fn answer(socket: &mut UnixStream, stream: u32, response: &Response) {
    let mut bytes = Vec::new();
    Frame {
        stream,
        kind: FrameType::Response,
        flags: 0,
        data: response.encode_to_vec(),
    }
    .encode(&mut bytes)
    .expect("small");
    socket.write_all(&bytes).await.expect("client reads");
}

#[tokio::test(flavor = "current_thread")]
async fn answers_reach_their_calls_in_any_order() {
    let (near, mut far) = UnixStream::pair().expect("socketpair");
    let client = TaskClient::new(near);
    let server = async {
        let mut decoder = FrameDecoder::default();
        let first = read_frame(&mut far, &mut decoder).await;
        let second = read_frame(&mut far, &mut decoder).await;
        let wait = Response::success(
            WaitResponse {
                exit_status: 3,
                exited_at: None,
            }
            .encode_to_vec(),
        );
        let start = Response::success(StartResponse { pid: 9 }.encode_to_vec());
        let name = Request::decode(first.data.as_slice())
            .expect("request")
            .method;
        assert_eq!(
            (name.as_str(), first.stream % 2, second.stream % 2),
            ("Wait", 1, 1)
        );
        answer(&mut far, second.stream, &start).await;
        answer(&mut far, first.stream, &wait).await;
    };
    let (wait, start) = (WaitRequest::default(), StartRequest::default());
    let (waited, started, ()) = tokio::join!(client.call(&wait), client.call(&start), server);
    assert_eq!(waited.expect("answered").exit_status, 3);
    assert_eq!(started.expect("answered").pid, 9);
}

#[tokio::test(flavor = "current_thread")]
async fn refusal_and_hang_up_are_told_apart() {
    let (near, mut far) = UnixStream::pair().expect("socketpair");
    let client = TaskClient::new(near);
    let server = async {
        let mut decoder = FrameDecoder::default();
        let frame = read_frame(&mut far, &mut decoder).await;
        let refusal = Response::failure(ErrorKind::NotFound, "no such exec".to_owned());
        answer(&mut far, frame.stream, &refusal).await;
        read_frame(&mut far, &mut decoder).await;
        drop(far);
    };
    let calls = async {
        let request = StartRequest::default();
        let refused = client.call(&request).await.expect_err("refused");
        assert!(
            matches!(&refused, RpcError::Status { kind: ErrorKind::NotFound, message } if message == "no such exec")
        );
        let gone = client.call(&request).await.expect_err("hung up");
        assert!(matches!(gone, RpcError::Closed { method: "Start" }));
        let still = client.call(&request).await.expect_err("stays closed");
        assert!(matches!(still, RpcError::Closed { .. }) && client.is_closed());
    };
    tokio::join!(server, calls);
}
