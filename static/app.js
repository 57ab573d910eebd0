// What the pages do beyond links and forms. Nothing here is needed to use them.
'use strict';

const log = document.getElementById('log');
const scroller = document.getElementById('scroller');
const composer = document.getElementById('composer');
if (scroller) {
  const list = scroller.querySelector('.log');
  arrange(list);
  showOwn();
  keepPlace(list);
} else {
  localiseTimes(document);
}
if (log) follow();
if (document.querySelector('[data-room] .unread')) watchRooms();
if (composer && log) {
  compose();
  listenToKeys();
}

// The browser restored a page from its memory, as it was when it was left: bring it up to date.
addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload();
});

/** Shows times in the reader's zone and language; the server writes UTC. */
function localiseTimes(root) {
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll('time')) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    const clock = at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
    const day = at.toLocaleDateString([], { day: 'numeric', month: 'short' });
    // In the log a line tells the days apart.
    time.textContent = time.closest('.log') || at.toDateString() === today ? clock : `${day}, ${clock}`;
    time.title = at.toLocaleString();
  }
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
    row.classList.toggle('follows', !isNewDay && !isApart && row.matches('.message') && above.matches('.message')
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
  const own = new CSSStyleSheet();
  own.replaceSync(`.message[data-author="${document.body.dataset.user}"] .author { color: var(--own) }`);
  document.adoptedStyleSheets.push(own);
}

/** At the bottom the list stays at the bottom; further up nothing moves. */
function keepPlace(list) {
  const below = document.getElementById('below');
  const marked = list.querySelector('.marked');
  const line = list.querySelector('.new');
  const isAtBottom = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
  let atBottom = !marked && !line;
  let unseen = 0;
  const toBottom = () => { if (atBottom) scroller.scrollTop = scroller.scrollHeight; };
  // Seen is read: said at most once a second, and only while it is looked at.
  let noting = null;
  const numberOf = (row) => Number(row?.id?.slice(2)) || 0;
  let newest = numberOf(list.lastElementChild);
  let noted = newest; // The page itself was.
  const noteRead = () => {
    if (!log || noting) return;
    noting = setTimeout(() => {
      noting = null;
      if (document.hidden || !atBottom || newest === noted) return;
      noted = newest;
      const body = new URLSearchParams({ seq: `${document.body.dataset.epoch}-${newest}` });
      fetch(`${location.pathname}/read`, { method: 'POST', body }).catch(() => {});
    }, 1_000);
  };
  const tellUnseen = () => {
    if (!below) return;
    below.hidden = unseen === 0;
    below.textContent = unseen === 1 ? '1 new message' : `${unseen} new messages`;
  };
  if (marked) marked.scrollIntoView({ block: 'center' });
  // Where one stopped reading, if what came since does not fit; else it is the bottom anyway.
  else line?.scrollIntoView({ block: 'start' });
  toBottom();
  atBottom = isAtBottom();
  scroller.addEventListener('scroll', () => {
    atBottom = isAtBottom();
    if (atBottom) noteRead();
    if (atBottom && unseen) {
      unseen = 0;
      tellUnseen();
    }
  }, { passive: true });
  below?.addEventListener('click', () => {
    scroller.toBottom();
    document.getElementById('composer-text')?.focus();
  });
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const row of addedNodes) {
        // Only what comes below what is there: older ones are arranged all together.
        if (numberOf(row) <= newest) continue;
        newest = numberOf(row);
        arrange(list, row);
        settle(row);
        if (!atBottom && row.matches('.message')) unseen += 1;
      }
    }
    tellUnseen();
    toBottom();
    noteRead();
  }).observe(list, { childList: true });
  addEventListener('focus', () => noteRead());
  // The composer grows, the keyboard opens, the window turns.
  new ResizeObserver(toBottom).observe(scroller);
  scroller.toBottom = () => { atBottom = true; toBottom(); };

  // Older messages come in above: what is being read stays where it is.
  let fromEnd = null;
  document.addEventListener('htmx:before:swap', (event) => {
    if (event.detail.ctx?.target?.id === 'older') fromEnd = scroller.scrollHeight - scroller.scrollTop;
  });
  document.addEventListener('htmx:after:swap', () => {
    if (fromEnd === null) return;
    arrange(list);
    scroller.scrollTop = scroller.scrollHeight - fromEnd;
    fromEnd = null;
  });
  // They load as one scrolls up; the link is for who has no scripts, or no patience.
  const nearing = new IntersectionObserver(([{ isIntersecting, target }]) => {
    if (isIntersecting && target.isConnected) target.querySelector('a').click();
  }, { root: scroller, rootMargin: '200px 0px 0px' });
  const watchOlder = () => {
    const older = log && document.getElementById('older');
    if (older) nearing.observe(older);
  };
  document.addEventListener('htmx:after:swap', watchOlder);
  watchOlder();
}

