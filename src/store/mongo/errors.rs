//! The driver's errors that mean something to us.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::store::StoreError;

/// The error code of a write that met an equal key in a unique index.
pub(super) const DUPLICATE_KEY: i32 = 11_000;

/// The message of a duplicate key error of a single write, which names the index.
pub(super) fn duplicate_key(error: &StoreError) -> Option<&str> {
    let StoreError::Backend { source, .. } = error else {
        return None;
    };
    match &*source.downcast_ref::<Error>()?.kind {
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY => {
            Some(&error.message)
        }
        _ => None,
    }
}

/// The first event of an ordered insert that met an equal key: its place among them, and the message, which
/// names the index. Within a transaction MongoDB may say it of the command. `None` also where some of the
/// events may not be durable.
pub(super) fn first_duplicate(error: &StoreError) -> Option<(usize, &str)> {
    let StoreError::Backend { source, .. } = error else {
        return None;
    };
    match &*source.downcast_ref::<Error>()?.kind {
        ErrorKind::InsertMany(failure) if failure.write_concern_error.is_none() => {
            let first = failure.write_errors.as_deref()?.first()?;
            (first.code == DUPLICATE_KEY).then_some((first.index, &first.message))
        }
        ErrorKind::Command(error) if error.code == DUPLICATE_KEY => Some((0, &error.message)),
        _ => None,
    }
}

/// Whether the equal key is an event's number, by the message that names the index.
pub(super) fn is_number(message: &str) -> bool {
    message.contains("index: room_seq ")
}

/// Whether everything that an unordered insert refused was there already, in this index.
pub(super) fn is_only_repeated(error: &StoreError, index: &str) -> bool {
    let StoreError::Backend { source, .. } = error else {
        return false;
    };
    let Some(ErrorKind::InsertMany(failure)) =
        source.downcast_ref::<Error>().map(|error| &*error.kind)
    else {
        return false;
    };
    let index = format!("index: {index} ");
    let mut refused = failure.write_errors.iter().flatten();
    failure.write_concern_error.is_none()
        && refused.all(|refused| refused.code == DUPLICATE_KEY && refused.message.contains(&index))
}

/// The error of a document that lacks a field which ours have.
pub(super) fn unreadable(
    operation: &'static str,
) -> impl Fn(mongodb::bson::error::Error) -> StoreError {
    move |error| StoreError::backend(operation, error)
}
