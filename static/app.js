// What the pages do beyond links and forms. Nothing here is needed to use them.
'use strict';

localiseTimes(document);
const log = document.getElementById('log');
const scroller = document.getElementById('scroller');
const composer = document.getElementById('composer');
if (scroller) {
  keepPlace();
  showOwn();
}
if (log) follow();
if (composer && log) compose();

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
    time.textContent = at.toDateString() === today ? clock : `${day}, ${clock}`;
    time.title = at.toLocaleString();
  }
}

/** Rows are the same for everybody, so what tells one's own apart is a rule of the page's. */
function showOwn() {
  const own = new CSSStyleSheet();
  own.replaceSync(`.message[data-author="${document.body.dataset.user}"] .author { color: var(--own) }`);
  document.adoptedStyleSheets.push(own);
}

/** At the bottom the list stays at the bottom; further up nothing moves. */
function keepPlace() {
  const list = scroller.querySelector('.log');
  const marked = list.querySelector('.marked');
  let atBottom = !marked;
  const toBottom = () => { if (atBottom) scroller.scrollTop = scroller.scrollHeight; };
  if (marked) marked.scrollIntoView({ block: 'center' });
  toBottom();
  scroller.addEventListener('scroll', () => {
    atBottom = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
  }, { passive: true });
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) if (node.querySelectorAll) localiseTimes(node);
    }
    toBottom();
  }).observe(list, { childList: true });
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
    scroller.scrollTop = scroller.scrollHeight - fromEnd;
    fromEnd = null;
  });
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

/** The composer: what is sent leaves it at once and is not forgotten until the server has it. */
function compose() {
  const text = document.getElementById('composer-text');
  const notice = document.getElementById('composer-notice');
  const mine = `parlor:${document.body.dataset.user}:${document.body.dataset.room}`;
  const outbox = JSON.parse(sessionStorage.getItem(`${mine}:outbox`) ?? '[]');
  let isSending = false;

  const keepOutbox = () => sessionStorage.setItem(`${mine}:outbox`, JSON.stringify(outbox));
  const keepDraft = () => sessionStorage.setItem(`${mine}:draft`, text.value);
  const say = (what, isCalm = false) => {
    notice.textContent = what;
    notice.classList.toggle('calm', isCalm);
  };

  text.value ||= sessionStorage.getItem(`${mine}:draft`) ?? '';
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
    outbox.push({ body: text.value, nonce: newNonce() });
    keepOutbox();
    text.value = '';
    keepDraft();
    say('');
    text.focus();
    scroller.toBottom();
    sendAll();
  }, true);

  async function sendAll() {
    if (isSending) return;
    isSending = true;
    let pause = 500;
    while (outbox.length > 0) {
      const { status, says, wait } = await post(outbox[0]);
      if (status === 401) break; // on the way to the sign-in page, and back: the outbox waits
      if (status === 0 || status >= 500 || status === 408 || status === 429) {
        // Sending again is safe: the nonce is the same.
        say('Not sent yet. Trying again…', true);
        await new Promise((done) => setTimeout(done, Math.max(pause, wait * 1000)));
        pause = Math.min(pause * 2, 5_000);
        continue;
      }
      const { body } = outbox.shift();
      keepOutbox();
      pause = 500;
      if (notice.classList.contains('calm')) say('');
      if (status >= 400) {
        text.value = text.value ? `${body}\n${text.value}` : body;
        keepDraft();
        say(says || 'This was not taken. Change it and send again.');
      }
    }
    isSending = false;
  }

  /** Posts one message by the form's own means and says how it ended. */
  async function post(values) {
    let answer = { status: 0, says: '', wait: 0 };
    const finished = (event) => {
      const response = event.detail.ctx?.response;
      if (!response) return;
      const page = new DOMParser().parseFromString(event.detail.ctx.text ?? '', 'text/html');
      answer = {
        status: response.status,
        says: page.getElementById('composer-notice')?.textContent ?? '',
        wait: Number(response.headers.get('Retry-After') ?? 0),
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

  sendAll();
}
