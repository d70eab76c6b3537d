//! `USER` to numbers, from the image's own passwd and group files.
//!
//! The files are hostile input: lines that do not parse are skipped, digits are always a number and never a name
//! (CVE-2024-40635, CVE-2016-3697), and a number that does not fit is refused instead of wrapping to 0.
//! The rules follow <https://github.com/moby/sys/blob/main/user/user.go> (`GetExecUser`).

use havre_api_traits::ApiError;
use havre_types::ErrorKind;

/// (uid_t)-1 means "no change" to the kernel, so it is nobody's id.
const MAX_ID: u32 = u32::MAX - 1;

/// The identity a process runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one first, without repeats.
    pub groups: Vec<u32>,
}

/// Contents of the image's account files; empty when a file does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub passwd: Vec<u8>,
    pub group: Vec<u8>,
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// The `user[:group]` text, checked without any file: what `create` can refuse at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name<'a> {
    Default,
    Number(u32),
    Text(&'a str),
}

/// Refuses a `USER` that can never be valid, whatever the image holds.
pub(crate) fn check(spec: &str) -> Result<(), ApiError> {
    split(spec).map(|_| ())
}

/// Resolves `spec` and the names in `extra` (`--group-add`) against the image's files.
pub(crate) fn resolve(
    spec: &str,
    extra: &[String],
    files: &Accounts,
) -> Result<Identity, ApiError> {
    let (user, group) = split(spec)?;
    let found = users(&files.passwd).find(|entry| match user {
        Name::Default => entry.uid == 0,
        Name::Number(uid) => entry.uid == uid,
        Name::Text(name) => entry.name == name.as_bytes(),
    });
    let (uid, mut gid) = match (&found, user) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Name::Default) => (0, 0),
        (None, Name::Number(uid)) => (uid, 0),
        (None, Name::Text(name)) => {
            return Err(invalid(format!(
                "unable to find user {name}: no matching entries in passwd file"
            )));
        }
    };
    let mut groups = Vec::new();
    match group {
        Name::Default => {
            if let Some(entry) = &found {
                groups.extend(
                    groups_of(&files.group)
                        .filter(|g| is_member(g, entry.name))
                        .map(|g| g.gid),
                );
            }
        }
        Name::Number(number) => gid = number,
        Name::Text(name) => gid = group_named(name, files)?,
    }
    for name in extra {
        groups.push(match parse(name, "group")? {
            Name::Number(number) => number,
            Name::Default => continue,
            Name::Text(name) => group_named(name, files)?,
        });
    }
    groups.insert(0, gid);
    let mut unique: Vec<u32> = Vec::with_capacity(groups.len());
    for gid in groups {
        if !unique.contains(&gid) {
            unique.push(gid);
        }
    }
    Ok(Identity {
        uid,
        gid,
        groups: unique,
    })
}

fn group_named(name: &str, files: &Accounts) -> Result<u32, ApiError> {
    groups_of(&files.group)
        .find(|g| g.name == name.as_bytes())
        .map(|g| g.gid)
        .ok_or_else(|| {
            invalid(format!(
                "unable to find group {name}: no matching entries in group file"
            ))
        })
}

fn split(spec: &str) -> Result<(Name<'_>, Name<'_>), ApiError> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    Ok((parse(user, "user")?, parse(group, "group")?))
}

fn parse<'a>(text: &'a str, what: &str) -> Result<Name<'a>, ApiError> {
    let Some(first) = text.chars().next() else {
        return Ok(Name::Default);
    };
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u32>() {
            Ok(number) if number <= MAX_ID => Ok(Name::Number(number)),
            _ => Err(out_of_range(what, text)),
        };
    }
    // "-1", "+1", "0x0" and "1e3" look like numbers to somebody: neither a number nor a name here.
    if first.is_ascii_digit() || matches!(first, '+' | '-') {
        if text.parse::<i128>().is_ok() {
            return Err(out_of_range(what, text));
        }
        return Err(invalid(format!(
            "invalid {what} {text:?}: neither a number nor a name"
        )));
    }
    if text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == ':')
    {
        return Err(invalid(format!(
            "invalid {what} {text:?}: contains a control character or space"
        )));
    }
    Ok(Name::Text(text))
}

fn out_of_range(what: &str, text: &str) -> ApiError {
    invalid(format!(
        "invalid {what} {text}: uids and gids must be in range 0-{MAX_ID}"
    ))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorKind::InvalidParameter, message)
}

