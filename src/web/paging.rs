//! Pages of long lists.

use form_urlencoded::Serializer;

use super::query::Query;

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
    /// A word to search for, or a place in a list: at most so many characters of it.
    pub(super) fn word(&self, name: &str, chars: usize) -> String {
        let word = self.find(name).unwrap_or("").trim().chars();
        word.take(chars).collect()
    }
}
