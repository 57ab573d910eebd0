// A room's composer: what is sent leaves it at once and is not forgotten until the server has it.
'use strict';

{
  const TOO_OLD_MS = 10 * 60_000;
  const composer = document.getElementById('composer');
  const text = document.getElementById('composer-text');
  const notice = document.getElementById('composer-notice');
  const list = document.getElementById('outbox');
  const aloud = document.getElementById('sending');
  const { user, room, name, avatar } = document.body.dataset;
  const mine = `parlor:${user}:${room}`;
  const outbox = kept();
  // Fetched while there is a server to ask.
  const picture = Object.assign(new Image(36, 36), { className: 'avatar', src: avatar, alt: '' });
  let isSending = false;
  let toldTypingAt = 0;
  let wake = () => {};

  text.value ||= localStorage.getItem(`${mine}:draft`) ?? '';
  grow();
  text.addEventListener('input', () => {
    grow();
    keepDraft();
    tellTyping();
  });
  text.addEventListener('keydown', (event) => {
    // 229 is how Safari says that this Enter only ends the composing of a word.
    const sends = event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
    // A keyboard on the screen has no Shift+Enter; there is a button beside it.
    if (!sends || isTouched()) return;
    event.preventDefault();
    composer.requestSubmit();
  });

  // Before htmx hears of it: messages go out one after another, each until it is answered, so
  // that their order is the one they were written in.
  composer.addEventListener('submit', (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    text.focus();
    if (!text.value.trim()) return;
    const message = { body: text.value, nonce: newNonce(), at: Math.max(Date.now(), (outbox.at(-1)?.at ?? 0) + 1) };
    outbox.push(message);
    keep(`${mine}:out:${message.nonce}`, JSON.stringify(message));
    show(message);
    text.value = '';
    grow();
    keepDraft();
    complain('');
    scroller.toBottom();
    sendAll();
  }, true);

  // The real one has come: what stood for it goes, in the same frame.
  log.addEventListener('parlor:came', ({ target: row }) => {
    if (row.dataset.author === user) {
      const waiting = outbox.filter(({ waits }) => waits).map(({ nonce }) => `n-${nonce}`);
      const pending = Array.from(list.children).find((one) => one.dataset.seq === row.id
        || (said(one) === said(row) && !waiting.includes(one.id)));
      if (pending) remove(pending);
    }
    list.firstElementChild?.classList.toggle('follows', row.dataset.author === user);
  });

  /** As shown, code has no backticks around it, and a block no name of its language. */
  function said(row) {
    return row.querySelector('.body')?.textContent.replace(/^```\w*$/gm, '').replace(/[`\s]/g, '');
  }

  /** As high as what is in it, where the style sheet cannot do that (field-sizing). */
  function grow() {
    if (CSS.supports('field-sizing', 'content')) return;
    text.style.height = 'auto';
    text.style.height = `${text.scrollHeight + 2}px`;
  }

  /** Focus is never lost with what had it. */
  function remove(row) {
    if (row.contains(document.activeElement)) text.focus();
    row.remove();
  }

  /** In the browser's own memory, per message, so that neither a reload nor another tab loses one. */
  function keep(key, value) {
    try {
      if (value) localStorage.setItem(key, value);
      else localStorage.removeItem(key);
    } catch {
      // It is full. What is on the page is still sent.
    }
  }

  function keepDraft() {
    keep(`${mine}:draft`, text.value);
  }

  /** What was not sent when this room was left; perhaps another tab sends it too, with the same nonce. */
  function kept() {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(`${mine}:out:`));
    const messages = keys.map((key) => JSON.parse(localStorage.getItem(key)));
    return messages.map((one) => ({ ...one, waits: Date.now() - one.at > TOO_OLD_MS })).sort((a, b) => a.at - b.at);
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
    list.append(row);
  }

  /** Says under a message how its sending goes. */
  function say(message, what, ...buttons) {
    const row = document.getElementById(`n-${message.nonce}`);
    const before = row?.querySelector('.state');
    if (!what) aloud.textContent = '';
    if (!row || before?.firstChild.data === what) return;
    if (before) remove(before);
    if (!what) return;
    aloud.textContent = what;
    const state = Object.assign(document.createElement('p'), { className: 'state' });
    state.append(what, ...buttons);
    row.append(state);
    scroller.stay();
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
      if (outcome === 'signed-out') break; // on the way to the sign-in page, and back: the outbox waits
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
    // Here already, or long ago: sent before this page was loaded, and answered only now.
    const newest = Array.from(log.children).findLast((one) => one.id.startsWith('m-'));
    if (newest && Number(seq.slice(2)) <= Number(newest.id.slice(2))) return remove(row);
    row.dataset.seq = seq;
  }

  /** It will not be taken as it is: its author gets it back, with the reason. */
  function refuse({ body, nonce }, says) {
    const row = document.getElementById(`n-${nonce}`);
    if (row) remove(row);
    text.value = text.value ? `${body}\n${text.value}` : body;
    keepDraft();
    grow();
    complain(says);
  }

  /** Says what is wrong with what stands in the composer. */
  function complain(what) {
    notice.textContent = what;
    text.ariaInvalid = what ? 'true' : null;
  }

  /** Posts one message by the form's own means and says how it ended. */
  async function post({ body, nonce }) {
    let answer = { outcome: 'failed', says: '', wait: 0, seq: '' };
    const finished = (event) => {
      const response = event.detail.ctx?.response;
      if (response) answer = answerOf(response, event.detail.ctx.text ?? '');
    };
    const values = document.hidden || !scroller.isAtBottom() ? { body, nonce } : { body, nonce, seen: 1 };
    composer.addEventListener('htmx:finally:request', finished);
    try {
      await htmx.ajax('POST', `${composer.action}?as=${user}`, { source: composer, values, swap: 'none' });
    } catch {
      // It has failed, as it says until something else is known.
    }
    composer.removeEventListener('htmx:finally:request', finished);
    return answer;
  }

  /** What an answer means. Only ours can say that a message was taken, or that it never will be. */
  function answerOf({ status, headers }, html) {
    const wait = Math.min(Number(headers.get('Retry-After')) || 0, 60);
    const [, seq] = headers.get('Location')?.match(`^/rooms/${room}/messages/(?:\\d+-)?(\\d+)$`) ?? [];
    const says = new DOMParser().parseFromString(html, 'text/html').querySelector('#composer-notice, .error')?.textContent;
    let outcome = 'failed';
    if (status < 300 && seq) outcome = 'sent';
    else if (status === 401 && headers.has('HX-Redirect')) outcome = 'signed-out';
    else if (status >= 400 && status < 500 && ![401, 408, 429].includes(status) && says) outcome = 'refused';
    return { outcome, says: says ?? '', wait, seq: `m-${seq}` };
  }

  /** Says now and then that something is being written. */
  function tellTyping() {
    const EVERY_MS = 3_000;
    const now = Date.now();
    if (!text.value.trim() || now - toldTypingAt < EVERY_MS || !log._htmx?.sse?.reader) return;
    toldTypingAt = now;
    fetch(`/rooms/${room}/typing?as=${user}`, { method: 'POST' }).catch(() => {});
  }

  /** crypto.randomUUID is not there on plain HTTP. */
  function newNonce() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
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
