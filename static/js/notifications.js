// Notifications of new messages, for readers who asked for them: not on plain HTTP by a name.
import { attempt, user } from './page.js';
import { keep, stored } from './storage.js';

// The wish, where the browser's memory does not take it.
let wishedHere = null;

/** Whether notifications are wanted and may be shown. */
function areWanted() {
  const wish = wishedHere ?? stored(`parlor:${user}:notify`);
  return wish === 'on' && Notification.permission === 'granted';
}

function wish(what) {
  wishedHere = keep(`parlor:${user}:notify`, what) ? null : what;
}

/** Notifies of rooms with more unread than before, unless some tab of ours is looked at. */
export async function notify(before, now) {
  if (!('Notification' in window) || !navigator.locks?.query || !areWanted()) return;
  const { held } = await navigator.locks.query();
  if (held.some(({ name }) => name === 'parlor:looking')) return;
  const grown = now.map((one) => {
    const known = before.find(({ room }) => room === one.room);
    const isForMe = one.mentions > (known?.mentions ?? 0);
    return { ...one, isForMe, isNew: isForMe || one.unread > (known?.unread ?? 0) };
  });
  // Mentions of the reader come first.
  grown.sort((a, b) => b.isForMe - a.isForMe);
  for (const { room, name, people, unread, mentions, isNew, isForMe, last } of grown) {
    const others = people?.filter(({ id }) => id !== user).map(({ username }) => username).join(', ');
    const called = name ?? (others || room);
    if (!isNew || !last || last.author.id === user) continue;
    const says = `${last.author.username}: ${last.body}`;
    const title = !isForMe ? called : mentions === 1 ? `You are mentioned in ${called}` : `${mentions} mentions in ${called}`;
    const shown = new Notification(title, {
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

/** The switch. */
function offer() {
  const part = document.getElementById('notifications');
  if (!part || !('Notification' in window) || !navigator.locks) return;
  const toggle = part.querySelector('button');
  const says = part.querySelector('[role=status]');
  const show = () => toggle.setAttribute('aria-pressed', areWanted());
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
    if (areWanted()) {
      wish('off');
    } else if (await Notification.requestPermission() === 'granted') {
      try {
        // Shows what they look like, and that this browser has them: some only name them.
        new Notification('Parlor', { body: 'You will be told of new messages like this.', tag: 'parlor' });
        wish('on');
      } catch {
        says.textContent = 'This browser shows no notifications.';
      }
    } else {
      says.textContent = 'Your browser does not allow it. Its settings for this site can.';
    }
    show();
  });
  show();
  part.hidden = false;
}

attempt(offer);
