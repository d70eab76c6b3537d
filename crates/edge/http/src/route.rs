//! The route table: every operation of the Engine API, and what of it Havre answers. It is data: the
//! coverage document is generated from it, and requests are matched against it in order.

use havre_api_traits::ApiError;
use havre_types::ErrorKind;
use hyper::Method;

use crate::query::unescape;

mod table;

/// One operation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path as the API's description writes it, with `{id}` and `{name}`.
    pub path: &'static str,
    pub(crate) action: Option<Action>,
    /// What is missing can also not exist: Docker's answer to that, with `{}` for the name. Clients that look a
    /// name up among all kinds of objects, or leave a swarm before anything else, would otherwise stop there.
    pub(crate) absent: Option<(ErrorKind, &'static str)>,
}

impl Route {
    /// Whether Havre answers it; otherwise the answer is 501, or that the object does not exist.
    #[must_use]
    pub fn implemented(&self) -> bool {
        self.action.is_some()
    }
}

/// All routes.
#[must_use]
pub fn routes() -> &'static [Route] {
    table::ROUTES
}

/// What the handlers can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Ping,
    Version,
    Info,
    Events,
    ImageList,
    ImageCreate,
    ImageLoad,
    ImageInspect,
    ImageHistory,
    ImageTag,
    ImageRemove,
    ContainerList,
    ContainerCreate,
    ContainerInspect,
    ContainerLogs,
    ContainerStart,
    ContainerStop,
    ContainerRestart,
    ContainerKill,
    ContainerWait,
    ContainerResize,
    ContainerAttach,
    ContainerRemove,
    ContainerPrune,
    ContainerUpdate,
    ContainerRename,
    ContainerPause,
    ContainerUnpause,
    ContainerTop,
    ContainerStats,
    ContainerWhy,
    ContainerChanges,
    ContainerExport,
    ArchiveStat,
    ArchiveGet,
    ArchivePut,
    Commit,
    Auth,
    DiskUsage,
    ContainerAttachWs,
    CheckpointCreate,
    CheckpointList,
    CheckpointRemove,
    ExecCreate,
    ExecStart,
    ExecResize,
    ExecInspect,
    NetworkList,
    NetworkInspect,
    NetworkCreate,
    NetworkRemove,
    NetworkPrune,
    NetworkConnect,
    NetworkDisconnect,
    PortsExplain,
}

/// A route that a request matched.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) route: &'static Route,
    /// What stands for `{id}` or `{name}`; empty when the path has neither.
    pub(crate) name: String,
    /// What stands for a second variable; empty when the path has none.
    pub(crate) part: String,
}

/// Finds the route of a path without its version. None: no such page, also when only the method differs,
/// as Docker answers.
pub(crate) fn find(method: &Method, path: &str) -> Result<Option<Match>, ApiError> {
    for route in table::ROUTES {
        if route.method != method.as_str() {
            continue;
        }
        if let Some((name, part)) = capture(route.path, path) {
            let (name, part) = (unescape(name, false)?, unescape(part, false)?);
            if name.contains('\0') || part.contains('\0') {
                return Err(ApiError::invalid("invalid NUL character in path"));
            }
            return Ok(Some(Match { route, name, part }));
        }
    }
    Ok(None)
}

/// Whether a request takes over its connection.
pub(crate) fn hijacks(method: &str, target: &str) -> bool {
    let path = target.split('?').next().unwrap_or(target);
    let (_version, path) = crate::version::split(path);
    method == "POST"
        && (capture("/containers/{id}/attach", path).is_some()
            || capture("/exec/{id}/start", path).is_some())
}

