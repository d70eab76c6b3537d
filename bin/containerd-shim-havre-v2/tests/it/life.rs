//! Create to Delete, exit status and record, and the deaths that nobody asked for.

use havre_shim_proto::RpcError;
use havre_shim_proto::task::{
    CheckpointTaskRequest, ConnectRequest, KillRequest, PauseRequest, PidsRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StateRequest, StatsRequest, TaskStatus, UpdateTaskRequest,
    WaitRequest,
};
use havre_shim_proto::{Any, HavreOptions, metrics};
use havre_types::{Classify as _, ErrorKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::engine::{Shim, Wish, connect, read_all, read_until, run, within};

#[test]
fn a_life_with_status_record_and_log() {
    run(async {
        let shim = Shim::create(
            "echo out; echo err >&2; printf tail; exit 7",
            Wish::default(),
        )
        .await;
        let state = StateRequest {
            id: shim.id.clone(),
            exec_id: String::new(),
        };
        assert_eq!(shim.call(&state).await.status(), TaskStatus::Created);
        assert_eq!(shim.logged(None), b"", "it ran before Start");
        let pid = shim.start_process("").await;
        // From two connections at once, and once more when it is over.
        let other = connect(shim.dir.path()).await;
        let request = WaitRequest {
            id: shim.id.clone(),
            exec_id: String::new(),
        };
        let (one, two) = tokio::join!(shim.wait(""), within(other.call(&request)));
        assert_eq!((one.exit_status, two.unwrap().exit_status), (7, 7));
        assert_eq!(shim.wait("").await, one);
        let record = shim.record();
        assert_eq!(
            (record.pid, record.exit_status, record.oom_killed),
            (pid, 7, false)
        );
        assert_eq!(Some(record.exited_at.into()), one.exited_at);
        assert_eq!(shim.logged(Some(havre_logs::Stream::Stdout)), b"out\ntail");
        assert_eq!(shim.logged(Some(havre_logs::Stream::Stderr)), b"err\n");
        let log = fs_err::read_to_string(shim.log_path()).unwrap();
        assert!(log.contains(r#""attrs":{"tag":"t"}"#), "{log}");
        let state = shim.call(&state).await;
        assert_eq!(
            (state.status(), state.exit_status),
            (TaskStatus::Stopped, 7)
        );
        shim.finish().await;
    });
}

#[test]
fn the_end_of_a_burst_is_in_the_log_when_wait_answers() {
    run(async {
        let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
        let shim = Shim::start(
            script,
            Wish {
                max_size: 20_000,
                ..Wish::default()
            },
        )
        .await;
        assert_eq!(shim.wait("").await.exit_status, 0);
        let expected: String = (0..3000).map(|number| format!("line {number}\n")).collect();
        assert!(
            shim.logged(None) == expected.as_bytes(),
            "lines are missing or out of order"
        );
        assert!(
            shim.dir.path().join("container-json.log.3").exists(),
            "not rotated"
        );
        shim.finish().await;
    });
}

#[test]
fn signals_reach_the_process_and_end_with_128_and_their_number() {
    run(async {
        let trap = "trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.01; done";
        let shim = Shim::create(trap, Wish::default()).await;
        let (mut reader, _writer) = shim.attach("", false).await;
        shim.start_process("").await;
        read_until(&mut reader, "ready").await;
        shim.kill("", 10).await;
        assert_eq!(shim.wait("").await.exit_status, 3);
        assert_eq!(shim.logged(None), b"ready\ngot it\n");
        let late = KillRequest {
            id: shim.id.clone(),
            signal: 9,
            ..KillRequest::default()
        };
        let error = shim.try_call(&late).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::NotFound, "process already finished")
        );
        shim.finish().await;

        let shim = Shim::start("sleep 100", Wish::default()).await;
        shim.kill("", 9).await;
        assert_eq!(shim.wait("").await.exit_status, 137);
        assert_eq!(shim.record().exit_status, 137);
        shim.finish().await;
    });
}

#[test]
fn the_program_inherits_nothing_of_the_shim() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        // Without a shell, which has its own ideas of signals.
        let zero = "0000000000000000";
        for (args, expected) in [
            // 3 is the directory that ls itself reads.
            (
                ["/bin/busybox", "ls", "/proc/self/fd"].as_slice(),
                "0\n1\n2\n3\n".to_owned(),
            ),
            (
                &[
                    "/bin/busybox",
                    "grep",
                    "-E",
                    "Sig(Blk|Ign)",
                    "/proc/self/status",
                ],
                format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n"),
            ),
        ] {
            shim.add("e", args, false).await;
            let (reader, _writer) = shim.attach("e", false).await;
            shim.start_process("e").await;
            assert_eq!(
                String::from_utf8(read_all(reader).await.0).unwrap(),
                expected
            );
            shim.wait("e").await;
            shim.delete("e").await;
        }
        shim.kill("", 9).await;
        shim.wait("").await;
        shim.finish().await;
    });
}

