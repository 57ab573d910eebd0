// A room's log: how it is put together, where it is read, and its keys.
'use strict';

const log = document.getElementById('log');
const scroller = document.getElementById('scroller');

// Each part by itself: one that this browser cannot do takes no other along.
for (const part of [unfoldParts, showOwn, listenToKeys, fitAboveKeyboard]) attempt(part);
attempt(() => {
  const list = scroller.querySelector('.log');
  arrange(list);
  keepPlace(list);
  // What brings new messages may begin (`static/stream.js`).
  if (log) log.dataset.state = 'ready';
});
if (log) attempt(loadOlder);

function attempt(part) {
  try {
    part();
  } catch (error) {
    console.error(error);
  }
}

/** What stands in the page only where scripts run; browsers that know of no templates would show one. */
function unfoldParts() {
  for (const folded of document.querySelectorAll('script[type="text/html"]')) folded.outerHTML = folded.textContent;
}

/** Tells the reader's days apart and puts messages of one author together, from `first` on. */
function arrange(list, first = list.firstElementChild) {
  const TOGETHER_MS = 5 * 60_000;
  let above = first?.previousElementSibling ?? null;
  while (above && !above.id.startsWith('m-')) above = above.previousElementSibling;
  let isApart = false;
  for (let row = first, next; row; row = next) {
    next = row.nextElementSibling;
    if (row.classList.contains('day')) {
      row.remove();
      continue;
    }
    if (row.classList.contains('new')) isApart = true;
    const at = dateOf(row);
    if (!at) continue;
    const before = above && dateOf(above);
    const isNewDay = !before || before.toDateString() !== at.toDateString();
    if (isNewDay) row.before(dayLine(at));
    row.classList.toggle('follows', !isNewDay && !isApart && row.matches('.message:not(.marked)') && above.matches('.message')
      && row.dataset.author === above.dataset.author && at - before <= TOGETHER_MS);
    isApart = false;
    above = row;
  }
}

function dateOf(row) {
  const time = row.querySelector('time');
  return time && new Date(time.dateTime);
}

function dayLine(at) {
  const line = document.createElement('li');
  line.className = 'day';
  const year = at.getFullYear() === new Date().getFullYear() ? undefined : 'numeric';
  const day = at.toLocaleDateString([], { weekday: 'long', day: 'numeric', month: 'long', year });
  line.append(Object.assign(document.createElement('span'), { textContent: day }));
  return line;
}

/** Rows are the same for everybody, so what tells one's own apart is a rule of the page's. */
function showOwn() {
  const own = `.message[data-author="${document.body.dataset.user}"]`;
  const rules = document.styleSheets[0];
  rules.insertRule(`${own} { --tint: var(--own-surface) }`, rules.cssRules.length);
  rules.insertRule(`${own} .author { color: var(--link) }`, rules.cssRules.length);
}

