//! Settings in a `.env` file.

use std::collections::HashMap;
use std::io;

/// The settings of `.env`: a value for each name, exactly as it is written there.
#[derive(Default)]
pub struct DotEnv(HashMap<String, String>);

impl DotEnv {
    /// Reads `.env` in this directory or the nearest one above that has it; nothing where none has.
    ///
    /// # Errors
    ///
    /// One line that says which line of the file cannot be used. It does not quote it.
    pub fn read() -> anyhow::Result<Self> {
        let here = std::env::current_dir().unwrap_or_default();
        let file = here.ancestors().map(|folder| folder.join(".env"));
        let Some(file) = file.into_iter().find(|file| file.is_file()) else {
            return Ok(Self::default());
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                anyhow::bail!("{} cannot be read: it is not UTF-8", file.display())
            }
            Err(error) => anyhow::bail!("{} cannot be read: {error}", file.display()),
        };
        let read = Self::parse(&text);
        read.map_err(|(line, why)| anyhow::anyhow!("line {line} of {}: {why}", file.display()))
    }

    /// The value that the environment has for a name, else the file. The environment counts even
    /// where it holds nothing.
    pub fn look_up(&self, name: &str) -> Option<String> {
        match std::env::var_os(name) {
            // Bytes that are not UTF-8 become a character that no setting takes.
            Some(value) => Some(value.to_string_lossy().into_owned()),
            None => self.0.get(name).cloned(),
        }
    }

    /// The number of a line that cannot be used, and why.
    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut values = HashMap::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line
                .split_once('=')
                .ok_or((number, "it takes NAME=value"))?;
            let name = name.trim();
            let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if name.is_empty() || !name.chars().all(is_letter) {
                return Err((number, "it takes NAME=value"));
            }
            let value = unquoted(value.trim()).map_err(|why| (number, why))?;
            if values.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err((number, "a line before it sets the same name"));
            }
        }
        Ok(Self(values))
    }
}

/// A value of a `.env` without the quotes around it, if there are. Nothing in it means anything
/// else: no `$`, no backslash. Where other readers of such files differ, it is refused.
fn unquoted(value: &str) -> Result<&str, &'static str> {
    let Some(quote) = value
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))
    else {
        let has_comment = value.contains(" #") || value.contains("\t#");
        return match has_comment {
            true => Err("a comment goes on a line of its own; a value with “ #” in it, in quotes"),
            false => Ok(value),
        };
    };
    let inner = value[1..].strip_suffix(quote);
    let inner = inner.ok_or("the value begins with a quote and does not end with it")?;
    match inner.contains(quote) || (quote == '"' && inner.contains('\\')) {
        true => Err("write the value without quotes: there is a quote or a backslash in it"),
        false => Ok(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_env_is_taken_as_it_is_written() {
        for (line, value) in [
            ("N=pa$word$HOME", "pa$word$HOME"),
            ("N=${HOME}", "${HOME}"),
            ("N=a#b\\n\\$", "a#b\\n\\$"),
            ("N = two words \r", "two words"),
            ("export N=x", "x"),
            ("N=\"a # $b 'c'\"", "a # $b 'c'"),
            ("N='a \"\\ b'", "a \"\\ b"),
            ("N=a=b==", "a=b=="),
            ("N=#1", "#1"),
            ("N=it's", "it's"),
            ("N=", ""),
            ("N=\"\"", ""),
            ("\u{feff}N=x", "x"),
            ("# N=y\r\n\r\nN=x\r\n", "x"),
        ] {
            let read = DotEnv::parse(line).unwrap_or_else(|why| panic!("{line:?}: {why:?}"));
            assert_eq!(read.0["N"], value, "{line:?}");
        }
        for (text, line) in [
            ("N", 1),
            ("\n=x", 2),
            ("two words=x", 1),
            ("N=x # a comment", 1),
            ("N=\"x", 1),
            ("N=\"x\" # a comment", 1),
            ("N=\"a\"b\"", 1),
            ("N=\"pa\\$word\"", 1),
            ("N=x\nM=y\nN=z", 3),
        ] {
            let refused = DotEnv::parse(text).err().map(|(line, _)| line);
            assert_eq!(refused, Some(line), "{text:?}");
        }
    }
}
