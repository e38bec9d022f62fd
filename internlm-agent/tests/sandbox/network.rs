//! Sockets of every kind.

use std::net::TcpListener;

use super::support::{printed, refused};

#[test]
fn no_socket_of_any_family() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    refused(&[
        (
            &format!("socket.create_connection(('127.0.0.1', {port}))"),
            "EPERM",
        ),
        ("socket.socket(socket.AF_INET, socket.SOCK_STREAM)", "EPERM"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "EPERM"),
        (
            "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)",
            "EPERM",
        ),
        (
            "socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
            "EPERM",
        ),
        ("socket.socket(socket.AF_UNIX).bind('\\0abstract')", "EPERM"),
        (
            "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
            "EPERM",
        ),
        (
            "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)",
            "EPERM",
        ),
        ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "EPERM"),
        ("socket.socket(socket.AF_VSOCK)", "EPERM"),
        ("socket.socket(38, socket.SOCK_SEQPACKET)", "EPERM"),
        // A pair can still be asked for an end that reaches further.
        ("socket.socketpair(socket.AF_INET)", "EPERM"),
        (
            "socket.socketpair(socket.AF_UNIX)[0].connect('\\0abstract')",
            "EPERM",
        ),
        (
            "socket.socketpair(socket.AF_UNIX)[0].bind('/work/socket')",
            "EPERM",
        ),
        (
            "__import__('urllib.request').request.urlopen('http://192.0.2.1/')",
            "URLError",
        ),
    ]);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

#[test]
fn event_loops_work() {
    let code = "import asyncio\n\
                async def double(x):\n    \
                    await asyncio.sleep(0.001)\n    \
                    return 2 * x\n\
                async def main():\n    \
                    return await asyncio.gather(*map(double, range(3)))\n\
                print(asyncio.run(main()))";
    assert_eq!(printed(code), "[0, 2, 4]\n");
}