fn fields(line: &[u8]) -> std::slice::Split<'_, u8, impl FnMut(&u8) -> bool> {
    line.split(|&b| b == b':')
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|&b| b == b'\n')
        .filter(|line| !line.is_empty() && line[0] != b'#')
}

fn number(field: Option<&[u8]>) -> Option<u32> {
    let text = std::str::from_utf8(field?).ok()?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&id| id <= MAX_ID)
}

fn users(file: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(file).filter_map(|line| {
        let mut parts = fields(line);
        let name = parts.next().filter(|name| !name.is_empty())?;
        parts.next()?;
        Some(User {
            name,
            uid: number(parts.next())?,
            gid: number(parts.next())?,
        })
    })
}

fn groups_of(file: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(file).filter_map(|line| {
        let mut parts = fields(line);
        let name = parts.next().filter(|name| !name.is_empty())?;
        parts.next()?;
        Some(Group {
            name,
            gid: number(parts.next())?,
            members: parts.next().unwrap_or_default(),
        })
    })
}

fn is_member(group: &Group<'_>, user: &[u8]) -> bool {
    group
        .members
        .split(|&b| b == b',')
        .any(|member| member == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Accounts {
        Accounts {
            passwd: b"root:x:0:0:root:/root:/bin/sh\nbroken\n\
                      app:x:1000:1001::/home/app:/bin/sh\n\
                      65536x:x:0:0::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\nneg:x:-1:0::/:/bin/sh\n\
                      wrap:x:4294967296:4294967296::/:/bin/sh\n"
                .to_vec(),
            group: b"root:x:0:root\nadm:x:4:root,app\nwheel:x:10:root\nstaff:x:50:\nbad:x:99999999999:app\n"
                .to_vec(),
        }
    }

    fn ids(spec: &str) -> Result<(u32, u32, Vec<u32>), String> {
        resolve(spec, &[], &files())
            .map(|i| (i.uid, i.gid, i.groups))
            .map_err(|err| err.message)
    }

    #[test]
    fn every_form_of_user() {
        assert_eq!(ids("").unwrap(), (0, 0, vec![0, 4, 10]));
        assert_eq!(ids("root").unwrap(), (0, 0, vec![0, 4, 10]));
        assert_eq!(ids("app").unwrap(), (1000, 1001, vec![1001, 4]));
        assert_eq!(ids("1000").unwrap(), (1000, 1001, vec![1001, 4]));
        assert_eq!(ids("app:staff").unwrap(), (1000, 50, vec![50]));
        assert_eq!(ids("app:0").unwrap(), (1000, 0, vec![0]));
        assert_eq!(ids("1234").unwrap(), (1234, 0, vec![0]));
        assert_eq!(ids("1234:77").unwrap(), (1234, 77, vec![77]));
        assert_eq!(ids(":50").unwrap(), (0, 50, vec![50]));
        assert_eq!(ids("2147483648").unwrap(), (2_147_483_648, 0, vec![0]));
    }

    #[test]
    fn what_looks_like_a_number_is_never_a_name() {
        for hostile in [
            "4294967296",
            "4294967295",
            "-1",
            "0x0",
            "+1",
            "1e3",
            "65536x",
            "app\n",
            "a b",
        ] {
            let err = ids(hostile).unwrap_err();
            assert!(err.starts_with("invalid user"), "{hostile}: {err}");
        }
        assert!(
            ids("wrap")
                .unwrap_err()
                .contains("no matching entries in passwd file")
        );
        ids("neg").unwrap_err();
    }

    #[test]
    fn unknown_names_have_dockers_texts() {
        assert_eq!(
            ids("nope").unwrap_err(),
            "unable to find user nope: no matching entries in passwd file"
        );
        assert_eq!(
            ids("app:nope").unwrap_err(),
            "unable to find group nope: no matching entries in group file"
        );
    }

    #[test]
    fn added_groups_come_after_the_images() {
        let extra = ["staff".to_owned(), "1234".to_owned(), "4".to_owned()];
        let identity = resolve("app", &extra, &files()).unwrap();
        assert_eq!(identity.groups, vec![1001, 4, 50, 1234]);
        resolve("app", &["-1".to_owned()], &files()).unwrap_err();
    }
}
