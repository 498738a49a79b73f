//! Credentials from services of AWS: the token service, a container's service and an instance's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use milena_core::sasl::percent_encode;
use milena_core::{Obstacle, Secret};
use zeroize::Zeroizing;

use super::environment::Environment;
use super::{Credentials, answer, profile, unix_seconds};
use crate::http::{Http, HttpSettings, Plain, Request, Response, Url, cleaned};
use crate::{ConnectError, Tls};

/// An answer is an object of a few short texts.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a service in the network may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an instance's metadata service may take for each answer. Elsewhere than on EC2 nothing answers, which must not take long.
const INSTANCE_TIMEOUT: Duration = Duration::from_secs(1);
/// Where containers and instances find these services. None of these addresses leaves the host.
const LOCAL: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];
/// How long a token of an instance's metadata service lives, in seconds. It is used at once.
const TOKEN_SECONDS: &str = "60";

/// A role that a token of another issuer stands for.
pub(super) struct WebIdentity {
    pub(super) role: String,
    pub(super) token_file: PathBuf,
    pub(super) session: Option<String>,
}

/// A container's service.
pub(super) struct Container {
    url: Url,
    /// What it is asked with.
    token: Option<Secret>,
}

impl WebIdentity {
    pub(super) fn of_environment(environment: &Environment) -> Option<Result<Self, String>> {
        let token_file = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")?.into();
        let Some(role) = environment.get("AWS_ROLE_ARN").map(str::to_owned) else {
            return Some(Err("AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not".into()));
        };
        let session = environment.get("AWS_ROLE_SESSION_NAME").map(str::to_owned);
        Some(Ok(Self { role, token_file, session }))
    }
}

/// What the token service gives for the identity (AssumeRoleWithWebIdentity).
pub(super) async fn web_identity(
    environment: &Environment,
    identity: &WebIdentity,
    region: Option<&str>,
) -> Result<Credentials, ConnectError> {
    let configuration = |why: String| ConnectError::new(Obstacle::Configuration, why);
    let WebIdentity { role, token_file, session } = identity;
    let token = profile::read(token_file).map_err(configuration)?;
    let token = token.ok_or_else(|| {
        configuration(format!("the file {token_file:?} of the web identity does not exist"))
    })?;
    let ignores = environment.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    let endpoint = environment.get("AWS_ENDPOINT_URL_STS").or_else(|| environment.get("AWS_ENDPOINT_URL"));
    let url = match (endpoint.filter(|_| !ignores), region) {
        (Some(endpoint), _) => endpoint.to_owned(),
        (None, Some(region)) if region.starts_with("cn-") => {
            format!("https://sts.{region}.amazonaws.com.cn/")
        }
        (None, Some(region)) => format!("https://sts.{region}.amazonaws.com/"),
        (None, None) => "https://sts.amazonaws.com/".into(),
    };
    let url: Url =
        url.parse().map_err(|why| configuration(format!("the address of AWS's token service: {why}")))?;
    let session = session.clone().unwrap_or_else(|| format!("milena-{}", unix_seconds()));
    let mut body =
        Zeroizing::new(String::with_capacity(3 * (token.len() + role.len() + session.len()) + 128));
    body.push_str("Action=AssumeRoleWithWebIdentity&Version=2011-06-15");
    for (name, value) in
        [("RoleArn", &**role), ("RoleSessionName", &*session), ("WebIdentityToken", token.trim())]
    {
        body.push('&');
        body.push_str(name);
        body.push('=');
        percent_encode(&mut body, value);
    }
    let what = format!("AWS's token service did not give credentials for the role {role:?}");
    let body = Secret::from(body.as_bytes().to_vec());
    let request = Request::post(url, "application/x-www-form-urlencoded", body);
    let response = sent(&http(environment, TIMEOUT), &request, &what).await?;
    if response.status() == 200 {
        return answer::xml(response.body(), unix_seconds()).map_err(|why| wrong(&what, &why));
    }
    let (code, reason) = answer::xml_reason(response.body()).unwrap_or_default();
    // It says so with status 400.
    let is_busy = ["IDPCommunicationError", "Throttling", "ThrottlingException", "RequestLimitExceeded"]
        .contains(&&*code);
    Err(refused(&what, &response, Some(reason), is_busy))
}

