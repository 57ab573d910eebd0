//! The states of messages: how they are read with the events that show them.
//!
//! A message's state stands in its own document, and a change to it is written together with the change's
//! event: `changes.rs`. What an event shows of other messages is read after the event itself, so it is at
//! least as new.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use tokio_stream::StreamExt;

use super::accounts::user_of;
use super::event_document::{event_from, place};
use super::retry::retry;
use crate::domain::{Event, EventKind, Reactions, RoomId, Seq, User, UserId};
use crate::store::StoreError;

/// How many names are kept: those of a large server, in a megabyte.
const NAMES_MAX: NonZero<usize> = NonZero::new(10_000).expect("not zero");

/// Reads states. Cheap to clone.
#[derive(Clone)]
pub(super) struct States {
    events: Collection<Document>,
    users: Collection<Document>,
    /// Forgotten when somebody is renamed.
    names: Arc<Mutex<Names>>,
}

struct Names {
    kept: LruCache<UserId, Arc<str>>,
    /// Counts the times that some were forgotten: names read before the last are not kept.
    generation: u64,
}

type Place = (RoomId, Seq);

impl States {
    pub(super) fn new(events: Collection<Document>, users: Collection<Document>) -> Self {
        Self {
            events,
            users,
            names: Arc::new(Mutex::new(Names {
                kept: LruCache::new(NAMES_MAX),
                generation: 0,
            })),
        }
    }

    /// Fills in what events have beside their documents: people's names, and the states of other messages.
    ///
    /// # Errors
    ///
    /// Also when a message is older than its change: a primary that was replaced answered.
    pub(super) async fn complete(&self, events: Vec<Event>) -> Result<Vec<Arc<Event>>, StoreError> {
        let targets = events.iter().filter_map(Event::target_place);
        let mut targets = self.find(targets.collect()).await?;
        let shown = events.iter().chain(targets.values());
        let quoted: HashSet<Place> = shown.filter_map(Event::quoted_place).collect();
        let mut quoted = self.find(quoted).await?;
        self.name_people(quoted.values_mut()).await?;
        let quoted: HashMap<Place, Arc<Event>> = { quoted.into_iter() }
            .map(|(place, event)| (place, Arc::new(event)))
            .collect();

        let mut events = events;
        self.name_people(events.iter_mut().chain(targets.values_mut()))
            .await?;
        let quote = |event: &mut Event| {
            let message = event.quoted_place().and_then(|place| quoted.get(&place));
            if let Some(message) = message {
                event.show(message);
            }
        };
        targets.values_mut().for_each(quote);
        let targets: HashMap<Place, Arc<Event>> = { targets.into_iter() }
            .map(|(place, event)| (place, Arc::new(event)))
            .collect();
        for event in &mut events {
            quote(event);
            let message = event.target_place().and_then(|place| targets.get(&place));
            let Some(message) = message else { continue };
            if message.message().is_some_and(|it| it.changed < event.seq) {
                return Err(StoreError::backend(
                    "read a message",
                    "it is older than its change",
                ));
            }
            event.show(message);
        }
        Ok(events.into_iter().map(Arc::new).collect())
    }

    /// The events at some places, in the order of these; those that are there.
    pub(super) async fn read(&self, places: Vec<Place>) -> Result<Vec<Arc<Event>>, StoreError> {
        let mut found = self.find(places.iter().cloned().collect()).await?;
        let events = places.iter().filter_map(|place| found.remove(place));
        self.complete(events.collect()).await
    }

    async fn find(&self, places: HashSet<Place>) -> Result<HashMap<Place, Event>, StoreError> {
        if places.is_empty() {
            return Ok(HashMap::new());
        }
        let places: Vec<Document> = { places.iter() }
            .map(|(room, seq)| place(room, *seq))
            .collect();
        let all = all_at_once(places.len());
        let found = retry("read messages", || async {
            let found = self.events.find(doc! { "$or": places.clone() });
            let found = found.batch_size(all).await?;
            found.collect::<Result<Vec<Document>, _>>().await
        });
        let found = found.await?;
        let event = |document| {
            let event = event_from(document)?;
            Ok(((event.room.clone(), event.seq), event))
        };
        found.iter().map(event).collect()
    }

