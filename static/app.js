// What every page does beyond links and forms. Nothing here is needed to use them.
'use strict';

// The browser restored a page from its memory, as it was when it was left: bring it up to date.
addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload();
});

// Who signs out is led on by that; the page need not find out by itself that its session is over.
addEventListener('submit', ({ target }) => {
  if (target.matches('.account')) document.addEventListener('parlor:signed-out', (event) => event.preventDefault());
});

// What was asked for here, where the browser's memory does not take it.
let wishedHere = null;

// Each part by itself: one that this browser cannot do takes no other along.
for (const part of [keepTimesLocal, watchRooms, offerNotifications]) {
  try {
    part();
  } catch (error) {
    console.error(error);
  }
}

/** Shows times in the reader's zone and language, before they are painted; the server writes UTC. */
function keepTimesLocal() {
  localiseTimes(document);
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const added of addedNodes) if (added.nodeType === Node.ELEMENT_NODE) localiseTimes(added);
    }
  }).observe(document.body, { childList: true, subtree: true });
}

function localiseTimes(root) {
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll('time')) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    const clock = at.toLocaleTimeString([], { hour: 'numeric', minute: '2-digit' });
    const day = at.toLocaleDateString([], { day: 'numeric', month: 'short' });
    // In the log a line tells the days apart.
    time.textContent = time.closest('.log') || at.toDateString() === today ? clock : `${day}, ${clock}`;
    time.title = at.toLocaleString();
  }
}

/**
 * What is unread in one's rooms: beside their names, in the tab's title and icon, and, to who asked
 * for that, in notifications. One tab asks the server and tells the others, as a browser has few
 * connections to spare; the server holds its answer back until there is something new.
 */
function watchRooms() {
  if (!document.querySelector('li[data-room]')) return;
  const AGAIN_MS = 3_000;
  const { user, room: here } = document.body.dataset;
  const title = document.title;
  const icon = document.querySelector('link[rel=icon]');
  const [plain, dotted] = [icon.href, icon.dataset.new];
  const elsewhere = document.getElementById('elsewhere');
  // Without a channel, or without locks (plain HTTP, by a name), each tab is on its own.
  const tabs = window.BroadcastChannel && new BroadcastChannel(`parlor:${user}`);
  const isShared = tabs && navigator.locks;
  const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
  const nextLook = () => new Promise((done) => {
    document.addEventListener('visibilitychange', done, { once: true });
  });

  // As the page has it.
  let rooms = Array.from(document.querySelectorAll('li[data-room]'), (item) => (
    { room: item.dataset.room, unread: parseInt(item.querySelector('.unread')?.textContent, 10) || 0 }
  ));

  const show = () => {
    let sum = 0;
    for (const { room, unread } of rooms) {
      const isRead = unread === 0 || (room === here && !document.hidden);
      if (!isRead) sum += unread;
      const item = document.querySelector(`li[data-room="${room}"] a`);
      if (item) tell(item.querySelector('.unread') ?? newBadge(item), isRead ? 0 : unread);
    }
    document.title = sum ? `(${sum}) ${title}` : title;
    icon.href = sum ? dotted : plain;
    if (elsewhere) tell(elsewhere, sum, ' unread in other rooms');
  };
  const hasRead = (read) => {
    rooms = rooms.map((one) => (one.room === read ? { ...one, unread: 0 } : one));
    show();
  };
  document.addEventListener('parlor:read', () => {
    hasRead(here);
    tabs?.postMessage({ read: here });
  });
  document.addEventListener('visibilitychange', show);
  tabs?.addEventListener('message', ({ data }) => {
    if (data.read) return hasRead(data.read);
    rooms = data.rooms;
    show();
  });

  // What each page asks once, and one page again and again, being answered when there is news.
  const ask = async (query, signal) => {
    const answer = await fetch(`/rooms?as=${user}${query}`, { headers: { Accept: 'application/json' }, signal });
    // Its reader has signed out elsewhere; somebody else may have signed in.
    const over = new Event('parlor:signed-out', { cancelable: true });
    if (answer.status === 401 && document.dispatchEvent(over)) location.reload();
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  };
  const lead = async () => {
    let cursor = '';
    for (;;) {
      // On its own the tab that is looked at asks, and the others now and then, at once answered, so
      // that they hold no connection.
      if (!isShared && document.hidden) await Promise.race([nextLook(), pause(60_000)]);
      const wait = isShared || !document.hidden ? 30 : 0;
      const left = window.AbortController && new AbortController();
      if (!isShared) nextLook().then(() => left?.abort());
      try {
        const lobby = await ask(`&wait=${wait}&after=${cursor}`, left?.signal);
        if (cursor) notify(rooms, lobby.rooms, user).catch(console.error);
        ({ rooms, cursor } = lobby);
        show();
        tabs?.postMessage({ rooms });
        // Not all at once again after a message to many.
        await pause(AGAIN_MS * (1 + Math.random() / 2));
      } catch {
        if (!left?.signal.aborted) await pause(3 * AGAIN_MS);
      }
    }
  };

  // What could not be sent waits in its room.
  for (const key of storedKeys()) {
    const [, of, room, kind] = key.split(':');
    if (of !== user || kind !== 'out' || room === here) continue;
    const item = document.querySelector(`li[data-room="${room}"] .name`);
    if (!item || item.querySelector('.unsent')) continue;
    item.append(' ', Object.assign(document.createElement('span'), { className: 'unsent', textContent: 'not sent yet' }));
  }

  show();
  if (isShared) {
    navigator.locks.request(`parlor:${user}:rooms`, lead).catch(console.error);
    // The one that leads may not know what was read on the page before this one.
    ask('').then((lobby) => {
      ({ rooms } = lobby);
      show();
    }, () => {});
  } else lead();
}

