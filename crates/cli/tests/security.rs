//! `milena acl`, `user`, `quota` and `token` as a user would run them, against the embedded broker.

mod harness;

use harness::{Process, Run, assert_fails};
use milena_broker::{Authorizer, Broker, Cluster, Listener};
use tokio::runtime::Runtime;

/// A cluster on which only `admin` may do anything yet, and the runtime that it lives on.
struct Guarded {
    runtime: Runtime,
    cluster: Cluster,
}

impl Guarded {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("admin", "hunter2");
        let broker =
            broker.authorizer(Authorizer::new().super_user("User:admin")).delegation_token_key("a key");
        let cluster = runtime.block_on(broker.start()).expect("started");
        Self { runtime, cluster }
    }

    /// A command of `user`, whose password is `hunter2`, with this on its stdin.
    fn run_as(&self, user: &str, args: &[&str], stdin: &str) -> Run {
        let user = format!("sasl.username={user}");
        let mut all = args.to_vec();
        all.extend(["--bootstrap", self.cluster.bootstrap(), "-X", "security.protocol=SASL_PLAINTEXT"]);
        all.extend([
            "-X",
            "sasl.mechanism=SCRAM-SHA-512",
            "-X",
            &user,
            "-X",
            "sasl.password=env:MILENA_TEST_PASSWORD",
        ]);
        let variables = [("MILENA_TEST_PASSWORD", "hunter2"), ("MILENA_TEST_NEW", "s3cr3t-of-bob")];
        let mut process = Process::spawn_with(&all, &variables);
        process.write_rest(stdin.to_owned());
        process.wait()
    }

    fn run(&self, args: &[&str]) -> Run {
        self.run_as("admin", args, "")
    }

    /// What a command of the administrator writes to stdout.
    fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, Some(0), "milena {args:?}: {}", run.stderr);
        String::from_utf8(run.stdout).expect("text")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _on = self.runtime.enter();
    }
}

#[test]
fn acls_are_created_listed_and_deleted_after_a_plan() {
    let guarded = Guarded::start();
    assert_eq!(guarded.ok(&["acl", "list"]), "");
    let consumer = ["acl", "create", "--allow", "alice", "--topic", "orders", "--group", "g", "--consumer"];
    let table = "\
resource  name    pattern  principal   host  operation  permission
Topic     orders  Literal  User:alice  *     Read       Allow
Topic     orders  Literal  User:alice  *     Describe   Allow
Group     g       Literal  User:alice  *     Read       Allow
";
    assert_eq!(guarded.ok(&[&consumer[..], &["--dry-run"]].concat()), table);
    assert_eq!(guarded.ok(&["acl", "list"]), "", "a dry run changes nothing");
    assert_eq!(guarded.ok(&consumer), table);
    guarded.ok(&[
        "acl",
        "create",
        "--deny",
        "*",
        "--topic",
        "ord",
        "--prefixed",
        "--operation",
        "write",
        "--host",
        "10.0.0.7",
    ]);
    let denied = "{\"resource_type\":\"Topic\",\"name\":\"ord\",\"pattern\":\"Prefixed\",\"principal\":\"User:*\",\
                  \"host\":\"10.0.0.7\",\"operation\":\"Write\",\"permission\":\"Deny\"}\n";
    assert_eq!(guarded.ok(&["acl", "list", "--prefixed", "--json"]), denied);
    assert_eq!(
        guarded.ok(&["acl", "list", "--topic", "orders", "--match", "--operation", "write", "-J"]),
        denied
    );
    assert_eq!(guarded.ok(&["acl", "list", "--topic", "nothing"]), "");
    assert_eq!(guarded.ok(&["acl", "list", "--type", "group", "--json"]).lines().count(), 1);

    let delete = ["acl", "delete", "--allow", "alice", "--topic", "orders"];
    let plan = guarded.run(&delete);
    assert_eq!((plan.code, plan.stderr.as_str()), (Some(0), "Nothing was deleted: --yes deletes 2 ACLs.\n"));
    assert_eq!(String::from_utf8_lossy(&plan.stdout).lines().count(), 3);
    assert_eq!(guarded.ok(&["acl", "list", "--json"]).lines().count(), 4);
    let deleted = guarded.run(&[&delete[..], &["--yes"]].concat());
    assert_eq!((deleted.code, deleted.stderr.as_str()), (Some(0), "Deleted 2 ACLs.\n"));
    assert_eq!(guarded.ok(&["acl", "list", "--json"]).lines().count(), 2);
    assert_eq!(guarded.run(&delete).stderr, "There is nothing to delete.\n");
    assert_fails(&guarded.run(&["acl", "delete", "--yes"]), 2, "or --all for all");
    assert_eq!(guarded.run(&["acl", "delete", "--all", "--yes"]).stderr, "Deleted 2 ACLs.\n");
    assert_fails(
        &guarded.run(&["acl", "create", "--topic", "t", "--operation", "read"]),
        2,
        "--allow PRINCIPAL",
    );
}

