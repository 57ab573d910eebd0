//! Request bodies: a form in either encoding, JSON or text, as a struct.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum_extra::extract::multipart::{Multipart, MultipartError};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::value::{Error as Unreadable, MapDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use tokio::time::timeout;

use crate::domain::Invalid;
use crate::error::AppError;

/// A request's body as a struct of texts. Fields that it lacks are the struct's default.
pub(super) struct Payload<T>(pub(super) T);

/// Reads a field that a body may lack: `#[serde(deserialize_with = "given", default)]`.
pub(super) fn given<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    String::deserialize(field).map(Some)
}

/// Reads a `1` or a `0`; `says` names the field in the refusal of any other.
pub(super) fn flag(raw: &str, says: &'static str) -> Result<bool, Invalid> {
    match raw.trim() {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(Invalid(says)),
    }
}

/// The `on` of a form: `1`, also where nothing is said, or `0`.
pub(super) fn on(raw: &str) -> Result<bool, Invalid> {
    match raw.trim() {
        "" => Ok(true),
        raw => flag(raw, "on is 1 or 0."),
    }
}

/// A struct that a body can be.
pub(super) trait Input: DeserializeOwned {
    /// The field that stands for the whole body when none of the struct's is in it: `curl -d 'hello'`
    /// says that it sends a form, and sends none.
    const RAW: Option<&'static str> = None;

    /// The fields that JSON may have as numbers or booleans, which become texts as a form has them.
    const SCALARS: &'static [&'static str] = &[];
}

impl<S: Send + Sync, T: Input> FromRequest<S> for Payload<T> {
    type Rejection = AppError;

    async fn from_request(request: Request, state: &S) -> Result<Self, AppError> {
        let mut body = Fields::from_request(request, state).await?;
        body.raw_field = T::RAW;
        if body
            .scalars
            .iter()
            .any(|name| !T::SCALARS.contains(&name.as_str()))
        {
            return Err(SHAPE.into());
        }
        // A struct of texts with defaults takes whatever there is.
        let read = T::deserialize(body);
        Ok(Self(read.map_err(|_| Invalid("Send a form of texts."))?))
    }
}

/// The fields of a body, as they were sent.
struct Fields {
    pairs: Vec<(String, String)>,
    /// The whole body, when it is text or a form.
    raw: String,
    raw_field: Option<&'static str>,
    /// The names of those that were numbers or booleans.
    scalars: Vec<String>,
}

const SHAPE: Invalid = Invalid("Send a JSON object whose values are strings.");

impl Fields {
    fn new(pairs: Vec<(String, String)>, raw: String) -> Self {
        Self {
            pairs,
            raw,
            raw_field: None,
            scalars: Vec::new(),
        }
    }
}

/// Into a struct of [`String`]s. Of a field that was sent twice the first counts.
impl<'de> Deserializer<'de> for Fields {
    type Error = Unreadable;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let mut known = HashMap::new();
        for (name, value) in self.pairs {
            if let Some(field) = fields.iter().find(|field| **field == name) {
                known.entry(*field).or_insert(value);
            }
        }
        if let Some(field) = self.raw_field
            && known.is_empty()
        {
            known.insert(field, self.raw);
        }
        visitor.visit_map(MapDeserializer::new(known.into_iter()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unreadable> {
        Err(Unreadable::custom("a body is a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl Fields {
    async fn from_request<S: Send + Sync>(request: Request, state: &S) -> Result<Self, AppError> {
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
                Ok(Self::new(urlencoded(&raw)?, raw))
            }
            Some("application/json") => {
                let object: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_slice(&bytes).map_err(|_| SHAPE)?;
                let mut fields = Self::new(Vec::new(), String::new());
                for (name, value) in object {
                    let text = match value {
                        serde_json::Value::Null => continue,
                        serde_json::Value::String(text) => text,
                        serde_json::Value::Number(number) => {
                            fields.scalars.push(name.clone());
                            number.to_string()
                        }
                        serde_json::Value::Bool(is_on) => {
                            fields.scalars.push(name.clone());
                            u8::from(is_on).to_string()
                        }
                        _ => return Err(SHAPE.into()),
                    };
                    fields.pairs.push((name, text));
                }
                Ok(fields)
            }
            None | Some("text/plain" | "application/octet-stream") => {
                Ok(Self::new(Vec::new(), text()?))
            }
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

/// The fields of a form as browsers encode it. Percent-encoded bytes must be UTF-8 like the rest:
/// a generous reader would keep a text with holes in it.
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
    Ok(Fields::new(pairs, String::new()))
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

    #[derive(Deserialize, Default, PartialEq, Debug)]
    #[serde(default)]
    struct Post {
        body: String,
        nonce: String,
    }

    #[test]
    fn a_body_without_a_known_field_is_the_raw_field() {
        let read = |form: &str, raw_field| {
            let mut fields = Fields::new(urlencoded(form).unwrap(), form.to_owned());
            fields.raw_field = raw_field;
            Post::deserialize(fields).unwrap()
        };
        let post = |body: &str, nonce: &str| Post {
            body: body.to_owned(),
            nonce: nonce.to_owned(),
        };
        assert_eq!(read("hello", Some("body")), post("hello", ""));
        assert_eq!(read("a=b&c", Some("body")), post("a=b&c", ""));
        assert_eq!(read("nonce=1", Some("body")), post("", "1"));
        assert_eq!(read("hello", None), post("", ""));
        assert_eq!(read("body=1&body=2&x=3", Some("body")), post("1", ""));
    }

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
