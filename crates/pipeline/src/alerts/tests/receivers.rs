//! What web servers and programs get, byte for byte.

use super::*;

#[test]
fn times_are_those_of_rfc_3339() {
    let check = |seconds: u64, expected: &str| {
        assert_eq!(body::rfc3339(UNIX_EPOCH + seconds.s()), expected);
    };
    check(0, "1970-01-01T00:00:00.000Z");
    check(951_782_399, "2000-02-28T23:59:59.000Z");
    check(951_782_400, "2000-02-29T00:00:00.000Z");
    check(1_709_164_800, "2024-02-29T00:00:00.000Z");
    check(4_107_542_400, "2100-03-01T00:00:00.000Z");
    check(253_402_300_799, "9999-12-31T23:59:59.000Z");
    assert_eq!(body::rfc3339(epoch()), "2026-11-29T08:15:30.250Z");
    assert_eq!(body::rfc3339(UNIX_EPOCH - 1.s()), "1970-01-01T00:00:00.000Z");
}

const PLAIN: &str = concat!(
    r#"{"status":"firing","key":"billing & \"co\"/DeadLetterRate/warning","name":"DeadLetterRate","#,
    r#""pipeline":"billing & \"co\"","severity":"warning","#,
    r#""summary":"12 records <went> to the dead letters\n within a minute; the limit is 10","#,
    r#""value":12,"limit":10.5,"starts_at":"2026-11-29T08:15:30.250Z","ends_at":null}"#,
);
const PLAIN_RESOLVED: &str = concat!(
    r#"{"status":"resolved","key":"billing & \"co\"/DeadLetterRate/warning","name":"DeadLetterRate","#,
    r#""pipeline":"billing & \"co\"","severity":"warning","#,
    r#""summary":"12 records <went> to the dead letters\n within a minute; the limit is 10","#,
    r#""value":0,"limit":10.5,"starts_at":"2026-11-29T08:15:30.250Z","ends_at":"2026-11-29T08:17:00.250Z"}"#,
);

#[cfg(feature = "webhook")]
mod web {
    use std::collections::VecDeque;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    const SLACK: &str = concat!(
        r#"{"text":":rotating_light: *DeadLetterRate* (warning) of billing &amp; \"co\": "#,
        r#"12 records &lt;went&gt; to the dead letters\n within a minute; the limit is 10"}"#,
    );
    const SLACK_RESOLVED: &str = concat!(
        r#"{"text":":white_check_mark: *DeadLetterRate* of billing &amp; \"co\" is resolved. It was: "#,
        r#"12 records &lt;went&gt; to the dead letters\n within a minute; the limit is 10"}"#,
    );
    const ALERTMANAGER: &str = concat!(
        r#"[{"labels":{"alertname":"DeadLetterRate","pipeline":"billing & \"co\"","severity":"warning"},"#,
        r#""annotations":{"summary":"12 records <went> to the dead letters\n within a minute; the limit is 10"},"#,
        r#""startsAt":"2026-11-29T08:15:30.250Z","endsAt":"2026-11-29T08:19:35.250Z"}]"#,
    );
    const ALERTMANAGER_RESOLVED: &str = concat!(
        r#"[{"labels":{"alertname":"DeadLetterRate","pipeline":"billing & \"co\"","severity":"warning"},"#,
        r#""annotations":{"summary":"12 records <went> to the dead letters\n within a minute; the limit is 10"},"#,
        r#""startsAt":"2026-11-29T08:15:30.250Z","endsAt":"2026-11-29T08:17:00.250Z"}]"#,
    );

    /// A web server on this machine. Answers with the statuses in order, then with 200.
    pub(super) struct Server {
        pub(super) address: String,
        requests: mpsc::UnboundedReceiver<(String, String)>,
    }