#[test]
fn a_user_logs_in_with_the_password_that_was_set_and_nothing_shows_it() {
    const NEW: &str = "s3cr3t-of-bob";
    let guarded = Guarded::start();
    let create = ["user", "create", "bob", "--password", "env:MILENA_TEST_NEW"];
    assert_eq!(guarded.ok(&create), "");
    assert_fails(&guarded.run(&create), 1, "user \"bob\" exists already, with SCRAM-SHA-512");
    let line = "{\"user\":\"bob\",\"mechanism\":\"SCRAM-SHA-512\",\"iterations\":16384}\n";
    assert_eq!(guarded.ok(&["user", "list", "bob", "--json"]), line);
    // A password in an argument is refused, and no message repeats it.
    let run = guarded.run(&["user", "set-password", "bob", "--password", NEW]);
    assert_fails(&run, 2, "env:NAME, file:PATH or command:PROGRAM, or - for stdin");
    assert!(!run.stderr.contains(NEW), "{}", run.stderr);
    // bob's password is another one than `hunter2` until it is set from stdin.
    assert_fails(
        &guarded.run_as("bob", &["topics", "list"], ""),
        5,
        "the broker refused the credentials of user \"bob\"",
    );
    let set = guarded.run_as("admin", &["user", "set-password", "bob", "--password", "-"], "hunter2\n");
    assert_eq!(set.code, Some(0), "{}", set.stderr);
    let set = guarded.run_as("admin", &["user", "set-password", "bob", "--iterations", "4096"], "hunter2\n");
    assert_eq!(set.code, Some(0), "stdin that is no terminal has the password: {}", set.stderr);
    assert_eq!(guarded.run_as("bob", &["topics", "list"], "").code, Some(0));
    assert!(guarded.ok(&["user", "list", "bob"]).contains("4096"));
    assert_fails(
        &guarded.run_as("admin", &["user", "set-password", "nobody"], "x"),
        4,
        "user \"nobody\" does not exist",
    );
    let empty = guarded.run_as("admin", &["user", "set-password", "bob", "--password", "-"], "\n");
    assert_fails(&empty, 2, "the password is empty");
    assert_fails(
        &guarded.run(&["user", "delete", "bob", "-m", "SCRAM-SHA-256"]),
        4,
        "has no password for SCRAM-SHA-256",
    );
    assert_eq!(guarded.ok(&["user", "delete", "bob"]), "");
    assert_fails(&guarded.run(&["user", "delete", "bob"]), 4, "user \"bob\" does not exist");
    assert_eq!(guarded.ok(&["user", "delete", "bob", "--if-exists"]), "");
    assert!(!guarded.ok(&["user", "list"]).contains("bob"));
}

#[test]
fn who_may_not_is_told_what_is_missing() {
    const AUTH: i32 = 5;
    let guarded = Guarded::start();
    let created = guarded.run_as("admin", &["user", "create", "eve", "--password", "-"], "hunter2");
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let check = |args: &[&str], needs: &str| {
        let says = format!("an administrator must grant User:eve {needs}");
        assert_fails(&guarded.run_as("eve", args, "hunter2"), AUTH, &says);
    };
    check(&["acl", "list"], "Describe on the cluster");
    check(&["acl", "create", "--allow", "eve", "--topic", "t", "--operation", "all"], "Alter on the cluster");
    check(&["user", "list"], "Describe on the cluster");
    check(&["topics", "create", "t"], "Create on the topic");
}