    /// Fills in the names of authors, of those who reacted to messages or are mentioned in them, and of those who
    /// added or removed somebody.
    pub(super) async fn name_people(
        &self,
        events: impl Iterator<Item = &mut Event>,
    ) -> Result<(), StoreError> {
        let (mut messages, mut memberships) = (Vec::new(), Vec::new());
        let mut authors = Vec::new();
        for event in events {
            authors.push(&mut event.author);
            if event.kind.by().is_some() {
                memberships.push(&mut event.kind);
            } else if let EventKind::Message(message) = &mut event.kind
                && !(message.reactions.is_empty() && message.mentions.is_empty())
            {
                messages.push(message);
            }
        }
        let users = messages.iter().flat_map(|message| {
            let mentioned = message.mentions.users().iter().map(|user| user.id);
            mentioned.chain(Reactions::to_name(message.reactions.all()))
        });
        let by = memberships.iter().filter_map(|kind| kind.by());
        let by = by.map(|by| by.id);
        let wrote = authors.iter().map(|author| author.id);
        let names = self.names(users.chain(by).chain(wrote).collect()).await?;
        for author in authors {
            if let Some(name) = names.get(&author.id) {
                author.username = Arc::clone(name);
            }
        }
        for kind in memberships {
            kind.name_by(&names);
        }
        for message in messages {
            let all = message.reactions.all().to_vec();
            message.reactions = Reactions::new(all, |user| names.get(&user).cloned());
            message.mentions = message.mentions.named(&names);
        }
        Ok(())
    }

    /// Calls the authors of events as they are called now.
    pub(super) async fn name_authors(
        &self,
        events: Vec<&mut Arc<Event>>,
    ) -> Result<(), StoreError> {
        let authors = events.iter().map(|event| event.author.id);
        let names = self.names(authors.collect()).await?;
        for event in events {
            match names.get(&event.author.id) {
                Some(name) if *name != event.author.username => {
                    Arc::make_mut(event).author.username = Arc::clone(name);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The same for the messages of changes.
    pub(super) async fn name_people_of(
        &self,
        changes: impl Iterator<Item = &mut Arc<Event>>,
    ) -> Result<(), StoreError> {
        let mut changes: Vec<&mut Event> = changes.map(Arc::make_mut).collect();
        let messages = changes
            .iter_mut()
            .filter_map(|change| match &mut change.kind {
                EventKind::Changed(changed) => changed.message.as_mut().map(Arc::make_mut),
                _ => None,
            });
        self.name_people(messages).await
    }

    /// Forgets somebody's name, or, without an id, all names.
    pub(super) fn forget_name(&self, user: Option<UserId>) {
        let mut names = self.kept();
        names.generation += 1;
        match user {
            Some(user) => drop(names.kept.pop(&user)),
            None => names.kept.clear(),
        }
    }

    /// The names of some users.
    pub(super) async fn names(
        &self,
        users: HashSet<UserId>,
    ) -> Result<HashMap<UserId, Arc<str>>, StoreError> {
        let mut names = HashMap::new();
        let mut unknown = Vec::new();
        let generation;
        {
            let mut kept = self.kept();
            generation = kept.generation;
            for user in users {
                match kept.kept.get(&user) {
                    Some(name) => drop(names.insert(user, Arc::clone(name))),
                    None => unknown.push(user.to_string()),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(names);
        }
        let all = all_at_once(unknown.len());
        let found = retry("read names", || async {
            let found = self.users.find(doc! { "_id": { "$in": unknown.clone() } });
            let found = found.projection(doc! { "username": 1 }).batch_size(all);
            found.await?.collect::<Result<Vec<Document>, _>>().await
        });
        let found = found.await?;
        let mut kept = self.kept();
        for user in &found {
            let id = user
                .get_str("_id")
                .ok()
                .and_then(|id| UserId::parse(id).ok());
            if let (Some(id), Ok(name)) = (id, user.get_str("username")) {
                let name: Arc<str> = name.into();
                if kept.generation == generation {
                    kept.kept.put(id, Arc::clone(&name));
                }
                names.insert(id, name);
            }
        }
        Ok(names)
    }

    /// Some users, as they are called now; those that are there.
    pub(super) async fn users(
        &self,
        users: HashSet<UserId>,
    ) -> Result<HashMap<UserId, User>, StoreError> {
        let names = self.names(users).await?.into_iter();
        Ok(names.map(|(id, name)| (id, user_of(id, &name))).collect())
    }

    fn kept(&self) -> MutexGuard<'_, Names> {
        // Entries are put in whole.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The size of a batch that is not full with so many documents: after a full one the driver asks for more.
fn all_at_once(documents: usize) -> u32 {
    u32::try_from(documents).map_or(u32::MAX, |documents| documents + 1)
}

impl Event {
    fn target_place(&self) -> Option<Place> {
        Some((self.room.clone(), self.target()?))
    }

    fn quoted_place(&self) -> Option<Place> {
        Some((self.room.clone(), self.reply_to()?))
    }
}
