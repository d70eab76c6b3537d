//! Loopback, unix sockets by directory, descriptor passing.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use havre_sys::namespace::unshare;
use havre_sys::net::{loopback_up, peer_cred, recv_fds, send_fds, unix_connect_at, unix_listen_at};
use havre_sys::testing::in_child;
use rustix::fs::{Mode, OFlags, fstat, open, statat};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::{SocketFlags, accept_with};
use rustix::thread::UnshareFlags;

#[test]
fn loopback_works_only_after_it_is_up() {
    in_child(|| {
        unshare(UnshareFlags::NEWNET).expect("a network namespace");
        let error = TcpStream::connect("127.0.0.1:9").expect_err("lo is down");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
        loopback_up().expect("lo can be set up");
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        TcpStream::connect(listener.local_addr().expect("address")).expect("lo is up");
    });
}

#[test]
fn a_socket_by_directory_ignores_the_length_of_the_path() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut deep = temp.path().to_path_buf();
    deep.push("a".repeat(120));
    deep.push("b".repeat(120));
    fs_create_all(&deep);
    let dir = open(&deep, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("dir");
    let name = OsStr::new("x.sock");
    let mode = Mode::from_raw_mode(0o660);
    let listener = unix_listen_at(dir.as_fd(), name, mode).expect("it listens");
    let stat = statat(&dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("the file");
    assert_eq!(stat.st_mode & 0o777, 0o660);
    let client = unix_connect_at(dir.as_fd(), name).expect("it connects");
    let server = accept_with(&listener, SocketFlags::CLOEXEC).expect("it accepts");
    let cred = peer_cred(server.as_fd()).expect("credentials");
    assert_eq!(cred.pid, rustix::process::getpid());

    let file = open(
        "/etc/passwd",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .expect("file");
    send_fds(client.as_fd(), b"hello", &[file.as_fd()]).expect("it sends");
    let mut data = [0; 16];
    let (got, fds) = recv_fds(server.as_fd(), &mut data, 1).expect("it receives");
    assert_eq!(&data[..got], b"hello");
    let [fd] = &fds[..] else {
        panic!("one descriptor: {fds:?}")
    };
    assert_eq!(
        fstat(fd).expect("stat").st_ino,
        fstat(&file).expect("stat").st_ino
    );
    assert!(fcntl_getfd(fd).expect("flags").contains(FdFlags::CLOEXEC));

    let error = unix_listen_at(dir.as_fd(), name, mode).expect_err("the name is taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    for bad in ["", ".", "..", "a/b"] {
        let error = unix_connect_at(dir.as_fd(), OsStr::new(bad)).expect_err("no name");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
}

fn fs_create_all(path: &std::path::Path) {
    std::fs::create_dir_all(path).expect("directories");
}

#[test]
fn a_deaf_socket_hears_nothing_until_it_may() {
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    havre_sys::net::set_deaf(server.as_fd(), true).unwrap();
    client.send_to(b"lost", address).unwrap();
    havre_sys::net::set_deaf(server.as_fd(), false).unwrap();
    client.send_to(b"heard", address).unwrap();
    let mut buffer = [0; 16];
    let count = server.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"heard");
    let again = havre_sys::net::set_deaf(server.as_fd(), false).unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::NotFound);
}
