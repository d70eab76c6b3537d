//! More processes in the container.

use std::time::{Duration, Instant};

use havre_shim_proto::task::{
    ExecProcessRequest, PauseRequest, ResizePtyRequest, ResumeRequest, StartRequest, StateRequest,
    TaskStatus, WaitRequest,
};
use havre_types::{Classify as _, ErrorKind};

use crate::engine::{Shim, Wish, read_all, run, within};

#[test]
fn output_input_and_status_of_an_exec() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        shim.add(
            "a",
            &["/bin/sh", "-c", "read x; echo got $x; echo bad >&2; exit 5"],
            false,
        )
        .await;
        let (reader, mut writer) = shim.attach("a", true).await;
        writer.send(b"word\n").await.unwrap();
        shim.start_process("a").await;
        let (waited, output) = tokio::join!(shim.wait("a"), read_all(reader));
        assert_eq!(waited.exit_status, 5);
        assert_eq!(output, (b"got word\n".to_vec(), b"bad\n".to_vec()));
        let state = StateRequest {
            id: shim.id.clone(),
            exec_id: "a".to_owned(),
        };
        assert_eq!(shim.call(&state).await.status(), TaskStatus::Stopped);
        shim.delete("a").await;
        assert_eq!(
            shim.try_call(&state).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(shim.logged(None), b"", "an exec is not logged");
        // Input ends with the client.
        shim.add("b", &["/bin/busybox", "cat"], false).await;
        let session = shim.attach("b", true).await;
        shim.start_process("b").await;
        drop(session);
        assert_eq!(shim.wait("b").await.exit_status, 0);
        // Nobody attached: nothing to read, and output goes nowhere.
        shim.add(
            "c",
            &["/bin/sh", "-c", "busybox cat; busybox seq 100000"],
            false,
        )
        .await;
        shim.start_process("c").await;
        assert_eq!(shim.wait("c").await.exit_status, 0);
        shim.kill("", 9).await;
        assert_eq!(shim.wait("").await.exit_status, 137);
        shim.finish().await;
    });
}

#[test]
fn many_at_once_and_all_end_with_the_container() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        let names: Vec<_> = (0..12).map(|number| format!("e{number}")).collect();
        for name in &names {
            shim.add(name, &["/bin/busybox", "sleep", "1000"], false)
                .await;
            shim.start_process(name).await;
        }
        shim.kill("e0", 15).await;
        assert_eq!(shim.wait("e0").await.exit_status, 143);
        shim.kill("", 9).await;
        for name in &names[1..] {
            assert_eq!(shim.wait(name).await.exit_status, 137);
        }
        shim.finish().await;
    });
}

#[test]
fn a_program_that_is_missing_frees_whoever_waits() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        shim.add("a", &["nope"], false).await;
        let (reader, _writer) = shim.attach("a", false).await;
        let start = StartRequest {
            id: shim.id.clone(),
            exec_id: "a".to_owned(),
        };
        let error = shim.try_call(&start).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("executable file not found in $PATH"),
            "{error}"
        );
        assert_eq!(shim.wait("a").await.exit_status, 127);
        assert_eq!(read_all(reader).await, (Vec::new(), Vec::new()));
        shim.delete("a").await;
        let again = ExecProcessRequest {
            id: shim.id.clone(),
            exec_id: "b".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            shim.try_call(&again).await.unwrap_err().kind(),
            ErrorKind::InvalidParameter
        );
        shim.kill("", 9).await;
        shim.wait("").await;
        assert_eq!(
            shim.try_call(&again).await.unwrap_err().kind(),
            ErrorKind::Conflict
        );
        shim.finish().await;
    });
}

#[test]
fn a_terminal_has_its_size_from_the_start() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        shim.add("t", &["/bin/busybox", "stty", "size"], true).await;
        let (reader, _writer) = shim.attach("t", true).await;
        let size = ResizePtyRequest {
            id: shim.id.clone(),
            exec_id: "t".to_owned(),
            width: 80,
            height: 25,
        };
        shim.call(&size).await;
        shim.start_process("t").await;
        assert_eq!(shim.wait("t").await.exit_status, 0);
        assert_eq!(read_all(reader).await.0, b"25 80\r\n");
        shim.kill("", 9).await;
        shim.wait("").await;
        shim.finish().await;
    });
}

#[test]
fn children_that_keep_the_output_open_delay_the_answer_only_briefly() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        shim.add(
            "a",
            &[
                "/bin/sh",
                "-c",
                "echo before; busybox sleep 1000 & echo after",
            ],
            false,
        )
        .await;
        let (reader, _writer) = shim.attach("a", false).await;
        shim.start_process("a").await;
        let begun = Instant::now();
        assert_eq!(shim.wait("a").await.exit_status, 0);
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(within(read_all(reader)).await.0, b"before\nafter\n");
        shim.kill("", 9).await;
        shim.wait("").await;
        shim.finish().await;
    });
}

#[test]
fn nothing_is_started_in_a_paused_container() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        shim.add("a", &["/bin/busybox", "true"], false).await;
        let id = shim.id.clone();
        shim.call(&PauseRequest { id: id.clone() }).await;
        let start = StartRequest {
            id: id.clone(),
            exec_id: "a".to_owned(),
        };
        // The frozen process would never report, and the shim would wait for it.
        let error = shim.try_call(&start).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        shim.call(&ResumeRequest { id }).await;
        shim.call(&start).await;
        assert_eq!(shim.wait("a").await.exit_status, 0);
        shim.kill("", 9).await;
        shim.wait("").await;
        shim.finish().await;
    });
}

#[test]
fn who_is_attached_to_a_deleted_process_hears_nothing_of_the_next() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        shim.add("a", &["/bin/busybox", "true"], false).await;
        let (reader, _writer) = shim.attach("a", false).await;
        let request = WaitRequest {
            id: shim.id.clone(),
            exec_id: "a".to_owned(),
        };
        let (waited, ()) = tokio::join!(shim.try_call(&request), shim.delete("a"));
        assert_eq!(waited.unwrap_err().kind(), ErrorKind::NotFound);
        // It takes the place of the other in the table.
        shim.add("b", &["/bin/sh", "-c", "echo secret"], false)
            .await;
        shim.start_process("b").await;
        assert_eq!(shim.wait("b").await.exit_status, 0);
        assert_eq!(read_all(reader).await, (Vec::new(), Vec::new()));
        shim.kill("", 9).await;
        shim.wait("").await;
        shim.finish().await;
    });
}
