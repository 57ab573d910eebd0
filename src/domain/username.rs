//! Usernames: letters of one script, and nothing that passes for another.

use std::sync::Arc;

use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, JoiningType, Script};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};
use unicode_security::general_security_profile::IdentifierType;
use unicode_security::{GeneralSecurityProfile, MixedScript, skeleton};

use super::Invalid;

/// A name, as it was typed and as others see it: 2 to 32 letters (1 where a script has such names),
/// digits, `-`, `_` and `.`, of one script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(Arc<str>);

impl Username {
    /// The most characters a name has: what fits beside a time on a phone.
    pub const CHARS_MAX: usize = 32;

    /// Trims, brings compatibility forms (`ａｎａ`) to the plain ones (NFKC), and checks.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the wrong length, for characters other than letters and digits (invisible
    /// and bidirectional ones with them), and for scripts mixed so that they could pass for one.
    /// Source: Unicode Technical Standard 39, identifier type, joining controls, single script.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let name: String = raw.trim().nfkc().collect();
        let chars = name.chars().count();
        if chars == 0 || chars == 1 && !name.chars().all(can_be_a_name) {
            return Err(Invalid("Choose a name of at least 2 characters."));
        }
        if chars > Self::CHARS_MAX {
            return Err(Invalid("A name has at most 32 characters."));
        }
        let fits =
            |c: char| matches!(c, '-' | '_' | '.' | ZWNJ | ZWJ) || is_letter_mark_or_digit(c);
        if !name.chars().all(fits) || !joiners_join(&name) {
            return Err(Invalid(
                "A name has only letters, digits, “-”, “_” and “.”.",
            ));
        }
        if !name.starts_with(|c: char| c.is_alphanumeric()) {
            return Err(Invalid("A name begins with a letter or a digit."));
        }
        if has_misleading_marks(&name) {
            return Err(Invalid(
                "This name has marks that can hide in others. Leave some of them out.",
            ));
        }
        if !name.as_str().is_single_script() {
            return Err(Invalid(
                "Use the letters of one alphabet: mixed ones can look like another name.",
            ));
        }
        Ok(Self(name.into()))
    }

    /// A name that [`Self::parse`] took before it was stored.
    pub(crate) fn stored(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as typed, for whoever keeps it.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The same for every spelling of a name by case and by look-alike letters: no two accounts
    /// share it, and signing in finds an account by it.
    pub fn key(&self) -> String {
        let folded = self.without_joiners().to_lowercase();
        // Some skeletons are capitals: that of 0 is O.
        skeleton(&folded).collect::<String>().to_lowercase()
    }

    /// Like [`Self::key`], but looks first and folds case second, so that `PauI` (a capital i)
    /// cannot stand beside `Paul`. No two accounts share this either.
    pub fn shape(&self) -> String {
        let seen = self.without_joiners();
        skeleton(&seen).collect::<String>().to_lowercase()
    }

    /// The name shown for a deleted account. Nobody can be called so.
    pub const FORMER: &str = "former member";

    /// The key and shape of such an account, given its user's id.
    pub(crate) fn former_key(id: &str) -> String {
        format!("{} {id}", Self::FORMER)
    }

    /// The hashes that reserve it for its user: of the key and of the shape. They stay a user's when they are called
    /// otherwise, and say nothing of the name of a former member.
    pub fn claims(&self) -> [String; 2] {
        [self.claim(), hash_of("shape ", &self.shape())]
    }

    /// The claim to the key alone: the same for all that are taken for this name.
    pub(crate) fn claim(&self) -> String {
        hash_of("key ", &self.key())
    }

    /// A joiner changes how letters are drawn, and hardly how a name is read.
    fn without_joiners(&self) -> String {
        self.0.replace([ZWNJ, ZWJ], "")
    }
}

fn hash_of(kind: &str, text: &str) -> String {
    let digest = Sha256::new_with_prefix(kind).chain_update(text).finalize();
    hex::encode(&digest[..16])
}

/// Whether people are called by one such letter: those of scripts without case, where a letter may be a
/// syllable or a word, as `李` and `김`.
fn can_be_a_name(c: char) -> bool {
    CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::OtherLetter
}

/// Zero width non-joiner: keeps letters apart, as in the Persian `علی‌رضا`.
const ZWNJ: char = '\u{200c}';

/// Zero width joiner: joins letters, as in the Sinhala `ශ්‍රී`.
const ZWJ: char = '\u{200d}';

/// Whether people write names with a character: a letter, mark or digit of any script, also of those
/// that only some peoples use, as Mongolian. Technical, obsolete and invisible characters are not.
fn is_letter_mark_or_digit(c: char) -> bool {
    let is_in_names = matches!(
        c.identifier_type(),
        Some(
            IdentifierType::Recommended
                | IdentifierType::Exclusion
                | IdentifierType::Inclusion
                | IdentifierType::Limited_Use
                | IdentifierType::Uncommon_Use
        )
    );
    (c.is_alphanumeric() || is_combining_mark(c)) && is_in_names
}

