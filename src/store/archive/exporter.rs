//! The exporter: records out, counted.

use super::record::{Counts, Record, VERSION};
use crate::domain::{Epoch, SignUpPolicy};

/// Takes the records of an export one by one, counts them, and adds the end.
pub struct Exporter<'a> {
    take: &'a mut (dyn FnMut(&Record, &Counts) -> anyhow::Result<()> + Send),
    counts: Counts,
}

impl<'a> Exporter<'a> {
    /// Passes each record, with the counts so far, to `take`.
    pub fn new(take: &'a mut (dyn FnMut(&Record, &Counts) -> anyhow::Result<()> + Send)) -> Self {
        Self {
            take,
            counts: Counts::default(),
        }
    }

    /// Writes the first record.
    pub(in crate::store) fn begin(
        &mut self,
        epoch: Epoch,
        sign_up: Option<SignUpPolicy>,
    ) -> anyhow::Result<()> {
        self.put(&Record::Parlor {
            version: VERSION,
            epoch,
            sign_up: sign_up.map(|policy| policy.as_str().to_owned()),
        })
    }

    pub(in crate::store) fn put(&mut self, record: &Record) -> anyhow::Result<()> {
        self.counts.count(record);
        (self.take)(record, &self.counts)
    }

    /// Writes the last record.
    pub(in crate::store) fn end(mut self) -> anyhow::Result<Counts> {
        self.put(&Record::End(self.counts))?;
        Ok(self.counts)
    }
}
