//! Request bodies: a form, JSON or text, into named fields.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};

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
        let bytes = Bytes::from_request(request, state).await.map_err(refused)?;
        let text = || {
            str::from_utf8(&bytes)
                .map(str::to_owned)
                .map_err(|_| AppError::Invalid(Invalid("Send text in UTF-8.")))
        };
        match content_type.as_deref() {
            Some("application/x-www-form-urlencoded") => Ok(Self {
                pairs: form_urlencoded::parse(&bytes)
                    .map(|(name, value)| (name.into_owned(), value.into_owned()))
                    .collect(),
                raw: text()?,
            }),
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

fn refused(rejection: BytesRejection) -> AppError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => AppError::TooLarge,
        // The client went away or broke off; hardly anybody reads this.
        _ => AppError::Invalid(Invalid("The request broke off. Try again.")),
    }
}
