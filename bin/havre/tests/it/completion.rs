//! Completion as a shell does it: bash itself calls the function of the script.

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::fake::{Fake, json};
use crate::{output, text};

/// An engine with two containers and three tags.
fn engine() -> Fake {
    Fake::start(|request, stream| match request.line().as_str() {
        "GET /containers/json" => json(
            stream,
            "200 OK",
            r#"[{"Id":"1","Names":["/web"],"Image":"nginx","State":"running","Status":"Up"},
                {"Id":"2","Names":["/work","/web/alias"],"Image":"busybox","State":"exited","Status":"Exited"}]"#,
        ),
        "GET /images/json" => json(
            stream,
            "200 OK",
            r#"[{"Id":"sha256:1","RepoTags":["busybox:1","busybox:2"]},{"Id":"sha256:2","RepoTags":["reg:5000/x:1"]}]"#,
        ),
        _ => json(stream, "404 Not Found", r#"{"message":"no"}"#),
    })
}

/// What bash proposes at the end of a line.
#[expect(
    clippy::disallowed_methods,
    reason = "a test starts the shell as a person would"
)]
fn bash(host: &str, line: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    symlink(env!("CARGO_BIN_EXE_havre"), dir.path().join("havre")).unwrap();
    let script = r#"
        PATH=$1:$PATH
        source <(havre completion bash)
        COMP_LINE=$2
        COMP_POINT=${#COMP_LINE}
        # The words as readline parts them.
        mapfile -t COMP_WORDS < <(words_of "$COMP_LINE")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _havre
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    // Blanks part words, and `=` and `:` are words of their own.
    let split = r#"
        words_of() {
            local text=$1 word="" char i
            for ((i = 0; i < ${#text}; i++)); do
                char=${text:i:1}
                case $char in
                    ' ') [[ -n $word ]] && echo "$word"; word="" ;;
                    [=:]) [[ -n $word ]] && echo "$word"; echo "$char"; word="" ;;
                    *) word+=$char ;;
                esac
            done
            [[ $text == *[=:] ]] || echo "$word"
        }
    "#;
    let output = Command::new("timeout")
        .args([
            "30",
            "bash",
            "--norc",
            "-c",
            &format!("{split}{script}"),
            "bash",
        ])
        .arg(dir.path())
        .arg(line)
        .env("DOCKER_HOST", host)
        .env_remove("HAVRE_HOST")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(text(&output.stderr), "", "{line}");
    let lines = text(&output.stdout).lines().filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn bash_completes_names_flags_and_values() {
    let engine = engine();
    for (line, expected) in [
        ("havre con", &["container"][..]),
        ("havre container pa", &["pause"]),
        ("havre lo", &["load", "login", "logout", "logs"]),
        ("havre stop ", &["web", "work"]),
        ("havre start ", &["work"]),
        ("havre logs wo", &["work"]),
        ("havre logs web ", &[]),
        ("havre rm work ", &[]),
        ("havre stop --sig", &["--signal"]),
        ("havre run --pul", &["--pull"]),
        ("havre run --pull ", &["always", "missing", "never"]),
        // Behind `=` and `:` bash replaces only what follows.
        ("havre run --pull=", &["always", "missing", "never"]),
        ("havre run --pull=al", &["always"]),
        ("havre run busybox:", &["1", "2"]),
        ("havre run reg:50", &["5000/x", "5000/x:1"]),
        ("havre ps --filter status=ex", &["exited"]),
        (
            "havre ps -f health=",
            &["healthy", "none", "starting", "unhealthy"],
        ),
        ("havre exec -it web ", &[]),
        ("havre kill -s SIGK", &["SIGKILL"]),
        ("havre completion ", &["bash", "fish", "zsh"]),
        ("havre nosuch ", &[]),
    ] {
        assert_eq!(bash(&engine.host(), line), expected, "{line}");
    }
}

#[test]
fn an_engine_that_is_away_leaves_flags_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/none", dir.path().display());
    assert_eq!(bash(&host, "havre stop "), [""; 0]);
    assert_eq!(bash(&host, "havre stop --ti"), ["--timeout"]);
    // The only file where the test stands is the link to the program.
    assert_eq!(bash(&host, "havre load --input "), ["havre"]);
}

#[test]
fn the_protocol_names_candidates_and_what_may_follow() {
    let engine = engine();
    let out = output(&engine.host(), &["__complete", "rm", "w"]);
    assert_eq!(text(&out.stdout), "work\tbusybox (Exited)\n:4\n");
    let out = output(&engine.host(), &["__complete", "ps", "--filter", "sta"]);
    assert_eq!(text(&out.stdout), "status=\n:6\n");
    let out = output(
        &engine.host(),
        &["__complete", "-H", "unix:///none", "rm", "w"],
    );
    assert_eq!(text(&out.stdout), ":4\n");
    let out = output(&engine.host(), &["__complete", "rm", "-f", "--"]);
    assert!(text(&out.stdout).starts_with("--force\tKill the container first"));
}

#[test]
fn every_shell_has_a_script() {
    for (shell, says) in [
        ("bash", "complete -F _havre havre"),
        ("zsh", "#compdef havre"),
        ("fish", "complete -c havre"),
    ] {
        let out = output("unix:///none", &["completion", shell]);
        assert!(text(&out.stdout).contains(says), "{shell}");
    }
    let out = output("unix:///none", &["completion", "tcsh"]);
    assert_eq!(
        (text(&out.stderr), out.status.code()),
        (
            "there is no completion for \"tcsh\": the shells are bash, zsh and fish\n",
            Some(1)
        )
    );
    // The scripts of the other shells are at least read by them where they are installed.
    for (shell, flag) in [("zsh", "-n"), ("fish", "--no-execute")] {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        let out = output("unix:///none", &["completion", shell]);
        fs_err::write(&script, &out.stdout).unwrap();
        let program = format!("/usr/bin/{shell}");
        if !std::path::Path::new(&program).exists() {
            continue;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a test starts the shell as a person would"
        )]
        let checked = Command::new(program)
            .arg(flag)
            .arg(&script)
            .status()
            .unwrap();
        assert!(checked.success(), "{shell}");
    }
}