/// Whether every joiner stands where it changes what is seen: a non-joiner between two letters that
/// would join, or either one after the virama of an Indic letter. Anywhere else it is invisible.
/// Source: Unicode Standard Annex 31, 2.3.1, rules A1, A2 and B.
fn joiners_join(name: &str) -> bool {
    let chars: Vec<char> = name.chars().collect();
    let joining = |c: Option<&char>| c.map(|c| CodePointMapData::<JoiningType>::new().get(*c));
    let is_joiner = |c: char| matches!(c, ZWNJ | ZWJ);
    chars
        .iter()
        .enumerate()
        .filter(|(_, c)| is_joiner(**c))
        .all(|(at, c)| {
            let (before, after) = (&chars[..at], &chars[at + 1..]);
            let follows_virama = before
                .last()
                .is_some_and(|c| canonical_combining_class(*c) == 9);
            if follows_virama {
                return true;
            }
            let is_transparent = |c: &&char| {
                CodePointMapData::<JoiningType>::new().get(**c) == JoiningType::Transparent
                    && !is_joiner(**c)
            };
            let left = joining(before.iter().rev().find(|c| !is_transparent(c)));
            let right = joining(after.iter().find(|c| !is_transparent(c)));
            *c == ZWNJ
                && matches!(
                    left,
                    Some(JoiningType::LeftJoining | JoiningType::DualJoining)
                )
                && matches!(
                    right,
                    Some(JoiningType::RightJoining | JoiningType::DualJoining)
                )
        })
}

/// Marks that are not seen, or are drawn out of line: the same one twice, and more of them on a letter
/// than people write. Marks for every script (accents) pile up to two, as in Vietnamese; those of one
/// script, such as the vowels and tones of Burmese, to four. A dot above that is not part of a letter
/// is not seen on an i, which has one already.
/// Source: Unicode Technical Standard 39, 5.4, optional detection.
fn has_misleading_marks(name: &str) -> bool {
    const ACCENTS_MAX: usize = 2;
    const MARKS_MAX: usize = 4;
    let script = CodePointMapData::<Script>::new();
    let (mut accents, mut marks) = (0, 0);
    let mut previous = None;
    for c in name.nfd() {
        let is_repeated = previous == Some(c) && is_combining_mark(c);
        previous = Some(c);
        if is_repeated {
            return true;
        }
        if !is_combining_mark(c) {
            (accents, marks) = (0, 0);
            continue;
        }
        marks += 1;
        accents += usize::from(script.get(c) == Script::Inherited);
        if accents > ACCENTS_MAX || marks > MARKS_MAX {
            return true;
        }
    }
    name.contains('\u{307}')
}

impl Serialize for Username {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(raw: &str) -> Username {
        Username::parse(raw).unwrap_or_else(|refused| panic!("{raw:?}: {refused}"))
    }

    #[test]
    fn names_of_one_script_are_taken() {
        for raw in [
            "ana",
            "Ana-Maria_2",
            "j.r.r",
            "Øyvind",
            "José",
            "Nguyễn",
            "Żaneta",
            "Анна",
            "李小龙",
            "ひらカナ漢",
            "मोहन",
            "محمد",
            "42",
            "李",
            "김",
            "ကျော်",
            "ခင်မျိုးချစ်",
            "علی\u{200c}رضا",
            "ශ්\u{200d}රී",
            "क्\u{200d}ष",
            "ประยุทธ์",
            "สมศักดิ์",
            "សុខា",
            "བསྟན་འཛིན".split('་').next().unwrap(),
            "யாழினி",
            "ಶ್ರೀನಿವಾಸ",
            "שָׁלוֹם",
            "مُحَمَّد",
            "ሰላም",
            "ᏣᎳᎩ",
            "ⵜⴰⵏⴰⵏⵜ",
            "ߒߞߏ",
            "ᠮᠣᠩᠭᠣᠯ",
            "ܝܘܚܢܢ",
            "ქეთევან",
            "Աննա",
            "Kaʻiulani",
            "Nguyễn.Văn",
        ] {
            assert_eq!(name(raw).as_str(), raw.nfkc().collect::<String>());
        }
        assert_eq!(name(" ａｎａ ").as_str(), "ana");
    }

    #[test]
    fn names_that_could_deceive_are_refused() {
        for raw in [
            "",
            " ",
            "a",
            "Ж",
            "7",
            "\u{3164}",
            &"a".repeat(33),
            "two words",
            "a\u{200b}na",
            "a\u{200d}na",
            "\u{202e}ana",
            "ana\u{2066}",
            "аna",
            "pаypal",
            "ana!",
            "-ana",
            ".ana",
            "<b>",
            "a\0na",
            "a\nna",
            "💥💥",
            "a\u{ad}na",
            "mi\u{307}a",
            "jose\u{301}\u{301}",
            "a\u{327}\u{327}b",
            "a\u{301}\u{302}\u{303}",
            "ก็็",
            "ก\u{e34}\u{e35}\u{e36}\u{e37}\u{e38}",
            "علی\u{200c}",
            "\u{200c}علی",
            "علی\u{200c}\u{200c}رضا",
            "علی\u{200d}رضا",
            "م\u{200c}",
            "ana\u{200c}b",
            "क\u{200d}ष",
            "ａ\u{fe0f}",
            "a@b",
        ] {
            assert!(Username::parse(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn one_name_has_one_key_and_look_alikes_share_a_shape() {
        for (a, b) in [("ana", "ANA"), ("José", "JOSÉ"), ("Ana", "aNa")] {
            assert_eq!(name(a).key(), name(b).key());
        }
        // All Cyrillic, and still drawn like the Latin one.
        assert_eq!(name("аса").key(), name("aca").key());
        assert_eq!(name("PauI").shape(), name("Paul").shape());
        assert_eq!(name("b0b").key(), name("bob").key());
        assert_ne!(name("ana").key(), name("anna").key());
        // Joiners are hardly seen.
        assert_eq!(name("علی\u{200c}رضا").key(), name("علیرضا").key());
        assert_eq!(name("علی\u{200c}رضا").shape(), name("علیرضا").shape());
    }
}
