//! `cp`: archives between the engine and this machine's files. What comes from an engine is unpacked as
//! distrustfully as an image's layer is: nothing of it leaves the directory it was meant for.
//!
//! Where a copy goes follows the rules of cp(1), as docker has them:
//! <https://docs.docker.com/reference/cli/docker/container/cp/>

mod local;
mod progress;
mod transfer;

use std::path::{Component, Path, PathBuf};

use havre_engine_types::PathStat;

use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;
use crate::ui::Output;

use local::{Source, Target};
use progress::Progress;

/// What `cp` was asked to do.
struct Request<'a> {
    container: &'a str,
    /// The path on either side.
    source: &'a str,
    destination: &'a str,
    follow: bool,
    own_by_user: bool,
    quiet: bool,
}

pub(super) async fn cp(app: &mut App, matches: &Matches) -> Outcome {
    let [source, destination] = matches.args.as_slice() else {
        return Err(Failure::new("cp takes two arguments"));
    };
    if source.is_empty() {
        return Err(Failure::new("source can not be empty"));
    }
    if destination.is_empty() {
        return Err(Failure::new("destination can not be empty"));
    }
    let quiet = matches.on_or("quiet", !app.ui.out_is_terminal());
    let request = |container, source, destination| Request {
        container,
        source,
        destination,
        follow: matches.on("follow-link"),
        own_by_user: matches.on("archive"),
        quiet,
    };
    match (split(source), split(destination)) {
        (Some((container, path)), None) => {
            from_container(app, &request(container, path, destination)).await
        }
        (None, Some((container, path))) => {
            to_container(app, &request(container, source, path)).await
        }
        (Some(_), Some(_)) => Err(Failure::new("copying between containers is not supported")),
        (None, None) => Err(Failure::new("must specify at least one container source")),
    }
}

/// Container and path; `None` of a path of this machine, which is absolute, begins with a dot, or has no
/// colon.
fn split(argument: &str) -> Option<(&str, &str)> {
    if argument.starts_with('/') {
        return None;
    }
    let (container, path) = argument.split_once(':')?;
    (!container.is_empty() && !container.starts_with('.')).then_some((container, path))
}

async fn from_container(app: &mut App, request: &Request<'_>) -> Outcome {
    let to_stdout = request.destination == "-";
    let destination = local::absolute(request.destination)?;
    if !to_stdout {
        local::check_output(&destination)?;
    }
    let mut source = request.source.to_owned();
    let mut asked_name = None;
    if request.follow
        && let Ok(stat) = app
            .client
            .container_path_stat(request.container, &source)
            .await
        && stat.is_symlink()
    {
        (source, asked_name) = renamed(&source, &stat.link_target);
    }
    let (stat, content) = app
        .client
        .container_archive(request.container, &source)
        .await?;
    if to_stdout {
        let mut content = content;
        while let Some(piece) = content.chunk().await? {
            app.ui.write(Output::Out, &piece);
        }
        return Ok(());
    }
    let target = Target::new(&destination)?;
    let place = place(&target, &stat, asked_name.as_deref())?;
    let progress = Progress::new("Copying from container - ", request.quiet);
    let work = transfer::receive(content, place, progress.counter());
    let done = progress.watch(&mut app.ui, work).await;
    progress.finish(&mut app.ui, &destination.display().to_string());
    done
}

/// Where an archive is unpacked, and what the first part of its names becomes.
struct Place {
    directory: PathBuf,
    rename: Option<(Vec<u8>, Vec<u8>)>,
}

/// <https://github.com/moby/go-archive/blob/main/copy.go> (`PrepareArchiveCopy`)
fn place(target: &Target, stat: &PathStat, asked_name: Option<&str>) -> Outcome<Place> {
    use std::os::unix::ffi::OsStrExt as _;
    let rename = |to: &[u8]| {
        let from = stat.name.as_bytes().to_vec();
        (from != to).then(|| (from, to.to_vec()))
    };
    if target.is_dir {
        return Ok(Place {
            directory: target.path.clone(),
            rename: asked_name.and_then(|name| rename(name.as_bytes())),
        });
    }
    if target.exists && stat.is_dir() {
        return Err(Failure::new("cannot copy directory"));
    }
    if !target.exists && !stat.is_dir() && target.asserts_directory {
        return Err(Failure::new("no such directory"));
    }
    let name = target.path.file_name().unwrap_or_default();
    Ok(Place {
        directory: target.parent(),
        rename: rename(name.as_bytes()),
    })
}

/// The path that a link leads to, with the `/` or `/.` that was asked for, and the name asked for where it is
/// another one.
fn renamed(asked: &str, target: &str) -> (String, Option<String>) {
    let mut path = target.to_owned();
    if asked.ends_with("/.") {
        path.push_str("/.");
    } else if asked.ends_with('/') {
        path.push('/');
    }
    let base = |path: &str| {
        let name = Path::new(path).components().next_back();
        name.map(|part| part.as_os_str().to_string_lossy().into_owned())
    };
    let name = base(asked).filter(|_| !asked.ends_with("/."));
    let other = name.filter(|name| base(&path).as_ref() != Some(name));
    (path, other)
}

