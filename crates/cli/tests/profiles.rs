//! Profiles: the file, which one a command uses, what is protected, and what other clients' files become.

mod harness;

use std::path::{Path, PathBuf};

use harness::{Cluster, Process, Run, assert_fails};

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 4;

/// A user's configuration directory.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("made"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("milena").join("config.toml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).expect("there")
    }

    fn write(&self, text: &str) {
        std::fs::create_dir_all(self.file().parent().expect("there is one")).expect("made");
        std::fs::write(self.file(), text).expect("written");
    }

    fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Run {
        let directory = self.0.path().to_str().expect("text");
        // A variable that is set and empty is as if it was not; the harness sets it so that no test reads the user's file.
        let file = self.file();
        let file = file.to_str().expect("text");
        let own = [("XDG_CONFIG_HOME", directory), ("MILENA_CONFIG", file)];
        let mut process = Process::spawn_with(args, &[&own, variables].concat());
        process.close_stdin();
        process.wait()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, Some(0), "milena {args:?}: {}", run.stderr);
        String::from_utf8(run.stdout).expect("text")
    }
}

#[test]
fn profiles_are_made_shown_and_removed() {
    let home = Home::new();
    assert_eq!(home.ok(&["profile", "list"]), "");
    home.ok(&["profile", "set", "dev", "bootstrap.servers=localhost:9", "--use"]);
    home.ok(&[
        "profile",
        "set",
        "prod",
        "bootstrap.servers=kafka:9093",
        "security.protocol=SASL_SSL",
        "sasl.mechanism=PLAIN",
        "sasl.username=alice",
        "sasl.password=hunter2",
        "--protected",
        "true",
    ]);
    let expect = "   profile  bootstrap       security\n*  dev      localhost:9     PLAINTEXT\n   prod     kafka:9093      SASL_SSL   protected\n";
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeeze(&home.ok(&["profile", "list"])), squeeze(expect));
    let shown = home.ok(&["profile", "show", "prod"]);
    assert!(
        shown.starts_with("prod (protected)\n") && shown.contains("  sasl.password=(hidden)\n"),
        "{shown}"
    );
    let shown = home.ok(&["profile", "show", "prod", "-J"]);
    assert!(
        shown.contains(r#"{"name":"sasl.password","value":null}"#) && !shown.contains("hunter2"),
        "{shown}"
    );
    assert_fails(&home.run(&["profile", "use", "nosuch"]), NOT_FOUND, "It has dev, prod.");
    home.ok(&["profile", "use", "prod"]);
    home.ok(&["profile", "rm", "prod"]);
    assert_fails(&home.run(&["profile", "show"]), USAGE, "no profile is the current one");
    assert_eq!(home.text(), "current = \"\"\n\n[profiles.dev]\n\"bootstrap.servers\" = \"localhost:9\"\n");
}

#[test]
#[cfg(unix)]
fn the_file_is_for_its_owner_and_a_readable_one_with_secrets_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.ok(&[
        "profile",
        "set",
        "a",
        "security.protocol=SASL_SSL",
        "sasl.mechanism=PLAIN",
        "sasl.username=x",
        "sasl.password=hunter2",
    ]);
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&home.file()), 0o600);
    std::fs::set_permissions(home.file(), std::fs::Permissions::from_mode(0o644)).expect("set");
    let told = home.run(&["profile", "list"]).stderr;
    assert!(told.contains("other users can read it; run chmod 600"), "{told}");
    home.ok(&["profile", "set", "a", "sasl.password=env:PASSWORD"]);
    assert_eq!(home.run(&["profile", "list"]).stderr, "");
    assert_eq!(mode(&home.file()), 0o644);
}

#[test]
fn a_mistake_in_a_profile_is_told_when_it_is_made_and_when_it_is_used() {
    let home = Home::new();
    let run = home.run(&["profile", "set", "a", "linger.mss=5"]);
    assert!(run.code == Some(0) && run.stderr.contains("did you mean \"linger.ms\""), "{}", run.stderr);
    let run = home.run(&["topics", "list", "-P", "a"]);
    assert_fails(&run, USAGE, "did you mean \"linger.ms\"");
    assert!(run.stderr.contains("The profile a is in use."), "{}", run.stderr);
    home.write("[profiles.a]\nx = ");
    assert_fails(&home.run(&["topics", "list", "-P", "a"]), USAGE, "config.toml: line 2: ");
    assert_fails(&home.run(&["topics", "list", "-P", "b"]), USAGE, "config.toml: line 2: ");
}

