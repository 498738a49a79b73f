//! What the issuer gives for what (RFC 6749, RFC 7523).

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::web::{Answer, Request};
use super::{Registered, State};
use crate::lock;
use crate::oauth::verified;

/// The type of assertion that proves who a client is.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How far the clocks of a client and the issuer may be apart.
const CLOCK_SKEW_SECONDS: i64 = 30;

struct Form(Vec<(String, String)>);

impl Form {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// Why there is no token: a status, a code and a description.
type Refused = (u16, &'static str, &'static str);

pub(super) fn refused(status: u16, code: &str, description: &str) -> Answer {
    Answer::new(status, json!({ "error": code, "error_description": description }).to_string())
}

/// Answers a request for a token.
pub(super) fn answer(state: &State, request: &Request) -> Answer {
    let form = std::str::from_utf8(&request.body).ok().and_then(parse);
    let Some(form) = form else { return refused(400, "invalid_request", "the form cannot be read") };
    lock(&state.changing).last_form.clone_from(&form.0);
    match granted(state, request, &form) {
        Ok(body) => {
            state.issued.fetch_add(1, Ordering::SeqCst);
            Answer::new(200, body.to_string())
        }
        Err((status, code, description)) => refused(status, code, description),
    }
}

fn granted(state: &State, request: &Request, form: &Form) -> Result<Value, Refused> {
    let scope = form.get("scope");
    let (subject, client, gives_refresh_token) = match form.get("grant_type") {
        Some("client_credentials") => {
            let client = client(state, request, form)?.ok_or((
                401,
                "invalid_client",
                "the client does not say who it is",
            ))?;
            (client.clone(), client, state.has_refresh_tokens)
        }
        Some("refresh_token") => {
            let known = client(state, request, form)?;
            let token =
                form.get("refresh_token").ok_or((400, "invalid_request", "there is no refresh token"))?;
            let invalid = (400, "invalid_grant", "the refresh token is not valid");
            let mut changing = lock(&state.changing);
            let of = changing.refresh_tokens.get(token).cloned().ok_or(invalid)?;
            if known.or_else(|| form.get("client_id").map(str::to_owned)).as_ref() != Some(&of) {
                return Err((401, "invalid_client", "the refresh token is another client's"));
            }
            if !state.keeps_refresh_tokens {
                changing.refresh_tokens.remove(token);
            }
            (of.clone(), of, !state.keeps_refresh_tokens)
        }
        Some(JWT_BEARER) => {
            let assertion = form.get("assertion").ok_or((400, "invalid_request", "there is no assertion"))?;
            let (client, subject) = asserted(state, assertion).map_err(|why| (400, "invalid_grant", why))?;
            (subject, client, state.has_refresh_tokens)
        }
        Some(_) => return Err((400, "unsupported_grant_type", "this grant is not supported")),
        None => return Err((400, "invalid_request", "there is no grant_type")),
    };
    let mut answer = json!({
        "access_token": state.signed(&subject, scope),
        "token_type": "Bearer",
        "expires_in": lock(&state.changing).lifetime.as_secs(),
    });
    if let Some(scope) = scope {
        answer["scope"] = scope.into();
    }
    if gives_refresh_token {
        answer["refresh_token"] = state.new_refresh_token(&client).into();
    }
    Ok(answer)
}

/// The client that asks, if it proves who it is. One that tries in vain is refused.
fn client(state: &State, request: &Request, form: &Form) -> Result<Option<String>, Refused> {
    let wrong = (401, "invalid_client", "the client or its secret is wrong");
    if let Some(authorization) = &request.authorization {
        let pair = authorization.strip_prefix("Basic ").and_then(|pair| STANDARD.decode(pair).ok());
        let pair = pair.and_then(|pair| String::from_utf8(pair).ok()).ok_or(wrong)?;
        let (id, secret) = pair.split_once(':').ok_or(wrong)?;
        let is_right = |id: &str, secret: &str| {
            let known = state.clients.get(id).and_then(|known| known.secret.as_ref());
            known.is_some_and(|known| known.is_equal(secret.as_bytes()))
        };
        if is_right(id, secret) {
            return Ok(Some(id.to_owned()));
        }
        // RFC 6749 wants both to be encoded as in a form, and many clients send them as they are.
        let (id, secret) = (decoded(id).ok_or(wrong)?, decoded(secret).ok_or(wrong)?);
        return if is_right(&id, &secret) { Ok(Some(id)) } else { Err(wrong) };
    }
    if form.get("client_assertion_type").is_some() || form.get("client_assertion").is_some() {
        if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
            return Err((400, "invalid_request", "this type of client assertion is not supported"));
        }
        let assertion = form.get("client_assertion").ok_or(wrong)?;
        let (client, subject) = asserted(state, assertion).map_err(|why| (401, "invalid_client", why))?;
        let is_named = form.get("client_id").is_none_or(|id| id == client);
        return if subject == client && is_named {
            Ok(Some(client))
        } else {
            Err((401, "invalid_client", "the assertion is for another client"))
        };
    }
    Ok(None)
}

/// The client that signed an assertion, and whom the assertion stands for.
fn asserted(state: &State, assertion: &str) -> Result<(String, String), &'static str> {
    let known = |client: &str| state.clients.get(client).and_then(|Registered { keys, .. }| keys.clone());
    let claims = verified(assertion, known)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let (client, subject) =
        (text("iss").ok_or("no iss")?, text("sub").ok_or("the assertion has no subject")?);
    let token_url = format!("{}/token", state.url);
    let is_meant = |audience: &str| audience == state.url || audience == token_url;
    let is_meant = match claims.get("aud") {
        Some(Value::String(audience)) => is_meant(audience),
        Some(Value::Array(audiences)) => audiences.iter().filter_map(Value::as_str).any(is_meant),
        _ => false,
    };
    if !is_meant {
        return Err("the assertion is meant for another audience");
    }
    let (now, seconds) = (state.now(), |name: &str| claims.get(name).and_then(Value::as_i64));
    if seconds("exp").ok_or("the assertion has no expiry time")? <= now - CLOCK_SKEW_SECONDS {
        return Err("the assertion has expired");
    }
    if seconds("nbf").is_some_and(|from| from > now + CLOCK_SKEW_SECONDS) {
        return Err("the assertion is not valid yet");
    }
    if let Some(id) = text("jti")
        && !lock(&state.changing).taken.insert(format!("{client} {id}"))
    {
        return Err("the assertion was used before");
    }
    Ok((client.to_owned(), subject.to_owned()))
}

fn parse(body: &str) -> Option<Form> {
    let pairs = body.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((decoded(name)?, decoded(value)?))
    };
    Some(Form(pairs.map(pair).collect::<Option<_>>()?))
}

/// What a text of a form stands for.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}
