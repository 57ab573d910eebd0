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
