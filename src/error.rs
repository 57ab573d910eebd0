//! Errors of requests, and their statuses. Nothing else decides a status.

mod question;

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

pub use self::question::{Question, ReadOnly};
use crate::auth::headers::CrossSite;
use crate::auth::password::HashError;
use crate::domain::{Event, Invalid, Reactions, Refusal, RoomId, SignUpPolicy, User};
use crate::limits::RateLimited;
use crate::store::StoreError;

/// The errors of a form, by field name.
pub type FieldErrors = Vec<(&'static str, String)>;

/// The error of a field.
pub fn error_of<'a>(errors: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
    let wrong = errors.iter().find(|(wrong, _)| *wrong == name);
    wrong.map(|(_, says)| says.as_str())
}

/// Keeps the fields that have an error.
pub fn field_errors<const N: usize>(fields: [(&'static str, Option<Invalid>); N]) -> FieldErrors {
    let wrong = |(name, error): (_, Option<Invalid>)| Some((name, error?.to_string()));
    fields.into_iter().filter_map(wrong).collect()
}

/// Does something to what must be there: [`AppError::NotFound`] where the store answers that it was not.
///
/// # Errors
///
/// Also those of the store.
pub async fn exists(act: impl Future<Output = Result<bool, StoreError>>) -> Result<(), AppError> {
    act.await?.then_some(()).ok_or(AppError::NotFound)
}

/// A request that was not answered as hoped.
#[derive(Debug)]
pub enum AppError {
    /// No token, or one whose session is over.
    SignedOut,
    /// A name and a password that do not fit together.
    BadCredentials,
    /// An account that nobody may sign in to.
    Deactivated,
    /// A request from another site's page, or so it seems.
    CrossSite(CrossSite),
    /// A request without a Host, or with two.
    BadHost,
    /// A request for another server.
    Misdirected {
        /// By which name it was asked for, as far as that can be shown.
        host: String,
    },
    /// A room that `user` has not entered, or that is not there.
    NotMember {
        /// Which room.
        room: RoomId,
        /// Whether it is there.
        exists: bool,
        /// The user who asked.
        user: User,
    },
    /// A room whose owners keep the user out.
    Banned,
    /// Something that a room's owners decide.
    NotOwner,
    /// A room in which the user may not write.
    ReadOnly(ReadOnly),
    /// A letter that cannot be sent: there is no way to.
    NoMail,
    /// A link to reset a password that is spent, over or none.
    ResetOver,
    /// A sign-up by somebody who has no link to do so, while nobody is here.
    NotInvited,
    /// A sign-up where not everybody may.
    SignUpRefused(SignUpPolicy),
    /// An invitation that is used up, over or none.
    InviteOver,
    /// Something that only admins may do.
    NotAdmin,
    /// The only admin stepping down.
    LastAdmin,
    /// A room that cannot be made with this id.
    RoomTaken,
    /// Nothing has this address.
    NotFound,
    /// The address takes other methods.
    MethodNotAllowed,
    /// An input that breaks a rule.
    Invalid(Invalid),
    /// Inputs of a form that break rules, by their names.
    InvalidFields(FieldErrors),
    /// A nonce that was used for another message.
    NonceReused,
    /// A change to a message that may not be made.
    Refused(Refusal),
    /// An edit of a message that was edited after its editor has seen it.
    EditedSince {
        /// The message as it is now.
        message: Arc<Event>,
        /// The text that was typed.
        typed: String,
    },
    /// A body over the limit.
    TooLarge,
    /// A body of a kind that is not read here.
    UnsupportedBody,
    /// A body that did not come in time.
    RequestTimeout,
    /// Something whose sender has not said that they mean it.
    AsksFirst(Question),
    /// More than the rate limit allows, until then.
    TooMany {
        /// When there is room for one more.
        retry_after: Duration,
    },
    /// More is under way than can be done soon.
    Busy,
    /// There is no room on the server's disk.
    StorageFull,
    /// The database did not do it, or did not say so.
    Unavailable(StoreError),
    /// A bug.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

/// After how many seconds to come back when the server itself is what is in the way.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The same when somebody has to make room first.
const RETRY_AFTER_STORAGE_FULL: Duration = Duration::from_secs(30);

impl AppError {
    /// The refusal of a form for one of its fields.
    pub fn in_field(name: &'static str, says: impl ToString) -> Self {
        Self::InvalidFields(vec![(name, says.to_string())])
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::SignedOut | Self::BadCredentials => StatusCode::UNAUTHORIZED,
            Self::CrossSite(_)
            | Self::NotMember { exists: true, .. }
            | Self::Banned
            | Self::Deactivated
            | Self::ReadOnly(_)
            | Self::NotInvited
            | Self::SignUpRefused(_)
            | Self::NotAdmin
            | Self::NotOwner => StatusCode::FORBIDDEN,
            Self::BadHost => StatusCode::BAD_REQUEST,
            Self::Misdirected { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::NotFound
            | Self::NoMail
            | Self::ResetOver
            | Self::InviteOver
            | Self::NotMember { exists: false, .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Invalid(_) | Self::InvalidFields(_) | Self::AsksFirst(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::NonceReused
            | Self::RoomTaken
            | Self::LastAdmin
            | Self::EditedSince { .. }
            | Self::Refused(Refusal::EditedSince(_)) => StatusCode::CONFLICT,
            Self::Refused(Refusal::NoMessage) => StatusCode::NOT_FOUND,
            Self::Refused(Refusal::NotAuthor) => StatusCode::FORBIDDEN,
            Self::Refused(Refusal::Deleted) => StatusCode::GONE,
            Self::Refused(Refusal::TooManyKinds) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedBody => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::Busy | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// In a few words.
    pub fn title(&self) -> &'static str {
        match self {
            Self::SignedOut => "Not signed in",
            Self::BadCredentials => "Not signed in",
            Self::Deactivated => "Not let in",
            Self::CrossSite(_) => "Not from here",
            Self::BadHost => "Not understood",
            Self::Misdirected { .. } => "Not this server",
            Self::NotMember { exists: true, .. } => "Not in this room",
            Self::NotMember { exists: false, .. } => "No such room",
            Self::Banned => "Not let in",
            Self::NotOwner => "Not yours to do",
            Self::ReadOnly(_) => "To be read",
            Self::NoMail => "No mail",
            Self::ResetOver | Self::InviteOver => "Over",
            Self::NotInvited => "Not open yet",
            Self::SignUpRefused(_) => "Not open to everybody",
            Self::NotAdmin => "Not yours to do",
            Self::LastAdmin => "The last admin",
            Self::RoomTaken => "Taken",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Not done this way",
            Self::Invalid(_) | Self::InvalidFields(_) => "Not taken",
            Self::AsksFirst(Question::TellsAll { .. }) => "To everybody?",
            Self::AsksFirst(Question::Opens { .. }) => "Open it?",
            Self::NonceReused => "Sent already",
            Self::Refused(Refusal::NoMessage) => "Not found",
            Self::Refused(Refusal::NotAuthor) => "Not yours",
            Self::Refused(Refusal::Deleted) => "Deleted",
            Self::EditedSince { .. } | Self::Refused(Refusal::EditedSince(_)) => "Edited meanwhile",
            Self::Refused(Refusal::TooManyKinds) => "Not taken",
            Self::TooLarge => "Too large",
            Self::UnsupportedBody => "Not understood",
            Self::RequestTimeout => "Too slow",
            Self::TooMany { .. } => "Too fast",
            Self::StorageFull => "No room left",
            Self::Busy | Self::Unavailable(_) => "Not right now",
            Self::Internal(_) => "Something went wrong",
        }
    }

    /// A sentence for a person: what happened and what to do. It never quotes the cause of a 5xx.
    pub fn detail(&self) -> String {
        match self {
            Self::SignedOut => "Sign in first.".to_owned(),
            Self::BadCredentials => {
                "This name and password do not go together. Check both and try again.".to_owned()
            }
            Self::Deactivated => {
                "An admin of this server has closed this account for now. Ask one of them.".to_owned()
            }
            Self::CrossSite(CrossSite::AnotherSite) => {
                "This came from another site’s page, so it was not done. Do it from Parlor itself."
                    .to_owned()
            }
            Self::CrossSite(CrossSite::AnotherOrigin {
                origin,
                host,
                public_url,
            }) => format!(
                "The browser says that this came from “{origin}” (Origin), but it was sent to \
                 “{host}” (Host), and this server is {public_url} (PUBLIC_URL). So it was not done. \
                 If you are on Parlor’s own page, open {public_url}, or tell whoever runs this \
                 server: PUBLIC_URL must be what people type, and a proxy must pass the Host on."
            ),
            Self::BadHost => "Send one Host header, as HTTP/1.1 asks for.".to_owned(),
            Self::Misdirected { host } => format!(
                "You asked for “{host}”, and this server does not go by that name. Whoever runs it \
                 sets PUBLIC_URL to the address that people type. Its IP address works too."
            ),
            Self::NotMember { exists: true, .. } => "Enter the room first.".to_owned(),
            Self::NotMember { exists: false, .. } => {
                "There is no room with this id. You can make it.".to_owned()
            }
            Self::Banned => {
                "An owner of this room keeps you out. Ask them to let you in again.".to_owned()
            }
            Self::NotOwner => "Only an owner of this room can do this. Ask one of them.".to_owned(),
            Self::ReadOnly(why) => why.says().to_owned(),
            Self::NotAdmin => {
                "Only an admin of this server can do this. Ask one of them.".to_owned()
            }
            Self::NoMail => "This server sends no mail. Ask an admin of it for a link.".to_owned(),
            Self::ResetOver => {
                "This link was used, or is too old, or there is a newer one. Ask an admin of this server for \
                 another."
                    .to_owned()
            }
            Self::NotInvited => {
                "Nobody is here yet. Whoever runs this server signs up first, with the link that it has \
                 printed at its start."
                    .to_owned()
            }
            Self::SignUpRefused(policy) => sign_up_refused(*policy).to_owned(),
            Self::InviteOver => {
                "This invitation was used, or is too old, or was taken back. Ask for another.".to_owned()
            }
            Self::LastAdmin => {
                "There would be no admin left. Make somebody else an admin first.".to_owned()
            }
            Self::RoomTaken => ROOM_TAKEN.to_owned(),
            Self::NotFound => "There is nothing at this address.".to_owned(),
            Self::MethodNotAllowed => "This address does not take this method.".to_owned(),
            Self::Invalid(invalid) => invalid.to_string(),
            Self::InvalidFields(fields) => {
                let says: Vec<&str> = fields.iter().map(|(_, says)| says.as_str()).collect();
                says.join(" ")
            }
            Self::AsksFirst(question) => format!(
                "{} To do so, send it again with confirm={}.",
                question.says(),
                question.confirm()
            ),
            Self::NonceReused => {
                "Another message was sent with this nonce. Use a new one for a new message."
                    .to_owned()
            }
            Self::Refused(refusal) => match refusal {
                Refusal::NoMessage => "There is no message at this address.".to_owned(),
                Refusal::NotAuthor => {
                    "Somebody else wrote this message. Only its author can change it.".to_owned()
                }
                Refusal::Deleted => "This message was deleted.".to_owned(),
                Refusal::EditedSince(_) => EDITED_SINCE.to_owned(),
                Refusal::TooManyKinds => format!(
                    "A message has at most {} kinds of reaction. Choose one that it has already.",
                    Reactions::KINDS_MAX
                ),
            },
            Self::EditedSince { .. } => EDITED_SINCE.to_owned(),
            Self::TooLarge => "This is more than 64 KiB. Send less at once.".to_owned(),
            Self::UnsupportedBody => {
                "Send a form, multipart/form-data, text/plain or application/json, in UTF-8."
                    .to_owned()
            }
            Self::RequestTimeout => "The request took too long to arrive. Try again.".to_owned(),
            Self::TooMany { .. } => format!(
                "That was a lot at once. Wait {} seconds and try again.",
                self.retry_after().map_or(1, |wait| wait.as_secs())
            ),
            Self::StorageFull => {
                "The server’s disk is full, so this was not kept. Tell whoever runs this server, \
                 and try again later."
                    .to_owned()
            }
            Self::Busy | Self::Unavailable(_) => {
                "The server cannot do this right now. Try again in a moment.".to_owned()
            }
            Self::Internal(_) => {
                "This should not have happened. Try again, and tell whoever runs this server."
                    .to_owned()
            }
        }
    }

    /// When to come back, in whole seconds, if that would help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany { retry_after } => Some(
                Duration::from_secs(retry_after.as_secs_f64().ceil() as u64)
                    .max(Duration::from_secs(1)),
            ),
            Self::Busy | Self::Unavailable(_) => Some(RETRY_AFTER),
            Self::StorageFull => Some(RETRY_AFTER_STORAGE_FULL),
            _ => None,
        }
    }

    /// Writes the whole chain of a 5xx to the log; it is the one place that does. Of other errors it
    /// says what an operator can mend.
    pub fn log(&self) {
        let source: &dyn std::error::Error = match self {
            Self::Unavailable(error) => error,
            Self::Internal(error) => &**error,
            _ => return self.advise(),
        };
        let mut chain = source.to_string();
        let mut cause = source.source();
        while let Some(next) = cause {
            chain = format!("{chain}: {next}");
            cause = next.source();
        }
        tracing::error!(error = chain, "a request failed");
    }

    /// A cause that an operator can do something about, though the server is not at fault.
    fn advise(&self) {
        match self {
            Self::CrossSite(CrossSite::AnotherOrigin {
                origin,
                host,
                public_url,
            }) => tracing::info!(
                origin,
                host,
                public_url,
                "refused what seems to come from another site: Origin is neither Host nor PUBLIC_URL"
            ),
            Self::Misdirected { host } => {
                tracing::info!(
                    host,
                    "refused what is for another server: Host is not PUBLIC_URL’s"
                );
            }
            _ => {}
        }
    }
}

/// Why not everybody may sign up, and what to do.
pub fn sign_up_refused(policy: SignUpPolicy) -> &'static str {
    match policy {
        SignUpPolicy::Open | SignUpPolicy::Invite => {
            "New people come to this server by invitation. Ask an admin of it for a link."
        }
        SignUpPolicy::Closed => "This server takes no new people. Ask an admin of it.",
    }
}

/// The same of a room that one may know of and of others.
pub const ROOM_TAKEN: &str = "This id is taken. Choose another one.";

const EDITED_SINCE: &str =
    "This message was edited since you saw it. Look at it as it is now, and save again.";

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NonceReused => Self::NonceReused,
            StoreError::RoomTaken => Self::RoomTaken,
            StoreError::Banned => Self::Banned,
            StoreError::LastAdmin => Self::LastAdmin,
            StoreError::InviteOver => Self::InviteOver,
            StoreError::Refused(refusal) => Self::Refused(refusal),
            StoreError::Busy => Self::Busy,
            StoreError::StorageFull => Self::StorageFull,
            StoreError::TooManyRooms => Self::Invalid(Invalid(
                "You are in 1,000 rooms, which is the most. Use another account for more.",
            )),
            // Where a name can be taken the caller matches it first.
            StoreError::Taken(_) | StoreError::Backend { .. } => Self::Unavailable(error),
        }
    }
}

impl From<RateLimited> for AppError {
    fn from(limited: RateLimited) -> Self {
        match limited {
            RateLimited::TooMany(retry_after) => Self::TooMany { retry_after },
            RateLimited::Unknown(error) => error.into(),
        }
    }
}

impl From<Invalid> for AppError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<HashError> for AppError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy => Self::Busy,
            HashError::Failed(_) => Self::Internal(error.into()),
        }
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        // Page, fragment, JSON or text depends on the request, which `web::errors::render` knows.
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
