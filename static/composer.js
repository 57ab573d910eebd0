// A room's composer: what is sent leaves it at once and is not forgotten until the server has it.
'use strict';

{
  const TOO_OLD_MS = 10 * 60_000;
  const log = document.getElementById('log');
  const scroller = document.getElementById('scroller');
  const composer = document.getElementById('composer');
  const text = document.getElementById('composer-text');
  const notice = document.getElementById('composer-notice');
  const list = document.getElementById('outbox');
  const aloud = document.getElementById('sending');
  const { user, room, name, avatar } = document.body.dataset;
  const mine = `parlor:${user}:${room}`;
  const CHARS_MAX = Number(text.dataset.max);
  // What is longer is more than anybody types, and slow to show and to keep.
  const DRAFT_MAX = 2 * CHARS_MAX;
  const limit = `A message has at most ${numeral(CHARS_MAX)} characters.`;
  const count = Object.assign(document.createElement('p'), { id: 'composer-count', hidden: true });
  const outbox = kept();
  // What each row of the outbox says: a browser that translates changes what it shows.
  const bodies = new Map();
  // Fetched while there is a server to ask.
  const picture = Object.assign(new Image(36, 36), { className: 'avatar', src: avatar, alt: '' });
  let isSending = false;
  let toldTypingAt = 0;
  let wake = () => {};

  notice.after(count);
  text.setAttribute('aria-describedby', `${notice.id} ${count.id}`);
  restoreDraft();
  changed();
  text.addEventListener('input', () => {
    complain('');
    changed();
    tellTyping();
  });
  // Whichever of these a browser tells of first; each has the text that would come in.
  text.addEventListener('paste', (event) => refuseLong(event, event.clipboardData?.getData('text/plain')));
  text.addEventListener('drop', (event) => refuseLong(event, event.dataTransfer?.getData('text/plain')));
  text.addEventListener('beforeinput', (event) => {
    // What is typed may go beyond; it is counted.
    const isTyped = !event.inputType.startsWith('insertFrom') && (event.data?.length ?? 0) < 100;
    if (!isTyped) refuseLong(event, event.data ?? event.dataTransfer?.getData('text/plain'));
  });
  text.addEventListener('keydown', (event) => {
    // 229 is how Safari says that this Enter only ends the composing of a word.
    if (event.key !== 'Enter' || event.isComposing || event.keyCode === 229) return;
    // A keyboard on the screen has no Shift+Enter; there is a button beside it.
    if (!(event.ctrlKey || event.metaKey) && (event.shiftKey || isTouched())) return;
    event.preventDefault();
    if (composer.requestSubmit) composer.requestSubmit();
    else composer.querySelector('button').click();
  });

  // Messages go out one after another, each until it is answered, so that their order is the one they
  // were written in.
  composer.addEventListener('submit', (event) => {
    // Nothing would bring back what was sent: the form does by itself what it does without scripts.
    if (!isLive()) {
      keep(`${mine}:draft`, null);
      return;
    }
    event.preventDefault();
    text.focus();
    if (!text.value.trim()) return;
    if (isTooLong()) return complain(`${limit} Shorten it or send it in parts.`);
    const last = outbox[outbox.length - 1];
    const message = { body: text.value, nonce: newNonce(), at: Math.max(Date.now(), (last?.at ?? 0) + 1) };
    outbox.push(message);
    message.isKept = keep(`${mine}:out:${message.nonce}`, JSON.stringify(message));
    show(message);
    text.value = '';
    changed();
    complain('');
    scroller.toBottom?.();
    sendAll();
  });

  // What only this page has would go with it.
  addEventListener('beforeunload', (event) => {
    if (outbox.some(({ isKept }) => !isKept)) event.preventDefault();
  });

  // The real one has come: what stood for it goes, in the same frame.
  log.addEventListener('parlor:came', ({ target: row }) => {
    if (row.dataset.author === user) {
      const waiting = outbox.filter(({ waits }) => waits).map(({ nonce }) => `n-${nonce}`);
      const body = said(row.querySelector('.body')?.textContent);
      const pending = Array.from(list.children).find((one) => one.dataset.seq === row.id
        || (bodies.get(one.id) === body && !waiting.includes(one.id)));
      if (pending) remove(pending);
    }
    list.firstElementChild?.classList.toggle('follows', row.dataset.author === user);
  });

  /** As shown, code has no backticks around it, and a block no name of its language. */
  function said(body) {
    return body?.replace(/^```\w*$/gm, '').replace(/[`\s]/g, '');
  }

  /** Whether there is a script that brings new messages (`static/stream.js`). */
  function isLive() {
    return ['stream', 'poll', 'trying'].includes(log.dataset.state);
  }

  /** Whether what is sent comes back into the log, and not into a frame (`static/watchdog.js`). */
  function bringsNew() {
    return isLive() && !document.querySelector('iframe.live');
  }

  /** Whether the keyboard is on the screen. */
  function isTouched() {
    return window.matchMedia?.('(hover: none) and (pointer: coarse)').matches ?? false;
  }

  /** Follows what is in the field. */
  function changed() {
    grow();
    tellLength();
    keep(`${mine}:draft`, text.value.length <= DRAFT_MAX ? text.value : null);
  }

  /** As high as what is in it, where the style sheet cannot do that (field-sizing). */
  function grow() {
    if (window.CSS?.supports?.('field-sizing', 'content')) return;
    text.style.height = 'auto';
    text.style.height = `${text.scrollHeight + 2}px`;
  }

  /** How many characters the server counts: an emoji's halves are one, and so are the two of a line's end. */
  function lengthOf(value) {
    let length = 0;
    for (let at = 0; at < value.length; at += 1) {
      const code = value.charCodeAt(at);
      const isSecondHalf = code >= 0xdc00 && code < 0xe000;
      if (!isSecondHalf && !(code === 13 && value.charCodeAt(at + 1) === 10)) length += 1;
    }
    return length;
  }

  /** Whether the server would refuse it; it cuts off blank lines before and white space after. */
  function isTooLong() {
    return text.value.length > CHARS_MAX && lengthOf(text.value.trimEnd().replace(/^\s*\n/, '')) > CHARS_MAX;
  }

  /** Says how long it is, once that may matter. */
  function tellLength() {
    count.hidden = text.value.length < 0.9 * CHARS_MAX;
    if (count.hidden) return setInvalid(false);
    const isOver = isTooLong();
    count.textContent = `${numeral(lengthOf(text.value))} of ${numeral(CHARS_MAX)} characters`;
    count.classList.toggle('error', isOver);
    setInvalid(isOver);
  }

  function numeral(number) {
    return number.toLocaleString('en');
  }

  function setInvalid(isInvalid) {
    if (isInvalid) text.setAttribute('aria-invalid', 'true');
    else text.removeAttribute('aria-invalid');
  }

  /** Keeps out what would be too long: all of it, so that nobody sends a part without knowing. */
  function refuseLong(event, coming = '') {
    const { selectionStart, selectionEnd, value } = text;
    if (value.length + coming.length <= CHARS_MAX) return;
    const before = lengthOf(value);
    const after = before - lengthOf(value.slice(selectionStart, selectionEnd)) + lengthOf(coming);
    if (after <= CHARS_MAX || after <= before) return;
    event.preventDefault();
    const length = numeral(lengthOf(coming));
    notice.textContent = `This text of ${length} characters was not put in. ${limit} Shorten it or send it in parts.`;
  }

  /** What was typed here before, if anybody can have typed that much. */
  function restoreDraft() {
    if (text.value) return;
    const draft = stored(`${mine}:draft`) ?? '';
    if (draft.length <= DRAFT_MAX) {
      text.value = draft;
      return;
    }
    text.value = draft.slice(0, CHARS_MAX).replace(/[\ud800-\udbff]$/, '');
    notice.textContent = `Your draft had ${numeral(draft.length)} characters; this is its start. ${limit}`;
  }

  /** Focus is never lost with what had it. */
  function remove(row) {
    if (row.contains(document.activeElement)) text.focus();
    bodies.delete(row.id);
    row.remove();
  }

  /** In the browser's own memory, per message, so that neither a reload nor another tab loses one. */
  function keep(key, value) {
    try {
      if (value) localStorage.setItem(key, value);
      else localStorage.removeItem(key);
      return true;
    } catch {
      // There is none, or it is full or locked. What is on the page is still sent.
      return false;
    }
  }

  function stored(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  }

  /** What was not sent when this room was left; perhaps another tab sends it too, with the same nonce. */
  function kept() {
    let messages = [];
    try {
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(`${mine}:out:`));
      messages = keys.map((key) => readMessage(stored(key))).filter(Boolean);
    } catch {
      // There is no such memory, or it is locked.
    }
    return messages.map((one) => ({ ...one, waits: Date.now() - one.at > TOO_OLD_MS })).sort((a, b) => a.at - b.at);
  }

  function readMessage(json) {
    try {
      const { body, nonce, at } = JSON.parse(json);
      return body && nonce && at ? { body, nonce, at, isKept: true } : null;
    } catch {
      return null;
    }
  }

  /** Shows a message before the server has it. */
  function show(message) {
    const row = document.createElement('li');
    row.className = 'message pending';
    row.id = `n-${message.nonce}`;
    row.dataset.author = user;
    row.tabIndex = -1;
    const meta = Object.assign(document.createElement('p'), { className: 'meta' });
    meta.append(Object.assign(document.createElement('b'), { className: 'author', textContent: name }));
    const body = Object.assign(document.createElement('div'), { className: 'body', dir: 'auto' });
    body.textContent = message.body.trimEnd();
    const above = list.lastElementChild ?? log.lastElementChild;
    row.classList.toggle('follows', above?.dataset.author === user);
    row.append(picture.cloneNode(), meta, body);
    bodies.set(row.id, said(message.body));
    list.append(row);
  }

  /** Says under a message how its sending goes. */
  function say(message, what, ...buttons) {
    const row = document.getElementById(`n-${message.nonce}`);
    const before = row?.querySelector('.state');
    if (!what) aloud.textContent = '';
    if (!row || before?.dataset.says === what) return;
    if (before) remove(before);
    if (!what) return;
    aloud.textContent = what;
    const state = Object.assign(document.createElement('p'), { className: 'state' });
    state.dataset.says = what;
    state.append(what, ...buttons);
    row.append(state);
    scroller.stay?.();
  }

  function button(label, action) {
    const made = Object.assign(document.createElement('button'), { type: 'button', textContent: label });
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
      const { outcome, says, wait, seq } = await post(message);
      if (!outbox.includes(message)) continue; // taken back meanwhile
      if (outcome === 'signed-out') {
        // On the way to the sign-in page, and back: the outbox waits.
        if (document.dispatchEvent(new Event('parlor:signed-out', { cancelable: true }))) location.reload();
        break;
      }
      if (outcome === 'failed') {
        // Sending again is safe: the nonce is the same.
        say(message, 'Not sent yet.', button('Try again', () => wake()), takeBackButton(message));
        await new Promise((done) => {
          wake = done;
          setTimeout(done, Math.max(pause, wait * 1000));
        });
        pause = Math.min(pause * 2, 5_000);
        continue;
      }
      forget(message);
      pause = 500;
      if (outcome === 'refused') refuse(message, says || 'This was not taken. Change it and send again.');
      else sent(message, seq);
    }
    isSending = false;
  }

  function forget(message) {
    const at = outbox.indexOf(message);
    if (at >= 0) outbox.splice(at, 1);
    keep(`${mine}:out:${message.nonce}`, null);
  }

  /** Gives a message that was not sent back to its author, so that it holds up nothing else. */
  function takeBackButton(message) {
    return button('Take it back', () => {
      forget(message);
      refuse(message, '');
      wake();
      text.focus();
    });
  }

  /** The server has it; the stream brings it, or has brought it already. */
  function sent(message, seq) {
    const row = document.getElementById(`n-${message.nonce}`);
    say(message, '');
    if (!row) return;
    // Here already, or long ago: sent before this page was loaded, and answered only now. Or what is
    // new does not come into this log.
    const newest = Array.from(log.children).reverse().find((one) => one.id.startsWith('m-'));
    if (newest && Number(seq.slice(2)) <= Number(newest.id.slice(2)) || !bringsNew()) return remove(row);
    row.dataset.seq = seq;
  }

  /** It will not be taken as it is: its author gets it back, with the reason. */
  function refuse({ body, nonce }, says) {
    const row = document.getElementById(`n-${nonce}`);
    if (row) remove(row);
    text.value = text.value ? `${body}\n${text.value}` : body;
    changed();
    complain(says);
  }

  /** Says what is wrong with what stands in the composer. */
  function complain(what) {
    notice.textContent = what;
    setInvalid(Boolean(what));
  }

  /** Posts one message and says how it ended. */
  async function post({ body, nonce }) {
    const LONGEST_MS = 60_000;
    const fields = new URLSearchParams({ body, nonce });
    if (!document.hidden && scroller.isAtBottom?.()) fields.set('seen', '1');
    const asking = window.AbortController && new AbortController();
    const timer = setTimeout(() => asking?.abort(), LONGEST_MS);
    try {
      const headers = { Accept: 'application/json' };
      const address = `${composer.getAttribute('action')}?as=${user}`;
      const response = await fetch(address, { method: 'POST', body: fields, headers, signal: asking?.signal });
      return answerOf(response, await response.text());
    } catch {
      return { outcome: 'failed', says: '', wait: 0, seq: '' };
    } finally {
      clearTimeout(timer);
    }
  }

  /** What an answer means. Only ours can say that a message was taken, or that it never will be. */
  function answerOf({ status, headers }, answer) {
    const wait = Math.min(Number(headers.get('Retry-After')) || 0, 60);
    const [, seq] = headers.get('Location')?.match(`^/rooms/${room}/messages/(?:\\d+-)?(\\d+)$`) ?? [];
    const isOurs = headers.get('Content-Type')?.startsWith('application/problem+json');
    const says = isOurs ? JSON.parse(answer).detail : '';
    let outcome = 'failed';
    if (status === 201 && seq) outcome = 'sent';
    else if (status === 401 && isOurs) outcome = 'signed-out';
    else if (status >= 400 && status < 500 && ![401, 408, 429].includes(status) && says) outcome = 'refused';
    return { outcome, says, wait, seq: `m-${seq}` };
  }

  /** Says now and then that something is being written. */
  function tellTyping() {
    const EVERY_MS = 3_000;
    const now = Date.now();
    if (!text.value.trim() || now - toldTypingAt < EVERY_MS || log.dataset.state !== 'stream') return;
    toldTypingAt = now;
    fetch(`/rooms/${room}/typing?as=${user}`, { method: 'POST' }).catch(() => {});
  }

  /** crypto.randomUUID is not there on plain HTTP, and all of crypto not everywhere. */
  function newNonce() {
    const bytes = Uint8Array.from({ length: 16 }, () => 256 * Math.random());
    window.crypto?.getRandomValues?.(bytes);
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  outbox.forEach(show);
  for (const message of outbox.filter(({ waits }) => waits)) {
    const send = () => {
      message.waits = false;
      say(message, '');
      sendAll();
    };
    say(message, 'Not sent yet.', button('Send', send), takeBackButton(message));
  }
  sendAll();
}