/** At the bottom the list stays at the bottom; further up nothing moves. */
function keepPlace(list) {
  const below = document.getElementById('below');
  const marked = list.querySelector('.marked');
  const line = list.querySelector('.new');
  const isAtBottom = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
  let atBottom = !marked && !line;
  let unseen = 0;
  const stay = () => { if (atBottom) scroller.scrollTop = scroller.scrollHeight; };
  // Seen is read: said at most once a second, and only while it is looked at.
  let noting = null;
  const numberOf = (row) => Number(row?.id?.slice(2)) || 0;
  let newest = numberOf(list.lastElementChild);
  let noted = 0;
  const note = async () => {
    clearTimeout(noting);
    noting = null;
    if (document.hidden || !atBottom) return;
    const { epoch, user } = document.body.dataset;
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
  // Who leaves within that second has seen it too.
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
  atBottom = isAtBottom();
  noteRead();
  const size = () => `${scroller.clientWidth} × ${scroller.clientHeight}`;
  let seenSize = size();
  scroller.addEventListener('scroll', () => {
    // Not moved by its reader, but by a change of its size, which is seen to next.
    if (size() !== seenSize) return;
    atBottom = isAtBottom();
    if (atBottom) noteRead();
    if (atBottom && unseen) {
      unseen = 0;
      tellUnseen();
    }
  }, { passive: true });
  below?.addEventListener('click', () => {
    scroller.toBottom();
    // Where that does not bring up a keyboard over what was asked for.
    if (!isTouched()) document.getElementById('composer-text').focus();
  });
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const row of addedNodes) {
        // Only what comes below what is there: older ones are arranged all together.
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
  if (window.ResizeObserver) new ResizeObserver(resized).observe(scroller);
  else addEventListener('resize', resized);
  scroller.stay = stay;
  scroller.isAtBottom = () => atBottom;
  scroller.toBottom = () => { atBottom = true; stay(); };
}

/** Older messages come in above as one scrolls up: what is being read stays where it is. */
function loadOlder() {
  let fromEnd = null;
  let hadFocus = false;
  document.addEventListener('htmx:before:swap', (event) => {
    const older = event.detail.ctx?.target;
    if (older?.id !== 'older') return;
    fromEnd = scroller.scrollHeight - scroller.scrollTop;
    hadFocus = older.contains(document.activeElement);
    // What was said long ago is not read aloud as if it had just come.
    scroller.setAttribute('aria-live', 'off');
  });
  document.addEventListener('htmx:after:swap', () => {
    if (fromEnd === null) return;
    moveLine(log);
    arrange(log);
    scroller.scrollTop = scroller.scrollHeight - fromEnd;
    fromEnd = null;
    if (hadFocus) (log.querySelector('#older a') ?? scroller).focus({ preventScroll: true });
    setTimeout(() => { scroller.removeAttribute('aria-live'); }, 1_000);
    watchOlder();
  });
  // They load by themselves; the link is for who has no scripts, or no patience. Without htmx it would
  // lead away.
  const nearing = window.IntersectionObserver && new IntersectionObserver(([{ isIntersecting, target }]) => {
    if (!isIntersecting || !target.isConnected || !window.htmx) return;
    const link = target.querySelector('a');
    if (!link._htmx) htmx.process(link);
    link.click();
  }, { root: scroller, rootMargin: '200px 0px 0px' });
  const watchOlder = () => {
    const older = document.getElementById('older');
    if (older) nearing?.observe(older);
  };
  // Where the line that one has to see stands at the very top, not before one scrolls.
  if (!log.querySelector('.new a')) return addEventListener('load', watchOlder);
  setTimeout(() => scroller.addEventListener('scroll', watchOlder, { once: true, passive: true }), 500);
}

/** The line between read and new stood above all of the page: older ones may belong below it. */
function moveLine(list) {
  const link = list.querySelector('.new a');
  if (!link) return;
  const line = link.closest('.new');
  const left = Number(link.href.split(/[-/]/).pop());
  const rows = Array.from(list.querySelectorAll('.message'));
  const isNew = ({ id, dataset }) => Number(id.slice(2)) > left && dataset.author !== document.body.dataset.user;
  rows.find(isNew)?.before(line);
  if (document.getElementById(`m-${left}`)) line.firstElementChild.textContent = 'New since you left';
}

/** Whether the keyboard is on the screen. */
function isTouched() {
  return window.matchMedia?.('(hover: none) and (pointer: coarse)').matches ?? false;
}

/** Keys beyond those that pages have anyway; the dialog `keys` tells of them. */
function listenToKeys() {
  const text = document.getElementById('composer-text');
  const jump = document.getElementById('jump');
  const keys = document.getElementById('keys');
  if (!log || !text || !jump || !keys) return;
  const focusRow = (row) => {
    if (!row) return false;
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: 'nearest' });
    return true;
  };
  const offerRooms = () => {
    // An old browser has no dialogs, and the lobby asks the same.
    if (!jump.showModal) return location.assign('/rooms');
    // The page names them once, in its list.
    const options = Array.from(document.querySelectorAll('.side li[data-room]'), (link) => {
      const option = document.createElement('option');
      option.value = link.dataset.room;
      return option;
    });
    document.getElementById('jump-rooms').replaceChildren(...options);
    jump.showModal();
  };
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]')) return;
    const isTyping = event.target.matches?.('input, textarea');
    const row = event.target.closest?.('.log > .message');
    const rows = Array.from(document.querySelectorAll('.log > .message'));
    let done = true;
    if (isLetter(event, 'k') && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) offerRooms();
    else if (event.ctrlKey || event.metaKey || event.altKey) done = false;
    else if (event.key === '/' && !isTyping) offerRooms();
    else if (['?', '؟'].includes(event.key) && !isTyping) keys.showModal?.();
    else if (event.key === 'Escape' && event.target !== text) text.focus();
    else if (event.key === 'ArrowUp' && event.target === text && !text.value) done = focusRow(rows[rows.length - 1]);
    else if (event.key === 'ArrowUp' && row) done = focusRow(rows[rows.indexOf(row) - 1]);
    else if (event.key === 'ArrowDown' && row) {
      if (!focusRow(rows[rows.indexOf(row) + 1])) text.focus();
    } else done = false;
    if (done) event.preventDefault();
  });
  // In WebKit the first Enter only closes the list of suggestions. Where one of them was picked with the
  // arrows it has to, everywhere else Enter goes there.
  let isPicking = false;
  const field = document.getElementById('jump-room');
  field.addEventListener('input', () => { isPicking = false; });
  field.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowUp' || event.key === 'ArrowDown') isPicking = true;
    if (event.key !== 'Enter' || event.isComposing || event.keyCode === 229 || isPicking) return;
    event.preventDefault();
    submit(field.form);
  });
}

/** Whether a key is this letter, whatever Caps Lock says; or, where letters are not Latin ones, its place. */
function isLetter({ key = '', code }, letter) {
  return key.toLowerCase() === letter || (!/^[a-z]$/i.test(key) && code === `Key${letter.toUpperCase()}`);
}

/** As its button would. */
function submit(form) {
  if (form.requestSubmit) form.requestSubmit();
  else form.querySelector('button').click();
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