/// What the pattern's variables stand for in `path` (empty where it has none), or None when they differ.
fn capture<'a>(pattern: &str, path: &'a str) -> Option<(&'a str, &'a str)> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return (pattern == path).then_some(("", ""));
    };
    let (variable, after) = rest.split_once('}')?;
    let path = path.strip_prefix(before)?;
    if let Some((between, _)) = after.split_once('{') {
        // The second variable is the last segment, and neither holds a slash.
        let (name, part) = path.split_once('/')?;
        let part = part.strip_prefix(between.strip_prefix('/')?)?;
        let fits = |text: &str| !text.is_empty() && !text.contains('/');
        return (fits(name) && fits(part)).then_some((name, part));
    }
    let name = path.strip_suffix(after)?;
    // Names of images contain slashes, and those of networks may. Empty segments never name anything.
    let fits = match variable {
        "name" => !name.starts_with('/') && !name.ends_with('/') && !name.contains("//"),
        _ => before == "/networks/" || !name.contains('/'),
    };
    (fits && !name.is_empty()).then_some((name, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(method: &Method, path: &str) -> Option<(&'static str, String)> {
        let found = find(method, path).unwrap()?;
        Some((found.route.path, found.name))
    }

    #[test]
    fn every_operation_of_the_api_has_a_route() {
        let list = include_str!("../data/engine-api-swagger-ops.txt");
        let mut operations: Vec<(&str, &str)> = list
            .lines()
            .map(|line| line.split_once('\t').unwrap())
            .collect();
        // Havre's own.
        operations.push(("GET", "/containers/{id}/why"));
        operations.push(("GET", "/containers/{id}/ports/explain"));
        // Docker's, beside the one without the slash.
        operations.push(("GET", "/networks/"));
        // Docker's with `--experimental`, which the description leaves out.
        operations.push(("GET", "/containers/{id}/checkpoints"));
        operations.push(("POST", "/containers/{id}/checkpoints"));
        operations.push(("DELETE", "/containers/{id}/checkpoints/{checkpoint}"));
        let mut table: Vec<(&str, &str)> = routes().iter().map(|r| (r.method, r.path)).collect();
        operations.sort_unstable();
        table.sort_unstable();
        assert_eq!(operations, table);
    }

    #[test]
    fn names_with_slashes_are_captured() {
        for (method, path, route, name) in [
            (Method::GET, "/images/json", "/images/json", ""),
            (Method::GET, "/images/a/json", "/images/{name}/json", "a"),
            (
                Method::GET,
                "/images/localhost:5000/x/y:1/json",
                "/images/{name}/json",
                "localhost:5000/x/y:1",
            ),
            (
                Method::GET,
                "/images/json/json",
                "/images/{name}/json",
                "json",
            ),
            (
                Method::GET,
                "/images/a%2Fb/json",
                "/images/{name}/json",
                "a/b",
            ),
            (
                Method::DELETE,
                "/images/a/b@sha256:0",
                "/images/{name}",
                "a/b@sha256:0",
            ),
            (Method::POST, "/images/create", "/images/create", ""),
            (Method::POST, "/images/a/tag", "/images/{name}/tag", "a"),
            (Method::GET, "/containers/json", "/containers/json", ""),
            (
                Method::GET,
                "/containers/x/json",
                "/containers/{id}/json",
                "x",
            ),
            (
                Method::GET,
                "/containers/%2Fx/json",
                "/containers/{id}/json",
                "/x",
            ),
            (
                Method::GET,
                "/containers/x/attach/ws",
                "/containers/{id}/attach/ws",
                "x",
            ),
            (Method::HEAD, "/_ping", "/_ping", ""),
            (Method::DELETE, "/containers/x", "/containers/{id}", "x"),
            (Method::GET, "/networks/a/b", "/networks/{id}", "a/b"),
            (
                Method::POST,
                "/networks/a/b/connect",
                "/networks/{id}/connect",
                "a/b",
            ),
            (Method::GET, "/networks/", "/networks/", ""),
        ] {
            assert_eq!(
                matched(&method, path),
                Some((route, name.to_owned())),
                "{path}"
            );
        }
    }

    #[test]
    fn a_path_may_have_two_variables() {
        let pattern = "/containers/{id}/checkpoints/{checkpoint}";
        let find = |path: &str| {
            let found = find(&Method::DELETE, path).unwrap()?;
            Some((found.route.path, found.name, found.part))
        };
        for (path, name, part) in [
            ("/containers/x/checkpoints/c1", "x", "c1"),
            ("/containers/x/checkpoints/..%2F..", "x", "../.."),
            ("/containers/%2Fx/checkpoints/c%201", "/x", "c 1"),
        ] {
            let expected = Some((pattern, name.to_owned(), part.to_owned()));
            assert_eq!(find(path), expected, "{path}");
        }
        for path in [
            "/containers/x/checkpoints/",
            "/containers/x/checkpoints",
            "/containers//checkpoints/c1",
            "/containers/x/y/checkpoints/c1",
            "/containers/x/checkpoints/c1/c2",
            "/containers/x/other/c1",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_page_is_not_found() {
        for (method, path) in [
            (Method::GET, "/"),
            (Method::GET, "/nope"),
            (Method::GET, "/images//json"),
            (Method::GET, "/containers//json"),
            (Method::GET, "/containers/a/b/json"),
            (Method::POST, "/_ping"),
            (Method::DELETE, "/containers/"),
            (Method::DELETE, "/images/"),
            (Method::GET, "/info/"),
            (Method::PATCH, "/containers/x"),
        ] {
            assert_eq!(matched(&method, path), None, "{path}");
        }
        assert_eq!(
            find(&Method::GET, "/containers/a%zz/json")
                .unwrap_err()
                .message,
            "invalid URL escape \"%zz\""
        );
        find(&Method::GET, "/containers/a%00/json").unwrap_err();
    }

    #[test]
    fn only_attach_and_exec_start_hijack() {
        assert!(hijacks("POST", "/v1.41/containers/x/attach?stream=1"));
        assert!(hijacks("POST", "/exec/x/start"));
        assert!(!hijacks("GET", "/containers/x/attach"));
        assert!(!hijacks("POST", "/containers/x/start"));
        assert!(!hijacks("POST", "/images/load?x=/exec/x/start"));
    }
}
