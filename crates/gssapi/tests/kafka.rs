//! Against real Kafka and MIT's key distribution centre, both on loopback. Skipped if `krb5kdc` (Debian's krb5-kdc) is not there.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Ends its process when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// A cluster of `cargo xtask kafka`, which is stopped when this is dropped.
struct Kafka(String);

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = xtask(&["stop", "--name", &self.0], None);
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn xtask(arguments: &[&str], krb5_conf: Option<&Path>) -> Output {
    let mut command = Command::new("cargo");
    command
        .args(["run", "-q", "-p", "xtask", "--", "kafka"])
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null());
    if let Some(path) = krb5_conf {
        command.env("JAVA_TOOL_OPTIONS", format!("-Djava.security.krb5.conf={}", path.display()));
    }
    command.output().expect("cargo runs")
}

/// The files of one realm, and its key distribution centre.
struct Realm {
    dir: PathBuf,
    port: u16,
    centre: Option<Running>,
}

impl Realm {
    fn start(dir: &Path) -> Self {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).expect("made");
        let (port, at) = (port(), dir.display());
        let conf = format!(
            "[libdefaults]\n default_realm = EXAMPLE.COM\n dns_lookup_kdc = false\n rdns = false\n dns_canonicalize_hostname = false\n \
             udp_preference_limit = 1\n[realms]\n EXAMPLE.COM = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
        );
        let kdc = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n EXAMPLE.COM = {{\n  \
             database_name = {at}/principal\n  key_stash_file = {at}/stash\n  acl_file = {at}/acl\n }}\n"
        );
        fs::write(dir.join("krb5.conf"), conf).expect("written");
        fs::write(dir.join("kdc.conf"), kdc).expect("written");
        let mut realm = Self { dir: dir.to_owned(), port, centre: None };
        realm.run("kdb5_util", &["create", "-s", "-r", "EXAMPLE.COM", "-P", "master"]);
        for (principal, keytab) in [("kafka/127.0.0.1", "broker"), ("alice", "alice")] {
            let keytab = dir.join(keytab);
            realm.run("kadmin.local", &["-q", &format!("addprinc -randkey {principal}")]);
            realm.run("kadmin.local", &["-q", &format!("ktadd -k {} {principal}", keytab.display())]);
        }
        let mut centre = realm.command("krb5kdc");
        centre.arg("-n").stdout(Stdio::null()).stderr(Stdio::null());
        realm.centre = Some(Running(centre.spawn().expect("krb5kdc runs")));
        realm.wait();
        realm
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/sbin:/usr/bin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).env("KRB5_CONFIG", self.dir.join("krb5.conf"));
        command.env("KRB5_KDC_PROFILE", self.dir.join("kdc.conf")).stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program).args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until the centre takes connections.
    fn wait(&self) {
        for _ in 0..1000 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the key distribution centre does not start");
    }

    /// What the example says: what it printed, or why it failed.
    fn login(&self, bootstrap: &str, rest: &[&str]) -> Result<String, String> {
        let deps = std::env::current_exe().expect("this test");
        let example = deps.parent().and_then(Path::parent).expect("target").join("examples/login");
        let mut command = self.command(example.to_str().expect("text"));
        let cache = format!("FILE:{}", self.dir.join("no-tickets").display());
        let output = command.env("KRB5CCNAME", cache).arg(bootstrap).args(rest).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

#[test]
fn a_client_logs_in_to_kafka_by_kerberos() {
    let has_centre = ["/usr/sbin/krb5kdc", "/usr/bin/krb5kdc"].iter().any(|path| Path::new(path).exists());
    if !has_centre {
        assert!(std::env::var_os("CI").is_none(), "CI never skips, but there is no krb5kdc");
        println!("NOTE: skipped: there is no krb5kdc");
        return;
    }
    let dir = std::env::temp_dir().join(format!("milena-gssapi-{}", std::process::id()));
    let mut realm = Realm::start(&dir);
    let (sasl, name) = (port(), format!("gssapi-{}", std::process::id()));
    let keytab = dir.join("broker").display().to_string();
    let settings = [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{{broker}},CONTROLLER://127.0.0.1:{{controller}},SASL://127.0.0.1:{sasl}"
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},SASL://127.0.0.1:{sasl}"),
        "sasl.enabled.mechanisms=GSSAPI,PLAIN".into(),
        "sasl.kerberos.service.name=kafka".into(),
        format!(
            "listener.name.sasl.gssapi.sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true \
             storeKey=true keyTab=\"{keytab}\" principal=\"kafka/127.0.0.1@EXAMPLE.COM\";"
        ),
    ];
    let mut arguments = vec!["start", "--name", &*name];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let kafka = Kafka(name.clone());
    let started = xtask(&arguments, Some(&dir.join("krb5.conf")));
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let bootstrap = format!("127.0.0.1:{sasl}");

    let alice = dir.join("alice").display().to_string();
    assert_eq!(realm.login(&bootstrap, &["alice@EXAMPLE.COM", &alice]).as_deref(), Ok("written at offset 0"));
    let check = |realm: &Realm, rest: &[&str], says: &[&str]| {
        let why = realm.login(&bootstrap, rest).expect_err("refused");
        for says in says.iter().chain(&["cannot authenticate with GSSAPI to 127.0.0.1:"]) {
            assert!(why.contains(says), "{why}");
        }
    };
    check(&realm, &[], &["(again: false)"]);
    check(&realm, &["bob@EXAMPLE.COM", &alice], &["there are no Kerberos credentials", "(again: false)"]);
    let why = "the keytab \"/no/such/keytab\" cannot be read: No such file or directory";
    check(&realm, &["alice@EXAMPLE.COM", "/no/such/keytab"], &[why, "(again: false)"]);
    realm.centre = None;
    check(&realm, &["alice@EXAMPLE.COM", &alice], &["Cannot contact any KDC", "(again: true)"]);
    drop(kafka);
    let _ = fs::remove_dir_all(&dir);
}
