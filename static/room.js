// A room's log: how it is put together, where it is read, and its stream.
'use strict';

const log = document.getElementById('log');
const scroller = document.getElementById('scroller');
{
  const list = scroller.querySelector('.log');
  arrange(list);
  showOwn();
  keepPlace(list);
}
if (log) {
  follow();
  listenToKeys();
  fitAboveKeyboard();
}

/** Tells the reader's days apart and puts messages of one author together, from `first` on. */
function arrange(list, first = list.firstElementChild) {
  const TOGETHER_MS = 5 * 60_000;
  localiseTimes(first === list.firstElementChild ? list : first);
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
  const rules = new CSSStyleSheet();
  rules.replaceSync(`${own} { --tint: var(--own-surface) } ${own} .author { color: var(--link) }`);
  document.adoptedStyleSheets.push(rules);
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
  new ResizeObserver(() => {
    seenSize = size();
    stay();
  }).observe(scroller);
  scroller.stay = stay;
  scroller.isAtBottom = () => atBottom;
  scroller.toBottom = () => { atBottom = true; stay(); };
  if (log) loadOlder(list);
}

/** Older messages come in above as one scrolls up: what is being read stays where it is. */
function loadOlder(list) {
  let fromEnd = null;
  let hadFocus = false;
  document.addEventListener('htmx:before:swap', (event) => {
    const older = event.detail.ctx?.target;
    if (older?.id !== 'older') return;
    fromEnd = scroller.scrollHeight - scroller.scrollTop;
    hadFocus = older.contains(document.activeElement);
    // What was said long ago is not read aloud as if it had just come.
    scroller.ariaLive = 'off';
  });
  document.addEventListener('htmx:after:swap', () => {
    if (fromEnd === null) return;
    moveLine(list);
    arrange(list);
    scroller.scrollTop = scroller.scrollHeight - fromEnd;
    fromEnd = null;
    if (hadFocus) (list.querySelector('#older a') ?? scroller).focus({ preventScroll: true });
    setTimeout(() => { scroller.ariaLive = null; }, 1_000);
    watchOlder();
  });
  // They load by themselves; the link is for who has no scripts, or no patience.
  const nearing = new IntersectionObserver(([{ isIntersecting, target }]) => {
    if (isIntersecting && target.isConnected) target.querySelector('a').click();
  }, { root: scroller, rootMargin: '200px 0px 0px' });
  const watchOlder = () => {
    const older = document.getElementById('older');
    if (older) nearing.observe(older);
  };
  // Where the line that one has to see stands at the very top, not before one scrolls.
  if (!list.querySelector('.new a')) return watchOlder();
  setTimeout(() => scroller.addEventListener('scroll', watchOlder, { once: true, passive: true }), 500);
}

/** The line between read and new stood above all of the page: older ones may belong below it. */
function moveLine(list) {
  const line = list.querySelector('.new:has(a)');
  if (!line) return;
  const link = line.querySelector('a');
  const left = Number(link.href.split(/[-/]/).at(-1));
  const rows = Array.from(list.querySelectorAll('.message'));
  const isNew = ({ id, dataset }) => Number(id.slice(2)) > left && dataset.author !== document.body.dataset.user;
  rows.find(isNew)?.before(line);
  if (document.getElementById(`m-${left}`)) line.firstElementChild.textContent = 'New since you left';
}

