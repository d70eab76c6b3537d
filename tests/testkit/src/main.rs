//! `testkit`: the fixtures from a shell, for `make demo`, the bench and a developer's own tries.

use anyhow::{Context as _, Result, bail};
use havre_testkit::dns_load::Load;
use havre_testkit::push::{self, Target};
use havre_testkit::{Format, NAMES, Registry, ensure_packages, image};
use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: testkit COMMAND
  packages                          install the Debian packages the fixtures need
  images [NAME...]                  build images into the cache: busybox debian nginx redis
  archive NAME                      print the path of an image's docker archive, tagged NAME:latest
  registry [--port N]               run a registry on 127.0.0.1 until it is killed
  push [--docker] NAME HOST:PORT/REPOSITORY[:TAG]
                                    push an image, in Docker's format instead of OCI's
  dns-load SERVER:PORT NAME SECONDS WINDOW
                                    ask a name server for NAME, WINDOW queries at a time";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _written = writeln!(io::stderr(), "testkit: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["packages"] => ensure_packages(),
        ["images"] => images(&NAMES),
        ["images", names @ ..] => images(names),
        ["archive", name] => Ok(writeln!(
            io::stdout(),
            "{}",
            image(name)?.archive.display()
        )?),
        ["registry"] => registry("0"),
        ["registry", "--port", port] | ["registry", "--port", port, "--daemonize", "no"] => {
            registry(port)
        }
        ["push", "--docker", name, target] => push(name, target, Format::Docker),
        ["push", name, target] => push(name, target, Format::Oci),
        ["dns-load", server, name, seconds, window] => dns_load(server, name, seconds, window),
        _ => bail!("{USAGE}"),
    }
}

fn images(names: &[&str]) -> Result<()> {
    let mut out = io::stdout().lock();
    for name in names {
        let image = image(name)?;
        let layers = image.layers.len();
        writeln!(
            out,
            "{name} {} {layers} layers {}",
            image.id(),
            image.layout.display()
        )?;
    }
    Ok(())
}

fn dns_load(server: &str, name: &str, seconds: &str, window: &str) -> Result<()> {
    let load = Load {
        server: server.parse().context("no address of a server")?,
        name,
        time: Duration::from_secs(seconds.parse().context("no number of seconds")?),
        window: window.parse().context("no number of queries")?,
    };
    let figures = load.run()?;
    let document = serde_json::json!({
        "per_second": figures.per_second.round(),
        "median_us": figures.median.as_micros(),
        "p99_us": figures.p99.as_micros(),
        "lost": figures.lost,
    });
    Ok(writeln!(io::stdout(), "{document}")?)
}

fn registry(port: &str) -> Result<()> {
    let port = port.parse().with_context(|| format!("no port: {port}"))?;
    let registry = Registry::start_on(port)?;
    writeln!(io::stdout(), "listening on {}", registry.authority())?;
    registry.wait()
}

fn push(name: &str, target: &str, format: Format) -> Result<()> {
    let target = Target::parse(target)?;
    let digest = push::push(&image(name)?, &target, format)?;
    push::report(&target, &digest, &mut io::stdout())
}
