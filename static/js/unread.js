// Unread numbers of one's rooms: beside their names, and in the tab's title and icon. One tab asks the
// server and tells the others, as a browser has few connections to spare; the server holds its answer back
// until there is something new.
import { refreshList } from './list.js';
import { notify } from './notifications.js';
import { attempt, make, pause, room as here, startOver, user } from './page.js';
import { keys } from './storage.js';

const AGAIN_MS = 3_000;

/** Shows a number in a badge, or hides it. A browser that translates may have put anything in there. */
function show(badge, count, says = ' unread', sign = '') {
  badge.hidden = count === 0;
  let number = badge.querySelector('.number');
  if (!number) {
    number = make('span', { className: 'number' });
    badge.replaceChildren(number, make('span', { className: 'hidden' }));
  }
  if (number.textContent === sign + count) return;
  number.textContent = sign + count;
  number.nextSibling.textContent = says;
}

function newBadge(item, className) {
  const badge = make('span', { className, hidden: true });
  const unread = item.querySelector('.unread');
  if (unread) unread.before(badge, ' ');
  else ((!item.closest('.side') && item.querySelector('.name')) || item).append(' ', badge);
  return badge;
}

/** Shows how many mentions there are, in a badge of their own before the other; past 99 nobody counts. */
function showMentions(item, count) {
  const badge = item.querySelector('.mentioned');
  if (badge || count) show(badge ?? newBadge(item, 'mentioned'), count > 99 ? '99+' : count, count === 1 ? ' mention' : ' mentions', '@');
}

/** The counts that stand before the title: `(2 mentions, 14 unread) `. */
function titled(mentions, unread) {
  if (!mentions) return unread ? `(${unread}) ` : '';
  return `(${mentions === 1 ? '1 mention' : `${mentions} mentions`}, ${unread} unread) `;
}

/** Marks the other rooms in which a message waits to be sent. */
function markUnsent() {
  for (const key of keys()) {
    const [, of, room, kind] = key.split(':');
    if (of !== user || kind !== 'out' || room === here) continue;
    const item = document.querySelector(`li[data-room="${room}"] .name`);
    if (!item || item.querySelector('.unsent')) continue;
    item.append(' ', make('span', { className: 'unsent', textContent: 'not sent yet' }));
  }
}

function numberIn(item, badge) {
  return parseInt(item.querySelector(badge)?.textContent.replace('@', ''), 10) || 0;
}

function watchRooms() {
  if (!document.querySelector('li[data-room]')) return;
  let { title } = document;
  const icon = document.querySelector('link[rel=icon]');
  const [plain, dotted] = [icon.href, icon.dataset.new];
  const elsewhere = document.getElementById('elsewhere');
  // Without a channel, or without locks (plain HTTP, by a name), each tab is on its own.
  const tabs = window.BroadcastChannel && new BroadcastChannel(`parlor:${user}`);
  const isShared = tabs && navigator.locks;
  const nextLook = () => new Promise((done) => {
    document.addEventListener('visibilitychange', done, { once: true });
  });

  // As the page has it.
  let rooms = Array.from(document.querySelectorAll('li[data-room]'), (item) => (
    { room: item.dataset.room, unread: numberIn(item, '.unread'), mentions: numberIn(item, '.mentioned') }
  ));

  const showAll = () => {
    let sum = 0;
    let all = 0;
    for (const { room, unread, mentions } of rooms) {
      const isRead = unread === 0 || (room === here && !document.hidden);
      if (!isRead) [sum, all] = [sum + unread, all + mentions];
      const item = document.querySelector(`li[data-room="${room}"] a`);
      if (!item) continue;
      show(item.querySelector('.unread') ?? newBadge(item, 'unread'), isRead ? 0 : unread);
      showMentions(item, isRead ? 0 : mentions);
    }
    const link = document.querySelector('.to-mentions a');
    if (link) showMentions(link, all);
    document.title = titled(all, sum) + title;
    icon.href = sum ? dotted : plain;
    if (elsewhere) show(elsewhere, sum, ' unread in other rooms');
  };
  const hasRead = (read) => {
    rooms = rooms.map((one) => (one.room === read ? { ...one, unread: 0, mentions: 0 } : one));
    showAll();
  };
  document.addEventListener('parlor:read', () => {
    hasRead(here);
    tabs?.postMessage({ read: here });
  });
  document.addEventListener('visibilitychange', showAll);
  document.addEventListener('parlor:titled', ({ detail }) => {
    title = detail;
    showAll();
  });
  tabs?.addEventListener('message', ({ data }) => {
    if (data.read) return hasRead(data.read);
    rooms = data.rooms;
    showAll();
    refreshList().catch(console.error);
  });

  // Each page asks once, and one page again and again, being answered when there is news.
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
      // On its own the tab that is looked at asks, and the others now and then, at once answered, so
      // that they hold no connection.
      if (!isShared && document.hidden) await Promise.race([nextLook(), pause(60_000)]);
      const wait = isShared || !document.hidden ? 30 : 0;
      const left = window.AbortController && new AbortController();
      if (!isShared) nextLook().then(() => left?.abort());
      try {
        const lobby = await ask(`&wait=${wait}&after=${cursor}`, left?.signal);
        if (cursor) notify(rooms, lobby.rooms).catch(console.error);
        ({ rooms, cursor } = lobby);
        showAll();
        tabs?.postMessage({ rooms });
        refreshList().catch(console.error);
        // Not all at once again after a message to many.
        await pause(AGAIN_MS * (1 + Math.random() / 2));
      } catch {
        if (!left?.signal.aborted) await pause(3 * AGAIN_MS);
      }
    }
  };

  markUnsent();
  showAll();
  if (isShared) {
    navigator.locks.request(`parlor:${user}:rooms`, lead).catch(console.error);
    // The tab that leads may not know what was read on the page before this one.
    ask('').then((lobby) => {
      ({ rooms } = lobby);
      showAll();
    }, () => {});
  } else lead();
}

attempt(watchRooms);
