//! PLAIN (RFC 4616): `authorization id NUL user NUL password`.

use super::{Failure, OTHER_AUTHORIZATION_ID, Step};
use crate::users::Users;

/// Checks a client's only token.
pub(super) fn check(token: &[u8], users: &Users) -> Result<Step, Failure> {
    let text = std::str::from_utf8(token).map_err(|_| Failure::Hidden("the token is not UTF-8"))?;
    let mut parts = text.split('\0');
    let (Some(authorization_id), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::Hidden("the token does not have three parts"));
    };
    if user.is_empty() {
        return Err(Failure::Hidden("the token names no user"));
    }
    if password.is_empty() {
        return Err(Failure::Hidden("the token has no password"));
    }
    if !users.has_password(user, password.as_bytes()) {
        return Err(Failure::Told("Authentication failed: Invalid username or password"));
    }
    if !authorization_id.is_empty() && authorization_id != user {
        return Err(OTHER_AUTHORIZATION_ID);
    }
    Ok(Step::Done { user: user.to_owned(), token: Vec::new(), expires_ms: None, by_token: false })
}