#[test]
fn a_killed_shim_takes_the_container_with_it() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        shim.add("e", &["/bin/sh", "-c", "sleep 1000"], false).await;
        let state = StateRequest {
            id: shim.id.clone(),
            exec_id: String::new(),
        };
        let init = shim.call(&state).await.pid;
        let exec = shim.start_process("e").await;
        let pidfds = [init, exec].map(|pid| {
            let pid = Pid::from_raw(pid.cast_signed()).unwrap();
            pidfd_open(pid, PidfdFlags::empty()).unwrap()
        });
        let waiting = shim.client.clone();
        let request = WaitRequest {
            id: shim.id.clone(),
            exec_id: String::new(),
        };
        shim.child.kill(Signal::KILL).unwrap();
        shim.child.wait().unwrap();
        for pidfd in &pidfds {
            let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
            let limit = Timespec {
                tv_sec: 10,
                tv_nsec: 0,
            };
            assert_eq!(
                poll(&mut fds, Some(&limit)).unwrap(),
                1,
                "it outlives its shim"
            );
        }
        let error = within(waiting.call(&request)).await.unwrap_err();
        assert!(matches!(error, RpcError::Closed { .. }), "{error:?}");
        assert!(!shim.dir.path().join("exit.json").exists());
    });
}

#[test]
fn what_cannot_run_is_said_in_docker_s_words() {
    run(async {
        let shim = Shim::spawn("", Wish::default()).await;
        let path = shim.dir.path().join("config.json");
        let good = fs_err::read_to_string(&path).unwrap();
        fs_err::write(&path, good.replace("/bin/sh", "nope")).unwrap();
        let request = shim.create_request(Wish::default());
        let error = shim.try_call(&request).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains(r#"exec: "nope": executable file not found in $PATH"#),
            "{error}"
        );
        fs_err::write(&path, "{").unwrap();
        let error = shim.try_call(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter, "{error}");
        let error = shim.try_call(&StartRequest::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        // The same shim can still make the container, but only once.
        fs_err::write(&path, good).unwrap();
        shim.call(&request).await;
        let error = shim.try_call(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        // Never started, deleted all the same.
        shim.finish().await;
    });
}

#[test]
fn pause_update_stats_pids_and_connect() {
    run(async {
        let shim = Shim::start("sleep 1000", Wish::default()).await;
        let id = shim.id.clone();
        let state = StateRequest {
            id: id.clone(),
            exec_id: String::new(),
        };
        shim.call(&PauseRequest { id: id.clone() }).await;
        assert_eq!(shim.call(&state).await.status(), TaskStatus::Paused);
        shim.call(&ResumeRequest { id: id.clone() }).await;
        let running = shim.call(&state).await;
        assert_eq!(running.status(), TaskStatus::Running);
        let connected = shim.call(&ConnectRequest { id: id.clone() }).await;
        let shim_pid = u32::try_from(shim.child.pid.as_raw_nonzero().get()).unwrap();
        assert_eq!(
            (connected.shim_pid, connected.task_pid),
            (shim_pid, running.pid)
        );
        let pids = shim.call(&PidsRequest { id: id.clone() }).await.processes;
        assert!(
            pids.iter().any(|process| process.pid == running.pid),
            "{pids:?}"
        );
        let resources = Any::json("resources", br#"{"pids":{"limit":77}}"#.to_vec());
        let update = UpdateTaskRequest {
            id: id.clone(),
            resources: Some(resources),
            ..Default::default()
        };
        shim.call(&update).await;
        let stats = shim
            .call(&StatsRequest { id: id.clone() })
            .await
            .stats
            .unwrap();
        assert_eq!(stats.type_url, metrics::TYPE_URL);
        let metrics = <metrics::Metrics as prost::Message>::decode(stats.value.as_slice()).unwrap();
        assert_eq!(metrics.pids.unwrap().limit, 77);
        assert!(metrics.memory.unwrap().usage > 0);
        // Without `now` a shim with a container stays.
        shim.call(&ShutdownRequest {
            id: id.clone(),
            now: false,
        })
        .await;
        shim.kill("", 9).await;
        assert_eq!(shim.wait("").await.exit_status, 137);
        shim.finish().await;
    });
}

#[test]
fn running_out_of_memory_is_recorded() {
    run(async {
        let script = "x=x; while :; do x=$x$x; done";
        let shim = Shim::start(
            script,
            Wish {
                memory: Some(16 << 20),
                ..Wish::default()
            },
        )
        .await;
        assert_eq!(shim.wait("").await.exit_status, 137);
        assert!(shim.record().oom_killed);
        shim.finish().await;
    });
}

#[test]
fn a_checkpoint_without_criu_is_refused_and_nothing_stays() {
    run(async {
        let shim = Shim::spawn("sleep 600", Wish::default()).await;
        let mut request = shim.create_request(Wish::default());
        request.checkpoint = shim.id.clone();
        let options = HavreOptions {
            criu: "/nowhere/criu".to_owned(),
            ..HavreOptions::default()
        };
        request.options = Some(options.to_any());
        let error = shim.try_call(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotImplemented, "{error}");
        assert!(error.to_string().contains("`/nowhere/criu`"), "{error}");
        // The same container can then be made as if nothing had been.
        request.checkpoint.clear();
        shim.call(&request).await;
        let checkpoint = CheckpointTaskRequest {
            id: shim.id.clone(),
            path: "/nowhere/images".to_owned(),
            options: None,
        };
        let error = shim.try_call(&checkpoint).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        shim.call(&StartRequest {
            id: shim.id.clone(),
            exec_id: String::new(),
        })
        .await;
        let error = shim.try_call(&checkpoint).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotImplemented, "{error}");
        shim.call(&KillRequest {
            id: shim.id.clone(),
            signal: 9,
            all: true,
            ..KillRequest::default()
        })
        .await;
        shim.wait("").await;
        shim.finish().await;
    });
}
