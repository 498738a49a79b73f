//! Clients of other projects log in to the embedded broker by each of its mechanisms, and by TLS.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use milena_broker::{Authority, Broker, Listener, OauthValidator, Tls};
use milena_interop::embedded::Embedded;
use milena_interop::letter;
use milena_interop::login::{self, Way};
use milena_interop::partner::Partner;
use milena_interop::raw::Raw;

/// Java's newest client has all that Java's of 3.9 has.
const PARTNERS: [Partner; 3] = [Partner::Java, Partner::FranzGo, Partner::Librdkafka];

const USER: &str = "alice";
const PASSWORD: &str = "not, = a plain secret";

/// A token for `USER` that lasts for a century.
fn token() -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(r#"{"sub":"alice","exp":4000000000}"#))
}

/// Produces, consumes and administers, and copies in a transaction where the partner can. `plain` is a listener that lets
/// everyone in.
fn use_all(partner: Partner, what: &str, bootstrap: &str, plain: &str) {
    let letters = letter::awkward();
    let topic = format!("{what}-{partner:?}").to_lowercase();
    let admin =
        partner.admin(bootstrap, &topic).unwrap_or_else(|error| panic!("{partner:?} by {what}: {error:#}"));
    assert!(!admin.is_empty(), "{partner:?} by {what}");
    let (input, output) = (format!("{topic}-in"), format!("{topic}-out"));
    let mut raw = Raw::connect(plain).expect("connects");
    for topic in [&input, &output] {
        raw.create_topic(topic, 3).expect("created");
    }
    let placed = partner.produce(bootstrap, &input, "none", &letters).expect("produced");
    assert_eq!(placed.len(), letters.len());
    let consumed = partner.consume(bootstrap, &input, 3, letters.len()).expect("consumed");
    letter::assert_same(what, &letters, &consumed.received);
    if partner != Partner::FranzGo {
        partner.transact(bootstrap, &input, &output, &topic, letters.len()).expect("copied in transactions");
    }
}

fn by_each_way(listener: impl Fn() -> Listener, tls: Option<login::Tls<'_>>) {
    let builder = Broker::builder().user(USER, PASSWORD);
    let builder = builder.listener(listener()).listener(Listener::plaintext());
    let cluster = Embedded::build(builder.oauth(OauthValidator::unsecured()));
    let token = token();
    let password = |mechanism| Way::Password { mechanism, user: USER, password: PASSWORD };
    let ways = [
        ("plain", password("PLAIN")),
        ("scram-256", password("SCRAM-SHA-256")),
        ("scram-512", password("SCRAM-SHA-512")),
        ("oauthbearer", Way::Token { user: USER, token: &token }),
    ];
    for partner in PARTNERS.into_iter().filter(|partner| partner.is_here()) {
        for (name, way) in ways {
            let bootstrap = login::bootstrap(partner, cluster.bootstrap(), way, tls);
            use_all(partner, name, &bootstrap, cluster.bootstrap_of("PLAINTEXT"));
        }
    }
}

#[test]
fn clients_log_in_by_each_mechanism() {
    by_each_way(Listener::sasl_plaintext, None);
}

#[test]
fn clients_log_in_by_each_mechanism_over_tls() {
    let authority = Authority::new().expect("made");
    let identity = authority.server(["localhost", "127.0.0.1"]).expect("made");
    let trusted = authority.certificate_pem();
    let tls = login::Tls { authority: &trusted, own: None };
    by_each_way(|| Listener::sasl_ssl(Tls::of(&identity)), Some(tls));
}

#[test]
fn clients_log_in_by_their_certificates_in_both_versions_of_tls() {
    let authority = Authority::new().expect("made");
    let identity = authority.server(["localhost", "127.0.0.1"]).expect("made");
    let own = authority.client("CN=alice,O=Org").expect("made");
    let trusted = authority.certificate_pem();
    let tls = login::Tls { authority: &trusted, own: Some(&own) };
    for (version, server) in [("1.2", Tls::of(&identity).only_1_2()), ("1.3", Tls::of(&identity).only_1_3())]
    {
        let server = server.require_clients(&trusted).expect("read");
        let builder = Broker::builder().listener(Listener::ssl(server)).listener(Listener::plaintext());
        let cluster = Embedded::build(builder);
        for partner in PARTNERS.into_iter().filter(|partner| partner.is_here()) {
            let bootstrap = login::bootstrap(partner, cluster.bootstrap(), Way::None, Some(tls));
            use_all(partner, version, &bootstrap, cluster.bootstrap_of("PLAINTEXT"));
        }
    }
}

#[test]
fn a_wrong_password_is_an_error_for_every_client() {
    let builder = Broker::builder().listener(Listener::sasl_plaintext()).user(USER, PASSWORD);
    let cluster = Embedded::build(builder);
    for partner in PARTNERS.into_iter().filter(|partner| partner.is_here()) {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let way = Way::Password { mechanism, user: USER, password: "wrong" };
            let bootstrap = login::bootstrap(partner, cluster.bootstrap(), way, None);
            partner.admin(&bootstrap, "t").expect_err("refused");
        }
    }
}
