// The outbox: messages that the server does not have yet. They go out one after another, each until it is
// answered, so that their order is the one they were written in; a reload or another tab loses none.
import { isAtBottom, stay } from './log.js';
import { log, make, room, startOver, user } from './page.js';
import { remove, replace, say, settle, show } from './pending.js';
import { keep, keys, stored } from './storage.js';
import { isLive } from './stream.js';

const TOO_OLD_MS = 10 * 60_000;
const LONGEST_MS = 60_000;

const mine = `parlor:${user}:${room}:out:`;
const address = `${document.getElementById('composer').getAttribute('action')}?as=${user}`;
const outbox = kept();
let isSending = false;
let wake = () => {};
/** Gives a text back to its author, with the reason. */
let giveBack = () => {};

/** Begins to send what is left from before; `refused` takes back what the server does not take. */
export function open(refused) {
  giveBack = refused;
  outbox.forEach(show);
  for (const message of outbox.filter(({ waits }) => waits)) {
    const send = () => {
      message.waits = false;
      say(message, '');
      sendAll();
    };
    tell(message, 'Not sent yet.', button('Send', send), takeBackButton(message));
  }
  // The real one has come.
  log.addEventListener('parlor:came', ({ target: row }) => replace(row, outbox.filter(({ waits }) => waits)));
  // A message that only this page has would go with it.
  addEventListener('beforeunload', (event) => {
    if (outbox.some(({ isKept }) => !isKept)) event.preventDefault();
  });
  sendAll();
}

/** Sends a text, perhaps as a reply to the message of a number. */
export function send(body, replyTo = null) {
  const last = outbox[outbox.length - 1];
  const message = { body, replyTo, nonce: newNonce(), at: Math.max(Date.now(), (last?.at ?? 0) + 1) };
  outbox.push(message);
  message.isKept = keep(mine + message.nonce, JSON.stringify(message));
  show(message);
  sendAll();
}

/** The messages that were not sent when this room was left. Another tab may send them too, with the same nonces. */
function kept() {
  const messages = keys().filter((key) => key.startsWith(mine)).map((key) => readMessage(stored(key))).filter(Boolean);
  return messages.map((one) => ({ ...one, waits: Date.now() - one.at > TOO_OLD_MS })).sort((a, b) => a.at - b.at);
}

function readMessage(json) {
  try {
    const { body, replyTo = null, nonce, at, confirm } = JSON.parse(json);
    return body && nonce && at ? { body, replyTo, nonce, at, confirm, isKept: true } : null;
  } catch {
    return null;
  }
}

function tell(message, what, ...buttons) {
  if (say(message, what, ...buttons)) stay();
}

function button(label, action) {
  const made = make('button', { type: 'button', textContent: label });
  made.addEventListener('click', action);
  return made;
}

async function sendAll() {
  if (isSending) return;
  isSending = true;
  let pause = 500;
  for (;;) {
    const message = outbox.find(({ waits }) => !waits);
    if (!message) break;
    const { outcome, says, wait, seq, confirm, people } = await post(message);
    if (!outbox.includes(message)) continue; // taken back meanwhile
    if (outcome === 'signed-out') {
      // On the way to the sign-in page, and back: the outbox waits.
      startOver();
      break;
    }
    if (outcome === 'failed') {
      // Sending again is safe: the nonce is the same.
      tell(message, 'Not sent yet.', button('Try again', () => wake()), takeBackButton(message));
      await new Promise((done) => {
        wake = done;
        setTimeout(done, Math.max(pause, wait * 1000));
      });
      pause = Math.min(pause * 2, 5_000);
      continue;
    }
    if (outcome === 'asks') {
      // Nothing else waits for the answer.
      message.waits = true;
      const whom = people === 1 ? 'one person' : `${people} people`;
      tell(message, `@room tells everybody else in this room: ${whom}.`, button('Send to everybody', () => confirmed(message, confirm)), takeBackButton(message));
      continue;
    }
    forget(message);
    pause = 500;
    if (outcome === 'refused') refuse(message, says || 'This was not taken. Change it and send again.');
    // Where new messages come into a frame (`watchdog.js`), the real one does not come into the log.
    else settle(message, seq, isLive() && !document.querySelector('iframe.live'));
  }
  isSending = false;
}

/** Its author means everybody. */
function confirmed(message, confirm) {
  message.confirm = confirm;
  message.isKept = keep(mine + message.nonce, JSON.stringify(message));
  message.waits = false;
  say(message, '');
  sendAll();
}

function forget(message) {
  const at = outbox.indexOf(message);
  if (at >= 0) outbox.splice(at, 1);
  keep(mine + message.nonce, null);
}

function refuse(message, says) {
  remove(message);
  giveBack(message.body, says);
}

/** Gives a message that was not sent back to its author, so that it holds up nothing else. */
function takeBackButton(message) {
  return button('Take it back', () => {
    forget(message);
    refuse(message, '');
    wake();
    document.getElementById('composer-text').focus();
  });
}

/** Posts one message and says how it ended. */
async function post({ body, replyTo, nonce, confirm }) {
  const fields = new URLSearchParams({ body, nonce });
  if (confirm) fields.set('confirm', confirm);
  if (replyTo) fields.set('reply_to', replyTo);
  if (!document.hidden && isAtBottom()) fields.set('seen', '1');
  const asking = window.AbortController && new AbortController();
  const timer = setTimeout(() => asking?.abort(), LONGEST_MS);
  try {
    const headers = { Accept: 'application/json' };
    const response = await fetch(address, { method: 'POST', body: fields, headers, signal: asking?.signal });
    return answerOf(response, await response.text());
  } catch {
    return { outcome: 'failed', says: '', wait: 0, seq: '' };
  } finally {
    clearTimeout(timer);
  }
}

/** The outcome of a post, read from its answer. Only our own answers say that a message was taken, or never will be. */
function answerOf({ status, headers }, answer) {
  const wait = Math.min(Number(headers.get('Retry-After')) || 0, 60);
  const [, seq] = headers.get('Location')?.match(`^/rooms/${room}/messages/(?:\\d+-)?(\\d+)$`) ?? [];
  const isOurs = headers.get('Content-Type')?.startsWith('application/problem+json');
  const { detail: says = '', confirm, people } = isOurs ? JSON.parse(answer) : {};
  let outcome = 'failed';
  if (status === 201 && seq) outcome = 'sent';
  else if (status === 401 && isOurs) outcome = 'signed-out';
  else if (status === 422 && confirm) outcome = 'asks';
  else if (status >= 400 && status < 500 && ![401, 408, 429].includes(status) && says) outcome = 'refused';
  return { outcome, says, wait, seq: `m-${seq}`, confirm, people };
}

/** crypto.randomUUID is not there on plain HTTP, and all of crypto not everywhere. */
function newNonce() {
  const bytes = Uint8Array.from({ length: 16 }, () => 256 * Math.random());
  window.crypto?.getRandomValues?.(bytes);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
