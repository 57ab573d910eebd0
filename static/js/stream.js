// New messages: the room's stream and, where that does not get through, the long poll.
import { putInPlace } from './changes.js';
import './log.js';
import { log, pause, room, startOver, user } from './page.js';

const SILENT_MS = 40_000; // two heartbeats and a half
const PATIENCE_MS = 6_000; // without a stream

const status = document.getElementById('connection');
const here = document.getElementById('here');
// The end of the log on this page: an event's id, which is more than a number.
let cursor = log?.getAttribute('hx-sse:connect').match(/[?&]after=([^&]*)/)?.[1];
let heardAt = Date.now();
let openedAt = 0;
// A stream that opened and then fell silent has to show that more than its start gets through.
let isDoubted = false;
// Since when there is no stream, though the page is looked at.
let missingSince = Date.now();
let lostTimer = null;
let isPolling = false;
let stopPolling = () => {};

// Without any of these htmx opens streams, one after another, that it can neither read nor end.
const canStream = window.TextDecoder && window.AbortController && 'body' in (window.Response?.prototype ?? {});
const numberOf = (id) => Number(id.split('-').pop());

/** Whether new messages come into the log, by whichever way. */
export function isLive() {
  return ['stream', 'poll', 'trying'].includes(log.dataset.state);
}

/** Says how messages come: by `stream` or by `poll`, or not for now (`trying`). */
function report(how) {
  log.dataset.state = how;
  clearTimeout(lostTimer);
  lostTimer = null;
  if (how === 'trying') {
    lostTimer = setTimeout(() => {
      lostTimer = null;
      // Said once, however often it is tried.
      if (!document.hidden && !status.textContent) status.textContent = 'Connecting again…';
    }, 2_000);
    return;
  }
  if (status.textContent) status.textContent = '';
  const again = document.getElementById('again');
  if (again) again.hidden = true;
}

function connect() {
  if (document.hidden || !canStream || !window.htmx || log._htmx?.sse) return;
  // htmx looks over the page from a timer that can fire before its extension's script has run,
  // and then passes the stream by.
  if (!log._htmx) htmx.process(log);
  htmx.trigger(log, 'connect');
}

function retry() {
  log._htmx?.sse?.delayCanceller?.();
  connect();
}

function found() {
  heardAt = Date.now();
  if (isDoubted && heardAt - openedAt < PATIENCE_MS) return;
  isDoubted = false;
  missingSince = null;
  if (log.dataset.state === 'stream') return;
  report('stream');
  stopPolling();
}

function lost() {
  if (document.hidden) return;
  missingSince ??= Date.now();
  if (log.dataset.state !== 'poll' && !lostTimer) report('trying');
}

function listen() {
  log.addEventListener('htmx:sse:before:message', (event) => {
    found();
    // htmx pauses a stream when its tab is hidden, but not one that opens while it is: tell it
    // again. Six such streams would block everything else of this browser on plain HTTP.
    if (document.hidden) document.dispatchEvent(new Event('visibilitychange'));
    const { id, event: name } = event.detail.message;
    if (!id || numberOf(id) <= numberOf(cursor)) {
      // The poll has brought it. Notices carry the id of the event before them.
      if (id && !name) event.preventDefault();
      return;
    }
    cursor = id;
  });
  log.addEventListener('htmx:sse:after:connection', () => { openedAt = Date.now(); });
  log.addEventListener('htmx:sse:before:connection', (event) => {
    if (event.detail.connection.attempt > 0) lost();
  });
  log.addEventListener('htmx:sse:error', lost);
  log.addEventListener('htmx:sse:close', lost);
  log.addEventListener('htmx:error', ({ detail }) => {
    // Older messages that do not come are another matter.
    if ((detail.ctx?.sourceElement ?? log) === log) lost();
  });
  // Something between us and the server may answer with a page of its own. It is not a
  // message; the timer below asks again.
  log.addEventListener('htmx:before:response', (event) => {
    const { ctx } = event.detail;
    if (event.target !== log || ctx.sourceElement !== log) return;
    if (ctx.response.headers.get('Content-Type')?.includes('text/event-stream')) return;
    event.preventDefault();
    lost();
  });
  // The log is not the one this page was made from; or the page has no business here any more.
  log.addEventListener('reset', () => location.reload());
  log.addEventListener('signed-out', startOver);
  // The page says what can be done about it.
  log.addEventListener('removed', () => location.reload());
}

