//! Request bodies: a form in either encoding, JSON or text, into named fields.

use std::time::Duration;

use axum::body::Bytes;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum_extra::extract::multipart::{Multipart, MultipartError};
use percent_encoding::percent_decode_str;
use tokio::time::timeout;

use crate::domain::Invalid;
use crate::error::AppError;

/// What was sent. A field that was not sent reads as an empty one.
pub(super) struct Fields {
    pairs: Vec<(String, String)>,
    /// The whole body, when it is text or a form without any name of ours.
    raw: String,
}

impl Fields {
    /// The value of the first field of that name.
    pub(super) fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or("")
    }

    /// The same, or `None` when it was not sent.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(key, _)| key == name);
        pair.map(|(_, value)| value.as_str())
    }

    /// The field, or, when there is neither this nor any of `others`, everything that was sent:
    /// `curl -d 'hello'` says it is a form and is none.
    pub(super) fn get_or_raw(&self, name: &str, others: &[&str]) -> &str {
        match self.find(name) {
            Some(value) => value,
            None if others.iter().any(|other| self.find(other).is_some()) => "",
            None => &self.raw,
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = AppError;

    async fn from_request(request: Request, state: &S) -> Result<Self, AppError> {
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .map(|value| value.trim().to_ascii_lowercase());
        if content_type.as_deref() == Some("multipart/form-data") {
            return in_time(multipart(request, state)).await;
        }
        let bytes = in_time(async { Bytes::from_request(request, state).await.map_err(refused) });
        let bytes = bytes.await?;
        let text = || {
            str::from_utf8(&bytes)
                .map(str::to_owned)
                .map_err(|_| NO_UTF_8)
        };
        match content_type.as_deref() {
            Some("application/x-www-form-urlencoded") => {
                let raw = text()?;
                Ok(Self {
                    pairs: urlencoded(&raw)?,
                    raw,
                })
            }
            Some("application/json") => {
                const SHAPE: Invalid = Invalid("Send a JSON object whose values are strings.");
                let object: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_slice(&bytes).map_err(|_| SHAPE)?;
                let pairs = object.into_iter().map(|(name, value)| match value {
                    serde_json::Value::String(value) => Ok((name, value)),
                    _ => Err(SHAPE),
                });
                Ok(Self {
                    pairs: pairs.collect::<Result<_, _>>()?,
                    raw: String::new(),
                })
            }
            None | Some("text/plain" | "application/octet-stream") => Ok(Self {
                pairs: Vec::new(),
                raw: text()?,
            }),
            Some(_) => Err(AppError::UnsupportedBody),
        }
    }
}

/// How long a body may take to arrive: the longest, from a phone at the edge of its network.
const ARRIVES_WITHIN: Duration = Duration::from_secs(15);

async fn in_time<T>(reading: impl Future<Output = Result<T, AppError>>) -> Result<T, AppError> {
    let read = timeout(ARRIVES_WITHIN, reading).await;
    read.unwrap_or(Err(AppError::RequestTimeout))
}

const NO_UTF_8: Invalid = Invalid("Send text in UTF-8.");

/// The fields of a form as browsers encode it. What is percent-encoded must be UTF-8 like the rest: a
/// reader that is generous here keeps a text with holes in it.
fn urlencoded(form: &str) -> Result<Vec<(String, String)>, Invalid> {
    let decoded = |raw: &str| {
        let spaced = raw.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8();
        decoded.map(String::from).map_err(|_| NO_UTF_8)
    };
    let pairs = form.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        })
        .collect()
}

/// The fields of a form as `curl -F` sends it (RFC 7578).
async fn multipart<S: Send + Sync>(request: Request, state: &S) -> Result<Fields, AppError> {
    const BROKEN: Invalid = Invalid("This multipart form is broken. Send its boundary and end.");
    const NO_FILES: Invalid = Invalid("Files cannot be sent yet. Send the text alone.");
    let broken = |error: MultipartError| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => AppError::TooLarge,
        _ => AppError::Invalid(BROKEN),
    };
    let mut form = Multipart::from_request(request, state)
        .await
        .map_err(|_| BROKEN)?;
    let mut pairs = Vec::new();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or("").to_owned();
        // A browser sends an empty one for an input in which no file was chosen.
        let is_file = field.file_name().is_some_and(|name| !name.is_empty());
        let value = field.bytes().await.map_err(broken)?;
        if is_file {
            return Err(NO_FILES.into());
        }
        let value = String::from_utf8(value.into()).map_err(|_| NO_UTF_8)?;
        pairs.push((name, value));
    }
    Ok(Fields {
        pairs,
        raw: String::new(),
    })
}

fn refused(rejection: BytesRejection) -> AppError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => AppError::TooLarge,
        // The client went away or broke off; hardly anybody reads this.
        _ => AppError::Invalid(Invalid("The request broke off. Try again.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_it_was_sent_or_refused() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            urlencoded("body=caf%C3%A9+au+lait&&nonce=a%26b=c&seen").unwrap(),
            [
                pair("body", "café au lait"),
                pair("nonce", "a&b=c"),
                pair("seen", ""),
            ]
        );
        assert_eq!(urlencoded("body=100%").unwrap(), [pair("body", "100%")]);
        for form in ["body=caf%E9", "%FF=x", "body=%ED%A0%80", "a=b&body=%C3"] {
            assert_eq!(urlencoded(form), Err(NO_UTF_8), "{form}");
        }
    }
}
