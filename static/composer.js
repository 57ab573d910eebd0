// A room's composer: what is sent leaves it at once and is not forgotten until the server has it.
'use strict';

{
  const composer = document.getElementById('composer');
  const text = document.getElementById('composer-text');
  const notice = document.getElementById('composer-notice');
  const list = document.getElementById('outbox');
  const { user, room, name, avatar } = document.body.dataset;
  const mine = `parlor:${user}:${room}`;
  const outbox = kept();
  // Fetched while there is a server to ask.
  const picture = Object.assign(new Image(36, 36), { className: 'avatar', src: avatar, alt: '' });
  let isSending = false;
  let toldTypingAt = 0;
  let wake = () => {};

  text.value ||= localStorage.getItem(`${mine}:draft`) ?? '';
  text.addEventListener('input', () => {
    keepDraft();
    tellTyping();
  });
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
    text.focus();
    if (!text.value.trim()) return;
    const message = { body: text.value, nonce: newNonce(), at: Math.max(Date.now(), (outbox.at(-1)?.at ?? 0) + 1) };
    outbox.push(message);
    keep(`${mine}:out:${message.nonce}`, JSON.stringify(message));
    show(message);
    text.value = '';
    keepDraft();
    notice.textContent = '';
    scroller.toBottom();
    sendAll();
  }, true);

  // The real one has come: what stood for it goes, in the same frame.
  log.addEventListener('parlor:came', ({ target: row }) => {
    if (row.dataset.author !== user) return;
    const pending = Array.from(list.children).find((one) => one.dataset.seq === row.id || said(one) === said(row));
    if (pending) remove(pending);
  });

  /** As shown, code has no backticks around it, and a block no name of its language. */
  function said(row) {
    return row.querySelector('.body')?.textContent.replace(/^```\w*$/gm, '').replace(/[`\s]/g, '');
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
    return keys.map((key) => JSON.parse(localStorage.getItem(key))).sort((a, b) => a.at - b.at);
  }

  /** Shows a message before the server has it. */
  function show(message) {
    const row = document.createElement('li');
    row.className = 'message pending';
    row.id = `n-${message.nonce}`;
    row.dataset.author = user;
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
    if (!row || row.querySelector('.state')?.firstChild.data === what) return;
    row.querySelector('.state')?.remove();
    if (!what) return;
    const state = Object.assign(document.createElement('p'), { className: 'state' });
    state.setAttribute('role', 'status');
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
      keep(`${mine}:out:${message.nonce}`, null);
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
    if (document.getElementById(seq)) return remove(row);
    say(message, '');
    row.dataset.seq = seq;
  }

  /** It will not be taken as it is: its author gets it back, with the reason. */
  function refuse({ body, nonce }, says) {
    const row = document.getElementById(`n-${nonce}`);
    if (row) remove(row);
    text.value = text.value ? `${body}\n${text.value}` : body;
    keepDraft();
    notice.textContent = says || 'This was not taken. Change it and send again.';
  }

  /** Posts one message by the form's own means and says how it ended. */
  async function post({ body, nonce }) {
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
      await htmx.ajax('POST', composer.action, { source: composer, values: { body, nonce }, swap: 'none' });
    } catch {
      // Said by the status, which is still 0.
    }
    composer.removeEventListener('htmx:finally:request', finished);
    return answer;
  }

  /** Says now and then that something is being written. */
  function tellTyping() {
    const EVERY_MS = 3_000;
    const now = Date.now();
    if (!text.value.trim() || now - toldTypingAt < EVERY_MS || !log._htmx?.sse?.reader) return;
    toldTypingAt = now;
    fetch(`/rooms/${room}/typing`, { method: 'POST' }).catch(() => {});
  }

  /** crypto.randomUUID is not there on plain HTTP. */
  function newNonce() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  outbox.forEach(show);
  sendAll();
}