#[test]
fn subscriptions_to_client_metrics_are_set_listed_and_deleted() {
    let guarded = Guarded::start();
    let words = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(guarded.ok(&["client-metrics", "list"]), "");
    let set = ["client-metrics", "set", "all", "--metric", "a.", "-m", "b.", "--interval", "0.5"];
    guarded.ok(&[&set[..], &["--match", "client_id=x.*", "-M", "client_source_port=1"]].concat());
    let table = "\
name  metrics  interval.ms  match
all   a.,b.    500          client_id=x.*,client_source_port=1
";
    assert_eq!(words(&guarded.ok(&["client-metrics", "list"])), words(table));
    guarded.ok(&["client-metrics", "set", "all", "--metric", "*"]);
    let line = "{\"name\":\"all\",\"interval.ms\":\"500\",\"match\":\"client_id=x.*,client_source_port=1\",\
                \"metrics\":\"*\"}\n";
    assert_eq!(guarded.ok(&["client-metrics", "list", "--json"]), line);
    assert_fails(&guarded.run(&["client-metrics", "set", "all"]), 2, "--metric");
    assert_fails(
        &guarded.run(&["client-metrics", "set", "all", "-i", "0.01"]),
        2,
        "interval must be between",
    );
    assert_fails(&guarded.run(&["client-metrics", "delete", "none"]), 4, "there is no subscription none");
    guarded.ok(&["client-metrics", "rm", "all"]);
    assert_eq!(guarded.ok(&["client-metrics", "list"]), "");
}

#[test]
fn quotas_are_set_listed_and_deleted() {
    let guarded = Guarded::start();
    let set = [
        "quota",
        "set",
        "--user",
        "bob",
        "--default-client-id",
        "producer_byte_rate=1048576",
        "request_percentage=12.5",
    ];
    assert_eq!(guarded.ok(&[&set[..], &["--dry-run"]].concat()), "");
    assert_eq!(guarded.ok(&["quota", "list"]), "", "a dry run changes nothing");
    assert_eq!(guarded.ok(&set), "");
    let table = "\
for                                 quota                 value
user \"bob\", default client id  producer_byte_rate  1048576
user \"bob\", default client id  request_percentage     12.5
";
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&guarded.ok(&["quota", "list"])), words(table));
    let line = "{\"entity\":{\"client-id\":null,\"user\":\"bob\"},\"quotas\":{\"producer_byte_rate\":1048576.0,\
                \"request_percentage\":12.5}}\n";
    assert_eq!(guarded.ok(&["quota", "list", "--user", "bob", "--json"]), line);
    assert_eq!(guarded.ok(&["quota", "list", "--user", "bob", "--strict"]), "", "it has no quota alone");
    let delete = ["quota", "delete", "--user", "bob", "--default-client-id"];
    assert_fails(
        &guarded.run(&[&delete[..], &["consumer_byte_rate"]].concat()),
        4,
        "there is no quota consumer_byte_rate",
    );
    guarded.ok(&[&delete[..], &["producer_byte_rate"]].concat());
    assert_eq!(guarded.ok(&["quota", "list"]).lines().count(), 2);
    guarded.ok(&[&delete[..], &["--all"]].concat());
    assert_eq!(guarded.ok(&["quota", "list"]), "");
    assert_fails(&guarded.run(&["quota", "set", "producer_byte_rate=1"]), 2, "say for whom");
    assert_fails(&guarded.run(&["quota", "set", "--user", "x", "speed=1"]), 2, "INVALID_REQUEST");
    assert_fails(
        &guarded.run(&["quota", "set", "--user", "x", "--ip", "10.0.0.1", "a=1"]),
        2,
        "cannot be used with",
    );
}

#[test]
fn a_token_is_created_listed_renewed_and_ended_by_its_id() {
    let guarded = Guarded::start();
    let created =
        guarded.ok(&["token", "create", "--renewer", "scheduler", "--max-lifetime", "1h", "--json"]);
    let field = |text: &str, name: &str| {
        let start = text.split_once(&format!("\"{name}\":\"")).expect(name).1;
        start.split('"').next().expect("a text").to_owned()
    };
    let (id, hmac) = (field(&created, "token_id"), field(&created, "hmac"));
    assert!(
        created.contains(
            "\"owner\":\"User:admin\",\"requester\":\"User:admin\",\"renewers\":[\"User:scheduler\"]"
        )
    );
    let listed = guarded.ok(&["token", "list"]);
    assert!(listed.contains(&id) && !listed.contains(&hmac), "{listed}");
    assert!(!guarded.ok(&["token", "list", "--json"]).contains("hmac"));
    assert!(guarded.ok(&["token", "list", "--owner", "admin", "--show-hmac"]).contains(&hmac));
    assert_eq!(guarded.ok(&["token", "list", "--owner", "nobody"]), "");
    assert!(guarded.ok(&["token", "renew", &id, "--period", "10m"]).contains(&id));
    let some = guarded.run(&["token", "expire", &id, "nothing"]);
    assert_eq!(some.code, Some(3), "{}", some.stderr);
    assert!(some.stderr.contains("there is no delegation token \"nothing\""), "{}", some.stderr);
    assert_eq!(guarded.ok(&["token", "list"]), "");
}