    impl Server {
        pub(super) async fn start(statuses: &[u16]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let address = format!("http://{}", listener.local_addr().expect("bound"));
            let (told, requests) = mpsc::unbounded_channel();
            let mut statuses: VecDeque<u16> = statuses.iter().copied().collect();
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.expect("accepted");
                    let request = read(&mut stream).await;
                    let status = statuses.pop_front().unwrap_or(200);
                    let head =
                        format!("HTTP/1.1 {status} x\r\nlocation: /hunter2\r\ncontent-length: 7\r\n\r\n");
                    stream.write_all(format!("{head}an\u{1b}swer").as_bytes()).await.expect("written");
                    if told.send(request).is_err() {
                        return;
                    }
                }
            });
            Self { address, requests }
        }

        /// The head and the body of the next request.
        pub(super) async fn next(&mut self) -> (String, String) {
            let next = tokio::time::timeout(60.s(), self.requests.recv()).await;
            next.expect("a request").expect("the server runs")
        }
    }

    async fn read(stream: &mut tokio::net::TcpStream) -> (String, String) {
        let mut bytes = Vec::new();
        loop {
            stream.read_buf(&mut bytes).await.expect("read");
            let text = String::from_utf8(bytes.clone()).expect("text");
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            if body.len() == length.parse::<usize>().expect("a number") {
                return (head.to_owned(), body.to_owned());
            }
        }
    }

    #[tokio::test]
    async fn each_receiver_gets_its_body_at_its_address() {
        let mut server = Server::start(&[]).await;
        let at = |path: &str| format!("{}{path}", server.address);
        let json = Webhook::json(at("/milena?x=1")).expect("a URL").header("authorization", "Bearer hunter2");
        let slack = Webhook::slack(at("/services/hunter2")).expect("a URL");
        let manager = Webhook::alertmanager(at("/prefix/")).expect("a URL");
        let expected = [
            (json, "/milena?x=1", PLAIN, PLAIN_RESOLVED),
            (slack, "/services/hunter2", SLACK, SLACK_RESOLVED),
            (manager, "/prefix/api/v2/alerts", ALERTMANAGER, ALERTMANAGER_RESOLVED),
        ];
        for (sink, path, opened, closed) in &expected {
            for (alert, expected) in [(alert(), opened), (resolved(), closed)] {
                sink.deliver(&alert).await.expect("delivered");
                let (head, body) = server.next().await;
                assert!(head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{head}");
                assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
                assert_eq!(
                    head.contains("\r\nauthorization: Bearer hunter2"),
                    path.contains("milena"),
                    "{head}"
                );
                assert_eq!(body, *expected);
                serde_json::from_str::<serde_json::Value>(&body).expect("it is JSON");
            }
            assert!(!format!("{sink:?} {}", sink.name()).contains("hunter2"), "{sink:?}");
        }
        let repeats = expected.map(|(sink, ..)| sink.repeat_every());
        assert_eq!(repeats, [None, None, Some(60.s())]);
    }

    #[tokio::test]
    async fn what_a_receiver_refuses_is_said_without_its_secrets() {
        let server = Server::start(&[500, 429, 400, 404, 302]).await;
        let sink = Webhook::slack(format!("{}/services/hunter2", server.address)).expect("a URL");
        let failure = async || sink.deliver(&alert()).await.expect_err("it is refused");
        for (status, class) in [
            (500, crate::Class::Retriable),
            (429, crate::Class::Retriable),
            (400, crate::Class::Poison),
            (404, crate::Class::Poison),
        ] {
            let failure = failure().await;
            let expected = format!(r"{}/… answered {status}: an\u{{1b}}swer", server.address);
            assert_eq!((failure.to_string(), failure.class()), (expected, class));
        }
        let failure = failure().await.to_string();
        assert!(failure.contains("redirect"), "{failure}");
        let refused = |url: &str| Webhook::json(url).expect_err("it is no URL").to_string();
        assert!(!refused("https://hunter2@host/").contains("hunter2"));
        // Without TLS only to this machine, or to a host by its name.
        let far = Webhook::json("http://192.0.2.1:9/hunter2").expect("a URL");
        let failure = far.deliver(&alert()).await.expect_err("it is not allowed").to_string();
        assert!(failure.contains("use https") && !failure.contains("hunter2"), "{failure}");
    }

    #[tokio::test]
    async fn an_alert_is_received_once_when_it_opens_and_once_when_it_is_resolved() {
        // The first attempt fails.
        let mut server = Server::start(&[503]).await;
        let backlog: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(0)));
        let rule = Rule::retry_backlog(10).resolve_after(Duration::ZERO);
        let handle = Alerts::of("billing")
            .rule(rule)
            .to(Webhook::json(&server.address).expect("a URL"))
            .retry(Retry::fixed(1.ms()))
            .every(1.ms())
            .watch_with(|| Snapshot {
                retry_backlog: *backlog.lock().expect("no panic"),
                ..Snapshot::default()
            })
            .expect("rules");
        let status = |body: &str| {
            let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
            value["status"].as_str().expect("a status").to_owned()
        };
        *backlog.lock().expect("no panic") = 11;
        let (first, second) = (server.next().await.1, server.next().await.1);
        assert_eq!((first == second, status(&first)), (true, "firing".into()));
        // It is looked at many times in between.
        *backlog.lock().expect("no panic") = 5;
        assert_eq!(status(&server.next().await.1), "resolved");
        let stats = handle.close(60.s()).await;
        assert_eq!((stats.opened, stats.resolved, stats.delivered, stats.failed_attempts), (1, 1, 2, 1));
        assert!(server.requests.try_recv().is_err(), "there is no other request");
    }
}

