//! The fetcher against local servers, and against addresses that it must not connect to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use internlm_agent::fetch::{
    FetchConfig, FetchFault, Fetcher, Resolver, SystemResolver, is_public,
};

/// A server that answers each path with fixed bytes, and counts connections.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

fn serve(answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (counted, noted) = (Arc::clone(&connections), Arc::clone(&requests));
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") {
                match reader.read_line(&mut head) {
                    Ok(count) if count > 0 => {}
                    _ => break,
                }
            }
            let path = head.split_whitespace().nth(1).unwrap_or("/").to_owned();
            noted.lock().unwrap().push(head);
            // A client that has enough breaks off.
            answer(&path, &mut stream).ok();
        }
    });
    Server {
        address,
        connections,
        requests,
    }
}

fn text(stream: &mut TcpStream, status: &str, headers: &str, body: &str) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Names of the tests, and one local server that may be connected to.
#[derive(Clone, Debug, Default)]
struct Names {
    names: BTreeMap<String, Vec<SocketAddr>>,
    permitted: Vec<SocketAddr>,
    asked: Arc<AtomicUsize>,
    /// Addresses from the second question on.
    later: Option<SocketAddr>,
}

impl Names {
    fn of(server: &Server) -> Self {
        Self {
            names: BTreeMap::from([("public.example".into(), vec![server.address])]),
            permitted: vec![server.address],
            ..Self::default()
        }
    }

    fn with(mut self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.names.insert(name.into(), addresses);
        self
    }
}

impl Resolver for Names {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let before = self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(later) = self.later.filter(|_| before > 0) {
            return Ok(vec![later]);
        }
        match self.names.get(host) {
            Some(addresses) => Ok(addresses.clone()),
            None => SystemResolver.resolve(host, port),
        }
    }

    fn permits(&self, address: SocketAddr) -> bool {
        is_public(address.ip()) || self.permitted.contains(&address)
    }
}

fn fetcher(names: Names) -> Fetcher {
    Fetcher::new(FetchConfig::default()).with_resolver(names)
}

#[track_caller]
fn not_public(result: Result<impl std::fmt::Debug, FetchFault>) {
    assert!(
        matches!(result, Err(FetchFault::NotPublic { .. })),
        "{result:?}"
    );
}

#[test]
fn a_page_comes_with_its_type_and_status() {
    let server = serve(|path, stream| match path {
        "/page?q=1" => text(
            stream,
            "200 OK",
            "Content-Type: text/html; charset=utf-8\r\n",
            "<p>数",
        ),
        _ => text(stream, "404 Not Found", "", "none"),
    });
    let fetcher = fetcher(Names::of(&server));
    let page = fetcher.get("http://public.example/page?q=1#part").unwrap();
    assert_eq!((page.status, page.truncated), (200, false));
    assert_eq!(
        page.content_type.as_deref(),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.body, "<p>数".as_bytes());
    assert_eq!(page.url, "http://public.example/page?q=1");
    assert_eq!(
        fetcher.get("http://public.example/other").unwrap().status,
        404
    );
    let requests = server.requests.lock().unwrap();
    assert!(
        requests[0].starts_with("GET /page?q=1 HTTP/1.1\r\n"),
        "{requests:?}"
    );
    assert!(
        requests[0]
            .to_lowercase()
            .contains("host: public.example\r\n"),
        "{requests:?}"
    );
}