/** A message of one's own has come: what stood for it goes, in the same frame. */
function settle(row) {
  if (row.dataset.author !== document.body.dataset.user) return;
  // As shown, code has no backticks around it, and a block no name of its language.
  const said = (of) => of.querySelector('.body').textContent.replace(/^```\w*$/gm, '').replace(/[`\s]/g, '');
  for (const pending of document.querySelectorAll('#outbox > .pending')) {
    if (pending.dataset.seq === row.id || said(pending) === said(row)) return pending.remove();
  }
}

/** What is unread in one's rooms: beside their names, and in the tab's title and icon. */
function watchRooms() {
  const title = document.title;
  const icon = document.querySelector('link[rel=icon]');
  const [plain, dotted] = [icon.href, icon.dataset.new];
  let lookedAt = 0;
  const look = async () => {
    lookedAt = Date.now();
    let rooms;
    try {
      const answer = await fetch('/rooms', { headers: { Accept: 'application/json' } });
      ({ rooms } = await answer.json());
    } catch {
      return; // Next time.
    }
    let sum = 0;
    for (const { room, unread } of rooms ?? []) {
      const isRead = room === document.body.dataset.room && !document.hidden;
      if (!isRead) sum += unread;
      const badge = document.querySelector(`li[data-room="${room}"] .unread`);
      if (!badge) continue;
      badge.hidden = isRead || unread === 0;
      badge.firstChild.data = unread;
    }
    document.title = sum ? `(${sum}) ${title}` : title;
    icon.href = sum ? dotted : plain;
  };
  // Once a minute will do for a tab that nobody looks at.
  setInterval(() => {
    if (!document.hidden || Date.now() - lookedAt > 60_000) look();
  }, 5_000);
  document.addEventListener('visibilitychange', look);
  look();
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
    status.hidden = true;
  };
  const lost = () => {
    if (lostTimer || document.hidden) return;
    lostTimer = setTimeout(() => { status.hidden = document.hidden; }, 2_000);
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
  // The log is not the one this page was made from; or the page has no business here any more.
  log.addEventListener('reset', () => location.reload());
  log.addEventListener('signed-out', () => location.reload());

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
  setInterval(() => {
    const stream = log._htmx?.sse;
    // A connection can die without a word; the heartbeat tells.
    if (stream?.reader && !document.hidden && Date.now() - heardAt > SILENT_MS) stream.reader.cancel();
    connect();
  }, 5_000);
  connect();
}

/** Keys beyond those that pages have anyway; the dialog `keys` tells of them. */
function listenToKeys() {
  const text = document.getElementById('composer-text');
  const jump = document.getElementById('jump');
  const keys = document.getElementById('keys');
  const focusRow = (row) => {
    if (!row) return false;
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: 'nearest' });
    return true;
  };
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]')) return;
    const isTyping = event.target.matches('input, textarea');
    const row = event.target.closest?.('.log > .message');
    const rows = Array.from(document.querySelectorAll('.log > .message'));
    let done = true;
    if (event.key === 'k' && (event.ctrlKey || event.metaKey)) jump.showModal();
    else if (event.ctrlKey || event.metaKey || event.altKey) done = false;
    else if (event.key === '/' && !isTyping) jump.showModal();
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

