//! A certificate counts only if it is trusted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Cache, in_child};

/// Over TLS, answers with 404, or for `org/down` with a redirect out of TLS. Prints its port.
const SERVER: &str = "
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        down = '/org/down/' in self.path
        self.send_response(302 if down else 404)
        if down: self.send_header('Location', 'http://127.0.0.1:1/')
        self.send_header('X-Error-Code', 'RepoNotFound')
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('cert.pem', 'key.pem')
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";

/// Ends the server with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with a certificate of its own for `localhost`, or `None` with a printed reason; with
/// `CI=true` a panic.
fn serve(folder: &Path) -> Option<(Server, String)> {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
    ]);
    openssl.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder);
    let made = openssl.output().is_ok_and(|output| output.status.success());
    let mut python = Command::new("python3");
    python
        .args(["-c", SERVER])
        .current_dir(folder)
        .stdout(Stdio::piped());
    let Some(mut child) = made.then(|| python.spawn().ok()).flatten() else {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "openssl or python3 is absent and CI=true");
        println!("skipped: openssl or python3 is absent");
        return None;
    };
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    Some((Server(child), format!("https://localhost:{}", port.trim())))
}

#[test]
fn certificates() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), Cache::new());
    let Some((_server, url)) = serve(folder.path()) else {
        return;
    };
    let certificate = folder.path().join("cert.pem");
    let ours = [
        ("HF_HOME", cache.path().to_str().unwrap()),
        ("HF_ENDPOINT", url.as_str()),
        ("SSL_CERT_FILE", certificate.to_str().unwrap()),
    ];
    // The answer of the server: the handshake went well.
    let trusted = in_child("org/name", &ours);
    assert!(trusted.contains("<error RepoNotFound"), "{trusted}");
    let down = in_child("org/down", &ours);
    assert!(down.contains("<error Response"), "{down}");
    let unknown = in_child("org/name", &ours[..2]);
    assert!(unknown.contains("<error Transport"), "{unknown}");
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    // The same certificate under a name that it does not carry.
    let address = url.replace("localhost", "127.0.0.1");
    let other = in_child("org/name", &[ours[0], ("HF_ENDPOINT", &address), ours[2]]);
    assert!(other.contains("<error Transport"), "{other}");
    assert!(other.contains("NotValidForName"), "{other}");
}