#[test]
fn addresses_that_are_not_public_are_refused_before_connecting() {
    let server = serve(|_, stream| text(stream, "200 OK", "", "secret"));
    let port = server.address.port();
    let fetcher = Fetcher::new(FetchConfig::default());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
    ] {
        match fetcher.get(&format!("http://{host}:{port}/")) {
            // Some systems don't know such a name, or have no IPv6: no connection, either.
            Err(
                FetchFault::NotPublic { .. } | FetchFault::Name { .. } | FetchFault::Url { .. },
            ) => {}
            other => panic!("{host}: {other:?}"),
        }
    }
    for host in [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
    ] {
        not_public(fetcher.get(&format!("http://{host}:{port}/latest/meta-data/")));
        not_public(fetcher.get(&format!("https://{host}:{port}/")));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn a_name_that_means_a_private_address_is_refused() {
    let server = serve(|_, stream| text(stream, "200 OK", "", "secret"));
    let names = Names::of(&server)
        .with("inner.example", &["10.0.0.7:80"])
        // One public address does not make up for the other.
        .with("mixed.example", &["8.8.8.8:80", "192.168.0.1:80"])
        .with("mapped.example", &["[::ffff:10.0.0.1]:80"]);
    let fetcher = fetcher(names);
    for name in ["inner", "mixed", "mapped"] {
        not_public(fetcher.get(&format!("http://{name}.example/")));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn the_connection_goes_to_what_was_checked() {
    let server = serve(|_, stream| text(stream, "200 OK", "", "first"));
    let other = serve(|_, stream| text(stream, "200 OK", "", "rebound"));
    // The name means another host from the second question on.
    let names = Names {
        later: Some(other.address),
        ..Names::of(&server)
    };
    let asked = Arc::clone(&names.asked);
    let fetcher = fetcher(names);
    assert_eq!(
        fetcher.get("http://public.example/").unwrap().body,
        b"first"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // The next fetch asks again, and checks again.
    not_public(fetcher.get("http://public.example/"));
    assert_eq!(other.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn every_redirect_is_checked() {
    let secret = serve(|_, stream| text(stream, "200 OK", "", "secret"));
    let port = secret.address.port();
    let server = serve(move |path, stream| {
        let to = match path {
            "/literal" => format!("http://127.0.0.1:{port}/"),
            "/mapped" => format!("http://[::ffff:127.0.0.1]:{port}/"),
            "/metadata" => "http://169.254.169.254/latest/".into(),
            "/name" => format!("//inner.example:{port}/"),
            "/file" => "file:///etc/passwd".into(),
            "/twice" => "/literal".into(),
            "/good" => "end?x=1".into(),
            "/loop" => "/loop".into(),
            _ => return text(stream, "200 OK", "", "end"),
        };
        text(stream, "302 Found", &format!("Location: {to}\r\n"), "")
    });
    let fetcher = fetcher(Names::of(&server).with("inner.example", &[&secret.address.to_string()]));
    for path in ["literal", "mapped", "metadata", "name", "twice"] {
        not_public(fetcher.get(&format!("http://public.example/{path}")));
    }
    let error = fetcher.get("http://public.example/file").unwrap_err();
    assert!(matches!(error, FetchFault::Url { .. }), "{error}");
    let page = fetcher.get("http://public.example/good").unwrap();
    assert_eq!(
        (page.url.as_str(), page.body.as_slice()),
        ("http://public.example/end?x=1", &b"end"[..])
    );
    assert_eq!(secret.connections.load(Ordering::SeqCst), 0);

    let before = server.connections.load(Ordering::SeqCst);
    let error = fetcher.get("http://public.example/loop").unwrap_err();
    assert!(
        matches!(error, FetchFault::Redirects { limit: 5, .. }),
        "{error}"
    );
    assert_eq!(server.connections.load(Ordering::SeqCst) - before, 6);
}

#[test]
fn a_body_without_end_is_cut() {
    let server = serve(|path, stream| {
        if path == "/claimed" {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"
            )?;
        } else {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        }
        loop {
            stream.write_all(&[b'x'; 4096])?;
        }
    });
    let config = FetchConfig::default().with_max_bytes(10_000);
    let fetcher = Fetcher::new(config).with_resolver(Names::of(&server));
    for path in ["claimed", "open"] {
        let page = fetcher
            .get(&format!("http://public.example/{path}"))
            .unwrap();
        assert!(page.truncated, "{path}");
        assert_eq!(page.body, vec![b'x'; 10_000], "{path}");
    }
}

#[test]
fn a_server_that_takes_its_time_is_left() {
    let server = serve(|path, stream| {
        if path == "/drip" {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
            loop {
                stream.write_all(b"x")?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    });
    let config = FetchConfig::default().with_timeout(Duration::from_millis(300));
    let fetcher = Fetcher::new(config).with_resolver(Names::of(&server));
    for path in ["drip", "silent"] {
        let error = fetcher
            .get(&format!("http://public.example/{path}"))
            .unwrap_err();
        assert!(
            matches!(error, FetchFault::Timeout { .. }),
            "{path}: {error:?}"
        );
    }
}

#[test]
fn what_is_no_answer_is_an_error() {
    let server = serve(|path, stream| match path {
        "/headers" => {
            write!(stream, "HTTP/1.1 200 OK\r\n")?;
            loop {
                write!(stream, "X: {}\r\n", "y".repeat(1000))?;
            }
        }
        _ => stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n"),
    });
    let fetcher = fetcher(Names::of(&server));
    for path in ["headers", "other"] {
        let error = fetcher
            .get(&format!("http://public.example/{path}"))
            .unwrap_err();
        assert!(
            matches!(error, FetchFault::Connection { .. }),
            "{path}: {error:?}"
        );
    }
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let names = Names {
        permitted: vec![closed],
        ..Names::default()
    }
    .with("closed.example", &[&closed.to_string()]);
    let error = self::fetcher(names)
        .get("http://closed.example/")
        .unwrap_err();
    assert!(matches!(error, FetchFault::Connection { .. }), "{error:?}");
}
