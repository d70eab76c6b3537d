//! The paragraphs, case by case.

use havre_engine_types::{Health, HealthcheckResult};
use havre_types::Timestamp;

use super::super::program::Kind;
use super::*;
use crate::container::Exit;

fn exited(code: i64) -> State {
    let mut state = State::new();
    state.status = Status::Exited;
    state.exit_code = code;
    state.started_at = Timestamp { secs: 5, nanos: 0 };
    state
}

fn failed(error: &str) -> State {
    let mut state = State::new();
    state.status = Status::Exited;
    state.exit_code = 127;
    error.clone_into(&mut state.error);
    state
}

fn known(state: &State) -> Known<'_> {
    Known {
        name: "web",
        state,
        command: "serve",
        limit: 0,
        policy: "no",
        max_retries: 0,
        image_gone: false,
        stop_signal: "",
        program: Program::Unknown,
        host: "x86_64",
        lines: &[],
    }
}

fn found(kind: Kind, has_interpreter: bool) -> Program {
    Program::Found {
        path: "/bin/serve".to_owned(),
        executable: true,
        kind,
        has_interpreter,
    }
}

fn data_file() -> Program {
    Program::Found {
        path: "/bin/serve".to_owned(),
        executable: false,
        kind: script("/bin/sh"),
        has_interpreter: true,
    }
}

fn elf(machine: u16) -> Kind {
    Kind::Elf {
        machine,
        loader: Some("/lib64/ld-linux-x86-64.so.2".to_owned()),
    }
}

fn script(interpreter: &str) -> Kind {
    Kind::Script {
        interpreter: interpreter.to_owned(),
    }
}

#[test]
fn starts_that_fail() {
    let missing = |places: &[&str]| Program::Missing {
        searched: places.iter().map(|p| (*p).to_owned()).collect(),
    };
    let nothing = "exec: \"serve\": executable file not found in $PATH";
    let no_file = "exec /bin/serve: no such file or directory";
    let denied = "exec /bin/serve: permission denied";
    let format = "exec /bin/serve: exec format error";
    let cases = [
        (nothing, "serve", missing(&["/usr/bin", "/bin"])),
        (no_file, "/bin/serve", missing(&["/bin/serve"])),
        (no_file, "serve", found(script("/usr/bin/python3"), false)),
        (no_file, "serve", found(script("/bin/bash\r"), false)),
        (no_file, "serve", found(elf(62), false)),
        (denied, "serve", data_file()),
        (format, "serve", found(elf(183), true)),
        (format, "serve", found(Kind::Other, true)),
        (format, "serve", found(Kind::Empty, true)),
        (no_file, "serve", found(elf(62), true)),
        (nothing, "serve", Program::Unknown),
        (
            "write /x: no space left on device",
            "serve",
            Program::Unknown,
        ),
        (
            "invalid mount config: bind source path does not exist: /a",
            "serve",
            Program::Unknown,
        ),
        ("something that nobody knows.\n", "serve", Program::Unknown),
    ];
    let all: Vec<String> = cases
        .into_iter()
        .map(|(error, command, program)| {
            let state = failed(error);
            explain(&Known {
                command,
                program,
                ..known(&state)
            })
            .summary
        })
        .collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn ends() {
    let mut all = Vec::new();
    for code in [
        0, 1, 2, 125, 126, 127, 129, 134, 135, 137, 139, 143, 159, 190, 255,
    ] {
        all.push(explain(&known(&exited(code))).summary);
    }
    for code in [0, 137, 143, 7] {
        let mut state = exited(code);
        state.stopped_by_user = true;
        all.push(explain(&known(&state)).summary);
    }
    let silent = Exit::unreported(Some(3), Timestamp::default());
    let mut unreported = exited(silent.exit_status);
    unreported.error = silent.error;
    all.push(explain(&known(&unreported)).summary);
    let mut oom = exited(137);
    oom.oom_killed = true;
    all.push(explain(&known(&oom)).summary);
    oom.memory_peak = 64 << 20;
    let limited = Known {
        limit: 64 << 20,
        ..known(&oom)
    };
    all.push(explain(&limited).summary);
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn last_words_are_read() {
    let state = exited(1);
    let all: Vec<String> = [
        "cp: write error: No space left on device\n",
        "serve: error while loading shared libraries: libssl.so.3: cannot open shared object file\n",
        "./run: line 1: ./x: Exec format error\n",
        "touch: /x: Read-only file system\n",
        "bind: Address already in use\n",
        "mount: Operation not permitted\n",
        "open /data: Permission denied\n",
        "dial tcp: Connection refused\n",
        "\u{1b}[31mpanic\u{1b}[0m: boom\n",
    ]
    .iter()
    .map(|line| {
        let lines = vec!["starting\n".to_owned(), (*line).to_owned(), "\n".to_owned()];
        explain(&Known {
            lines: &lines,
            ..known(&state)
        })
        .summary
    })
    .collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn other_states() {
    let mut all = Vec::new();
    for status in Status::ALL {
        let mut state = exited(3);
        state.status = status;
        all.push(explain(&known(&state)).summary);
    }
    let mut sick = State::new();
    sick.status = Status::Running;
    for (status, code, output) in [
        ("starting", 1, ""),
        ("unhealthy", -1, "timed\nout"),
        ("healthy", 0, "ok"),
    ] {
        sick.health = Some(Health {
            status: status.to_owned(),
            failing_streak: 3,
            log: Some(vec![HealthcheckResult {
                exit_code: code,
                output: output.to_owned(),
                ..HealthcheckResult::default()
            }]),
        });
        all.push(explain(&known(&sick)).summary);
    }
    let mut tired = exited(1);
    tired.restart_count = 4;
    all.push(
        explain(&Known {
            policy: "on-failure",
            max_retries: 4,
            image_gone: true,
            ..known(&tired)
        })
        .summary,
    );
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn the_parts_make_the_paragraph() {
    let mut state = exited(137);
    state.oom_killed = true;
    let answer = explain(&known(&state));
    assert_eq!((answer.causes.len(), answer.advice.len()), (1, 1));
    assert!(answer.summary.contains(&answer.causes[0]));
}
