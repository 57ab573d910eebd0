//! Mail: what the server sends to people who are not there, over SMTP.

use std::fmt;
use std::sync::Arc;

use anyhow::Context;
use lettre::message::{Mailbox, header};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::sync::Semaphore;

use crate::config::Secret;
use crate::domain::Email;

/// The most letters on their way at a time: others wait.
const AT_ONCE: usize = 8;

/// The way to a mail server. Cheap to clone.
#[derive(Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The transport knows a password.
        f.debug_struct("Mailer").field("from", &self.from).finish()
    }
}

impl Mailer {
    /// The way to the server of a URL: `smtp://`, `smtps://`, with a name and a password where it asks for one, and
    /// `?tls=required` or `opportunistic` for STARTTLS.
    ///
    /// # Errors
    ///
    /// When the URL is none.
    pub fn new(url: &Secret, from: &str) -> anyhow::Result<Self> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose())?;
        Ok(Self {
            transport: transport.build(),
            from: from.parse().context("SMTP_FROM is no address")?,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Sends a letter of plain text, and waits until the mail server has taken it.
    ///
    /// # Errors
    ///
    /// When it does not take it.
    pub async fn send(&self, to: &Email, subject: &str, text: String) -> anyhow::Result<()> {
        let letter = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.as_str().parse::<Address>()?))
            .subject(subject)
            .header(header::ContentType::TEXT_PLAIN)
            // Nobody's out-of-office answers it (RFC 3834).
            .raw_header(header::HeaderValue::new(
                header::HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .body(text)?;
        let _turn = self.turns.acquire().await?;
        self.transport.send(letter).await?;
        Ok(())
    }
}

/// Whether a URL is one that mail can be sent by.
pub(crate) fn is_url(raw: &str) -> bool {
    AsyncSmtpTransport::<Tokio1Executor>::from_url(raw).is_ok()
}

/// Whether it is an address to send from, with a name perhaps: `Parlor <parlor@example.org>`.
pub(crate) fn is_sender(raw: &str) -> bool {
    raw.parse::<Mailbox>().is_ok()
}