/** Asks for new messages until the stream is there, or nobody looks. */
async function poll() {
  if (isPolling) return;
  isPolling = true;
  let wait = 0;
  while (missingSince !== null && !document.hidden) {
    const asking = window.AbortController ? new AbortController() : null;
    stopPolling = () => asking?.abort();
    try {
      const hasCome = await ask(wait, asking?.signal);
      if (missingSince === null || document.hidden) break;
      if (log.dataset.state !== 'poll') {
        report('poll');
        // It was who was here when there was a stream.
        here?.replaceChildren();
      }
      wait = 25;
      if (hasCome) await pause(250);
    } catch {
      if (missingSince === null || document.hidden) break;
      wait = 0;
      if (!lostTimer) report('trying');
      await pause(3_000);
    }
  }
  isPolling = false;
}

/** One page of the log after what is there. Says whether there was anything. */
async function ask(wait, signal) {
  const answer = await fetch(`/rooms/${room}/messages?after=${cursor}&wait=${wait}&as=${user}`, {
    headers: { Accept: 'text/html', 'HX-Request-Type': 'partial' }, cache: 'no-store', signal,
  });
  const html = await answer.text();
  if (answer.status === 401 && answer.headers.has('HX-Redirect')) startOver();
  // Refused in our own words: this page's place is no more, or its reader's.
  else if ([403, 404, 422].includes(answer.status) && html.startsWith('<p class="error"')) location.reload();
  // Only ours says where the page of the log ends.
  const next = answer.headers.get('Link')?.match(/^<[^>]*[?&]after=([\d-]+)>/)?.[1];
  if (!answer.ok || !next) throw new Error(answer.status);
  const page = document.createElement('template');
  page.innerHTML = html;
  for (const partial of page.content.querySelectorAll('hx-partial')) {
    putInPlace(partial.querySelector('li'));
    partial.remove();
  }
  const rows = Array.from(page.content.querySelectorAll('li[id^="m-"]'));
  // Others may have come by the stream meanwhile.
  log.append(...rows.filter(({ id }) => numberOf(id) > numberOf(cursor)));
  const hasCome = next !== cursor;
  if (numberOf(next) > numberOf(cursor)) cursor = next;
  return hasCome;
}

function follow() {
  document.addEventListener('visibilitychange', () => {
    heardAt = Date.now();
    if (document.hidden) return stopPolling();
    if (log.dataset.state === 'poll') poll();
    else missingSince = Date.now();
    // At once, not after the pause that is meant for a server in trouble. htmx begins that pause
    // when it hears of this event, a moment after us.
    setTimeout(retry, 10);
  });
  addEventListener('online', retry);
  addEventListener('offline', lost);
  addEventListener('DOMContentLoaded', connect);
  let ticks = 0;
  setInterval(() => {
    if (document.hidden) return;
    const stream = log._htmx?.sse;
    // A connection can die without a word; the heartbeat tells.
    if (stream?.reader && Date.now() - heardAt > SILENT_MS) {
      isDoubted = true;
      missingSince ??= heardAt;
      stream.reader.cancel();
    }
    if (missingSince !== null && Date.now() - missingSince > PATIENCE_MS) poll();
    ticks += 1;
    if (ticks % 5 === 0) connect();
  }, 1_000);
  connect();
}

// Where the log cannot take new messages, the page does as without scripts.
if (log?.dataset.state === 'ready' && window.fetch) {
  log.dataset.state = 'trying';
  listen();
  follow();
}