async fn to_container(app: &mut App, request: &Request<'_>) -> Outcome {
    let container = request.container;
    let mut path = request.destination.to_owned();
    let mut stat = app.client.container_path_stat(container, &path).await.ok();
    if let Some(link) = stat.as_ref().filter(|stat| stat.is_symlink()) {
        path.clone_from(&link.link_target);
        stat = app.client.container_path_stat(container, &path).await.ok();
    }
    if stat.as_ref().is_some_and(PathStat::is_device) {
        return Err(Failure::new(format!(
            "destination \"{container}:{}\" must be a directory or a regular file: got a device",
            request.destination
        )));
    }
    let is_dir = stat.as_ref().is_some_and(PathStat::is_dir);
    if request.source == "-" {
        if !is_dir {
            return Err(Failure::new(format!(
                "destination \"{container}:{}\" must be a directory",
                request.destination
            )));
        }
        let pieces = transfer::standard_input();
        let extract = app
            .client
            .container_extract(container, &path, request.own_by_user, pieces);
        return Ok(extract.await?);
    }
    let source = Source::new(&local::absolute(request.source)?, request.follow)?;
    let (directory, name) = upload_place(&source, &path, stat.as_ref())?;
    let progress = Progress::new("Copying to container - ", request.quiet);
    let pieces = transfer::send(source, name, progress.counter());
    let client = std::rc::Rc::clone(&app.client);
    let work = async {
        let sent = client.container_extract(container, &directory, request.own_by_user, pieces);
        sent.await.map_err(Failure::from)
    };
    let done = progress.watch(&mut app.ui, work).await;
    progress.finish(&mut app.ui, &format!("{container}:{path}"));
    done
}

/// The directory of the container to unpack into, and the name of what is sent.
fn upload_place(
    source: &Source,
    path: &str,
    there: Option<&PathStat>,
) -> Outcome<(String, PathBuf)> {
    if there.is_some_and(PathStat::is_dir) {
        return Ok((path.to_owned(), source.name.clone()));
    }
    if there.is_some() && source.is_dir {
        return Err(Failure::new("cannot copy directory"));
    }
    let asserts_directory = path.ends_with('/') || path.ends_with("/.");
    if there.is_none() && !source.is_dir && asserts_directory {
        return Err(Failure::new("no such directory"));
    }
    let clean = plain(path);
    let name = clean
        .file_name()
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    let parent = clean.parent().unwrap_or(Path::new("/"));
    Ok((parent.display().to_string(), name))
}

/// Absolute, without `.` and `..`.
fn plain(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart() {
        for (argument, expected) in [
            ("box:/a", Some(("box", "/a"))),
            ("box:a:b", Some(("box", "a:b"))),
            ("/box:a", None),
            ("./box:a", None),
            (".:a", None),
            ("file", None),
            ("-", None),
            (":a", None),
        ] {
            assert_eq!(split(argument), expected, "{argument}");
        }
    }

    #[test]
    fn links_keep_the_name_that_was_asked_for() {
        let check = |asked, target| renamed(asked, target);
        assert_eq!(
            check("/l", "/a/b"),
            ("/a/b".to_owned(), Some("l".to_owned()))
        );
        assert_eq!(
            check("/l/", "/a/b"),
            ("/a/b/".to_owned(), Some("l".to_owned()))
        );
        assert_eq!(check("/l/.", "/a/b"), ("/a/b/.".to_owned(), None));
        assert_eq!(check("/x/b", "/a/b"), ("/a/b".to_owned(), None));
    }

    #[test]
    fn copies_go_where_cp_would_put_them() {
        let source = |is_dir| Source {
            parent: PathBuf::from("/"),
            base: "s".into(),
            name: PathBuf::from("s"),
            is_dir,
        };
        let stat = |mode| PathStat {
            mode: PathStat::go_mode(mode),
            ..PathStat::default()
        };
        let (dir, file) = (stat(0o040_755), stat(0o100_644));
        let check = |is_dir, path, there: Option<&PathStat>| {
            upload_place(&source(is_dir), path, there)
                .map(|(dir, name)| format!("{dir}|{}", name.display()))
                .map_err(|failure| failure.message)
        };
        assert_eq!(check(false, "/d", Some(&dir)).unwrap(), "/d|s");
        assert_eq!(check(true, "/d/new", None).unwrap(), "/d|new");
        assert_eq!(check(false, "/d/f", Some(&file)).unwrap(), "/d|f");
        assert_eq!(check(false, "f", None).unwrap(), "/|f");
        assert_eq!(
            check(true, "/d/f", Some(&file)).unwrap_err(),
            "cannot copy directory"
        );
        assert_eq!(
            check(false, "/d/new/", None).unwrap_err(),
            "no such directory"
        );
    }
}
