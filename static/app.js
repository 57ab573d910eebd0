// What every page does beyond links and forms. Nothing here is needed to use them.
'use strict';

localiseTimes(document);
if (document.querySelector('[data-room] .unread')) watchRooms();

// The browser restored a page from its memory, as it was when it was left: bring it up to date.
addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload();
});

// Who signs out is led on by that; the page need not find out by itself that its session is over.
let isLeaving = false;
addEventListener('submit', ({ target }) => { isLeaving ||= target.matches('.account'); });

/** Loads the page again, as whoever is signed in now, or leads to the sign-in page. */
function startOver() {
  if (!isLeaving) location.reload();
}

/** Shows times in the reader's zone and language; the server writes UTC. */
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
  const AGAIN_MS = 3_000;
  const { user, room: here } = document.body.dataset;
  const title = document.title;
  const icon = document.querySelector('link[rel=icon]');
  const [plain, dotted] = [icon.href, icon.dataset.new];
  const elsewhere = document.getElementById('elsewhere');
  const tabs = new BroadcastChannel(`parlor:${user}`);
  const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
  const nextLook = () => new Promise((done) => {
    document.addEventListener('visibilitychange', done, { once: true });
  });

  // As the page has it.
  let rooms = Array.from(document.querySelectorAll('li[data-room]'), (item) => (
    { room: item.dataset.room, unread: Number(item.querySelector('.unread').firstChild.data) }
  ));

  const show = () => {
    let sum = 0;
    for (const { room, unread } of rooms) {
      const isRead = unread === 0 || (room === here && !document.hidden);
      if (!isRead) sum += unread;
      const badge = document.querySelector(`li[data-room="${room}"] .unread`);
      if (!badge) continue;
      badge.hidden = isRead;
      badge.firstChild.data = unread;
    }
    document.title = sum ? `(${sum}) ${title}` : title;
    icon.href = sum ? dotted : plain;
    if (elsewhere) {
      elsewhere.hidden = sum === 0;
      elsewhere.firstChild.data = sum;
    }
  };
  const hasRead = (read) => {
    rooms = rooms.map((one) => (one.room === read ? { ...one, unread: 0 } : one));
    show();
  };
  document.addEventListener('parlor:read', () => {
    hasRead(here);
    tabs.postMessage({ read: here });
  });
  document.addEventListener('visibilitychange', show);
  tabs.addEventListener('message', ({ data }) => {
    if (data.read) return hasRead(data.read);
    rooms = data.rooms;
    show();
  });

  // What each page asks once, and one page again and again, being answered when there is news.
  const ask = async (query, signal) => {
    const answer = await fetch(`/rooms?as=${user}${query}`, { headers: { Accept: 'application/json' }, signal });
    // Its reader has signed out elsewhere; somebody else may have signed in.
    if (answer.status === 401) startOver();
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  };
  const lead = async () => {
    let cursor = '';
    for (;;) {
      // Without locks (plain HTTP, by a name) each tab asks for itself: the one that is looked at,
      // and the others now and then, at once answered, so that they hold no connection.
      if (!navigator.locks && document.hidden) await Promise.race([nextLook(), pause(60_000)]);
      const wait = navigator.locks || !document.hidden ? 30 : 0;
      const left = new AbortController();
      if (!navigator.locks) nextLook().then(() => left.abort());
      try {
        const lobby = await ask(`&wait=${wait}&after=${cursor}`, left.signal);
        if (cursor) notify(rooms, lobby.rooms, user);
        ({ rooms, cursor } = lobby);
        show();
        tabs.postMessage({ rooms });
        // Not all at once again after a message to many.
        await pause(AGAIN_MS * (1 + Math.random() / 2));
      } catch {
        if (!left.signal.aborted) await pause(3 * AGAIN_MS);
      }
    }
  };

  // What could not be sent waits in its room.
  for (const key of Object.keys(localStorage)) {
    const [, of, room, kind] = key.split(':');
    if (of !== user || kind !== 'out' || room === here) continue;
    const item = document.querySelector(`li[data-room="${room}"] .name`);
    if (!item || item.querySelector('.unsent')) continue;
    item.append(' ', Object.assign(document.createElement('span'), { className: 'unsent', textContent: 'not sent yet' }));
  }

  if (navigator.locks) {
    navigator.locks.request(`parlor:${user}:rooms`, lead);
    // The one that leads may not know what was read on the page before this one.
    ask('').then((lobby) => {
      ({ rooms } = lobby);
      show();
    }, () => {});
  } else lead();
  show();
  offerNotifications();
}

/** Whether a notification is wanted and may be shown. */
function wantsNotifications() {
  return localStorage.getItem(`parlor:${document.body.dataset.user}:notify`) === 'on' && Notification.permission === 'granted';
}

/** Tells of rooms with more unread than before, unless some tab of ours is looked at. */
async function notify(before, now, user) {
  if (!('Notification' in window) || !wantsNotifications()) return;
  const { held } = await navigator.locks.query();
  if (held.some(({ name }) => name === 'parlor:looking')) return;
  for (const { room, unread, last } of now) {
    const known = before.find((one) => one.room === room)?.unread ?? 0;
    if (unread <= known || !last || last.author.id === user) continue;
    const says = `${last.author.username}: ${last.body}`.slice(0, 160);
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
  const offer = document.getElementById('notifications');
  if (!offer || !('Notification' in window) || !navigator.locks) return;
  const toggle = offer.querySelector('button');
  const says = offer.querySelector('[role=status]');
  const wish = `parlor:${document.body.dataset.user}:notify`;
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
      localStorage.removeItem(wish);
    } else if (await Notification.requestPermission() === 'granted') {
      try {
        // Shows what they look like, and that this browser has them: some only name them.
        new Notification('Parlor', { body: 'You will be told of new messages like this.', tag: 'parlor' });
        localStorage.setItem(wish, 'on');
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
