//! Pages of long lists.

use form_urlencoded::Serializer;

use super::query::Query;
use crate::domain::Invalid;

/// Cuts a list to the most that a page has, and says whether there is more. It was read with one more.
pub(super) fn cut<T>(list: &mut Vec<T>, most: usize) -> bool {
    let has_more = list.len() > most;
    list.truncate(most);
    has_more
}

/// The address of a page.
pub(super) fn address<V: AsRef<str>>(path: &str, query: &[(&str, V)]) -> String {
    let query = Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{path}?{query}")
}

impl Query {
    /// The place before which a list goes on; `says` what it is.
    pub(super) fn before<T, E>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
        says: &'static str,
    ) -> Result<Option<T>, Invalid> {
        let before = self.find("before").filter(|before| !before.is_empty());
        before.map(parse).transpose().map_err(|_| Invalid(says))
    }

    /// A word to search for, or a place in a list: at most so many characters of it.
    pub(super) fn word(&self, name: &str, chars: usize) -> String {
        let word = self.find(name).unwrap_or("").trim().chars();
        word.take(chars).collect()
    }
}