/** The room's stream: opened while the page is looked at, watched, and opened again. */
function follow() {
  const SILENT_MS = 40_000; // two heartbeats and a half
  const status = document.getElementById('connection');
  const here = document.getElementById('here');
  let heardAt = Date.now();
  let lostTimer = null;

  const connect = () => {
    if (document.hidden || log._htmx?.sse) return;
    // htmx looks over the page from a timer that can fire before its extension's script has run,
    // and then passes the stream by.
    if (!log._htmx) htmx.process(log);
    htmx.trigger(log, 'connect');
  };
  const found = () => {
    heardAt = Date.now();
    clearTimeout(lostTimer);
    lostTimer = null;
    if (status.textContent) status.textContent = '';
  };
  const lost = () => {
    if (lostTimer || document.hidden) return;
    lostTimer = setTimeout(() => {
      lostTimer = null;
      if (!document.hidden) status.textContent = 'Connecting again…';
    }, 2_000);
  };

  log.addEventListener('htmx:sse:before:message', () => {
    found();
    // htmx pauses a stream when its tab is hidden, but not one that opens while it is: tell it
    // again. Six such streams would block everything else of this browser on plain HTTP.
    if (document.hidden) document.dispatchEvent(new Event('visibilitychange'));
  });
  log.addEventListener('htmx:sse:before:connection', (event) => {
    if (event.detail.connection.attempt > 0) lost();
  });
  log.addEventListener('htmx:sse:error', lost);
  // Whatever stands between us and the server may answer with a page of its own. It is not a
  // message; the timer below asks again.
  log.addEventListener('htmx:before:response', (event) => {
    const { ctx } = event.detail;
    if (event.target !== log || ctx.sourceElement !== log) return;
    if (ctx.response.headers.get('Content-Type')?.includes('text/event-stream')) return;
    event.preventDefault();
    lost();
  });
  log.addEventListener('htmx:error', lost);
  log.addEventListener('presence', (event) => {
    here.textContent = JSON.parse(event.detail.data).here;
  });
  showTyping();
  // The log is not the one this page was made from; or the page has no business here any more.
  log.addEventListener('reset', () => location.reload());
  log.addEventListener('signed-out', startOver);

  const retry = () => {
    log._htmx?.sse?.delayCanceller?.();
    connect();
  };
  document.addEventListener('visibilitychange', () => {
    heardAt = Date.now();
    // At once, not after the pause that is meant for a server in trouble. htmx begins that pause
    // when it hears of this event, a moment after us.
    if (!document.hidden) setTimeout(retry, 10);
  });
  addEventListener('online', retry);
  addEventListener('offline', lost);
  setInterval(() => {
    const stream = log._htmx?.sse;
    // A connection can die without a word; the heartbeat tells.
    if (stream?.reader && !document.hidden && Date.now() - heardAt > SILENT_MS) stream.reader.cancel();
    connect();
  }, 5_000);
  connect();
}

/** Who is typing: said for some seconds at a time, and over with their message. */
function showTyping() {
  const line = document.getElementById('typing');
  const timers = new Map();
  const show = () => {
    const names = Array.from(timers.keys());
    line.textContent = ['', `${names[0]} is typing…`, `${names[0]} and ${names[1]} are typing…`][names.length]
      ?? 'Several people are typing…';
  };
  const stop = (name) => {
    clearTimeout(timers.get(name));
    if (timers.delete(name)) show();
  };
  log.addEventListener('typing', (event) => {
    const { names, secs } = JSON.parse(event.detail.data);
    for (const name of names) {
      if (name === document.body.dataset.name) continue;
      clearTimeout(timers.get(name));
      timers.set(name, setTimeout(stop, secs * 1000, name));
    }
    show();
  });
  log.addEventListener('parlor:came', ({ target }) => stop(target.querySelector('.author')?.textContent));
}

/** Whether the keyboard is on the screen. */
function isTouched() {
  return matchMedia('(hover: none) and (pointer: coarse)').matches;
}

/** Keys beyond those that pages have anyway; the dialog `keys` tells of them. */
function listenToKeys() {
  const text = document.getElementById('composer-text');
  const jump = document.getElementById('jump');
  const keys = document.getElementById('keys');
  const focusRow = (row) => {
    if (!row) return false;
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: 'nearest' });
    return true;
  };
  const offerRooms = () => {
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
    const isTyping = event.target.matches('input, textarea');
    const row = event.target.closest?.('.log > .message');
    const rows = Array.from(document.querySelectorAll('.log > .message'));
    let done = true;
    if (event.key === 'k' && (event.ctrlKey || event.metaKey)) offerRooms();
    else if (event.ctrlKey || event.metaKey || event.altKey) done = false;
    else if (event.key === '/' && !isTyping) offerRooms();
    else if (event.key === '?' && !isTyping) keys.showModal();
    else if (event.key === 'Escape' && event.target !== text) text.focus();
    else if (event.key === 'ArrowUp' && event.target === text && !text.value) done = focusRow(rows.at(-1));
    else if (event.key === 'ArrowUp' && row) done = focusRow(rows[rows.indexOf(row) - 1]);
    else if (event.key === 'ArrowDown' && row) {
      if (!focusRow(rows[rows.indexOf(row) + 1])) text.focus();
    } else done = false;
    if (done) event.preventDefault();
  });
}

/** Where a keyboard on the screen covers the page instead of shrinking it (iOS), the room ends above it. */
function fitAboveKeyboard() {
  const seen = window.visualViewport;
  seen?.addEventListener('resize', () => {
    const isZoomed = Math.abs(seen.scale - 1) > 0.01;
    const isCovered = !isZoomed && innerHeight - seen.height > 1;
    document.body.style.height = isCovered ? `${seen.height}px` : '';
    if (isCovered) scrollTo(0, 0);
  });
}