/** Shows a number in a badge, or hides it. A browser that translates may have put anything in there. */
function tell(badge, count, says = ' unread') {
  badge.hidden = count === 0;
  let number = badge.querySelector('.number');
  if (!number) {
    const made = (className, textContent) => Object.assign(document.createElement('span'), { className, textContent });
    number = made('number', '');
    badge.replaceChildren(number, badge.querySelector('.hidden') ?? made('hidden', says));
  }
  if (number.textContent !== String(count)) number.textContent = count;
}

function newBadge(item) {
  const badge = Object.assign(document.createElement('span'), { className: 'unread', hidden: true });
  (item.closest('.side') ? item : item.querySelector('.name')).append(' ', badge);
  return badge;
}

/** The names of what the browser's memory holds: nothing, where there is none or it is locked. */
function storedKeys() {
  try {
    return Object.keys(localStorage);
  } catch {
    return [];
  }
}

/** Whether a notification is wanted and may be shown. */
function wantsNotifications() {
  const wish = wishedHere ?? storedWish();
  return wish === 'on' && Notification.permission === 'granted';
}

function storedWish() {
  try {
    return localStorage.getItem(`parlor:${document.body.dataset.user}:notify`);
  } catch {
    return null;
  }
}

function wishNotifications(wish) {
  try {
    localStorage.setItem(`parlor:${document.body.dataset.user}:notify`, wish);
    wishedHere = null;
  } catch {
    wishedHere = wish;
  }
}

/** Tells of rooms with more unread than before, unless some tab of ours is looked at. */
async function notify(before, now, user) {
  if (!('Notification' in window) || !navigator.locks?.query || !wantsNotifications()) return;
  const { held } = await navigator.locks.query();
  if (held.some(({ name }) => name === 'parlor:looking')) return;
  for (const { room, unread, last } of now) {
    const known = before.find((one) => one.room === room)?.unread ?? 0;
    if (unread <= known || !last || last.author.id === user) continue;
    const says = `${last.author.username}: ${last.body}`;
    const shown = new Notification(room, {
      body: unread === 1 ? says : `${says}\n${unread} unread`,
      icon: document.querySelector('link[rel=apple-touch-icon]').href,
      tag: `parlor:${room}`,
    });
    shown.addEventListener('click', () => {
      window.focus();
      location.assign(`/rooms/${room}`);
      shown.close();
    });
  }
}

/** The switch for notifications, where the browser has them: not on plain HTTP by a name. */
function offerNotifications() {
  // As in `static/room.js`, for the lobby, and for a room where that is missing.
  for (const folded of document.querySelectorAll('script[type="text/html"]')) folded.outerHTML = folded.textContent;
  const offer = document.getElementById('notifications');
  if (!offer || !('Notification' in window) || !navigator.locks) return;
  const toggle = offer.querySelector('button');
  const says = offer.querySelector('[role=status]');
  const show = () => toggle.setAttribute('aria-pressed', wantsNotifications());
  // For as long as it is looked at, a tab says so to the others.
  let stopLooking = () => {};
  const look = () => {
    stopLooking();
    if (document.hidden) return;
    const looking = new Promise((done) => { stopLooking = done; });
    navigator.locks.request('parlor:looking', { mode: 'shared' }, () => looking);
  };
  document.addEventListener('visibilitychange', look);
  look();
  toggle.addEventListener('click', async () => {
    says.textContent = '';
    if (wantsNotifications()) {
      wishNotifications('off');
    } else if (await Notification.requestPermission() === 'granted') {
      try {
        // Shows what they look like, and that this browser has them: some only name them.
        new Notification('Parlor', { body: 'You will be told of new messages like this.', tag: 'parlor' });
        wishNotifications('on');
      } catch {
        says.textContent = 'This browser shows no notifications.';
      }
    } else {
      says.textContent = 'Your browser does not allow it. Its settings for this site can.';
    }
    show();
  });
  show();
  offer.hidden = false;
}