#[cfg(unix)]
mod programs {
    use std::path::Path;

    use super::*;

    fn shell(script: &str, file: &Path) -> Command {
        // The file is an argument, so that its name is no part of the script.
        Command::new("sh").argument("-c").argument(script).argument("sh").argument(file)
    }

    #[tokio::test]
    async fn a_command_gets_the_alert_on_its_input_and_in_variables() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("got");
        let script =
            r#"{ cat; env | grep '^MILENA_ALERT_[A-RT-Z]' | sort; echo "$MILENA_ALERT_STATUS"; } > "$1""#;
        let command = shell(script, &file);
        command.deliver(&resolved()).await.expect("it succeeds");
        let got = std::fs::read_to_string(&file).expect("written");
        let expected = [
            PLAIN_RESOLVED,
            r#"MILENA_ALERT_KEY=billing & "co"/DeadLetterRate/warning"#,
            "MILENA_ALERT_NAME=DeadLetterRate",
            r#"MILENA_ALERT_PIPELINE=billing & "co""#,
            "resolved\n",
        ];
        assert_eq!(got, expected.join("\n"));
        command.deliver(&alert()).await.expect("it succeeds");
        assert!(std::fs::read_to_string(&file).expect("written").starts_with(PLAIN));
    }

    #[tokio::test]
    async fn a_command_that_fails_is_a_failure() {
        let failure =
            async |command: Command| command.deliver(&alert()).await.expect_err("it fails").to_string();
        // It does not read its input.
        let three = Command::new("sh").argument("-c").argument("exit 3");
        assert_eq!(failure(three).await, "sh ended with exit status: 3");
        let missing = failure(Command::new("/nowhere/page").argument("--token").argument("hunter2")).await;
        assert!(missing.starts_with("/nowhere/page cannot be run: No such file"), "{missing}");
        let shown = format!("{:?}", Command::new("page").argument("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_command_that_runs_for_too_long_is_killed() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pid");
        let command = shell(r#"echo $$ > "$1"; exec sleep 1000"#, &file).time_limit(2.s());
        let failure = command.deliver(&alert()).await.expect_err("it is killed").to_string();
        assert_eq!(failure, "sh ran for longer than 2s, and was killed");
        let pid = std::fs::read_to_string(&file).expect("it has begun");
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "it has ended, and was waited for");
    }
}
