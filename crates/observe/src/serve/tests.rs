//! The server over sockets, with peers that do not behave.

use milena::metrics::Family;

use super::*;

static SALES: Family = Family::counter("shop_sales_total", "Sales.");

async fn served() -> Server {
    let registry = Registry::new();
    registry.counter(&SALES, &[]).add(3);
    serve("127.0.0.1:0", registry).await.expect("listens")
}

async fn ask(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).await.expect("connects");
    // The server may answer and close before all is written.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.expect("ends").expect("is read");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn metrics_are_served_in_the_format_that_is_accepted() {
    let server = served().await;
    let answer = ask(&server, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    assert_eq!(body, "# HELP shop_sales_total Sales.\n# TYPE shop_sales_total counter\nshop_sales_total 3\n");
    let answer =
        ask(&server, b"GET /metrics?a=b HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n").await;
    assert!(
        answer.contains("application/openmetrics-text; version=1.0.0") && answer.ends_with("# EOF\n"),
        "{answer}"
    );
    let answer = ask(&server, b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn metrics_are_packed_if_the_peer_accepts_it() {
    use std::io::Read as _;
    let server = served().await;
    let mut stream = TcpStream::connect(server.address()).await.expect("connects");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n").await.expect("is asked");
    let mut answer = Vec::new();
    timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.expect("ends").expect("is read");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = std::str::from_utf8(&answer[..end]).expect("text");
    assert!(head.contains("\r\nContent-Encoding: gzip\r\n") && head.contains("\r\nVary: Accept"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", answer.len() - end)), "{head}");
    let mut body = String::new();
    flate2::read::GzDecoder::new(&answer[end..]).read_to_string(&mut body).expect("gzip");
    assert!(body.ends_with("shop_sales_total 3\n"), "{body}");
    let answer = ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").await;
    assert!(!answer.contains("Content-Encoding"), "{answer}");
}

#[tokio::test]
async fn metrics_that_cannot_be_written_are_an_error_and_not_the_end() {
    struct Broken;
    impl Expose for Broken {
        fn expose(&self, _: Format, _: Encoding) -> Arc<[u8]> {
            panic!("broken on purpose")
        }
    }
    let server = serve("127.0.0.1:0", Broken).await.expect("listens");
    for _ in 0..3 {
        let answer = ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
}

#[tokio::test]
async fn other_requests_are_refused() {
    let server = served().await;
    let long = [b"GET /metrics HTTP/1.1\r\na: ".to_vec(), vec![b'a'; 20_000]].concat();
    for (request, status) in [
        (&b"GET /-/healthy HTTP/1.1\r\n\r\n"[..], "200"),
        (b"GET /secrets HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        (b"GET /metrics\r\n\r\n", "400"),
        (b"GET http://a/metrics HTTP/1.1\r\n\r\n", "400"),
        (b"\x16\x03\x01\x02\xff\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        let answer = ask(&server, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
}

#[tokio::test]
async fn peers_that_say_nothing_hold_up_no_one_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let times = Times { head: Duration::from_millis(300), ..TIMES };
    let registry = Registry::new();
    registry.counter(&SALES, &[]).add(3);
    let server = serve_within(times, listener, registry).expect("listens");
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect(server.address()).await.expect("connects"));
    }
    // All connections are taken: this one waits until the silent ones are closed.
    let answer = ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").await;
    assert!(answer.ends_with("shop_sales_total 3\n"), "{answer}");
    drop(silent);
}

#[tokio::test]
async fn a_server_that_is_dropped_listens_no_longer() {
    let server = served().await;
    let address = server.address();
    drop(server);
    // The task ends at its next turn.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
