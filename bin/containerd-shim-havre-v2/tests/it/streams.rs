//! Attached clients: input, several at once, slow ones, terminals.

use havre_shim_proto::attach::{AttachRequest, Stream};
use havre_shim_proto::client::attach;
use havre_shim_proto::task::ResizePtyRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::engine::{Shim, Wish, read_all, read_until, run, within};

#[test]
fn every_client_gets_everything_and_the_end() {
    run(async {
        let shim = Shim::create("echo one; echo two >&2; echo three", Wish::default()).await;
        let (first, _) = shim.attach("", false).await;
        let (second, _) = shim.attach("", false).await;
        let errors = AttachRequest {
            stderr: true,
            ..AttachRequest::default()
        };
        let (third, _) = attach(&shim.dir.path().join("attach.sock"), &errors)
            .await
            .unwrap();
        shim.start_process("").await;
        let all = (b"one\nthree\n".to_vec(), b"two\n".to_vec());
        assert_eq!(read_all(first).await, all);
        assert_eq!(read_all(second).await, all);
        assert_eq!(read_all(third).await, (Vec::new(), b"two\n".to_vec()));
        shim.wait("").await;
        let refused = attach(&shim.dir.path().join("attach.sock"), &errors)
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("container {} is not running", shim.id)
        );
        shim.finish().await;
    });
}

#[test]
fn input_of_any_size_passes_and_its_end_too() {
    run(async {
        let wish = Wish {
            open_stdin: true,
            stdin_once: true,
            ..Wish::default()
        };
        let shim = Shim::create("busybox cat", wish).await;
        let (reader, mut writer) = shim.attach("", true).await;
        shim.start_process("").await;
        let data: Vec<u8> = (0_u32..300_000).flat_map(u32::to_le_bytes).collect();
        let send = async {
            writer.send(&data).await.unwrap();
            writer.close_stdin().await.unwrap();
        };
        let ((), (out, _)) = tokio::join!(within(send), read_all(reader));
        assert!(
            out == data,
            "{} of {} bytes came back",
            out.len(),
            data.len()
        );
        assert_eq!(shim.wait("").await.exit_status, 0);
        assert!(shim.logged(None) == data, "the log differs");
        shim.finish().await;
    });
}

#[test]
fn stdin_once_ends_with_its_client_and_plain_stdin_does_not() {
    run(async {
        let once = Wish {
            open_stdin: true,
            stdin_once: true,
            ..Wish::default()
        };
        let shim = Shim::start("busybox cat; echo ended", once).await;
        let session = shim.attach("", true).await;
        drop(session);
        assert_eq!(shim.wait("").await.exit_status, 0);
        assert_eq!(shim.logged(None), b"ended\n");
        shim.finish().await;

        let shim = Shim::start(
            "read a; read b; echo $a $b",
            Wish {
                stdin_once: false,
                ..once
            },
        )
        .await;
        for word in ["first\n", "second\n"] {
            let (_reader, mut writer) = shim.attach("", true).await;
            writer.send(word.as_bytes()).await.unwrap();
        }
        assert_eq!(shim.wait("").await.exit_status, 0);
        assert_eq!(shim.logged(None), b"first second\n");
        shim.finish().await;

        // Without open stdin there is nothing to read.
        let shim = Shim::start("busybox cat; echo null", Wish::default()).await;
        shim.wait("").await;
        assert_eq!(shim.logged(None), b"null\n");
        shim.finish().await;
    });
}

/// 8 MB to a client that reads nothing for as long as the other has not seen half of it: the process is held back,
/// and nothing is lost.
#[test]
fn a_slow_client_holds_back_and_loses_nothing() {
    const LINES: usize = 1_000_000;
    run(async {
        let script = format!("busybox seq 1000000 {}", 1_000_000 + LINES - 1);
        let shim = Shim::create(&script, Wish::default()).await;
        let (slow, _) = shim.attach("", false).await;
        let (mut quick, _) = shim.attach("", false).await;
        shim.start_process("").await;
        let mut seen = 0;
        let mut stalled = false;
        while !stalled {
            match tokio::time::timeout(std::time::Duration::from_millis(300), quick.next()).await {
                Ok(next) => {
                    let (_, bytes) = next.unwrap().expect("the process cannot have ended");
                    seen += bytes.len();
                }
                Err(_) => stalled = true,
            }
        }
        assert!(
            seen < LINES * 8 / 2,
            "{seen} bytes passed a client that does not read"
        );
        let (rest, all) = tokio::join!(read_all_from(quick), read_all(slow));
        let expected: String = (1_000_000..1_000_000 + LINES)
            .map(|number| format!("{number}\n"))
            .collect();
        assert!(
            all.0 == expected.as_bytes(),
            "the slow client got {} bytes",
            all.0.len()
        );
        assert_eq!(seen + rest, expected.len());
        assert_eq!(shim.wait("").await.exit_status, 0);
        assert!(shim.logged(None) == expected.as_bytes(), "the log differs");
        shim.finish().await;
    });
}