#[test]
fn flags_go_before_the_environment_and_that_before_a_profile() {
    let cluster = Cluster::start(&["--topic", "here:1"]);
    let home = Home::new();
    let there = format!("bootstrap.servers={}", cluster.bootstrap);
    home.ok(&["profile", "set", "good", &there]);
    home.ok(&["profile", "set", "bad", "bootstrap.servers=127.0.0.1:1"]);
    let check = |args: &[&str], variables: &[(&str, &str)], is_good: bool| {
        let all = [&["topics", "list", "--timeout", "2"], args].concat();
        let run = home.run_with(&all, variables);
        let found = String::from_utf8_lossy(&run.stdout).contains("here");
        assert_eq!(found, is_good, "{args:?} {variables:?}: {}", run.stderr);
    };
    let (good, bad) = (cluster.bootstrap.as_str(), "127.0.0.1:1");
    check(&["-P", "good"], &[], true);
    check(&[], &[("MILENA_PROFILE", "good")], true);
    check(&["-P", "good"], &[("MILENA_PROFILE", "bad"), ("MILENA_BOOTSTRAP", bad)], true);
    check(&["-P", "bad", "-b", good], &[], true);
    check(&["-P", "bad", "-X", &there], &[], true);
    check(&[], &[("MILENA_PROFILE", "bad"), ("MILENA_BOOTSTRAP", good)], true);
    check(&[], &[("MILENA_PROFILE", "good"), ("MILENA_BOOTSTRAP", bad)], false);
    home.ok(&["profile", "use", "good"]);
    check(&[], &[], true);
    check(&["-b", bad], &[], false);
    check(&[], &[("MILENA_BOOTSTRAP", bad)], false);
    assert_fails(&home.run(&["topics", "list", "-P", "nosuch"]), NOT_FOUND, "has no profile \"nosuch\"");
}

