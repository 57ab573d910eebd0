//! The importer: records in, checked as they come.

use std::io::{BufRead, Read};

use anyhow::{Context, bail, ensure};

use super::checker::Checker;
use super::record::{Counts, Record};
use crate::domain::{Epoch, SignUpPolicy};

/// The most bytes of a line: a message of 4,000 characters, each escaped as a pair of surrogates, and
/// everything else that an event has, twice over.
const LINE_MAX: usize = 128 * 1024;

/// Reads an export and checks it as it goes: nothing is missing, nothing is out of order, nothing is
/// there that nobody could have typed.
pub struct Importer<'a> {
    input: &'a mut dyn BufRead,
    text: Vec<u8>,
    line: u64,
    checker: Checker,
    progress: &'a mut dyn FnMut(&Counts),
}

const NO_EXPORT: &str = "this is not what parlor export writes";

impl<'a> Importer<'a> {
    /// Reads from `input`, telling `progress` of what was read.
    pub fn new(input: &'a mut dyn BufRead, progress: &'a mut dyn FnMut(&Counts)) -> Self {
        Self {
            input,
            text: Vec::new(),
            line: 0,
            checker: Checker::default(),
            progress,
        }
    }

    /// The first record: the epoch of the store that was exported, and the policy of sign-ups.
    pub(in crate::store) fn begin(&mut self) -> anyhow::Result<(Epoch, Option<SignUpPolicy>)> {
        let Some(record) = self.next_line()? else {
            bail!(NO_EXPORT);
        };
        match &record {
            Record::Parlor { epoch, sign_up, .. } => {
                self.checker.check(&record)?;
                let sign_up = sign_up.as_deref().map(SignUpPolicy::parse).transpose()?;
                Ok((*epoch, sign_up))
            }
            _ => bail!(NO_EXPORT),
        }
    }

    /// The next record, checked; `None` at the end, which is checked too.
    pub(in crate::store) fn next(&mut self) -> anyhow::Result<Option<Record>> {
        let Some(mut record) = self.next_line()? else {
            ensure!(
                self.checker.is_over(),
                "this export was cut off after line {}",
                self.line
            );
            return Ok(None);
        };
        self.checker
            .check(&record)
            .with_context(|| format!("line {} of this export is wrong", self.line))?;
        match &mut record {
            Record::End(_) => return self.next(),
            Record::Event(event) => event.messages = self.checker.messages(),
            _ => {}
        }
        (self.progress)(&self.checker.counts);
        Ok(Some(record))
    }

    /// The records read so far.
    pub(in crate::store) fn counts(&self) -> Counts {
        self.checker.counts
    }

    fn next_line(&mut self) -> anyhow::Result<Option<Record>> {
        self.text.clear();
        let mut line = (&mut *self.input).take(LINE_MAX as u64 + 1);
        let read = line.read_until(b'\n', &mut self.text);
        if read.context("cannot read the export")? == 0 {
            return Ok(None);
        }
        self.line += 1;
        ensure!(
            self.text.len() <= LINE_MAX,
            "line {} of this export is longer than any that parlor writes",
            self.line
        );
        let record = serde_json::from_slice(&self.text)
            .with_context(|| format!("line {} of this export cannot be read", self.line))?;
        Ok(Some(record))
    }
}