/// Counts; the reader's place in a frame was lost to the timeout above only between frames.
async fn read_all_from(reader: havre_shim_proto::client::AttachReader) -> usize {
    read_all(reader).await.0.len()
}

#[test]
fn a_client_that_leaves_lets_the_process_go_on() {
    run(async {
        let shim = Shim::create("busybox seq 300000; echo done", Wish::default()).await;
        let stuck = shim.attach("", false).await;
        shim.start_process("").await;
        let (mut reader, writer) = shim.attach("", false).await;
        // The stuck one has a full buffer by the time the other sees nothing more.
        let quiet = std::time::Duration::from_millis(300);
        while tokio::time::timeout(quiet, reader.next())
            .await
            .is_ok_and(|next| next.unwrap().is_some())
        {}
        drop((stuck, reader, writer));
        assert_eq!(shim.wait("").await.exit_status, 0);
        assert!(shim.logged(None).ends_with(b"300000\ndone\n"));
        shim.finish().await;
    });
}

#[test]
fn a_terminal_echoes_and_is_resized() {
    run(async {
        let wish = Wish {
            terminal: true,
            open_stdin: true,
            ..Wish::default()
        };
        let shim = Shim::create(
            "echo start; while read word; do busybox stty size; done",
            wish,
        )
        .await;
        let (mut reader, mut writer) = shim.attach("", true).await;
        shim.start_process("").await;
        read_until(&mut reader, "start\r\n").await;
        let size = ResizePtyRequest {
            id: shim.id.clone(),
            width: 91,
            height: 33,
            ..Default::default()
        };
        shim.call(&size).await;
        writer.send(b"x\n").await.unwrap();
        assert!(read_until(&mut reader, "33 91").await.contains("x\r\n"));
        // Control-D, as a person ends it.
        writer.send(b"\x04").await.unwrap();
        assert_eq!(shim.wait("").await.exit_status, 0);
        assert!(
            String::from_utf8(shim.logged(None))
                .unwrap()
                .starts_with("start\r\nx\r\n33 91\r\n")
        );
        shim.finish().await;
    });
}

#[test]
fn strangers_on_the_attach_socket_do_no_harm() {
    run(async {
        let shim = Shim::start(
            "read a; echo $a",
            Wish {
                open_stdin: true,
                ..Wish::default()
            },
        )
        .await;
        let path = shim.dir.path().join("attach.sock");
        for greeting in [
            "\n",
            "{}{}\n",
            "GET / HTTP/1.1\r\n",
            "{\"exec_id\":\"other\"}\n",
        ] {
            let mut socket = UnixStream::connect(&path).await.unwrap();
            socket.write_all(greeting.as_bytes()).await.unwrap();
            let mut reply = String::new();
            within(socket.read_to_string(&mut reply)).await.unwrap();
            assert!(
                reply.starts_with("{\"error\":\""),
                "{greeting:?} was answered {reply:?}"
            );
        }
        let mut socket = UnixStream::connect(&path).await.unwrap();
        let endless = vec![b'x'; 10_000];
        socket.write_all(&endless).await.unwrap();
        let mut reply = Vec::new();
        within(socket.read_to_end(&mut reply)).await.ok();
        assert_eq!(reply, b"");
        let mut socket = UnixStream::connect(&path).await.unwrap();
        socket
            .write_all(b"{\"stdin\":true}\n\x09\0\0\0\0\0\0\x01x")
            .await
            .unwrap();
        let mut reply = String::new();
        within(socket.read_to_string(&mut reply)).await.unwrap();
        assert_eq!(reply, "{}\n");
        let (mut reader, mut writer) = shim.attach("", true).await;
        writer.send(b"alive\n").await.unwrap();
        assert_eq!(
            within(reader.next()).await.unwrap(),
            Some((Stream::Stdout, b"alive\n".to_vec()))
        );
        shim.wait("").await;
        shim.finish().await;
    });
}

#[test]
fn a_terminal_that_is_opened_again_is_read_again() {
    run(async {
        // As an init system does: nobody has the terminal open for a while, then more comes than it holds.
        let script = "exec </dev/null >/dev/null 2>&1; busybox sleep 1; \
                      exec >/dev/console; busybox seq 30000; busybox sleep 1000";
        let wish = Wish {
            terminal: true,
            ..Wish::default()
        };
        let shim = Shim::create(script, wish).await;
        let (mut reader, _writer) = shim.attach("", false).await;
        shim.start_process("").await;
        read_until(&mut reader, "\n30000\r\n").await;
        shim.kill("", 9).await;
        shim.wait("").await;
        shim.finish().await;
    });
}