#[test]
fn the_current_profiles_credentials_go_to_its_own_cluster_only() {
    let cluster = Cluster::start(&["--topic", "here:1"]);
    let home = Home::new();
    // With these properties the plain cluster is not understood.
    home.ok(&["profile", "set", "prod", "bootstrap.servers=127.0.0.1:1", "security.protocol=SSL", "--use"]);
    let run = home.run(&["topics", "list", "-b", &cluster.bootstrap]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = home.run(&["topics", "list", "-b", &cluster.bootstrap, "-P", "prod"]);
    assert!(run.stderr.contains("the broker speaks plain text on this port"), "{}", run.stderr);
    // Nor does a file that cannot be read stop a command that has no use for it.
    home.write("x = ");
    let run = home.run(&["topics", "list", "-b", &cluster.bootstrap]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn nothing_is_deleted_from_a_protected_cluster_unless_its_name_is_given() {
    let cluster = Cluster::start(&["--topic", "a:1", "--topic", "b:1"]);
    let home = Home::new();
    home.ok(&[
        "profile",
        "set",
        "prod",
        &format!("bootstrap.servers={}", cluster.bootstrap),
        "--protected",
        "true",
    ]);
    let refused = [
        (&["topics", "delete", "a"][..], "this deletes topics"),
        (&["topics", "truncate", "a", "--to-latest", "--yes"], "this deletes records"),
        (&["topics", "config", "alter", "a", "--set", "retention.ms=1"], "this changes settings of topics"),
        (&["groups", "delete", "g"], "this deletes groups"),
        (&["groups", "offsets", "delete", "g", "-t", "a"], "this deletes committed offsets"),
        (
            &["groups", "offsets", "reset", "g", "-t", "a", "--to-earliest", "--yes"],
            "this replaces committed offsets",
        ),
        (&["txn", "abort-hanging", "--topic", "a", "--yes"], "this aborts transactions"),
        (&["dlq", "purge", "a", "--before", "end", "--yes"], "this deletes dead letters"),
    ];
    for (command, what) in refused {
        let run = home.run(&[command, &["-P", "prod"]].concat());
        assert_fails(&run, USAGE, &format!("the profile prod is protected, and {what}"));
        assert!(run.stderr.contains("Add --yes-i-mean prod if that is what you mean."), "{}", run.stderr);
    }
    let delete = |args: &[&str]| home.run(&[&["topics", "delete", "a"], args].concat());
    assert_fails(&delete(&["-P", "prod", "--yes-i-mean", "dev"]), USAGE, "--yes-i-mean has \"dev\"");
    // The same cluster under its address is the same cluster.
    assert_fails(&delete(&["-b", &cluster.bootstrap]), USAGE, "the profile prod is protected");
    // A plan changes nothing, and looking does not either.
    let run = home.run(&["topics", "truncate", "a", "--to-latest", "-P", "prod"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(delete(&["-P", "prod", "--yes-i-mean", "prod"]).code, Some(0));
    let listed = home.ok(&["topics", "list", "-P", "prod"]);
    assert!(!listed.contains("a  ") && listed.contains("b  "), "{listed}");
}

#[test]
fn clusters_are_taken_over_without_their_secrets() {
    let home = Home::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imports");
    let file = |name: &str| directory.join(name).to_str().expect("text").to_owned();
    let run = home.run(&["profile", "import", &file("java.properties"), "--name", "prod"]);
    assert_eq!((run.code, &*run.stdout), (Some(0), &b"prod\n"[..]), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("prod: sasl.password was not copied: it is read from env:KAFKA_PROD_SASL_PASSWORD now"),
        "{}",
        run.stderr
    );
    assert!(!home.text().contains("hunter2"), "{}", home.text());
    assert_fails(
        &home.run(&["profile", "import", &file("java.properties"), "--name", "prod"]),
        USAGE,
        "there is a profile prod already",
    );
    home.ok(&[
        "profile",
        "import",
        &file("java.properties"),
        "--name",
        "prod",
        "--replace",
        "--with-secrets",
    ]);
    assert!(home.text().contains("hunter2"), "{}", home.text());
    assert_eq!(
        home.ok(&["profile", "import", &file("kaf.yaml"), "--only", "tokens", "--only", "local"]),
        "local\ntokens\n"
    );
    assert_eq!(
        home.ok(&["profile", "import", &file("rpk.yaml"), "--only", "cloud one", "--use"]),
        "cloud-one\n"
    );
    assert!(home.text().starts_with("current = \"cloud-one\""), "{}", home.text());
    assert_eq!(home.ok(&["profile", "import", &file("kcl.toml"), "--use", "--replace"]), "prod\ntest\n");
    assert!(home.text().starts_with("current = \"prod\""), "{}", home.text());
    assert_fails(
        &home.run(&["profile", "import", &file("kcl.toml"), "--only", "x"]),
        NOT_FOUND,
        "names no cluster \"x\"",
    );
    assert_fails(&home.run(&["profile", "import", "/nosuch"]), NOT_FOUND, "does not exist");
}

/// A second reader of a pipe finds nothing.
#[test]
#[cfg(target_os = "linux")]
fn the_cluster_that_was_checked_is_the_one_that_loses_something() {
    let (prod, dev) = (Cluster::start(&["--topic", "a:1"]), Cluster::start(&["--topic", "a:1"]));
    let home = Home::new();
    let there = format!("bootstrap.servers={}", prod.bootstrap);
    home.ok(&["profile", "set", "prod", &there, "--protected", "true", "--use"]);
    let file = home.file();
    let own = [("MILENA_CONFIG", file.to_str().expect("text"))];
    let mut process = Process::spawn_with(&["topics", "delete", "a", "-F", "/dev/stdin"], &own);
    process.write(&format!("bootstrap.servers={}\n", dev.bootstrap));
    process.close_stdin();
    let run = process.wait();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let has_topic = |cluster: &Cluster| !cluster.ok(&["topics", "list", "-J"], "").is_empty();
    assert_eq!((has_topic(&prod), has_topic(&dev)), (true, false));
}

#[test]
fn no_source_of_a_file_is_taken_over_or_read() {
    let home = Home::new();
    let (file, touched) = (home.0.path().join("client.properties"), home.0.path().join("touched"));
    let command = format!("command:touch {}", touched.display());
    let escaped = command.replacen('c', "\\\\143", 1);
    let scram = "sasl.mechanism=SCRAM-SHA-256\nsasl.jaas.config=x.ScramLoginModule required username=\"a\" tokenauth=\"true\"";
    let oauth = "sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=https://issuer.example/token\n\
                 sasl.jaas.config=x.OAuthBearerLoginModule required clientId=\"a\"";
    let plain = "sasl.mechanism=PLAIN\nsasl.username=a\nsasl.password=";
    let texts = [
        format!("{scram} password=\"{command}\";"),
        format!("{scram} password=\"{escaped}\";"),
        format!("{oauth} clientSecret=\"{command}\";"),
        format!("{scram} password=\"file:/etc/hostname\";"),
        format!("{plain}{command}"),
        format!("{plain}file:/home/me/.ssh/id"),
        format!("{plain}env:AWS_SECRET_ACCESS_KEY"),
        "proxy=file:/home/me/.ssh/id".to_owned(),
    ];
    for text in texts {
        std::fs::write(&file, format!("security.protocol=SASL_SSL\n{text}\n")).expect("written");
        let file = file.to_str().expect("text");
        for with_secrets in [&[][..], &["--with-secrets"]] {
            let args = ["profile", "import", file, "--name", "theirs", "--replace"];
            let run = home.run(&[&args, with_secrets].concat());
            assert_eq!(run.code, Some(0), "{text}: {}", run.stderr);
            assert!(run.stderr.contains("was not copied: it would"), "{text}: {}", run.stderr);
            let taken = home.text();
            assert!(!["command:", "143", "file:", "AWS"].iter().any(|word| taken.contains(word)), "{taken}");
        }
    }
    // A profile of one's own may have them, and they are not run before it is used.
    let own = format!("sasl.jaas.config=x.ScramLoginModule required username=\"a\" password=\"{command}\";");
    home.ok(&["profile", "set", "own", "security.protocol=SASL_SSL", "sasl.mechanism=SCRAM-SHA-256", &own]);
    home.ok(&["profile", "set", "own", &format!("sasl.password= {command}"), "--unset", "sasl.jaas.config"]);
    assert!(!touched.exists());
}

/// What stands in place of an address with a password is read by the client.
#[test]
fn a_proxy_with_a_password_is_taken_over() {
    let home = Home::new();
    let file = home.0.path().join("client.properties");
    std::fs::write(&file, "bootstrap.servers=127.0.0.1:1\nproxy=socks5://me:hunter2@127.0.0.1:1\n")
        .expect("written");
    let run = home.run(&["profile", "import", file.to_str().expect("text"), "--name", "far"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("read from env:KAFKA_FAR_PROXY now"), "{}", run.stderr);
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    assert!(!home.text().contains("hunter2"), "{}", home.text());
    let list = ["topics", "list", "-P", "far", "--timeout", "2"];
    let run = home.run_with(&list, &[("KAFKA_FAR_PROXY", "socks5://me:hunter2@127.0.0.1:1")]);
    assert!(run.stderr.contains("proxy 127.0.0.1:1"), "{}", run.stderr);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
}

#[test]
fn no_command_of_a_file_is_taken_over() {
    let home = Home::new();
    let file = home.0.path().join("client.properties");
    let text = "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=a\nsasl.password=command:touch here\n";
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("text");
    for with_secrets in [&[][..], &["--with-secrets"]] {
        let run =
            home.run(&[&["profile", "import", file, "--name", "theirs", "--replace"], with_secrets].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(run.stderr.contains("it would run a command of the file"), "{}", run.stderr);
        assert!(!home.text().contains("touch"), "{}", home.text());
    }
}

/// A value of many escapes is longer in the file than it was.
#[test]
fn no_file_is_written_that_would_not_be_read_again() {
    let home = Home::new();
    home.ok(&["profile", "set", "a", "bootstrap.servers=localhost:9"]);
    let file = home.0.path().join("client.properties");
    std::fs::write(&file, format!("client.id={}", "\u{1}".repeat(400_000))).expect("written");
    let run = home.run(&["profile", "import", file.to_str().expect("text")]);
    assert_fails(&run, USAGE, "would be longer than 1048576 bytes");
    assert_eq!(home.text(), "[profiles.a]\n\"bootstrap.servers\" = \"localhost:9\"\n");
}
