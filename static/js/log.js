// A room's log: where it is read, what has been seen of it, and that it stays at its end.
import { attempt, epoch, isTouched, log, user } from './page.js';
import { arrange, numberOf } from './rows.js';

export const scroller = document.getElementById('scroller');

const list = scroller.querySelector('.log');
let atBottom = true;

/** Keeps the end of the log in sight, if it was. */
export function stay() {
  if (atBottom) scroller.scrollTop = scroller.scrollHeight;
}

/** Brings the end of the log into sight. */
export function toBottom() {
  atBottom = true;
  stay();
}

export function isAtBottom() {
  return atBottom;
}

/** At the bottom the list stays at the bottom; further up nothing moves. */
function keepPlace() {
  const below = document.getElementById('below');
  const marked = list.querySelector('.marked');
  const line = list.querySelector('.new');
  const isNearEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
  atBottom = !marked && !line;
  let unseen = 0;
  // Seen is read: said at most once a second, and only while it is looked at.
  let noting = null;
  let newest = numberOf(list.lastElementChild);
  let noted = 0;
  const note = async () => {
    clearTimeout(noting);
    noting = null;
    if (document.hidden || !atBottom) return;
    const seq = newest;
    const body = new URLSearchParams({ seq: `${epoch}-${seq}` });
    try {
      if (seq !== noted) {
        const answer = await fetch(`${location.pathname}/read?as=${user}`, { method: 'POST', body, keepalive: true });
        if (!answer.ok) throw new Error(answer.status);
      }
      noted = seq;
      document.dispatchEvent(new Event('parlor:read'));
    } catch {
      noteRead(5_000);
    }
  };
  const noteRead = (later = 1_000) => { if (log) noting ??= setTimeout(note, later); };
  // A reader who leaves within that second has seen it too.
  addEventListener('pagehide', () => { if (log && newest !== noted) note(); });
  const tellUnseen = () => {
    if (!below) return;
    below.hidden = unseen === 0;
    below.textContent = unseen === 1 ? '1 new message' : `${unseen} new messages`;
  };
  if (marked) marked.scrollIntoView({ block: 'center' });
  // Where one stopped reading, if what came since does not fit; else it is the bottom anyway.
  else line?.scrollIntoView({ block: 'start' });
  stay();
  atBottom = isNearEnd();
  noteRead();
  const size = () => `${scroller.clientWidth} × ${scroller.clientHeight}`;
  let seenSize = size();
  scroller.addEventListener('scroll', () => {
    // Not moved by its reader, but by a change of its size, which is seen to next.
    if (size() !== seenSize) return;
    atBottom = isNearEnd();
    if (atBottom) noteRead();
    if (atBottom && unseen) {
      unseen = 0;
      tellUnseen();
    }
  }, { passive: true });
  below?.addEventListener('click', () => {
    toBottom();
    // Where that does not bring up a keyboard over what was asked for.
    if (!isTouched()) document.getElementById('composer-text').focus();
  });
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const row of addedNodes) {
        // Only rows below what is there, or in the place of one: older ones are arranged all together.
        if (row.dataset?.changed && numberOf(row) <= newest) arrange(list, row);
        if (numberOf(row) <= newest) continue;
        newest = numberOf(row);
        arrange(list, row);
        row.dispatchEvent(new Event('parlor:came', { bubbles: true }));
        if (!atBottom && row.matches('.message')) unseen += 1;
      }
    }
    tellUnseen();
    stay();
    noteRead();
  }).observe(list, { childList: true });
  document.addEventListener('visibilitychange', () => noteRead());
  // The composer grows, the keyboard opens, the window turns.
  const resized = () => {
    seenSize = size();
    stay();
  };
  if (window.ResizeObserver) {
    const observer = new ResizeObserver(resized);
    // Its content may grow, too: letters, reactions.
    observer.observe(scroller);
    observer.observe(list);
  }
  else addEventListener('resize', resized);
}

/** Where a keyboard on the screen covers the page instead of shrinking it (iOS), the room ends above it. */
function fitAboveKeyboard() {
  const seen = log && window.visualViewport;
  seen?.addEventListener('resize', () => {
    const isZoomed = Math.abs(seen.scale - 1) > 0.01;
    const isCovered = !isZoomed && innerHeight - seen.height > 1;
    document.body.style.height = isCovered ? `${seen.height}px` : '';
    if (isCovered) scrollTo(0, 0);
  });
}

attempt(fitAboveKeyboard, () => {
  arrange(list);
  keepPlace();
  // The log can take new messages (`stream.js`).
  if (log) log.dataset.state = 'ready';
});
