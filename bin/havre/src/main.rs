//! The command line: starts a runtime of one thread and hands over to `havre-cli`.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(havre_cli::main(std::env::args_os().skip(1).collect()));
    // A thread that still reads standard input must not hold the program up.
    runtime.shutdown_background();
    Ok(ExitCode::from(code))
}