/** The composer: what is sent leaves it at once and is not forgotten until the server has it. */
function compose() {
  const text = document.getElementById('composer-text');
  const notice = document.getElementById('composer-notice');
  const list = document.getElementById('outbox');
  const { user, room, name, avatar } = document.body.dataset;
  const mine = `parlor:${user}:${room}`;
  const outbox = JSON.parse(sessionStorage.getItem(`${mine}:outbox`) ?? '[]');
  let isSending = false;
  let wake = () => {};

  const keepOutbox = () => sessionStorage.setItem(`${mine}:outbox`, JSON.stringify(outbox));
  const keepDraft = () => {
    if (text.value) localStorage.setItem(`${mine}:draft`, text.value);
    else localStorage.removeItem(`${mine}:draft`);
  };

  text.value ||= localStorage.getItem(`${mine}:draft`) ?? '';
  text.addEventListener('input', keepDraft);
  text.addEventListener('keydown', (event) => {
    const sends = event.key === 'Enter' && !event.shiftKey && !event.isComposing;
    // A keyboard on the screen has no Shift+Enter; there is a button beside it.
    if (!sends || matchMedia('(hover: none) and (pointer: coarse)').matches) return;
    event.preventDefault();
    composer.requestSubmit();
  });

  // Before htmx hears of it: messages go out one after another, each until it is answered, so
  // that their order is the one they were written in.
  composer.addEventListener('submit', (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!text.value.trim()) return;
    const message = { body: text.value, nonce: newNonce() };
    outbox.push(message);
    keepOutbox();
    show(message);
    text.value = '';
    keepDraft();
    notice.textContent = '';
    text.focus();
    scroller.toBottom();
    sendAll();
  }, true);

  /** Shows a message before the server has it. */
  function show(message) {
    const row = document.createElement('li');
    row.className = 'message pending';
    row.id = `n-${message.nonce}`;
    const picture = Object.assign(new Image(36, 36), { className: 'avatar', src: avatar, alt: '' });
    const meta = Object.assign(document.createElement('p'), { className: 'meta' });
    meta.append(Object.assign(document.createElement('b'), { className: 'author', textContent: name }));
    const body = Object.assign(document.createElement('div'), { className: 'body', dir: 'auto' });
    body.textContent = message.body.trimEnd();
    const above = list.lastElementChild ?? log.lastElementChild;
    row.classList.toggle('follows', above?.matches('.pending') || (above?.dataset.author === user));
    row.append(picture, meta, body);
    list.append(row);
  }

  /** Says under a message how its sending goes. */
  function say(message, what, ...buttons) {
    const row = document.getElementById(`n-${message.nonce}`);
    if (!row) return;
    row.querySelector('.state')?.remove();
    if (!what) return;
    const state = Object.assign(document.createElement('p'), { className: 'state' });
    state.setAttribute('role', 'status');
    state.append(what, ...buttons);
    row.append(state);
    scroller.toBottom();
    return state;
  }

  const button = (label, action) => {
    const made = Object.assign(document.createElement('button'), { type: 'button', textContent: label });
    made.addEventListener('click', action);
    return made;
  };

  async function sendAll() {
    if (isSending) return;
    isSending = true;
    let pause = 500;
    while (outbox.length > 0) {
      const [message] = outbox;
      const { status, says, wait, seq } = await post(message);
      if (status === 401) break; // on the way to the sign-in page, and back: the outbox waits
      if (status === 0 || status >= 500 || status === 408 || status === 429) {
        // Sending again is safe: the nonce is the same.
        say(message, 'Not sent yet.', button('Try again', () => wake()));
        await new Promise((done) => {
          wake = done;
          setTimeout(done, Math.max(pause, wait * 1000));
        });
        pause = Math.min(pause * 2, 5_000);
        continue;
      }
      outbox.shift();
      keepOutbox();
      pause = 500;
      if (status >= 400) refuse(message, says);
      else sent(message, seq);
    }
    isSending = false;
  }

  /** The server has it; the stream brings it, or has brought it already. */
  function sent(message, seq) {
    const row = document.getElementById(`n-${message.nonce}`);
    if (!row) return;
    say(message, '');
    if (document.getElementById(seq)) row.remove();
    else row.dataset.seq = seq;
  }

  /** It will not be taken as it is: its author gets it back, with the reason. */
  function refuse({ body, nonce }, says) {
    document.getElementById(`n-${nonce}`)?.remove();
    text.value = text.value ? `${body}\n${text.value}` : body;
    keepDraft();
    notice.textContent = says || 'This was not taken. Change it and send again.';
  }

  /** Posts one message by the form's own means and says how it ended. */
  async function post(values) {
    let answer = { status: 0, says: '', wait: 0, seq: '' };
    const finished = (event) => {
      const response = event.detail.ctx?.response;
      if (!response) return;
      const page = new DOMParser().parseFromString(event.detail.ctx.text ?? '', 'text/html');
      answer = {
        status: response.status,
        says: page.getElementById('composer-notice')?.textContent ?? '',
        wait: Number(response.headers.get('Retry-After') ?? 0),
        seq: `m-${(response.headers.get('Location') ?? '').split(/[-/]/).at(-1)}`,
      };
    };
    composer.addEventListener('htmx:finally:request', finished);
    try {
      await htmx.ajax('POST', composer.action, { source: composer, values, swap: 'none' });
    } catch {
      // Said by the status, which is still 0.
    }
    composer.removeEventListener('htmx:finally:request', finished);
    return answer;
  }

  /** crypto.randomUUID is not there on plain HTTP. */
  function newNonce() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  outbox.forEach(show);
  sendAll();
}