impl Container {
    pub(super) fn of_environment(environment: &Environment) -> Option<Result<Self, String>> {
        let relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let (variable, url) = match relative {
            Some(path) => ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", format!("http://169.254.170.2{path}")),
            None => {
                let full = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")?;
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full.to_owned())
            }
        };
        let built = || {
            let relative_is_wrong = relative.is_some_and(|path| !path.starts_with('/'));
            if relative_is_wrong {
                return Err(format!("{variable} does not begin with a slash"));
            }
            let url = url.parse().map_err(|why| format!("{variable}: {why}"))?;
            // The file goes first, because it is written anew.
            let token = match environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
                Some(file) => {
                    let text = profile::read(file.as_ref())?;
                    let text = text.ok_or_else(|| {
                        format!("the file {file:?} that AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names does not exist")
                    })?;
                    Some(Secret::from(text.trim()))
                }
                None => environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::from),
            };
            Ok(Self { url, token })
        };
        Some(built())
    }
}

/// What a container's service gives.
pub(super) async fn container(container: &Container) -> Result<Credentials, ConnectError> {
    let what = "the container's service did not give AWS credentials";
    let mut request = Request::get(container.url.clone());
    if let Some(token) = &container.token {
        request = request.header("authorization", token.clone());
    }
    let response = sent(&http(&Environment::default(), TIMEOUT), &request, what).await?;
    match response.status() {
        200 => answer::json(response.body(), unix_seconds()).map_err(|why| wrong(what, &why)),
        _ => Err(refused(what, &response, answer::json_reason(response.body()), false)),
    }
}

/// What the metadata service of an EC2 instance gives (IMDSv2).
pub(super) async fn instance(environment: &Environment) -> Result<Credentials, ConnectError> {
    let what = "the instance's metadata service did not give AWS credentials";
    let is_v6 = environment
        .get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
        .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    let usual = if is_v6 { "http://[fd00:ec2::254]" } else { "http://169.254.169.254" };
    let endpoint =
        environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(usual).trim_end_matches('/');
    let at = |path: &str| {
        format!("{endpoint}/latest/{path}").parse::<Url>().map_err(|why| {
            let why = format!("AWS_EC2_METADATA_SERVICE_ENDPOINT: {why}");
            ConnectError::new(Obstacle::Configuration, why)
        })
    };
    let http = http(&Environment::default(), INSTANCE_TIMEOUT);
    let request =
        Request::put(at("api/token")?).header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
    let response = sent(&http, &request, what).await?;
    if response.status() != 200 {
        return Err(refused(what, &response, Some("it gives no session token".into()), false));
    }
    let token = Secret::from(response.body().trim_ascii().to_vec());
    let asked = |url| Request::get(url).header("x-aws-ec2-metadata-token", token.clone());
    let path = "meta-data/iam/security-credentials/";
    let response = sent(&http, &asked(at(path)?), what).await?;
    if response.status() == 404 {
        let why = format!("{what}: the instance has no role; attach an instance profile to it");
        return Err(ConnectError::new(Obstacle::Configuration, why));
    }
    if response.status() != 200 {
        return Err(refused(what, &response, None, false));
    }
    let role =
        answer::role(response.body()).ok_or_else(|| wrong(what, "its answer has no name of a role"))?;
    let response = sent(&http, &asked(at(&format!("{path}{role}"))?), what).await?;
    match response.status() {
        200 => answer::json(response.body(), unix_seconds()).map_err(|why| wrong(what, &why)),
        _ => Err(refused(what, &response, None, false)),
    }
}

fn http(environment: &Environment, timeout: Duration) -> Http {
    let tls = environment.get("AWS_CA_BUNDLE").map_or_else(Tls::system_roots, Tls::roots_from_file);
    Http::new(HttpSettings {
        tls,
        plain: Plain::LoopbackAnd(&LOCAL),
        connect_timeout: timeout,
        timeout,
        body_bytes_max: BODY_BYTES_MAX,
        ..HttpSettings::default()
    })
}

async fn sent(http: &Http, request: &Request, what: &str) -> Result<Response, ConnectError> {
    let sent = http.send(request).await;
    sent.map_err(|error| ConnectError::new(error.obstacle(), format!("{what}: {error}")))
}

/// An answer that is none of the service's.
fn wrong(what: &str, why: &str) -> ConnectError {
    ConnectError::new(Obstacle::Credentials, format!("{what}: {why}"))
}

/// A refusal. It is final, unless the service has too much to do.
fn refused(what: &str, response: &Response, reason: Option<String>, is_busy: bool) -> ConnectError {
    let obstacle = if is_busy || response.may_pass() { Obstacle::Network } else { Obstacle::Credentials };
    let reason = reason.filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| cleaned(&reason, 400));
    let status = response.status();
    let why = reason.map_or_else(
        || format!("it answers with status {status}"),
        |reason| format!("{reason} (status {status})"),
    );
    ConnectError::new(obstacle, format!("{what}: {why}"))
}
