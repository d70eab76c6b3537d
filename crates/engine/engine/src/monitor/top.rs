//! The processes of a container as `ps` shows them. `ps` itself is not run: a host may not have it, and its output
//! would have to be taken apart again.

mod arguments;
mod columns;
mod process;
mod zone;

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_cgroup::{Cgroup, CgroupError, Host};
use havre_engine_types::TopResponse;

use crate::container::Container;
use crate::engine::Shared;
use crate::error::{internal, is_restarting, not_running};
use crate::state::Status;

use arguments::{Request, SortKey};
use process::{Facts, Process};

/// What Docker shows when nothing is asked for.
const DEFAULT: &str = "-ef";

/// Answers with the processes of `container` in the columns that `text` asks for.
pub(super) async fn top(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    text: &str,
) -> ApiResult<TopResponse> {
    let text = if text.is_empty() { DEFAULT } else { text };
    let request = arguments::parse(text).map_err(ApiError::invalid)?;
    let state = &container.now().state;
    match state.status {
        Status::Restarting => return Err(is_restarting(container.id().as_str())),
        status if !status.is_running() => return Err(not_running(container.id().as_str())),
        _ => {}
    }
    let path = super::cgroup_path(shared, &container.fixed());
    let read = tokio::task::spawn_blocking(move || {
        let mut pids = Cgroup::open(&Host::detect()?, &path)?.procs()?;
        pids.sort_unstable();
        pids.dedup();
        let found = pids.into_iter().filter_map(Process::read).collect();
        Ok::<_, CgroupError>((Facts::read(), found))
    });
    let (facts, found) = read
        .await
        .map_err(|err| internal("failed to read the processes", &err))?
        .map_err(|err| match container.is_alive() {
            true => internal("failed to read the processes", &err),
            false => not_running(container.id().as_str()),
        })?;
    Ok(table(&request, &facts, found))
}

fn table(request: &Request, facts: &Facts, mut found: Vec<Process>) -> TopResponse {
    if !request.sort.is_empty() {
        found.sort_by(|a, b| {
            let mut keys = request.sort.iter().map(|key| compare(key, facts, a, b));
            keys.find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
    }
    let last = request.columns.len().saturating_sub(1);
    let row = |process: &Process| -> Vec<String> {
        let columns = request.columns.iter().enumerate();
        let text = columns.map(|(index, column)| {
            let text = (column.show)(process, facts);
            if column.is_name && index < last {
                columns::cut(text)
            } else {
                text
            }
        });
        text.collect()
    };
    TopResponse {
        processes: found.iter().map(row).collect(),
        titles: request.columns.iter().map(|c| c.title.clone()).collect(),
    }
}

/// Numbers by their value, texts by their letters.
fn compare(key: &SortKey, facts: &Facts, a: &Process, b: &Process) -> std::cmp::Ordering {
    let (a, b) = ((key.show)(a, facts), (key.show)(b, facts));
    let order = match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => a.cmp(&b),
    };
    if key.reverse { order.reverse() } else { order }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        let answer = table(
            &arguments::parse(text)?,
            &process::samples::facts(),
            process::samples::processes(),
        );
        let lines = std::iter::once(answer.titles)
            .chain(answer.processes)
            .map(|line| line.join(" | "));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn formats_are_those_of_procps() {
        let formats = [
            "-ef",
            "-f",
            "aux",
            "-aux",
            "x",
            "-e",
            "-F",
            "-l",
            "-elf",
            "l",
            "j",
            "-j",
            "-eo pid,user",
            "-o pid,cmd=WORDS",
            "o pid,stat,bsdstart,etime,etimes,start,lstart",
            "-eo pid -o comm --sort -pid",
            "--format=pid,uid,gid,ruser,group,rss,vsz,sz,pmem,pcpu,c,ni,pri,psr,nlwp,wchan,tpgid,time,cputimes,bsdtime",
        ];
        let all: Vec<String> = formats
            .iter()
            .map(|text| format!("ps {text}\n{}", shown(text).unwrap()))
            .collect();
        insta::assert_snapshot!(all.join("\n\n"));
    }

    #[test]
    fn what_is_unknown_is_named() {
        let wrong = [
            "-o foo",
            "-o",
            "-o pid,,cmd",
            "-Q",
            "auxf",
            "-eLf",
            "--forest",
            "--sort=colour",
            "-o comm",
            "-o pid= ",
            "aux -o pid",
            "-u root",
            "-eo ppid=PID",
            "-eo pid h",
            "17",
            "-o é",
        ];
        let all: Vec<String> = wrong
            .iter()
            .map(|text| format!("ps {text}\n  {}", shown(text).unwrap_err()))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
